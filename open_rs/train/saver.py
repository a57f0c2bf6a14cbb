"""Saving beside training: at most one checkpoint is being written at a time, in a thread.

The thread writes a copy (`checkpoint.take_snapshot`), so training goes on at once. What fails there
is raised at the next call of `wait`: a save is waited for before the next one, before its weights
are scored, and at the end.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from open_rs.recipe import Recipe, SentinelRecipe
from open_rs.runs import RunFolder, log_event, read_metrics
from open_rs.train.checkpoint import (
    Snapshot,
    check_space,
    checkpoint_steps,
    planned_steps,
    remove_checkpoint,
    write_snapshot,
)
from open_rs.train.decisions import held_decisions, roll_backs

MARGIN = 1.5  # on the longest save so far
WRITE_BYTES_PER_S, WRITE_FILES_S = 50e6, 0.2  # of a slow disk, until the first save was timed


class Saver:
    """`start` a save, `wait` for it. A context manager that leaves no write behind. `size`: of a
    checkpoint, about, in bytes.
    """

    def __init__(self, run: RunFolder, recipe: Recipe, tokenizer: Any, size: int = 0) -> None:
        self.run, self.recipe, self.tokenizer = run, recipe, tokenizer
        self.seconds = 0.0  # that the longest save so far took, its copy included
        self._expected = WRITE_FILES_S + size / WRITE_BYTES_PER_S
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: tuple[int, Future[float]] | None = None
        self._started = 0.0  # of what is being written

    def start(self, take: Callable[[], Snapshot]) -> None:
        """Take a snapshot and begin to write it; the one before it is complete then."""
        self.wait()
        self._started = time.monotonic()
        snapshot = take()
        check_space(self.run, snapshot)
        self._writing = snapshot.state.step, self._writer.submit(self._write, snapshot)

    def stop_seconds(self) -> float:
        """What it takes from now on until what is being written and one more save are complete."""
        longest = self.seconds or self._expected
        if self._writing is None or self._writing[1].done():
            return MARGIN * longest
        so_far = time.monotonic() - self._started
        longest = max(longest, so_far)
        return 2 * MARGIN * longest - so_far

    def wait(self) -> None:
        """Until nothing is being written; raises what went wrong."""
        if self._writing is not None:
            (step, future), self._writing = self._writing, None
            self._note(step, future.result())

    def look(self) -> None:
        """`wait`, but only for what is done already."""
        if self._writing is not None and self._writing[1].done():
            self.wait()

    def _write(self, snapshot: Snapshot) -> float:
        write_snapshot(self.run, snapshot, self.tokenizer)
        return time.monotonic() - self._started

    def _note(self, step: int, seconds: float) -> None:
        self.seconds = max(self.seconds, seconds)
        log_event(self.run, "save", step, seconds=seconds)
        self.retire(step)

    def retire(self, step: int) -> None:
        """`retire` now that `step` is saved."""
        if removed := retire(self.run, self.recipe):
            log_event(self.run, "retire", step, steps=removed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.shutdown(wait=True)
        if error is None:
            self.wait()


def retire(run: RunFolder, recipe: Recipe) -> list[int]:
    """Remove the checkpoints that `train.keep_last` lets go, and return their steps.

    The newest ones stay, every `train.keep_every` steps one, the best by validation so far, by the
    rule of `evaluate.select` (the highest score, the earliest of equals), and where the sentinel
    may roll back, those that it can want. One that a stop saved stays while it is the newest. A
    kill may have come between a save and this, so a resumed run does it too, with the metrics of
    its checkpoint.
    """
    steps, planned, train = checkpoint_steps(run), planned_steps(run), recipe.train  # newest first
    if train.keep_last is None or len(steps) <= train.keep_last:
        return []
    kept = {steps[0], *planned[: train.keep_last]}
    went_to = [one["to_step"] for one in roll_backs(held_decisions(run))]
    kept |= wanted_by_roll_back(planned, recipe.sentinel, went_to)
    if train.keep_every:
        kept |= {step for step in planned if step % train.keep_every == 0}
    scores = {
        row["step"]: row["validation/pass@1"]
        for row in read_metrics(run)
        if "validation/pass@1" in row and row["step"] in steps
    }
    if scores:
        kept.add(max(scores, key=lambda step: (scores[step], -step)))
    gone = [step for step in steps if step not in kept]
    for step in gone:
        remove_checkpoint(run.checkpoint(step))
    return gone


def wanted_by_roll_back(
    steps: Sequence[int], recipe: SentinelRecipe, went_to: Sequence[int] = ()
) -> set[int]:
    """Of these steps, newest first: the newest that is older than the margin, to which an alarm now
    would go back, and the oldest within the margin, which grows into that place. Of those that the
    roll-backs `went_to`, the last: an alarm goes there while it is within the margin.
    """
    if not steps or "roll_back" not in (recipe.action, *recipe.actions.values()):
        return set()
    old = [step for step in steps if step <= steps[0] - recipe.healthy_margin]
    within = steps[: len(steps) - len(old)]
    return {*old[:1], *within[-1:], *(set(went_to[-1:]) & set(within))}
