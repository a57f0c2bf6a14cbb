"""What a device costs an hour, how sure a forecast is, and what a run needs to be of any use."""

import re
from dataclasses import dataclass
from typing import Any

from open_rs.errors import InputError
from open_rs.recipe import Recipe
from open_rs.recipe.schema import BudgetRecipe

RATE_SPREAD = 0.3  # rates of a probe of seconds hold for the hours of a run within this share


@dataclass(frozen=True)
class Price:
    """An hour of one device on demand."""

    usd_per_hour: float
    date: str
    source: str


PAPER = "arXiv 2503.16219, tables 2 and 3: dollars over device hours"
MARKET = "deploybase.ai, page on L40S prices: RunPod on demand"
PRICES = {  # by the model's name, as a word of the name that the driver tells
    "A40": Price(0.44, "2025-03", PAPER),
    "A100": Price(1.89, "2025-03", PAPER),
    "L40S": Price(0.79, "2026-03", MARKET),
    "H100": Price(1.99, "2026-03", MARKET),
    "4090": Price(0.34, "2026-03", MARKET),
}


def price_of(device_name: str) -> Price | None:
    """The table's price of a device such as "NVIDIA A100-SXM4-80GB"; None where it has none."""
    words = set(re.split(r"[^A-Za-z0-9]+", device_name))
    return next((price for name, price in PRICES.items() if name in words), None)


def price_per_hour(budget: BudgetRecipe, device: str) -> float | None:
    """The recipe's price, or the table's; a cap in dollars needs one."""
    if budget.usd_per_hour is not None:
        return budget.usd_per_hour
    if (price := price_of(device)) is not None:
        return price.usd_per_hour
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


def seconds_range(plan: dict[str, Any]) -> tuple[float, float]:
    """Within what the forecast's total is expected.

    Low: completions that the probe cut off end there. High: they run to the cap, as the forecast
    itself takes them to. Both with rates that differ by RATE_SPREAD.
    """
    total = plan["seconds"]["total"]
    return total * shortest(plan) / (1 + RATE_SPREAD), total / (1 - RATE_SPREAD)


def shortest(plan: dict[str, Any]) -> float:
    """The least mean length of completions over that of the forecast."""
    from open_rs.plan.probe import PROBE_TOKENS  # imports torch, which prices do not need

    probe = plan["probe"]
    length = probe["mean_completion_tokens"]
    cut = 1 - probe["ended_frac"]
    # The mean is (1 - cut) * ended + cut * cap; one that was cut has PROBE_TOKENS at least.
    return 1 - cut * max(plan["max_completion_tokens"] - PROBE_TOKENS, 0) / length


def step_seconds(plan: dict[str, Any]) -> float:
    """One optimizer update with its share of the rollouts, by the forecast."""
    return (plan["seconds"]["rollout"] + plan["seconds"]["update"]) / plan["steps"]


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
    return (steps * step_seconds(plan) + scoring) * shortest(plan) / (1 + RATE_SPREAD)
