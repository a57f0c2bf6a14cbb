"""Steps of a run made up from lengths: what they decode and learn, in seconds and in sizes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from open_rs.plan.cluster import ALONE, Cluster, balanced, dealt, exchange
from open_rs.plan.lengths import Lengths
from open_rs.plan.memory import Sizes
from open_rs.plan.pace import Pace
from open_rs.plan.schedule import Group, Pass, decoding, passes
from open_rs.plan.shapes import ModelShape
from open_rs.recipe import Recipe

MADE_STEPS, FEW_STEPS = 12, 2
MOST_ROWS = 1024  # of an evaluation that are made up; more are in proportion


@dataclass(frozen=True)
class Machine:
    """What does the work. `dead`: share of groups without signal; `packed`: as an update forwards
    its rows; `engine`: the pace of an engine, where it is not that of one device.
    """

    pace: Pace
    shape: ModelShape
    packed: bool
    dead: float
    cluster: Cluster = ALONE
    engine: Pace | None = None

    @property
    def engine_pace(self) -> Pace:
        return self.engine or self.pace


@dataclass(frozen=True)
class Step:
    """Means of made up steps, each with all the updates of its batch; `sizes`: the largest.

    Of several devices, `rollout_s` and `update_s` are those of the last to be done; `waiting_s`:
    how long engines wait for it on average; `exchange_s`: gradients and weights under way beside
    that.
    """

    rollout_s: float
    update_s: float
    exchange_s: float
    waiting_s: float
    completions: float
    tokens: float  # of completions
    sizes: Sizes

    def seconds(self, cluster: Cluster) -> float:
        """From one batch to the next."""
        if cluster.overlapped:
            return max(self.rollout_s, self.update_s) + self.exchange_s
        return self.rollout_s + self.update_s + self.exchange_s


def calls_of(
    recipe: Recipe, lengths: Lengths, rng: random.Random, dead: float, prompts: int
) -> tuple[list[list[Group]], list[Group]]:
    """(calls of the engine, groups of the batch): with a screen and refills, as the loop draws."""
    rollout, loss = recipe.rollout, recipe.loss
    rounds = 1 + (loss.max_refills if loss.dynamic_sampling else 0)
    calls: list[list[Group]] = []
    batch: list[Group] = []
    for _ in range(rounds):
        missing = prompts - sum(group.taught for group in batch)
        if missing <= 0 or (batch and not loss.dynamic_sampling):
            break
        if loss.oversample:
            missing = min(round(missing / max(1 - dead, 0.05)), rounds * prompts - len(batch))
        groups = lengths.draw(rng, missing, rollout.group_size, dead=dead)
        screen = rollout.screen_size
        if screen is not None:
            first = [replace(one, lengths=one.lengths[:screen]) for one in groups]
            rest = [replace(one, lengths=one.lengths[screen:]) for one in groups if one.taught]
            calls += [first, rest] if rest else [first]
            groups = [one if one.taught else part for one, part in zip(groups, first, strict=True)]
        else:
            calls.append(groups)
        batch += groups
    taught = [one for one in batch if one.taught] if loss.dynamic_sampling else batch
    return calls, taught


def made_steps(recipe: Recipe, lengths: Lengths, machine: Machine, *, problems: int | None) -> Step:
    """The mean of some steps: MADE_STEPS, or FEW of many devices, which are many samples each."""
    rng = random.Random(0)
    rollout, train, cluster = recipe.rollout, recipe.train, machine.cluster
    prompts = min(rollout.prompts_per_step, problems or rollout.prompts_per_step)
    steps = MADE_STEPS if cluster.engines <= MADE_STEPS else FEW_STEPS
    said = exchange(cluster, machine.shape)
    rolling = updating = waiting = completions = tokens = 0.0
    slots = positions = forwarded = scored = batches = 0
    for _ in range(steps):
        calls, batch = calls_of(recipe, lengths, rng, machine.dead, prompts)
        for call in calls:
            longest, mean, made = called(call, machine, rollout.max_slots)
            rolling += longest
            waiting += longest - mean
            completions += sum(len(group.lengths) for group in call)
            tokens += sum(map(sum, (group.lengths for group in call)))
            slots, positions = max(slots, made[0]), max(positions, made[1])
        seconds, found = updated(recipe, batch, machine)
        updating += train.updates_per_batch * seconds
        forwarded = max([forwarded, *(one.forwarded for one in found)])
        scored = max([scored, *(one.scored for one in found)])
        batches = max(batches, len(found))
    return Step(
        rollout_s=rolling / steps,
        update_s=updating / steps,
        exchange_s=train.updates_per_batch * said.step + said.weights,
        waiting_s=waiting / steps,
        completions=completions / steps,
        tokens=tokens / steps,
        sizes=Sizes(slots, positions, rollout.max_completion_tokens, forwarded, scored, batches),
    )


def called(
    groups: Sequence[Group], machine: Machine, slots: int
) -> tuple[float, float, tuple[int, int]]:
    """One call of all engines: seconds of the last to be done and of the mean, and the most rows
    side by side and positions of one.
    """
    seconds, most, positions = [], 0, 0
    for share in dealt(groups, machine.cluster.engines):
        made = decoding(share, slots)
        rows = sum(len(group.lengths) for group in share)
        pace = machine.engine_pace
        seconds.append(pace.decoding_seconds(made) + rows * pace.row_s)
        most, positions = max(most, min(rows, slots)), max(positions, made.longest)
    return max(seconds), sum(seconds) / len(seconds), (most, positions)


def updated(recipe: Recipe, batch: Sequence[Group], machine: Machine) -> tuple[float, list[Pass]]:
    """One optimizer step of all trainers: seconds, and the micro-batches of who has most of them.

    Sharded weights travel while the layer before is computed: the longer of both counts.
    """
    train, cluster, kl = recipe.train, machine.cluster, recipe.loss.kl_coef > 0
    pace = replace(machine.pace, optimizer_s=machine.pace.optimizer_s / cluster.shard)
    rows = [one for one in batch if one.taught or kl]
    shares = [
        passes(share, train.micro_batch_tokens, packed=machine.packed, all_rows=True)
        for share in balanced(rows, cluster.trainers)
    ]
    found = max(shares, key=len)
    computing = max(pace.update_seconds(share, machine.shape, kl=kl) for share in shares)
    moving = len(found) * exchange(cluster, machine.shape).micro_batch
    return max(computing, moving), found


def sampling_seconds(
    recipe: Recipe, lengths: Lengths, machine: Machine, *, problems: int, samples: int, cap: int
) -> float:
    """One evaluation, or the sampling of a curation."""
    if not problems:
        return 0.0
    problems = -(-problems // machine.cluster.engines)
    made = max(min(problems, MOST_ROWS // samples), 1)
    groups = replace(lengths, cap=max(cap, lengths.cut)).draw(random.Random(1), made, samples)
    groups = [
        replace(one, lengths=tuple(min(length, cap) for length in one.lengths)) for one in groups
    ]
    slots = recipe.rollout.max_slots
    seconds = machine.engine_pace.decoding_seconds(decoding(groups, slots))
    return seconds * problems / made


def sizes_at_cap(recipe: Recipe, cap: int, longest: int, rows: int) -> Sizes:
    """Every completion at its cap behind the longest prompt, which no run may fail on."""
    row = longest + cap
    budget = max(recipe.train.micro_batch_tokens, row)
    forwarded = min(budget, recipe.rollout.prompts_per_step * recipe.rollout.group_size * row)
    slots = min(recipe.rollout.max_slots, rows)
    return Sizes(slots, row, cap, forwarded, min(forwarded, max(forwarded - longest, cap)))


def evaluations_of(recipe: Recipe, held_out: dict[str, int]) -> Sequence[tuple[str, int, int, int]]:
    """(set, problems, samples, times): the validation set at the start, every so many steps and at
    the end; the test set before and after.
    """
    evaluate = recipe.evaluate
    scored = 1 + -(-recipe.train.num_steps // evaluate.every)
    return [
        ("validation", held_out.get("validation", 0), evaluate.validation_samples, scored),
        ("test", held_out.get("test", 0), evaluate.num_samples, 2),
    ]
