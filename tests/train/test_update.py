"""One optimizer update against an independent computation over the whole step."""

import math
from collections import defaultdict
from contextlib import nullcontext

import pytest
import torch
from tiny_models import build_model
from torch import nn

from open_rs.recipe import LossRecipe
from open_rs.train.batches import Row, make_batches
from open_rs.train.logprobs import completion_logprobs
from open_rs.train.update import step_optimizer, update

TEMPERATURE = 0.8
ADVANTAGES = [1.0, -0.5, 0.0, 0.7, -1.2, 0.4]


def make_rows():
    """Six rows of ragged lengths, with engine log-probs that are not the trainer's."""
    generator = torch.Generator().manual_seed(2)
    rows = []
    for place, advantage in enumerate(ADVANTAGES):
        prompt = torch.randint(0, 256, (2 + place % 3,), generator=generator).tolist()
        size = (7, 3, 5, 1, 6, 3)[place]
        completion = torch.randint(0, 256, (size,), generator=generator).tolist()
        engine = (-4 + torch.randn(size, generator=generator)).tolist()
        rows.append(Row(prompt, completion, engine, advantage))
    return rows


def batches_of(rows, budget, loss=None):
    loss = loss or LossRecipe()
    return make_batches(
        rows,
        micro_batch_tokens=budget,
        loss_norm=loss.loss_norm,
        max_completion_tokens=8,
        kl_coef=loss.kl_coef,
    )


def run_update(model, batches, loss=None, *, max_grad_norm=1e9, first=True, optimizer=None):
    return update(
        model,
        optimizer or torch.optim.SGD(model.parameters(), lr=0.0),
        batches,
        loss or LossRecipe(),
        temperature=TEMPERATURE,
        max_grad_norm=max_grad_norm,
        first_of_batch=first,
        autocast=nullcontext(),
    )


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same_bits(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


# --- metrics and gradient over the whole step ---


def by_hand(model, rows, loss, old, reference):
    """Loss, gradient norm and metrics row by row, from all logits, in plain arithmetic."""
    trained = [i for i, row in enumerate(rows) if row.advantage or loss.kl_coef]
    total, sums = torch.zeros((), dtype=torch.float64), defaultdict(float)
    for i in trained:
        row, size = rows[i], len(rows[i].completion_ids)
        ids = torch.tensor([[*row.prompt_ids, *row.completion_ids]])
        every = (model(ids).logits[0, -size - 1 : -1] / TEMPERATURE).log_softmax(-1)
        logprobs = every[torch.arange(size), torch.tensor(row.completion_ids)]
        before = logprobs.detach() if old is None else old[i]
        for t in range(size):
            ratio = (logprobs[t] - before[t]).exp()
            low, high = 1 - loss.clip_low, 1 + loss.clip_high
            clipped = min(max(ratio.item(), low), high)
            surrogate = ratio * row.advantage
            if clipped * row.advantage < surrogate.item():
                surrogate = torch.tensor(clipped * row.advantage)
            kl = torch.zeros(())
            if loss.kl_coef:
                x = reference[i][t] - logprobs[t]
                kl = x.exp() - x - 1
            total = total + (loss.kl_coef * kl - surrogate) / (len(rows) * size)
            distance = logprobs[t].item() - row.engine_logprobs[t]
            sums["engine_kl"] += math.exp(distance) - distance - 1
            sums["entropy"] -= (every[t].exp() * every[t]).sum().item()
            sums["ratio"] += ratio.item()
            sums["low"] += ratio.item() < low and row.advantage < 0
            sums["high"] += ratio.item() > high and row.advantage > 0
            sums["kl"] += kl.item()
    total.backward()
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters()))
    tokens = sum(len(rows[i].completion_ids) for i in trained)
    expected = {
        "policy/loss": total.item(),
        "optim/grad_norm": norm,
        "optim/skipped": 0.0,
        "optim/update_norm": 0.0,  # of SGD at a rate of 0
        "policy/entropy": sums["entropy"] / tokens,
        "policy/ratio": sums["ratio"] / tokens,
        "policy/clip_frac": (sums["low"] + sums["high"]) / tokens,
        "policy/clip_low_frac": sums["low"] / tokens,
        "policy/clip_high_frac": sums["high"] / tokens,
    }
    if loss.kl_coef:
        expected["policy/kl"] = sums["kl"] / tokens
    if old is None:
        expected["policy/engine_kl"] = sums["engine_kl"] / tokens
    return expected


