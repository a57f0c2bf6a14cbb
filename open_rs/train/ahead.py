"""The next rollout batch, drawn while this one teaches (`rollout.staleness = 1`).

Servers of vLLM draw it in a thread, beside the forward and backward passes; an engine in this
process draws it before them. Either way weights move only once it is whole in rollouts/:

    weights after step         0       1       2       3
    draw the batches of     1, 2       3       4       5
    teach them                 1       2       3       4

So whatever the weights are, the next batch is on disk or is to be drawn by these very weights.
Checkpoints need no older ones, and a run that was killed goes on as if it had not been.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import replace
from typing import Any

from open_rs.interrupt import beside, result_of
from open_rs.rollout.protocol import RolloutGroup
from open_rs.runs import Ledger
from open_rs.train.guard import settings_of
from open_rs.train.selection import History
from open_rs.train.setup import Training

Batch = tuple[list[RolloutGroup], dict[str, float]]  # and what the metrics say of it
Draw = Callable[[Training, int], Batch]


class Beside(Ledger):
    """Keeps the figures of phases that run beside others, whose time is entered elsewhere."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger.path)
        self.figures: dict[str, Any] = {}

    @contextmanager
    def phase(self, name: str, step: int = 0) -> Iterator[dict[str, Any]]:
        yield self.figures


class Ahead:
    """The batch of `step`, drawn before its time: with the settings and the place in the data of
    `training`, which are those of its step by what is known now.
    """

    def __init__(self, training: Training, step: int) -> None:
        self.step, self.ledger = step, training.ledger
        self.training = replace(
            training,
            now=settings_of(training, step),
            stream=copy(training.stream),
            history=History(training.history.half_life, training.history.counts),
            state=replace(training.state),  # names the weights, whatever is learnt meanwhile
        )
        self.batch: Batch | None = None
        self.future: Future[Batch] | None = None
        self.began = self.ended = 0.0
        self.metrics: dict[str, float] = {}

    @contextmanager
    def drawing(self, draw: Draw) -> Iterator[None]:
        """In a thread; `wait` inside."""
        self.training.ledger = Beside(self.ledger)
        self.training.autocast = nullcontext()  # the trainer's is entered beside this

        def work() -> Batch:
            try:
                return draw(self.training, self.step)
            finally:
                self.ended = time.perf_counter()

        self.began = time.perf_counter()
        with beside(work) as self.future:
            yield

    def wait(self) -> None:
        """Until the batch is whole; raises what kept it from that."""
        if self.future is None:
            return
        asked, beside_others = time.perf_counter(), self.training.ledger
        assert isinstance(beside_others, Beside)
        with self.ledger.phase("rollout", self.step) as figures:
            try:
                self.batch = result_of(self.future)
            finally:
                figures.update(beside_others.figures)
        self.metrics = {
            "time/overlap_s": min(asked, self.ended) - self.began,
            "time/wait_s": time.perf_counter() - asked,
        }


@contextmanager
def drawing_ahead(training: Training, draw: Draw) -> Iterator[Ahead | None]:
    """Draw the batch after the present one by the weights of now, where the recipe wants it and
    there is one; by an engine that is apart, while what is inside runs.
    """
    recipe = training.recipe
    step = training.state.step + recipe.train.updates_per_batch + 1
    ahead = None
    if recipe.rollout.staleness and step <= recipe.train.num_steps:
        ahead = Ahead(training, step)
        if recipe.rollout.engine.is_apart:
            with ahead.drawing(draw):
                yield ahead
            return
        ahead.batch = draw(ahead.training, step)
    training.sampler.rest()
    yield ahead


def take_over(training: Training, ahead: Ahead) -> Batch:
    """The batch, once its step has come; its settings and place in the data are the run's now."""
    assert ahead.batch is not None
    then = ahead.training
    training.now, training.stream, training.history = then.now, then.stream, then.history
    return ahead.batch
