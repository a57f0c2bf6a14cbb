"""The filters of curation and their settings."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from open_rs.recipe.engines import EngineSpec
from open_rs.recipe.model import ModelRecipe
from open_rs.recipe.rewards import Script
from open_rs.recipe.section import Section


class Filter(Section):
    """What all filters have in common."""

    expect: int | None = Field(
        None,
        ge=0,
        description="rows that a paper says are left after this filter: compared, never enforced",
    )


class BoxedFilter(Filter):
    """Keeps rows whose solution holds a \\boxed answer."""

    type: Literal["boxed"] = "boxed"


class GoldFilter(Filter):
    """Keeps rows whose gold parses and grades itself correct."""

    type: Literal["gold"] = "gold"


class ExactDuplicatesFilter(Filter):
    """Of rows with the same normalised text keeps the best: one with a solution, then the longest
    solution, then the first.
    """

    type: Literal["exact_duplicates"] = "exact_duplicates"
    conflicts: Literal["drop", "keep_best"] = Field(
        "drop", description="duplicates with different answers: drop them all, or keep the best"
    )


class NearDuplicatesFilter(Filter):
    """Of rows that are one problem in other words keeps the best, as exact_duplicates does. Rows
    with other numbers are other problems.
    """

    type: Literal["near_duplicates"] = "near_duplicates"
    similarity: float = Field(
        0.55,
        gt=0,
        le=1,
        description="Jaccard index of words and pairs of words from which rows with the same "
        "numbers and the same answer are duplicates",
    )
    conflict_similarity: float = Field(
        1.0,
        gt=0,
        le=1,
        description="the same where the answers differ: below it they are two questions about the "
        "same things",
    )
    conflicts: Literal["drop", "keep_best"] = Field(
        "drop", description="duplicates with different answers: drop them all, or keep the best"
    )

    @model_validator(mode="after")
    def conflicts_are_the_more_alike(self) -> Self:
        if self.conflict_similarity < self.similarity:
            raise ValueError("conflict_similarity must be at least similarity")
        return self


class ContaminationFilter(Filter):
    """Drops rows that are a problem of a held-out set: copies, copies in other words, rows that
    quote a whole one or are quoted by one.
    """

    type: Literal["contamination"] = "contamination"
    against: tuple[str, ...] = Field(
        ("validation", "test"),
        description='"validation" and "test": the held-out sets of the recipe; a benchmark by its '
        'name, such as "math500"; else paths',
        min_length=1,
    )
    similarity: float = Field(
        0.55,
        gt=0,
        le=1,
        description="Jaccard index of words and pairs of words from which a row with the same "
        "numbers and the same answer is a copy in other words",
    )
    template_similarity: float = Field(
        0.8,
        gt=0,
        le=1,
        description="the same from which a row with other numbers is of one template",
    )
    same_template: Literal["keep", "drop"] = Field(
        "keep",
        description="a held-out problem with other numbers or another answer: keep and note it in "
        "the manifest, or drop it",
    )


class MultiPartFilter(Filter):
    """Drops problems that ask for several things, each with an answer of its own."""

    type: Literal["multi_part"] = "multi_part"


class ProofFilter(Filter):
    """Drops problems that ask for a proof and for no answer."""

    type: Literal["proof"] = "proof"


class LanguageFilter(Filter):
    """Keeps problems whose words are in the expected scripts and languages. A text of few words is
    not judged by its language.
    """

    type: Literal["language"] = "language"
    scripts: tuple[Script, ...] = Field(("latin",), min_length=1, description="expected scripts")
    max_outside: float = Field(
        0.05, ge=0, le=1, description="largest share of the letters of words in other scripts"
    )
    languages: tuple[str, ...] = Field(
        (), description="expected languages by ISO 639 code, such as en; none: scripts alone"
    )


class LengthFilter(Filter):
    """Keeps rows with min <= length <= max. Tokens are the business of prompt_limit."""

    type: Literal["length"] = "length"
    of: Literal["problem", "solution", "answer"] = Field("problem", description="what is measured")
    unit: Literal["characters", "words"] = Field("characters", description="of min and max")
    min: int | None = Field(None, ge=0, description="shortest that is kept")
    max: int | None = Field(None, ge=0, description="longest that is kept")

    @model_validator(mode="after")
    def leaves_room(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a length filter needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min must not be larger than max, or no row is kept")
        return self


class SampleFilter(Filter):
    """Keeps `count` rows, drawn by a hash of seed and content: the order of the rows says nothing,
    and of a larger set of rows those that it shares with a smaller one are drawn alike.
    """

    type: Literal["sample"] = "sample"
    count: int = Field(ge=1, description="rows to keep")
    seed: int = Field(0, description="another seed draws other rows")
    short: Literal["report", "refuse"] = Field("report", description="where there are fewer rows")


class MixFilter(Filter):
    """Keeps so many rows of each stratum, drawn as `sample` draws, and no row of another one."""

    type: Literal["mix"] = "mix"
    by: str = Field(
        "source",
        description='what the strata are: "source", "pass_rate" (bands, as the pass_rate filter '
        'before it measured them), or "module:function", which gets a Problem and returns a text',
    )
    counts: dict[str, int] = Field(
        min_length=1,
        description='rows to keep of each, such as { "gsm8k" = 3000 }; of a band of pass rates, '
        'lower bound in, upper out, such as { "0.0-0.25" = 1000, "0.25-1.0" = 3000 }',
    )
    seed: int = Field(0, description="another seed draws other rows")
    short: Literal["report", "refuse"] = Field(
        "report", description="where a stratum has fewer rows than asked for"
    )

    @model_validator(mode="after")
    def strata_can_be_read(self) -> Self:
        if self.by not in ("source", "pass_rate") and ":" not in self.by:
            raise ValueError(f"by {self.by!r} unknown; known: source, pass_rate, module:function")
        for stratum, count in self.counts.items():
            if count < 1:
                raise ValueError(f"counts: {stratum!r} asks for {count} rows; ask for 1 or more")
        if self.by == "pass_rate":
            self.bands()
        return self

    def bands(self) -> dict[str, tuple[float, float]]:
        """(lower, upper) of each stratum of pass rates; they must not overlap."""
        bands: dict[str, tuple[float, float]] = {}
        for text in self.counts:
            lower, dash, upper = text.partition("-")
            try:
                bands[text] = float(lower), float(upper)
            except ValueError:
                raise ValueError(
                    f"counts: {text!r} is no band of pass rates; write it as 0.25-0.5"
                ) from None
            if not dash or not 0 <= bands[text][0] < bands[text][1]:
                raise ValueError(f"counts: band {text!r} must rise from 0 or more")
        ordered = sorted(bands.values())
        if any(one[1] > other[0] for one, other in pairwise(ordered)):
            raise ValueError("counts: bands of pass rates must not overlap")
        return bands


class ModelFilter(Filter):
    """What filters that need a model, or its tokenizer, have in common."""

    engine: EngineSpec | None = Field(None, description="who draws its answers; unset: rollout's")
    model: ModelRecipe | None = Field(
        None,
        description="the model of a native engine, or of the text mode's prompts; unset: model",
    )


class PromptLimitFilter(ModelFilter):
    """Drops rows whose prompt is over prompt.max_prompt_tokens. It comes before the first pass_rate
    filter, with that one's model, where the recipe puts it nowhere. A server that applies its own
    template tells no lengths, and nothing is dropped.
    """

    type: Literal["prompt_limit"] = "prompt_limit"


class AskingFilter(ModelFilter):
    """What filters that ask a model have in common."""

    undecided: Literal["drop", "keep"] = Field(
        "drop",
        description="a row for which no answer is to be had: drop it, or keep and note it; the "
        "manifest says so either way",
    )
    max_undecided: float = Field(
        0.1, ge=0, le=1, description="share of such rows above which the curation stops"
    )


class PassRateFilter(AskingFilter):
    """Keeps rows that a model solves sometimes: above < pass rate < below."""

    type: Literal["pass_rate"] = "pass_rate"
    num_samples: int = Field(8, ge=1, description="completions sampled per problem")
    above: float = Field(
        0.0, ge=-1, le=1, description="keep only problems with a pass rate above this; -1 keeps 0"
    )
    below: float = Field(
        1.0, ge=0, le=2, description="keep only problems with a pass rate below this; 2 keeps 1"
    )

    @model_validator(mode="after")
    def leaves_room(self) -> Self:
        if self.above >= self.below:
            raise ValueError("above must be smaller than below, or no problem is kept")
        return self


class OwnQuestion(Section):
    """A question of the user's to the judge."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="a word, which the funnel counts")
    ask: str = Field(min_length=1, description="a question about the problem, for yes or no")
    keep: bool = Field(True, description="the answer with which a row is kept: true is yes")

    @model_validator(mode="after")
    def asks_in_its_own_words(self) -> Self:
        if "{problem}" in self.ask:
            raise ValueError("ask should not hold {problem}: the judge has been given it before")
        return self


