"""Where problems come from."""

from typing import Literal, Self

from pydantic import Field, model_validator

from open_rs.recipe.section import Section

COLUMNS = ("id", "problem", "answer", "solution", "source")
ANSWERS = ("column", "boxed", "gsm8k", "last_number")


class Source(Section):
    """Where problems come from: exactly one of `path`, `hub`, `task`."""

    path: str | None = Field(
        None,
        min_length=1,
        description="a file (.jsonl, .csv, .tsv, .parquet, .arrow; text also as .gz or .zst), a "
        "pattern such as data/*.parquet, or a folder of such files; of a folder that holds "
        "problems.jsonl that file alone",
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
    name: str | None = Field(
        None,
        min_length=1,
        description="what every row of it is called as its source, in the manifest and for mix; "
        "else the row's own source column, else where it comes from",
    )
    licence: str = Field("not stated", description="for the data card, such as Apache-2.0")
    split: str = Field("train", description="the split of a hub data set or of a task")
    config: str | None = Field(None, description="the configuration of a hub data set")
    revision: str | None = Field(None, description="the commit of a hub data set")
    columns: dict[str, str] = Field(
        {}, description='renames, ours = theirs, such as { problem = "question" }'
    )
    answer_from: str = Field(
        "column",
        description='the gold: "column", the answer column as it is; "boxed", the last \\boxed{} '
        'of the solution; "gsm8k", what follows #### in the answer column; "last_number" of the '
        'answer column; or "module:function", which gets the row as a dict and returns text',
    )
    bad_rows: Literal["refuse", "drop"] = Field(
        "refuse",
        description="a row that cannot be read: refuse the whole source with its line, or drop it "
        "with a reason in the manifest (curation alone)",
    )
    count: int | None = Field(None, ge=1, description="take this many rows; a task needs it")
    portion: tuple[float, float] | None = Field(
        None,
        description="the rows whose problem text hashes into this part of [0, 1), as in "
        "[0.0, 0.8]: disjoint portions cut one source into training, validation and test sets",
    )
    seed: int = Field(0, description="the seed of a task")
    levels: tuple[int, ...] = Field(
        (1, 2, 3, 4), min_length=1, description="difficulty levels of the arithmetic task"
    )
    expect: int | None = Field(
        None, ge=0, description="rows that a paper says it has: compared, never enforced"
    )

    @model_validator(mode="after")
    def one_origin(self) -> Self:
        if sum(origin is not None for origin in (self.path, self.hub, self.task)) != 1:
            raise ValueError("a source needs exactly one of path, hub, task")
        if self.task is not None and self.count is None:
            raise ValueError("a task makes as many problems as asked for: set count")
        if self.portion is not None and not 0 <= self.portion[0] < self.portion[1] <= 1:
            raise ValueError("portion: two numbers, 0 <= from < to <= 1, as in [0.0, 0.8]")
        for ours in self.columns:
            if ours not in COLUMNS:
                raise ValueError(f"columns: {ours!r} is none of ours, {', '.join(COLUMNS)}")
        if self.answer_from not in ANSWERS and ":" not in self.answer_from:
            raise ValueError(
                f"answer_from {self.answer_from!r} unknown; known: {', '.join(ANSWERS)}, "
                "module:function"
            )
        return self

    @property
    def label(self) -> str:
        """The origin in a few characters, for manifests."""
        return self.name or self.path or self.hub or f"{self.task}/{self.split}"
