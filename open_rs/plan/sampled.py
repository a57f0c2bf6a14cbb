"""The sampling part of a probe: what decoding costs here, and how long completions are."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from open_rs.models import context_length
from open_rs.plan.pace import cpu_prior, fit
from open_rs.plan.resident import PeakMemory
from open_rs.plan.schedule import Floats, Group, decoding
from open_rs.plan.shapes import ModelShape
from open_rs.recipe import Recipe
from open_rs.rollout.build import training_params
from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.protocol import Prompt, Rollout, RolloutGroup
from open_rs.rollout.weights import weights_of

STREAM = -2  # of noise: nothing that the run samples
FEWEST_STEPS = 48  # decoding steps that tell something of lengths
RATE_TOKENS = 32  # of the calls that are for their rate alone: the engine packs weights from here
START_TOKENS = 2  # of the call that tells what the start of a call takes
ENOUGH = 1024  # completions; their mean is within some 5 % where lengths vary by their own size
LONG = 4  # times as long is the prompt of the call that tells what attention costs
PIECES = 20  # into which a call is cut at most

Key = tuple[str, int]  # problem id and sample


@dataclass
class Call:
    """One call of the engine, and its pieces between ends of completions."""

    groups: list[RolloutGroup]
    seconds: float
    slots: int
    longest: int
    work: list[Floats] = field(default_factory=list)
    pieces: list[float] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return sum(one.num_tokens for group in self.groups for one in group.rollouts)


@dataclass
class Sampled:
    """Whole batches, and calls for their rate alone. `cut`: where completions were cut; `copies`:
    bytes of weights that decoding lays out anew.
    """

    batches: list[Call]
    others: list[Call]
    cut: int
    peak: int  # bytes
    copies: int

    @property
    def groups(self) -> list[RolloutGroup]:
        return [group for call in self.batches for group in call.groups]

    @property
    def rate(self) -> float:
        """Tokens a second of whole batches."""
        return sum(one.tokens for one in self.batches) / sum(one.seconds for one in self.batches)

    def pace(self, shape: ModelShape) -> tuple[float, ...]:
        """Seconds per unit of decoding work."""
        calls = [*self.others, *self.batches]
        work = np.array([row for one in calls for row in one.work])
        seconds = np.array([row for one in calls for row in one.pieces])
        # what a weight costs where every other term is 0 bounds the speed of products from below
        done = 2.0 * (shape.body + shape.head) * work[:, 2].sum()
        return fit(work, seconds, cpu_prior(shape, 2 * done / seconds.sum())[0])


def sample(
    recipe: Recipe,
    sampler: GradedSampler,
    prompts: Sequence[Prompt],
    seconds: float,
    *,
    completions: int = ENOUGH,
) -> Sampled:
    """Short calls, one of them with a long prompt, then batches of the recipe's size until there
    are so many `completions`, or for about `seconds`: of fewer prompts, and then cut off, where
    they would not end in it.
    """
    cap, size = recipe.rollout.max_completion_tokens, recipe.rollout.group_size
    batch = list(prompts[: recipe.rollout.prompts_per_step])
    device = getattr(getattr(sampler.engine, "model", None), "device", None)
    probe, few = Caller(recipe, sampler), min(cap, RATE_TOKENS)
    probe(batch[:1], 1, START_TOKENS)  # what is made at first use
    start = probe(batch, size, START_TOKENS)
    others = [probe(batch, size, few)]
    if (long := lengthened(sampler, batch[0])) is not None:
        others.append(probe([long], size, few))
    per_step = max(others[0].seconds - start.seconds, 0.2 * others[0].seconds) / few
    count = len(batch)
    while count > 1 and seconds / per_step < min(cap, FEWEST_STEPS):
        count, per_step = count // 2, per_step / 2
    cut = min(cap, max(int(seconds / per_step), few))
    batches: list[Call] = []
    stop = time.perf_counter() + seconds
    with PeakMemory(device) as peak:
        for first in range(0, len(prompts), count):
            enough = len(batches) > 1 and first * size >= completions
            if enough or (batches and time.perf_counter() + 1.5 * batches[-1].seconds > stop):
                break
            batches.append(probe(prompts[first : first + count], size, cut))
    return Sampled(batches, others, cut, peak.bytes, decode_copies(sampler.engine, cut))


def decode_copies(engine: Any, cap: int) -> int:
    """Bytes of the weights that the engine lays out anew for decoding."""
    if not hasattr(engine, "fit"):
        return 0
    weights = weights_of(engine.model, engine.fit.windows, 1, cap)
    return 0 if weights is None else weights.copied


def lengthened(sampler: GradedSampler, prompt: Prompt) -> Prompt | None:
    """The prompt repeated, where the model's context has room for it."""
    model = getattr(sampler.engine, "model", None)
    ids = prompt.prompt_ids * LONG
    limit = None if model is None else context_length(model)
    if limit is not None and len(ids) + RATE_TOKENS > limit:
        return None
    return replace(prompt, prompt_ids=ids)


class Caller:
    """Calls the engine with other noise each time, and grades beside it like `GradedSampler`."""

    def __init__(self, recipe: Recipe, sampler: GradedSampler) -> None:
        self.recipe, self.sampler, self.calls = recipe, sampler, 0

    def __call__(self, prompts: Sequence[Prompt], size: int, cap: int) -> Call:
        sampler, params = self.sampler, training_params(self.recipe)
        marks: list[tuple[float, Key]] = []
        waiting: list[tuple[Rollout, Any]] = []
        self.calls += 1

        def finished(prompt: Prompt, rollout: Rollout) -> None:
            marks.append((time.perf_counter() - started, (prompt.problem.id, rollout.sample)))
            waiting.append((rollout, sampler.judged(prompt, rollout)))

        started = time.perf_counter()
        groups = sampler.engine.generate(
            prompts,
            group_size=size,
            params=replace(params, max_completion_tokens=min(cap, params.max_completion_tokens)),
            seed=self.recipe.seed + self.calls,
            step=STREAM,
            on_finished=finished,
        )
        seconds = time.perf_counter() - started
        for rollout, grade in waiting:
            rollout.grade = grade.result()
        slots = min(self.recipe.rollout.max_slots, len(prompts) * size)
        made = decoding([lengths_of(one) for one in groups], slots)
        keys = [(one.problem.id, r.sample) for one in groups for r in one.rollouts]
        call = Call(groups, seconds, slots, made.longest)
        before, clock = np.zeros_like(made.total), 0.0
        ends = dict(zip(keys, made.ends.tolist(), strict=True))
        for at, step in ends_of(marks, ends, seconds):
            call.work.append(made.work[step] - before)
            call.pieces.append(max(at - clock, 0.0))
            before, clock = made.work[step], at
        return call


def lengths_of(group: RolloutGroup) -> Group:
    return Group(len(group.prompt_ids), tuple(one.num_tokens for one in group.rollouts))


def ends_of(
    marks: Sequence[tuple[float, Key]], step_of: Mapping[Key, int], seconds: float
) -> Iterator[tuple[float, int]]:
    """(seconds, step) at up to PIECES ends of completions, and at the end of the call."""
    at: dict[int, float] = {}
    for moment, key in marks:
        at[step_of[key]] = max(at.get(step_of[key], 0.0), moment)
    last, taken = max(at), 0
    for step in sorted(at):
        if step == last:
            yield seconds, step
        elif step - taken >= max(last // PIECES, 1):
            taken = step
            yield at[step], step
