"""The filters of curation and their settings."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

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
    """Keeps the first of rows with the same normalised text; none if their answers differ."""

    type: Literal["exact_duplicates"] = "exact_duplicates"


class ContaminationFilter(Filter):
    """Drops rows whose normalised text occurs in a held-out set."""

    type: Literal["contamination"] = "contamination"
    against: tuple[str, ...] = Field(
        ("validation", "test"),
        description='"validation" and "test": the held-out sets of the recipe; else paths',
        min_length=1,
    )


class PromptLimitFilter(Filter):
    """Drops rows whose prompt is over prompt.max_prompt_tokens. It comes before the first pass_rate
    filter where the recipe puts it nowhere.
    """

    type: Literal["prompt_limit"] = "prompt_limit"


class PassRateFilter(Filter):
    """Keeps rows that the model of the recipe solves sometimes: above < pass rate < below."""

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
    | ContaminationFilter
    | PromptLimitFilter
    | PassRateFilter
    | CustomFilter,
    Field(discriminator="type"),
]
