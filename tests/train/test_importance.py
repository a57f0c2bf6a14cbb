"""Truncated importance sampling between engine and trainer, by hand and through an update."""

import math
from contextlib import nullcontext

import pytest
import torch
from tiny_models import build_model

from open_rs.recipe import LossRecipe, recipe_from_dict
from open_rs.train.batches import Row, make_batches
from open_rs.train.grpo import policy_loss, truncated_importance
from open_rs.train.update import update

LN2 = math.log(2)
ROWS = [Row([5, 6], [7, 8, 9], [-4.0, -6.5, -5.0], 1.0), Row([5, 6], [10, 11], [-5.5, -5.0], -1.0)]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def test_weights_by_hand():
    # pi_trainer / pi_engine: 0.5 / 0.25 = 2, 0.2 / 0.4 = 0.5, 0.9 / 0.3 = 3 cut to 2.5; masked: 1
    trainer = tensor([[0.5, 0.2, 0.9, 0.1]]).log()
    engine = tensor([[0.25, 0.4, 0.3, 0.0]]).log()
    mask = torch.tensor([[True, True, True, False]])
    found = truncated_importance(trainer, engine, mask, cap=2.5)
    torch.testing.assert_close(found, tensor([[2, 0.5, 2.5, 1]]))


def test_the_weight_multiplies_the_objective_and_not_the_kl():
    # ratio 1: objective -A = -3 a token. Weights 2 and 0.5: -6 - 1.5 = -7.5.
    # k3 with x = ref / policy = 2: 2 - ln 2 - 1 = 0.306853 a token, weighed by kl_coef alone
    logprobs = tensor([[-1.0, -2.0]]).requires_grad_()
    mask = torch.ones(1, 2, dtype=torch.bool)
    settings = {"clip_low": 0.2, "clip_high": 0.2, "denominators": tensor([1])}
    loss, metrics = policy_loss(
        logprobs, logprobs.detach(), tensor([3]), mask, importance=tensor([[2, 0.5]]),
        ref_logprobs=tensor([[-1 + LN2, -2 + LN2]]), kl_coef=0.1, **settings,
    )  # fmt: skip
    assert loss.item() == pytest.approx(-7.5 + 0.1 * 2 * (1 - LN2))
    assert metrics["ratio_sum"] == 2.0
    loss.backward()
    # d objective = -w A; d k3 = 1 - x = -1
    torch.testing.assert_close(logprobs.grad, tensor([[-6 - 0.1, -1.5 - 0.1]]))


@pytest.mark.parametrize("objective", ["clip", "cispo"])
def test_the_weighted_gradient_under_the_engine_is_that_under_the_trainer(objective):
    # over a vocabulary of three, summed over what each of them would draw
    logits = tensor([0.3, -0.2, 0.8]).requires_grad_()
    engine, reward = tensor([0.5, 0.3, 0.2]), tensor([1.0, -2.0, 0.5])
    logprobs = logits.log_softmax(0)
    (expected,) = torch.autograd.grad(-(logprobs.exp() * reward).sum(), logits, retain_graph=True)
    mask = torch.ones(3, 1, dtype=torch.bool)
    column, drawn = logprobs[:, None], engine.log()[:, None]
    loss, _ = policy_loss(
        column, column.detach(), reward, mask, clip_low=0.2, clip_high=0.2, objective=objective,
        importance=truncated_importance(column, drawn, mask, cap=100.0), denominators=1 / engine,
    )  # fmt: skip
    (found,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_an_update_weighs_by_what_the_engine_thought_and_keeps_the_weights(level):
    model = build_model("qwen2")
    loss = LossRecipe(importance_cap=1.5, ratio_level=level, clip_low=0.9, clip_high=9.0)
    batches = make_batches(ROWS, micro_batch_tokens=1, loss_norm="token", max_completion_tokens=8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    settings = {"temperature": 0.8, "max_grad_norm": 1e9, "autocast": nullcontext()}
    metrics = update(model, optimizer, batches, loss, first_of_batch=True, **settings)
    every, total = [], 0.0
    for batch in batches:
        row = ROWS[batch.rows[0]]
        for t, engine in enumerate(row.engine_logprobs):
            weight = min(math.exp(batch.old_logprobs[0, t].item() - engine), 1.5)
            every.append(weight)
            total -= weight * row.advantage / 5  # the ratio is 1
            assert batch.importance[0, t].item() == pytest.approx(weight, rel=1e-6)
    assert min(every) < 1.5 == max(every)  # both sides of the cap
    assert metrics["policy/loss"] == pytest.approx(total, rel=1e-5)
    assert metrics["policy/importance"] == pytest.approx(sum(every) / 5, rel=1e-5)
    assert metrics["policy/importance_cap_frac"] == every.count(1.5) / 5
    kept = [batch.importance.clone() for batch in batches]
    second = update(model, optimizer, batches, loss, first_of_batch=False, **settings)
    assert second["policy/importance"] == pytest.approx(sum(every) / 5, rel=1e-5)
    assert second["policy/ratio"] != 1.0
    assert all(torch.equal(b.importance, k) for b, k in zip(batches, kept, strict=True))
    halves = make_batches(ROWS, micro_batch_tokens=99, loss_norm="token", max_completion_tokens=8)
    halves[0].importance = torch.tensor([[1.0, 2, 3], [4, 5, 0]])
    assert [half.importance.tolist() for half in halves[0].halves()] == [[[1, 2, 3]], [[4, 5]]]


def test_an_engine_with_weights_of_its_own_is_corrected_unless_told_otherwise():
    def cap(engine, **loss):
        made = recipe_from_dict({"rollout": {"engine": {"type": engine}}, "loss": loss})
        return made.corrected_loss.importance_cap

    assert (cap("native"), cap("vllm")) == (0.0, 2.0)
    assert (cap("native", importance_cap=3.0), cap("vllm", importance_cap=0.0)) == (3.0, 0.0)
