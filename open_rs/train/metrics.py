"""What a step's rollouts say, each figure over the whole step and equal to its name."""

from collections.abc import Sequence

import numpy as np

from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.scripts import outside_share
from open_rs.train.reward_functions import repeated_share
from open_rs.train.rewards import ScoreReport

NGRAM_SIZE = 20  # as the repetition reward's default: shorter ones repeat in any derivation
SCRIPT = ("latin",)  # whatever a run is written in, what counts is that the share does not move


def rollout_metrics(groups: Sequence[RolloutGroup]) -> dict[str, float]:
    """Rewards, lengths and groups of one step. A mean without a value to average is left out."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    lengths = np.array([rollout.num_tokens for rollout in rollouts])
    p10, p50, p90 = np.quantile(lengths, (0.1, 0.5, 0.9))
    dead = [group for group in groups if is_dead(group)]
    return reward_metrics(rollouts) | {
        "completion/mean_tokens": float(lengths.mean()),
        "completion/p10_tokens": float(p10),
        "completion/p50_tokens": float(p50),
        "completion/p90_tokens": float(p90),
        "completion/max_tokens": float(lengths.max()),
        "completion/truncated_frac": fraction(rollouts, "finish_reason", "length"),
        "completion/repetition_frac": float(
            np.mean([repeated_share(one.completion_ids, NGRAM_SIZE) for one in rollouts])
        ),
        "completion/other_script_frac": float(
            np.mean([outside_share(one.completion, SCRIPT) for one in rollouts])
        ),
        "groups/dead_frac": len(dead) / len(groups),
        "groups/unsolved_dead_frac": sum(not is_solved(one) for one in dead) / len(groups),
        "groups/effective": float(len(groups) - len(dead)),
    }


def mean_staleness(groups: Sequence[RolloutGroup], step: int) -> float:
    """Updates between the weights that drew a rollout and those that stand before `step`."""
    drawn_by = [one.weights_step for group in groups for one in group.rollouts]
    return float(np.mean([step - 1 - (0 if by is None else by) for by in drawn_by]))


def is_dead(group: RolloutGroup) -> bool:
    """Whether a group teaches nothing: no rollout of it differs from the others in reward."""
    return all(rollout.advantage == 0 for rollout in group.rollouts)


def is_solved(group: RolloutGroup) -> bool:
    """Whether every rollout of it is right: then it is dead because it has been learnt."""
    return all(one.grade is not None and one.grade.correct for one in group.rollouts)


def reward_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Mean and spread of the reward over decided rollouts, the mean of each part, the undecided."""
    rewards = [rollout.reward for rollout in rollouts if rollout.reward is not None]
    metrics = {"reward/undecided_frac": 1 - len(rewards) / len(rollouts)}
    if rewards:
        metrics |= {"reward/mean": float(np.mean(rewards)), "reward/std": float(np.std(rewards))}
    for name in rollouts[0].reward_breakdown:
        parts = [rollout.reward_breakdown[name] for rollout in rollouts]
        known = [part for part in parts if part is not None]
        if known:
            metrics[f"reward/{name}"] = float(np.mean(known))
    return metrics


def score_metrics(reports: Sequence[ScoreReport]) -> dict[str, float]:
    """Seconds that each reward took, and the weights of the step that a schedule sets."""
    metrics = {}
    for name in reports[0].seconds:
        metrics[f"time/reward_{name}_s"] = sum(report.seconds[name] for report in reports)
    return metrics | {f"reward/{name}_weight": one for name, one in reports[0].weights.items()}


def fraction(rollouts: Sequence[Rollout], field: str, value: str) -> float:
    """Share of rollouts whose `field` is `value`."""
    return sum(getattr(rollout, field) == value for rollout in rollouts) / len(rollouts)
