"""Where problems come from."""

from typing import Literal, Self

from pydantic import Field, model_validator

from open_rs.recipe.section import Section

COLUMNS = ("id", "problem", "answer", "solution", "source")


class Source(Section):
    """Where problems come from: exactly one of `path`, `hub`, `task`."""

    path: str | None = Field(
        None,
        min_length=1,
        description="a .jsonl or .jsonl.gz file, or a folder that holds problems.jsonl",
    )
    hub: str | None = Field(
        None,
        min_length=1,
        description="a data set id on the Hugging Face hub, or a folder that `datasets` loads",
    )
    task: str | None = Field(
        None,
        min_length=1,
        description='a procedural source: "arithmetic", "arithmetic_raw", or "module:function"',
    )
    split: str = Field("train", description="the split of a hub data set or of a task")
    config: str | None = Field(None, description="the configuration of a hub data set")
    revision: str | None = Field(None, description="the commit of a hub data set")
    columns: dict[str, str] = Field(
        {}, description='renames, ours = theirs, such as { problem = "question" }'
    )
    answer_from: Literal["column", "boxed", "gsm8k"] = Field(
        "column",
        description="the gold: the answer column as it is, the last \\boxed{} of the solution, or "
        "what follows "
        "GSM8K's #### in the answer column",
    )
    count: int | None = Field(None, ge=1, description="take this many problems; a task needs it")
    seed: int = Field(0, description="the seed of a task")
    levels: tuple[int, ...] = Field(
        (1, 2, 3, 4), min_length=1, description="difficulty levels of the arithmetic task"
    )

    @model_validator(mode="after")
    def one_origin(self) -> Self:
        if sum(origin is not None for origin in (self.path, self.hub, self.task)) != 1:
            raise ValueError("a source needs exactly one of path, hub, task")
        if self.task is not None and self.count is None:
            raise ValueError("a task makes as many problems as asked for: set count")
        for ours in self.columns:
            if ours not in COLUMNS:
                raise ValueError(f"columns: {ours!r} is none of ours, {', '.join(COLUMNS)}")
        return self

    @property
    def label(self) -> str:
        """The origin in a few characters, for manifests."""
        return self.path or self.hub or f"{self.task}/{self.split}"
