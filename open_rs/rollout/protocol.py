"""What every rollout engine takes and gives; training, curation and evaluation can use any of them.

An engine is given prompts, each with its problem, and returns one `RolloutGroup` per prompt in the
order in which the prompts were given. No torch is needed to read this file.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from open_rs.grade import Grade
from open_rs.problems import Problem

FinishReason = Literal["stop", "length", "error"]  # error: there is no completion
Message = dict[str, str]  # role and content


@dataclass(frozen=True)
class SamplingParams:
    """How completions are drawn. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 switch those
    filters off.
    """

    max_completion_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()


@dataclass
class Rollout:
    """One sampled completion and, after scoring, what was made of it.

    An endpoint tells no token ids, but counts them. Where it gave no usable answer, `error` says
    why, and the rollout counts neither way.
    """

    completion_ids: list[int]  # includes the EOS token when the model wrote one
    # one per completion id, of log_softmax(logits / temperature), before top-k and top-p
    engine_logprobs: list[float]
    completion: str  # decoded without special tokens
    finish_reason: FinishReason
    sample: int = 0  # index within its group
    grade: Grade | None = None
    reward: float | None = (
        None  # None: undecided (grader or reward failed), left out of the group's mean
    )
    reward_breakdown: dict[str, float | None] = field(default_factory=dict)
    advantage: float = 0.0
    counted_tokens: int | None = None  # by an engine that tells no ids
    usd: float | None = None  # what it cost, where each completion has a price
    error: str | None = None
    weights_step: int | None = None  # updates behind the weights that drew it, where that may vary

    @property
    def num_tokens(self) -> int:
        """The length of the completion in tokens."""
        return len(self.completion_ids) if self.counted_tokens is None else self.counted_tokens


@dataclass
class SearchedRollout(Rollout):
    """The completion that a search has chosen, and all that the search has drawn for it."""

    drawn: list[list[int]] = field(default_factory=list)  # tokens of each candidate, by round
    read_tokens: int = 0  # prompt and completion so far, read again by each later round
    # (tokens, mean log-prob) of the completions left at the end, the chosen one first
    kept: list[tuple[int, float]] = field(default_factory=list)

    @property
    def drawn_tokens(self) -> int:
        """Every token that was generated, those of dropped candidates too."""
        return sum(map(sum, self.drawn))


@dataclass
class RolloutGroup:
    """The G rollouts of one prompt."""

    problem: Problem
    prompt_ids: list[int]
    rollouts: list[Rollout]


@dataclass(frozen=True)
class EngineStats:
    """What the last `generate` call cost."""

    prompt_tokens: int
    completion_tokens: int
    seconds: float
    usd: float | None = None  # beside the machine's time


@dataclass(frozen=True)
class Prompt:
    """A problem made ready for the model: as token ids and their text, or, where a server applies
    the chat template, as messages alone.
    """

    problem: Problem
    prompt_ids: list[int]
    text: str = ""
    messages: tuple[Message, ...] = ()
    expected_tokens: float | None = None  # of a completion: may decide which are drawn first


class Engine(Protocol):
    """A rollout engine. Sampling is a pure function of (weights, seed, step, problem id, sample
    index, position).
    """

    name: str
    stats: EngineStats | None  # of the last call

    @property
    def harness(self) -> dict[str, Any]:
        """What of the engine can move a score: `engine` (the name), `dtype`, `device` and, of an
        endpoint, how it is asked. Plain JSON values.
        """

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        group_size: int,
        params: SamplingParams,
        seed: int,
        step: int = 0,
        on_finished: Callable[[Prompt, Rollout], None] | None = None,
        skip: Container[tuple[str, int]] = (),
        keep: bool = True,
    ) -> list[RolloutGroup]:
        """Draw `group_size` completions for each prompt; `on_finished` is called as each of them
        ends.

        Samples in `skip`, (problem id, sample index), are not drawn. Without `keep` the groups come
        back empty: `on_finished` has had the rollouts, and memory does not grow with their number.
        """

    def load_weights(self, model: Any) -> None:
        """Take over the weights of `model` (nothing to do for an engine that samples from that very
        module).
        """
