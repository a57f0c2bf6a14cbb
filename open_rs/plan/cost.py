"""What a device costs an hour, and what a run needs to be of any use, by its plan. No torch."""

from typing import Any

from open_rs.errors import InputError
from open_rs.plan.devices import PRICES, Price, price_of
from open_rs.recipe import Recipe
from open_rs.recipe.schema import BudgetRecipe

__all__ = [
    "PRICES",
    "Price",
    "device_name",
    "first_use_seconds",
    "price_of",
    "price_per_hour",
    "step_seconds",
]


def price_per_hour(budget: BudgetRecipe, device: str, devices: int = 1) -> float | None:
    """Of all devices: the recipe's price of one, or the table's; a cap in dollars needs one."""
    if budget.usd_per_hour is not None:
        return budget.usd_per_hour * devices
    if (price := price_of(device)) is not None:
        return price.usd_per_hour * devices
    if budget.usd is not None:
        raise InputError(
            f"budget.usd: no price is known for the device {device}; set budget.usd_per_hour, or "
            "cap budget.hours"
        )
    return None


def device_name(device: Any) -> str:
    """The model of a torch device, or its type where it has no name."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device.type)


def step_seconds(plan: dict[str, Any]) -> float:
    """One optimizer update with its share of the rollouts, by the forecast."""
    seconds = plan["seconds"]
    spent = seconds["rollout"] + seconds["update"] + seconds.get("exchange", 0.0)
    return float(spent) / plan["steps"]


def first_use_seconds(recipe: Recipe, plan: dict[str, Any], validation: int) -> float:
    """The least until a run has something to show: the first checkpoint, or the first score after
    the start; `validation` is the number of validation problems.
    """
    probe, scores = plan["probe"], recipe.evaluate
    steps = min(recipe.train.save_every, recipe.train.num_steps)
    scoring = 0.0
    if validation:
        steps = min(steps, scores.every)
        completions = validation * scores.validation_samples
        scoring = completions * probe["mean_completion_tokens"] / probe["rollout_tokens_per_s"]
    least = plan["seconds_range"][0] / plan["seconds"]["total"]
    return (steps * step_seconds(plan) + scoring) * least