def noisy(rows, scale, seed):
    """The model's own log-probs plus noise, per row: an older policy, or a reference."""
    generator = torch.Generator().manual_seed(seed)
    model = build_model("qwen2").double()
    found = []
    for row in rows:
        (batch,) = make_batches(
            [row], micro_batch_tokens=1, loss_norm="token", max_completion_tokens=8, kl_coef=1
        )
        with torch.no_grad():
            logprobs, _ = completion_logprobs(
                model,
                batch.input_ids,
                batch.attention_mask,
                batch.completion_mask,
                temperature=TEMPERATURE,
            )
        noise = torch.randn(logprobs.shape[1], generator=generator, dtype=torch.float64)
        found.append((logprobs[0] + scale * noise).float().double())
    return found


def put(batches, name, values):
    """Set `name` of every micro-batch from per-row values."""
    for batch in batches:
        padded = torch.zeros(batch.loss_mask.shape, dtype=torch.float64)
        for b, place in enumerate(batch.rows):
            padded[b, : len(values[place])] = values[place]
        setattr(batch, name, padded)


@pytest.mark.parametrize("budget", [1, 20, 1000])
@pytest.mark.parametrize("kl_coef", [0.0, 0.2])
@pytest.mark.parametrize("first", [True, False])
def test_metrics_are_those_of_the_whole_step_however_it_is_split(budget, kl_coef, first):
    rows = make_rows()
    loss = LossRecipe(clip_low=0.1, clip_high=0.2, kl_coef=kl_coef)
    reference, old = noisy(rows, 0.3, seed=4), noisy(rows, 0.3, seed=5)
    batches = batches_of(rows, budget, loss)
    if kl_coef:
        put(batches, "ref_logprobs", reference)
    if not first:
        put(batches, "old_logprobs", old)
    got = run_update(build_model("qwen2").double(), batches, loss, first=first)
    expected = by_hand(build_model("qwen2").double(), rows, loss, None if first else old, reference)
    if not first:
        assert expected["policy/clip_low_frac"] > 0 and expected["policy/clip_high_frac"] > 0
    # advantages, 0.7 say, are float32 in a batch
    assert got == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_the_ratio_is_exactly_1_on_the_first_update_and_not_after_it(level):
    model, loss = build_model("qwen2"), LossRecipe(ratio_level=level)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    batches = batches_of(make_rows(), 20)
    first = run_update(model, batches, loss, optimizer=optimizer)
    assert first["policy/ratio"] == 1.0
    assert first["policy/clip_frac"] == 0.0
    assert first["policy/engine_kl"] > 0
    second = run_update(model, batches, loss, optimizer=optimizer, first=False)
    assert second["policy/ratio"] != 1.0
    assert abs(second["policy/ratio"] - 1) < 0.5
    assert "policy/engine_kl" not in second


def test_old_log_probs_are_those_of_the_policy_before_its_first_update():
    model = build_model("qwen2")
    batches = batches_of(make_rows(), 20)
    engine = [batch.old_logprobs.clone() for batch in batches]
    with torch.no_grad():
        before = [
            completion_logprobs(
                model, b.input_ids, b.attention_mask, b.completion_mask, temperature=TEMPERATURE
            )[0]
            for b in batches
        ]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run_update(model, batches, optimizer=optimizer)
    for batch, logprobs, sampled in zip(batches, before, engine, strict=True):
        torch.testing.assert_close(batch.old_logprobs, logprobs, rtol=0, atol=1e-5)
        assert not batch.old_logprobs.requires_grad
        assert not torch.equal(batch.old_logprobs, sampled)
    kept = [batch.old_logprobs.clone() for batch in batches]
    run_update(model, batches, optimizer=optimizer, first=False)
    assert all(torch.equal(b.old_logprobs, k) for b, k in zip(batches, kept, strict=True))


def test_engine_kl_is_0_where_the_engine_thought_the_same():
    rows = make_rows()
    same = [
        Row(row.prompt_ids, row.completion_ids, logprobs.tolist(), row.advantage)
        for row, logprobs in zip(rows, noisy(rows, 0.0, seed=0), strict=True)
    ]
    got = run_update(build_model("qwen2").double(), batches_of(same, 20))
    assert 0 <= got["policy/engine_kl"] < 1e-12


def test_rows_without_advantage_change_nothing_but_the_time():
    # the same step with the zero row left in: kl_coef > 0 keeps it, a KL of zero adds nothing
    rows = make_rows()
    skipping, keeping = build_model("qwen2").double(), build_model("qwen2").double()
    one = torch.optim.SGD(skipping.parameters(), lr=0.1)
    two = torch.optim.SGD(keeping.parameters(), lr=0.1)
    run_update(skipping, batches_of(rows, 1), optimizer=one)
    every = batches_of(rows, 1, LossRecipe(kl_coef=1.0))
    assert len(every) == len(rows) > len(batches_of(rows, 1))
    run_update(keeping, every, optimizer=two)
    assert same_bits(weights_of(skipping), weights_of(keeping))


