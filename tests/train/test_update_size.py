"""The size of an update: by hand, from a sample against the whole, and beside its plan."""

import math

import pytest
import torch
from torch import nn

from open_rs.recipe import recipe_from_dict
from open_rs.train.sentinel import Sentinel, with_plan
from open_rs.train.settings import planned_rate
from open_rs.train.update import step_optimizer
from open_rs.train.update_size import SAMPLE, update_norm, weight_sample


def measured(before: list[torch.Tensor], after: list[torch.Tensor]) -> float:
    sizes = [one.numel() for one in before]
    return update_norm(weight_sample(before), weight_sample(after), sizes)


def test_by_hand_over_two_tensors():
    # weights 3 and (4, 0): norm 5; changes 0.3 and (0, 0.4): norm 0.5
    before = [torch.tensor([[3.0]]), torch.tensor([4.0, 0.0])]
    after = [torch.tensor([[3.3]]), torch.tensor([4.0, 0.4])]
    assert measured(before, after) == pytest.approx(0.1)
    assert measured([torch.zeros(3)], [torch.ones(3)]) == 0.0  # no norm to compare with


def test_a_sample_stands_for_the_whole_and_does_not_keep_to_a_column():
    draw = torch.Generator().manual_seed(1)
    before = [torch.randn(2000, 64, generator=draw), torch.randn(50, generator=draw)]
    # Column 0 moves ten times as far as the others: a sample of one column would be far off.
    change = torch.randn(2000, 64, generator=draw) * torch.tensor([0.1] + [0.01] * 63)
    after = [before[0] + change, before[1] + 0.02]
    (sample, small) = weight_sample(before)
    assert sample.numel() <= SAMPLE < before[0].numel() and torch.equal(small, before[1])
    whole = math.sqrt(change.square().sum().item() + 50 * 0.02**2)
    norm = math.sqrt(sum(one.square().sum().item() for one in before))
    assert measured(before, after) == pytest.approx(whole / norm, rel=0.05)


def test_the_first_step_of_adamw_moves_every_weight_by_the_rate():
    # m / sqrt(v) is +-1 after one step, so each of n weights of size w moves by rate: rate / w
    model = nn.Linear(8, 4, bias=False)
    with torch.no_grad():
        model.weight.fill_(2.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    model.weight.grad = torch.ones(4, 8)
    metrics = step_optimizer(model, optimizer, 0.0, max_grad_norm=1e9)
    assert metrics["optim/update_norm"] == pytest.approx(0.005, rel=1e-5)
    model.weight.grad = torch.full((4, 8), float("nan"))
    metrics = step_optimizer(model, optimizer, 0.0, max_grad_norm=1.0)
    assert metrics["optim/skipped"] == 1.0 and "optim/update_norm" not in metrics


RECIPE = recipe_from_dict(
    {
        "train": {"num_steps": 200, "learning_rate": 1e-3, "warmup_ratio": 0.2},
        "schedules": [
            {"key": "train.learning_rate", "points": [[100, 1e-3], [101, 2e-2]], "between": "hold"}
        ],
    }
)


def watched(factor: float, onset: int) -> list[tuple[str, int]]:
    """The alarms where updates are 0.5 x the planned rate, and from a step on `factor` times it."""
    sentinel, found = Sentinel(), []
    for step in range(1, 200):
        rate = planned_rate(RECIPE, step)
        row = {"step": step, "optim/update_norm": 0.5 * rate * (factor if step >= onset else 1.0)}
        found += [(one.detector.name, one.step) for one in sentinel.observe(with_plan(row, rate))]
    return found


def test_warm_up_cosine_and_schedules_raise_no_alarm_and_thirty_times_the_rate_does():
    assert planned_rate(RECIPE, 101) > 15 * planned_rate(RECIPE, 100)
    assert watched(1.0, 0) == []
    assert watched(30.0, 15)[0] == ("update_size", 17)  # in the warm-up
    assert watched(30.0, 150)[0] == ("update_size", 152)
    row = {"step": 5, "optim/update_norm": 1.0}
    assert with_plan(row, 0.0) == row  # a rate of 0 moves nothing


def test_a_trigger_is_planned():
    rows = [{"step": 9, "key": "train.learning_rate", "value": 2e-3}]
    assert planned_rate(RECIPE, 10, rows) == pytest.approx(2 * 1e-3 * 10 / 40)
