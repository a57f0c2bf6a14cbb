"""Some seconds of the real thing on this machine: the engine, the grader, the rewards, the update.

The weights that it moves are those of a copy which nobody keeps.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from open_rs.models import mixed_precision
from open_rs.plan.learnt import learn
from open_rs.plan.lengths import Lengths
from open_rs.plan.memory import Setting, Sizes, parts_of, phases_of
from open_rs.plan.pace import Pace
from open_rs.plan.resident import judge_bytes
from open_rs.plan.sampled import ENOUGH, lengths_of, sample
from open_rs.plan.shapes import ModelShape
from open_rs.recipe import Recipe
from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.protocol import Prompt, RolloutGroup

SECONDS = 6.0  # of sampling; the updates take about as long
FEW_CUT, MANY_CUT = 0.1, 0.5  # shares of completions that were cut off


@dataclass(frozen=True)
class Probe:
    """What was measured. Rates are tokens a second: of completions in rollout, of whole rows in an
    update. `process_bytes`: by phase, what was held beside what shapes and counts say;
    `judge_bytes`: of that, the grader's own processes, by the chance that the run needs them.
    """

    rollout_tokens_per_s: float
    update_tokens_per_s: float
    mean_prompt_tokens: float
    mean_completion_tokens: float
    ended_frac: float
    completions: int
    seconds: float
    lengths: Lengths
    pace: Pace
    packed: bool  # a prompt goes through an update once, and no padding
    kept_per_token: float  # bytes of activations
    decode_copies: int  # bytes of weights that decoding lays out anew
    process_bytes: dict[str, int]
    judge_bytes: int
    dead_frac: float | None  # None: too many were cut off to tell, as with all below
    reward_ranges: dict[str, tuple[float, float]]
    no_answer_frac: float | None

    def row(self) -> dict[str, Any]:
        """For plan.json: everything but the single lengths."""
        row = asdict(replace(self, lengths=replace(self.lengths, groups=())))
        return dict(json.loads(json.dumps(row)))


def run_probe(
    recipe: Recipe,
    sampler: GradedSampler,
    model: Any,
    shape: ModelShape,
    prompts: Sequence[Prompt],
    *,
    seconds: float = SECONDS,
    completions: int = ENOUGH,
) -> Probe:
    """Sample batches of the recipe's own size, grade and score them, learn from parts of them."""
    started = time.perf_counter()
    with mixed_precision(recipe.model):
        sampled = sample(recipe, sampler, prompts, seconds, completions=completions)
    groups, cap = sampled.groups, recipe.rollout.max_completion_tokens
    rewarded = score_groups(recipe, sampler, groups)
    learnt = learn(recipe, model, shape, groups[: recipe.rollout.prompts_per_step], seconds / 2)
    lengths = Lengths(tuple(map(lengths_of, groups)), sampled.cut, cap, "the probe")
    cut = lengths.cut_frac if sampled.cut < cap else 0.0
    count = len(lengths.seen)
    judges = 0
    if model.device.type == "cpu":
        chance = chance_of_judging(groups, completions_of(recipe))
        judges = round(chance * recipe.grade.workers * judge_bytes())
    slots = max(one.slots for one in sampled.batches)
    longest = max(one.longest for one in sampled.batches)
    once = learnt.pass_
    sizes = Sizes(slots, longest, sampled.cut, once.forwarded, once.scored)
    setting = Setting(
        with_reference=False,
        gradient_checkpointing=recipe.train.recomputes,
        kept=learnt.kept,
        decode_copies=sampled.copies,
        eight_bit=recipe.train.optimizer == "adamw_8bit",
    )
    parts = parts_of(shape, sizes, setting)
    rolling = phases_of(parts | {"optimizer": 0}, shape)["rollout"]
    updating = phases_of(parts, shape, batches=1)["update"]
    return Probe(
        rollout_tokens_per_s=sampled.rate,
        update_tokens_per_s=learnt.tokens_per_s,
        mean_prompt_tokens=sum(len(one.prompt_ids) for one in prompts) / len(prompts),
        mean_completion_tokens=lengths.means()[1],
        ended_frac=1 - cut,
        completions=count,
        seconds=time.perf_counter() - started,
        lengths=lengths,
        pace=Pace(
            decode=sampled.pace(shape),
            update=learnt.pace,
            optimizer_s=learnt.optimizer_s,
            reference=learnt.reference,
            row_s=rewarded.seconds / count,
        ),
        packed=learnt.packed,
        kept_per_token=learnt.kept,
        decode_copies=sampled.copies,
        process_bytes={
            "rollout": max(sampled.peak - rolling, 0) + judges,
            "update": max(learnt.peak - updating, 0) + judges,
        },
        judge_bytes=judges,
        dead_frac=rewarded.dead_frac if cut <= FEW_CUT else None,
        reward_ranges=rewarded.ranges if cut <= MANY_CUT else {},
        no_answer_frac=rewarded.no_answer_frac if cut <= MANY_CUT else None,
    )


def chance_of_judging(groups: Sequence[RolloutGroup], completions: int) -> float:
    """That one of so many `completions` has an answer which needs a process of its own, which stays
    from then on.

    With k such answers among n, of a rate whose posterior is Gamma(k + 1/2, n), none among m has
    the chance (n / (n + m))^(k + 1/2).
    """
    from open_rs.grade.exact import exact_verdict

    rollouts = [(group.problem.answer, one.grade) for group in groups for one in group.rollouts]
    asked = sum(
        grade is not None
        and grade.extracted is not None
        and exact_verdict(gold, grade.extracted) == "unknown"
        for gold, grade in rollouts
    )
    seen = len(rollouts)
    return 1.0 - (seen / (seen + completions)) ** (asked + 0.5)


def completions_of(recipe: Recipe) -> int:
    """Of the whole training."""
    batches = recipe.train.num_steps // recipe.train.updates_per_batch
    return batches * recipe.rollout.prompts_per_step * recipe.rollout.group_size


@dataclass(frozen=True)
class Rewarded:
    """What grader and rewards say of the probe's completions."""

    seconds: float
    dead_frac: float
    ranges: dict[str, tuple[float, float]]
    no_answer_frac: float


def score_groups(
    recipe: Recipe, sampler: GradedSampler, groups: Sequence[RolloutGroup]
) -> Rewarded:
    """The rewards of the recipe on graded groups."""
    from open_rs.train.rewards import open_rewards, score
    from open_rs.train.selection import rewards_differ

    cap = recipe.rollout.max_completion_tokens
    started = time.perf_counter()
    with open_rewards(
        recipe.rewards,
        max_completion_tokens=cap,
        template_opens_think=sampler.prompter.opens_think,
    ) as rewards:
        score(groups, rewards)
    seconds = time.perf_counter() - started
    rollouts = [one for group in groups for one in group.rollouts]
    parts: dict[str, list[float]] = {}
    for one in rollouts:
        for name, value in one.reward_breakdown.items():
            if value is not None:
                parts.setdefault(name, []).append(value)
    grades = [one.grade for one in rollouts if one.grade is not None]
    silent = sum(grade.outcome == "no_answer" for grade in grades)
    return Rewarded(
        seconds=seconds,
        dead_frac=1 - sum(map(rewards_differ, groups)) / len(groups),
        ranges={name: (min(values), max(values)) for name, values in parts.items()},
        no_answer_frac=silent / max(len(grades), 1),
    )
