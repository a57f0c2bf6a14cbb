"""Steps of a run made up from lengths: what they decode and learn, in seconds and in sizes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from open_rs.plan.devices import SHARED_LOSS
from open_rs.plan.lengths import Lengths
from open_rs.plan.memory import Sizes
from open_rs.plan.pace import Pace
from open_rs.plan.schedule import Group, decoding, passes
from open_rs.plan.shapes import ModelShape
from open_rs.recipe import Recipe

MADE_STEPS = 12
MOST_ROWS = 1024  # of an evaluation that are made up; more are in proportion


@dataclass(frozen=True)
class Machine:
    """What does the work. `dead`: share of groups without signal; `packed`: as an update forwards
    its rows.
    """

    pace: Pace
    shape: ModelShape
    packed: bool
    dead: float
    gpus: int = 1

    @property
    def sharing(self) -> float:
        """By how much waiting for each other lengthens what several devices do together."""
        return 1.0 + SHARED_LOSS * (self.gpus.bit_length() - 1)


@dataclass(frozen=True)
class Step:
    """Means of made up steps, each with all the updates of its batch; `sizes`: the largest."""

    rollout_s: float
    update_s: float
    completions: float
    tokens: float  # of completions
    sizes: Sizes


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
    """The mean of MADE_STEPS steps; on several devices, of the share of one."""
    rng = random.Random(0)
    rollout, train = recipe.rollout, recipe.train
    kl = recipe.loss.kl_coef > 0
    prompts = min(rollout.prompts_per_step, problems or rollout.prompts_per_step)
    share = -(-prompts // machine.gpus)
    rolling = updating = completions = tokens = 0.0
    slots = positions = forwarded = scored = batches = 0
    for _ in range(MADE_STEPS):
        calls, batch = calls_of(recipe, lengths, rng, machine.dead, share)
        for call in calls:
            made = decoding(call, rollout.max_slots)
            rows = sum(len(group.lengths) for group in call)
            rolling += machine.pace.decoding_seconds(made) + rows * machine.pace.row_s
            completions += rows
            tokens += sum(map(sum, (group.lengths for group in call)))
            slots, positions = (
                max(slots, min(rows, rollout.max_slots)),
                max(positions, made.longest),
            )
        found = passes(batch, train.micro_batch_tokens, packed=machine.packed, all_rows=kl)
        updating += train.updates_per_batch * machine.pace.update_seconds(
            found, machine.shape, kl=kl
        )
        forwarded = max([forwarded, *(one.forwarded for one in found)])
        scored = max([scored, *(one.scored for one in found)])
        batches = max(batches, len(found))
    return Step(
        rollout_s=rolling / MADE_STEPS * machine.sharing,
        update_s=updating / MADE_STEPS * machine.sharing,
        completions=completions / MADE_STEPS * machine.gpus,
        tokens=tokens / MADE_STEPS * machine.gpus,
        sizes=Sizes(slots, positions, rollout.max_completion_tokens, forwarded, scored, batches),
    )


def sampling_seconds(
    recipe: Recipe, lengths: Lengths, machine: Machine, *, problems: int, samples: int, cap: int
) -> float:
    """One evaluation, or the sampling of a curation."""
    if not problems:
        return 0.0
    problems = -(-problems // machine.gpus)
    made = max(min(problems, MOST_ROWS // samples), 1)
    groups = replace(lengths, cap=max(cap, lengths.cut)).draw(random.Random(1), made, samples)
    groups = [
        replace(one, lengths=tuple(min(length, cap) for length in one.lengths)) for one in groups
    ]
    slots = recipe.rollout.max_slots
    seconds = machine.pace.decoding_seconds(decoding(groups, slots))
    return seconds * problems / made * machine.sharing


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
