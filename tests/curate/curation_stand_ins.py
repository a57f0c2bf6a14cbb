"""A scripted engine behind the real prompts and the real grader, and short ways to problems."""

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from open_rs.grade import Grader
from open_rs.problems import Problem
from open_rs.prompts import Prompter
from open_rs.recipe import PromptRecipe, Recipe
from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.protocol import EngineStats, Prompt, Rollout, RolloutGroup, SamplingParams


@dataclass(frozen=True)
class Failure:
    """What a script returns where an endpoint would give no usable answer."""

    reason: str


Script = Callable[[Problem, int], str | Failure]


class Killed(BaseException):
    """Stands for a kill in mid-sampling."""


class ScriptedEngine:
    """Says what `script(problem, sample)` says, and remembers what it was asked."""

    name = "scripted"
    stats: EngineStats | None = None

    def __init__(self, script: Script, killed_after: int | None = None) -> None:
        self.script = script
        self.killed_after = killed_after
        self.asked: list[tuple[str, int]] = []
        self.calls: list[dict[str, Any]] = []

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
        self.calls.append({"params": params, "seed": seed, "step": step})
        groups = [RolloutGroup(one.problem, one.prompt_ids, []) for one in prompts]
        for sample in reversed(
            range(group_size)
        ):  # the last first: the order is the engine's to choose
            for prompt, group in reversed(list(zip(prompts, groups, strict=True))):
                if (prompt.problem.id, sample) in skip:
                    continue
                if len(self.asked) == self.killed_after:
                    raise Killed
                self.asked.append((prompt.problem.id, sample))
                rollout = self._say(prompt.problem, sample)
                if keep:
                    group.rollouts.insert(0, rollout)
                if on_finished is not None:
                    on_finished(prompt, rollout)
        return groups

    def _say(self, problem: Problem, sample: int) -> Rollout:
        said = self.script(problem, sample)
        if isinstance(said, Failure):
            return Rollout([], [], "", "error", sample, counted_tokens=0, error=said.reason)
        return Rollout([1], [0.0], said, "stop", sample)

    def load_weights(self, model: Any) -> None:
        raise AssertionError("curation does not change weights")


def byte_prompter(max_prompt_tokens: int = 512) -> Prompter:
    """One token per byte of the problem: the template adds nothing."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    return Prompter(tokenizer, PromptRecipe(max_prompt_tokens=max_prompt_tokens))


def sampler_of(engine: ScriptedEngine, max_prompt_tokens: int = 512) -> Callable[[], Any]:
    """What `curate` takes as open_sampler."""

    @contextmanager
    def open_sampler(recipe: Recipe) -> Iterator[GradedSampler]:
        with Grader() as grader:
            yield GradedSampler(engine, grader, byte_prompter(max_prompt_tokens))

    return open_sampler


def problem(id_: str, text: str = "", answer: str = "1", solution: str = "") -> Problem:
    return Problem(id_, text or f"problem {id_}", answer, solution)