class JudgeFilter(AskingFilter):
    """Keeps rows that a language model finds fit. It reads the problem alone, and answers each
    question by yes or no; an answer counts with more than half of the votes.
    """

    type: Literal["judge"] = "judge"
    questions: tuple[Literal["quality", "multi_part", "answerable", "proof"], ...] = Field(
        ("quality", "multi_part", "answerable"), description="the questions of prompts.py to ask"
    )
    own: tuple[OwnQuestion, ...] = Field((), description="further questions, in the user's words")
    votes: int = Field(3, ge=1, description="answers to each question, each with a seed of its own")
    retries: int = Field(
        2, ge=0, description="further tries for a vote that is not the JSON object asked for"
    )
    temperature: float = Field(0.7, ge=0, le=10, description="of sampling; 0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus; 1 is off")
    max_completion_tokens: int = Field(512, ge=1, description="of one answer, thoughts included")
    max_prompt_tokens: int = Field(
        4096, ge=1, description="a row whose question is longer is undecided"
    )
    structured: bool = Field(
        False,
        description="ask an endpoint to allow nothing but the JSON object (response_format)",
    )

    @model_validator(mode="after")
    def questions_can_be_told_apart(self) -> Self:
        names = [*self.questions, *(one.name for one in self.own)]
        if not names:
            raise ValueError("a judge needs questions or own questions")
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"the question {twice[0]!r} occurs twice; names must differ")
        if self.votes > 1 and self.temperature == 0:
            raise ValueError(
                f"votes = {self.votes} are all alike at temperature 0; raise it, or set votes = 1"
            )
        return self


class CustomFilter(Filter):
    """The user's own: `def keep(problem: Problem) -> str | None` returns the reason to drop, or
    None.
    """

    type: Literal["custom"] = "custom"
    function: str = Field(description="module:function")


FilterSpec = Annotated[
    BoxedFilter
    | GoldFilter
    | ExactDuplicatesFilter
    | NearDuplicatesFilter
    | ContaminationFilter
    | MultiPartFilter
    | ProofFilter
    | LanguageFilter
    | LengthFilter
    | PromptLimitFilter
    | PassRateFilter
    | JudgeFilter
    | SampleFilter
    | MixFilter
    | CustomFilter,
    Field(discriminator="type"),
]
