"""An engine that says what it is told, and a tokenizer of single characters."""

from collections.abc import Callable, Container, Sequence
from typing import Any

from open_rs.rollout.protocol import Prompt, Rollout, RolloutGroup, SamplingParams


class Letters:
    """A tokenizer that makes one token of each character."""

    def __init__(self, opening: str = "") -> None:
        self.chat_template = "letters"
        self.opening = opening

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        return "".join(one["content"] for one in messages) + self.opening

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}


class ScriptedEngine:
    """Says `answers[problem id][sample]`, the samples of all prompts in turn."""

    name = "scripted"
    stats = None
    harness = {"engine": "scripted", "dtype": None, "device": None}  # noqa: RUF012

    def __init__(self, answers: dict[str, list[str]], log: list[str] | None = None) -> None:
        self.answers, self.log, self.calls = answers, [] if log is None else log, 0
        self.given: dict[str, Any] = {}

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
        self.calls += 1
        self.given = {"group_size": group_size, "params": params, "seed": seed, "step": step}
        groups = [RolloutGroup(one.problem, one.prompt_ids, []) for one in prompts]
        for sample in range(group_size):
            for group, prompt in zip(groups, prompts, strict=True):
                if (prompt.problem.id, sample) in skip:
                    continue
                text = self.answers[prompt.problem.id][sample]
                rollout = Rollout([1, 2], [-0.5, -0.5], text, "stop", sample)
                if keep:
                    group.rollouts.append(rollout)
                self.log.append(f"end {prompt.problem.id}{sample}")
                if on_finished is not None:
                    on_finished(prompt, rollout)
        self.log.append("engine done")
        return groups

    def load_weights(self, model: Any) -> None: ...
