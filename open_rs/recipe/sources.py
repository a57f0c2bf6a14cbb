"""Where problems come from."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from open_rs.recipe.section import Section

COLUMNS = ("id", "problem", "answer", "solution", "source")
Option = bool | int | float | str
ANSWERS = ("column", "boxed", "gsm8k", "last_number")


class NamedChoices(Section):
    """Multiple choice as GPQA has it: a column for the right answer and one for each wrong one."""

    type: Literal["gpqa"] = "gpqa"
    correct: str = Field("Correct Answer", description="the column of the right answer")
    incorrect: tuple[str, ...] = Field(
        ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
        min_length=1,
        description="the columns of the wrong answers; empty ones are passed over",
    )


class ListedChoices(Section):
    """Multiple choice as MMLU has it: the choices, and which of them is right."""

    type: Literal["mmlu"] = "mmlu"
    choices: str | tuple[str, ...] = Field(
        "choices", description='the column that lists them, or a column each: ["A", "B", "C", "D"]'
    )
    answer: str = Field("answer", description="the column of the right one: from 0, or a letter")


Choices = Annotated[NamedChoices | ListedChoices, Field(discriminator="type")]


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
        description='a procedural source: "arithmetic", "arithmetic_raw", a data set of '
        'reasoning-gym such as "reasoning_gym:chain_sum", or "module:function"',
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
    choices: Choices | None = Field(
        None,
        description="multiple choice: the problem gets its choices, lettered in an order that is "
        'a hash of the problem, and the gold is a letter. { type = "gpqa" } or { type = "mmlu" }, '
        "and their columns where they are called otherwise",
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
    options: dict[str, Option | list[Option]] = Field(
        {}, description="what a reasoning_gym task is set to, such as { min_terms = 2 }"
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
        if self.options and (self.task is None or ":" not in self.task):
            raise ValueError(
                'options are those of a task "reasoning_gym:NAME" or "module:function"'
            )
        if self.portion is not None and not 0 <= self.portion[0] < self.portion[1] <= 1:
            raise ValueError("portion: two numbers, 0 <= from < to <= 1, as in [0.0, 0.8]")
        for ours in self.columns:
            if ours not in COLUMNS:
                raise ValueError(f"columns: {ours!r} is none of ours, {', '.join(COLUMNS)}")
        if self.choices is not None and self.answer_from != "column":
            raise ValueError("choices: the gold is a letter; remove answer_from")
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
