"""The rewards and their settings."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from open_rs.recipe.section import Section


class WeightedReward(Section):
    """What every reward has. A schedule of `rewards.NAME.weight` changes the weight in the run."""

    weight: float = Field(1.0, description="factor in the weighted sum; 0 only measures")


class AccuracyReward(WeightedReward):
    """1 if the final answer is correct, else 0."""

    type: Literal["accuracy"] = "accuracy"


class FormatReward(WeightedReward):
    """1 for exactly one closed thought and then an answer, else 0."""

    type: Literal["format"] = "format"


class CosineReward(WeightedReward):
    """Accuracy scaled by length: shorter correct answers earn more, longer wrong ones lose less.

    Yeo et al. 2025 (arXiv 2502.03373), whose own values are correct 2 -> 1, wrong -10 -> 0 and -10
    at the cap. The defaults are the range of the Open-RS code with the sign of its wrong branch put
    right: there a short wrong answer lost least.
    """

    type: Literal["cosine"] = "cosine"
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

    type: Literal["overlong"] = "overlong"
    overlong_buffer: int | None = Field(
        None,
        ge=1,
        description="tokens before max_completion_tokens over which the penalty grows; unset, a "
        "fifth of it (DAPO: 4,096 of 20,480)",
    )


class RepetitionReward(WeightedReward):
    """Minus the share of repeated token n-grams: 0 without repetition, near -1 in a loop."""

    type: Literal["repetition"] = "repetition"
    ngram_size: int = Field(
        20, ge=1, description="tokens per n-gram; small ones repeat in any sound derivation"
    )


Script = Literal[
    "latin", "han", "cyrillic", "greek", "arabic", "hebrew", "devanagari", "hangul", "hiragana",
    "katakana", "bopomofo", "thai", "lao", "khmer", "myanmar", "tibetan", "mongolian", "georgian",
    "armenian", "ethiopic", "bengali", "tamil", "telugu", "kannada", "malayalam", "gujarati",
    "gurmukhi", "oriya", "sinhala",
]  # fmt: skip
SCRIPTS: tuple[Script, ...] = get_args(Script)


class LanguageReward(WeightedReward):
    """1 - the share of letters outside the expected scripts; mathematics and code do not count."""

    type: Literal["language"] = "language"
    scripts: tuple[Script, ...] = Field(
        ("latin",),
        min_length=1,
        description='scripts of the expected languages; Japanese is ["han", "hiragana", '
        '"katakana"]',
    )


class GroupLengthReward(WeightedReward):
    """Length against the other completions of the prompt, from 0.5 for the shortest correct one to
    -0.5 for the longest (Kimi k1.5, arXiv 2501.12599, where its weight rises during the run).
    """

    type: Literal["group_length"] = "group_length"


class CustomReward(WeightedReward):
    """The user's own: `def brevity(rollout: Rollout, problem: Problem) -> float | None`, with a
    keyword `group: RolloutGroup` where it compares within the group.
    """

    type: Literal["custom"] = "custom"
    function: str = Field(description='"module:function"; the function\'s name names the reward')
    isolated: bool = Field(
        False,
        description="run it in a process of its own: where it hangs or crashes, the rollout is "
        "undecided and the training goes on",
    )
    timeout_s: float | None = Field(
        None,
        gt=0,
        description="seconds per rollout after which an isolated reward is killed; unset, 5",
    )

    @model_validator(mode="after")
    def limit_can_be_kept(self) -> Self:
        if self.timeout_s is not None and not self.isolated:
            raise ValueError("timeout_s needs isolated = true: only a process can be stopped")
        return self


RewardSpec = Annotated[
    AccuracyReward
    | FormatReward
    | CosineReward
    | OverlongReward
    | RepetitionReward
    | LanguageReward
    | GroupLengthReward
    | CustomReward,
    Field(discriminator="type"),
]
