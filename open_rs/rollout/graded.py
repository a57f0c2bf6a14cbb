"""`GradedSampler`: how curation, training and evaluation get graded completions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from open_rs.grade.types import Grade
from open_rs.interrupt import result_of
from open_rs.prompts import Prompter
from open_rs.rollout.protocol import Engine, Prompt, Rollout, RolloutGroup, SamplingParams

if TYPE_CHECKING:  # the grader's libraries take a second to import, and only its user needs them
    from open_rs.grade import Grader


class GradedSampler:
    """An engine, the grader and the prompts that belong together.

    A completion goes to the grader as soon as it ends, so grading runs beside sampling.
    """

    def __init__(self, engine: Engine, grader: Grader, prompter: Prompter) -> None:
        self.engine = engine
        self.grader = grader
        self.prompter = prompter

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        group_size: int,
        params: SamplingParams,
        seed: int,
        step: int = 0,
        on_graded: Callable[[Prompt, Rollout], None] | None = None,
        skip: Container[tuple[str, int]] = (),
        keep: bool = True,
    ) -> list[RolloutGroup]:
        """The groups of `prompts` in their order, with every `rollout.grade` set.

        `on_graded` is called once per rollout, from the calling thread, in the order in which the
        completions ended. `skip` and `keep` are the engine's.
        """
        pending: deque[tuple[Future[Grade], Prompt, Rollout]] = deque()

        def settle() -> None:
            future, prompt, rollout = pending.popleft()
            rollout.grade = result_of(future)
            if on_graded is not None:
                on_graded(prompt, rollout)

        def submit(prompt: Prompt, rollout: Rollout) -> None:
            pending.append((self.judged(prompt, rollout), prompt, rollout))
            while pending and pending[0][0].done():
                settle()

        try:
            groups = self.engine.generate(
                prompts,
                group_size=group_size,
                params=params,
                seed=seed,
                step=step,
                on_finished=submit,
                skip=skip,
                keep=keep,
            )
        except Exception:  # what ended before the engine gave up is graded, too
            while pending:
                settle()
            raise
        while pending:
            settle()
        return groups

    def rest(self) -> None:
        """The next call comes after new weights: an engine that shares the trainer's device, and
        has a `rest` for it, gives memory back until then.
        """
        rest = getattr(self.engine, "rest", None)
        if rest is not None:
            rest()

    def judged(self, prompt: Prompt, rollout: Rollout) -> Future[Grade]:
        """The grade to come; of a rollout without a completion it is `error`."""
        if rollout.error is None:
            return self.grader.submit(
                rollout.completion, prompt.problem.answer, opens_think=self.prompter.opens_think
            )
        undecided: Future[Grade] = Future()
        undecided.set_result(Grade("error", None, 0.0))
        return undecided