# --- the optimizer's step ---


def two_layers():
    """f(x) = w2 w1 x with w1 = 2, w2 = 3."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    model[0].weight.data.fill_(2.0)
    model[1].weight.data.fill_(3.0)
    return model


@pytest.mark.parametrize(
    ("max_norm", "moved"),
    # f(1) = 6: df/dw1 = 3, df/dw2 = 2, norm sqrt(13) = 3.6056
    # a bound of 1 scales both by 1 / 3.6056; SGD of rate 0.1 moves by a tenth
    [(1.0, (0.3 / math.sqrt(13), 0.2 / math.sqrt(13))), (5.0, (0.3, 0.2))],
)
def test_gradient_clipping_by_hand(max_norm, moved):
    model = two_layers()
    model(torch.ones(1, 1, dtype=torch.float64)).sum().backward()
    metrics = step_optimizer(model, torch.optim.SGD(model.parameters(), lr=0.1), 6.0, max_norm)
    assert metrics == {
        "policy/loss": 6.0,
        "optim/grad_norm": pytest.approx(math.sqrt(13)),  # before clipping
        "optim/skipped": 0.0,
        # the weights 2 and 3 have the norm sqrt(13)
        "optim/update_norm": pytest.approx(math.hypot(*moved) / math.sqrt(13)),
    }
    assert model[0].weight.item() == pytest.approx(2 - moved[0], abs=1e-6)
    assert model[1].weight.item() == pytest.approx(3 - moved[1], abs=1e-6)


def test_frozen_parameters_neither_count_nor_move():
    model = two_layers()
    model[1].weight.requires_grad_(False)
    model(torch.ones(1, 1, dtype=torch.float64)).sum().backward()
    metrics = step_optimizer(model, torch.optim.SGD(model.parameters(), lr=0.1), 6.0, 100.0)
    assert metrics["optim/grad_norm"] == pytest.approx(3.0)
    assert model[1].weight.item() == 3.0


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_skips_the_step(loss):
    model = two_layers()
    before = weights_of(model)
    model(torch.ones(1, 1, dtype=torch.float64)).sum().backward()
    metrics = step_optimizer(model, torch.optim.SGD(model.parameters(), lr=0.1), loss, 1.0)
    assert metrics["optim/skipped"] == 1.0
    assert same_bits(before, weights_of(model))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_that_is_not_finite_leaves_weights_and_moments_bit_for_bit(bad):
    model = build_model("qwen2")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    run_update(model, batches_of(make_rows(), 20), optimizer=optimizer)
    before = weights_of(model)
    moments = [
        {key: value.clone() for key, value in state.items()} for state in optimizer.state.values()
    ]
    loss = LossRecipe(kl_coef=0.1)
    batches = batches_of(make_rows(), 20, loss)
    for batch in batches:
        batch.ref_logprobs = torch.full_like(batch.old_logprobs, -4.0)
    batches[-1].ref_logprobs[0, 0] = bad  # one token of one row
    metrics = run_update(model, batches, loss, optimizer=optimizer)

    assert metrics["optim/skipped"] == 1.0
    assert same_bits(before, weights_of(model))
    for state, old in zip(optimizer.state.values(), moments, strict=True):
        assert same_bits(state, old)
    # and the next step is as if it had not happened
    other = build_model("qwen2")
    fresh = torch.optim.AdamW(other.parameters(), lr=1e-2)
    for _ in range(2):
        run_update(other, batches_of(make_rows(), 20), optimizer=fresh)
    run_update(model, batches_of(make_rows(), 20), optimizer=optimizer)
    assert same_bits(weights_of(other), weights_of(model))


def test_a_step_without_signal_says_so_and_adamw_goes_on_by_its_momentum():
    model = build_model("qwen2")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    start = weights_of(model)
    silent = run_update(model, [], optimizer=optimizer)
    nothing = ("policy/loss", "optim/grad_norm", "optim/skipped", "optim/update_norm")
    assert silent == dict.fromkeys(nothing, 0.0)
    assert same_bits(start, weights_of(model))  # no momentum yet
    run_update(model, batches_of(make_rows(), 20), optimizer=optimizer)
    moved = weights_of(model)
    run_update(model, [], optimizer=optimizer)
    assert not same_bits(moved, weights_of(model))
    assert all(state["step"].item() == 3 for state in optimizer.state.values())


def test_gradients_of_a_step_do_not_leak_into_the_next():
    rows = make_rows()
    model, again = build_model("qwen2"), build_model("qwen2")
    run_update(model, batches_of(rows[::-1], 20))
    second = run_update(model, batches_of(rows, 20))
    fresh = run_update(again, batches_of(rows, 20))
    assert second == fresh
    assert all(parameter.grad is None for parameter in model.parameters())
