"""The rewards that a recipe can name, as typed data; `rewards.build_rewards` makes them functions.

No torch, so that a recipe can be read without it.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class WeightedReward(BaseModel):
    """What every reward has."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weight: float = Field(1.0, description="factor in the weighted sum; 0 only measures")


class AccuracyReward(WeightedReward):
    """1 if the final answer is correct, else 0."""

    type: Literal["accuracy"] = Field("accuracy", description="the kind of reward")


class FormatReward(WeightedReward):
    """1 for exactly one closed thought and then an answer, else 0."""

    type: Literal["format"] = Field("format", description="the kind of reward")


class CosineReward(WeightedReward):
    """Accuracy scaled by length: shorter correct answers earn more, longer wrong ones lose less.

    Yeo et al. 2025 (arXiv 2502.03373), whose own values are correct 2 -> 1, wrong -10 -> 0 and -10
    at the cap. The defaults are the range of the Open-RS code with the sign of its wrong branch put
    right: there a short wrong answer lost least.
    """

    type: Literal["cosine"] = Field("cosine", description="the kind of reward")
    max_correct: float = Field(1.0, description="a correct answer of length 0")
    min_correct: float = Field(0.5, description="a correct answer of max_completion_tokens")
    min_wrong: float = Field(-0.5, description="a wrong answer of length 0")
    max_wrong: float = Field(0.0, description="a wrong answer of max_completion_tokens")
    truncated: float | None = Field(
        None,
        description="a completion cut off at the cap, right or wrong, earns this instead (Yeo et "
        "al.: the same as min_wrong); unset, it earns what its length says",
    )

    @model_validator(mode="after")
    def ordered(self) -> Self:
        if not self.min_wrong <= self.max_wrong <= self.min_correct <= self.max_correct:
            raise ValueError(
                "a cosine reward needs min_wrong <= max_wrong <= min_correct <= max_correct"
            )
        return self


class OverlongReward(WeightedReward):
    """0 up to a buffer before the cap, then linearly down to -1 at it (DAPO, arXiv 2503.14476)."""

    type: Literal["overlong"] = Field("overlong", description="the kind of reward")
    overlong_buffer: int | None = Field(
        None,
        ge=1,
        description="tokens before max_completion_tokens over which the penalty grows; unset, a "
        "fifth of it (DAPO: 4,096 of 20,480)",
    )


class CustomReward(WeightedReward):
    """The user's own: `def brevity(rollout: Rollout, problem: Problem) -> float | None`."""

    type: Literal["custom"] = Field("custom", description="the kind of reward")
    function: str = Field(description='"module:function"; the function\'s name names the reward')


RewardSpec = Annotated[
    AccuracyReward | FormatReward | CosineReward | OverlongReward | CustomReward,
    Field(discriminator="type"),
]
