"""The recipes of perf/reliability.py: short runs of the shipped model that, together, use all that
a resumed run has to find again. Each is a change of `PLAIN`.
"""

from typing import Any

from open_rs.recipe import Recipe, recipe_from_dict

PLAIN: dict[str, Any] = {
    "name": "killed",
    "seed": 3,
    "data": {
        "train": {"task": "arithmetic", "count": 12, "levels": [1, 2]},
        "validation": {"task": "arithmetic", "split": "validation", "count": 2, "levels": [1]},
    },
    "rollout": {"group_size": 3, "prompts_per_step": 2, "max_completion_tokens": 24},
    "train": {"num_steps": 4, "save_every": 2, "learning_rate": 1e-3, "warmup_ratio": 0.3},
    "evaluate": {"every": 3, "validation_samples": 2},
}
CAP = "rollout.max_completion_tokens"
ROLL_BACK, AHEAD = "a roll-back", "drawn a step ahead"
RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "KL, two updates a batch": {
        "loss": {"kl_coef": 0.05},
        "train": {"updates_per_batch": 2},
        "evaluate": {"every": 2},
    },
    "LoRA with dropout": {"model": {"lora": {"rank": 4, "alpha": 8, "dropout": 0.1}}},
    "schedules and a trigger": {
        "train": {"num_steps": 5},
        "schedules": [
            {
                "key": CAP, "times": 1.5,
                "when": {"metric": "completion/mean_tokens", "above": 1, "steps": 2},
            },
            {"key": "loss.kl_coef", "points": [[2, 0.0], [4, 0.1]]},
            {"key": "rollout.temperature", "points": [[1, 1.0], [5, 1.2]]},
        ],
    },
    # From step 13 on the learning rate ruins the policy, which `kl` sees three steps later. What a
    # roll-back sets stays, whatever the points say.
    ROLL_BACK: {
        "train": {"num_steps": 18, "save_every": 4, "warmup_ratio": 0.0},
        "loss": {"kl_coef": 1e-3},
        "schedules": [
            {"key": "train.learning_rate", "points": [[12, 1e-4], [13, 0.03]], "between": "hold"}
        ],
        "sentinel": {
            "action": "roll_back", "healthy_margin": 3,
            "changes": [{"key": "train.learning_rate", "to": 1e-4}],
        },
        "evaluate": {"every": 9},
    },
    "dynamic sampling, history": {
        "data": {"select": "history", "explore": 0.2},
        "rollout": {"group_size": 4, "screen_size": 2},
        "loss": {"dynamic_sampling": True, "oversample": True, "max_refills": 2},
    },
    AHEAD: {"rollout": {"staleness": 1}, "train": {"num_steps": 5}},
    "every step saved, one kept": {
        "train": {"num_steps": 5, "save_every": 1, "keep_last": 1, "keep_every": 3},
        "evaluate": {"every": 2},
    },
}  # fmt: skip


def recipe_named(name: str) -> Recipe:
    return recipe_from_dict(merged(PLAIN, RECIPES[name]))


def merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`settings` with these changes, section by section."""
    made = dict(settings)
    for key, value in changes.items():
        held = made.get(key, {})
        both = isinstance(held, dict) and isinstance(value, dict)
        made[key] = merged(held, value) if both else value
    return made
