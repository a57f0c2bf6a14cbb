"""Every rollout's advantage: by the group, by the screen that it passed, by the mask."""

from collections.abc import Sequence

import torch

from open_rs.recipe import Recipe
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.train.grpo import group_advantages
from open_rs.train.selection import kept_probability

NAN = float("nan")


def set_advantages(groups: Sequence[RolloutGroup], recipe: Recipe) -> None:
    """A_i of `group_advantages`; over the probability that the group was kept, where it could be
    dropped by a screen; 0 where `is_masked`.

    A group that ended at its screen has the same reward throughout, so its advantages are 0.
    """
    size, screen = recipe.rollout.group_size, recipe.rollout.screen_size
    rewards = [[rollout.reward for rollout in group.rollouts] for group in groups]
    values = torch.tensor(
        [
            [NAN if one is None else one for one in row] + [NAN] * (size - len(row))
            for row in rewards
        ],
        dtype=torch.float64,
    )  # [P, G]
    advantages = group_advantages(values, scale=recipe.loss.advantage_scale).tolist()
    for group, row, given in zip(groups, rewards, advantages, strict=True):
        weight = 1.0 if screen is None or len(row) < size else 1 / kept_probability(row, screen)
        for rollout, advantage in zip(group.rollouts, given, strict=False):
            rollout.advantage = 0.0 if is_masked(rollout, recipe) else weight * advantage


def is_masked(rollout: Rollout, recipe: Recipe) -> bool:
    """Whether a rollout counts in its group's mean but is left out of the loss."""
    return recipe.loss.mask_truncated and rollout.finish_reason == "length"
