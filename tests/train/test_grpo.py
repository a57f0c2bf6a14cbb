"""The GRPO maths by hand, and its invariances."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from open_rs.train.grpo import (
    cispo_objective,
    clip_objective,
    group_advantages,
    importance_ratio,
    k3_kl,
    loss_denominators,
    policy_loss,
)

NAN, INF = math.nan, math.inf


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


# --- advantages ---


def test_group_advantages_by_hand():
    # mean 0.5; deviations +-0.5; std = sqrt(4 * 0.25 / 3) = 0.57735
    std = math.sqrt(1 / 3)
    rewards = tensor([[1, 0, 0, 1]])
    assert group_advantages(rewards, scale="none").tolist() == [[0.5, -0.5, -0.5, 0.5]]
    expected = 0.5 / (std + 1e-4)
    scaled = group_advantages(rewards, scale="group_std")
    torch.testing.assert_close(scaled, tensor([[expected, -expected, -expected, expected]]))


def test_group_advantages_of_unequal_groups_do_not_mix():
    # group 1: 3, 1, 2 -> mean 2, std 1; group 2: 10, 0, 2 -> mean 4, std sqrt(56 / 2) = 5.2915
    rewards = tensor([[3, 1, 2], [10, 0, 2]])
    both = group_advantages(rewards, scale="group_std")
    second = [value / (math.sqrt(28) + 1e-4) for value in (6, -4, -2)]
    first = [value / 1.0001 for value in (1, -1, 0)]
    torch.testing.assert_close(both, tensor([first, second]))


def test_undecided_rollouts_leave_mean_and_std_alone():
    # decided: 1, 0 -> mean 0.5 (not 1/3), std = sqrt(2 * 0.25 / 1) = 0.70711
    rewards = tensor([[1, NAN, 0]])
    assert group_advantages(rewards, scale="none").tolist() == [[0.5, 0, -0.5]]
    unit = 0.5 / (math.sqrt(0.5) + 1e-4)
    torch.testing.assert_close(
        group_advantages(rewards, scale="group_std"), tensor([[unit, 0, -unit]])
    )


@pytest.mark.parametrize("scale", ["group_std", "none"])
@pytest.mark.parametrize(
    "group",
    [
        [0.9, 0.9, 0.9],  # in float32 the mean of three 0.9 is not 0.9
        [0.7, 0.7, NAN],
        [NAN, 1.0, NAN],  # one decided
        [NAN, NAN, NAN],
        [-3.3, -3.3, -3.3],
        [0.0, 0.0, 0.0],
    ],
)
def test_dead_groups_get_exactly_zero(group, scale):
    alive = [0.0, 1.0, 1.0]
    advantages = group_advantages(torch.tensor([group, alive]), scale=scale)
    assert advantages[0].tolist() == [0.0, 0.0, 0.0]
    assert (advantages[1] != 0).all()


@given(
    rewards=st.lists(
        st.lists(st.floats(-10, 10) | st.just(NAN), min_size=5, max_size=5), min_size=1, max_size=4
    ),
    scale=st.sampled_from(["group_std", "none"]),
)
@settings(max_examples=60, deadline=None)
def test_advantages_sum_to_zero_keep_the_order_and_ignore_a_shift(rewards, scale):
    values = tensor(rewards)
    advantages = group_advantages(values, scale=scale)
    assert advantages.isfinite().all()
    assert advantages.sum(1).abs().max() < 1e-9
    assert (advantages[values.isnan()] == 0).all()
    for row, got in zip(values, advantages, strict=True):
        known = ~row.isnan()
        ordered = got[known][row[known].argsort()]
        assert all(left <= right for left, right in pairwise(ordered.tolist()))
    torch.testing.assert_close(
        group_advantages(values + 64, scale=scale), advantages, rtol=1e-6, atol=1e-8
    )


def test_group_advantages_refuse_bad_input():
    with pytest.raises(ValueError, match=r"\[P, G\]"):
        group_advantages(tensor([1, 2]), scale="none")
    with pytest.raises(ValueError, match="batch_std"):
        group_advantages(tensor([[1, 2]]), scale="batch_std")
    for infinite in (INF, -INF):
        with pytest.raises(ValueError, match="infinity"):
            group_advantages(tensor([[1, infinite]]), scale="none")


# --- denominators ---


def test_denominators_by_hand():
    lengths = torch.tensor([2, 3, 5])
    by_norm = {
        norm: loss_denominators(lengths, loss_norm=norm, max_completion_tokens=8).tolist()
        for norm in ("sequence", "token", "constant")
    }
    assert by_norm == {
        "sequence": [6, 9, 15],  # 3 rows x own length
        "token": [10, 10, 10],  # 2 + 3 + 5
        "constant": [24, 24, 24],  # 3 rows x 8
    }


@pytest.mark.parametrize("norm", ["sequence", "token", "constant"])
def test_an_empty_row_changes_no_other_denominator(norm):
    with_empty = loss_denominators(
        torch.tensor([2, 0, 5]), loss_norm=norm, max_completion_tokens=8
    ).tolist()
    without = loss_denominators(
        torch.tensor([2, 5]), loss_norm=norm, max_completion_tokens=8
    ).tolist()
    assert [with_empty[0], with_empty[2]] == without
    assert with_empty[1] == 1  # 0 / 1, not 0 / 0


def test_denominators_refuse_bad_input():
    with pytest.raises(ValueError, match=r"\[B\]"):
        loss_denominators(torch.ones(2, 2), loss_norm="token", max_completion_tokens=8)
    with pytest.raises(ValueError, match="sequence, token, constant"):
        loss_denominators(torch.ones(2), loss_norm="batch", max_completion_tokens=8)


# --- KL ---


def test_k3_by_hand():
    # policy 0.5, ref 0.25: x = 0.5, x - log x - 1 = -0.5 + 0.693147 = 0.193147
    # policy 0.25, ref 0.5: x = 2, 2 - 0.693147 - 1 = 0.306853
    policy, reference = tensor([[0.5, 0.25, 0.1]]).log(), tensor([[0.25, 0.5, 0.1]]).log()
    expected = tensor([[math.log(2) - 0.5, 1 - math.log(2), 0]])
    torch.testing.assert_close(k3_kl(policy, reference), expected)


def test_k3_is_unbiased_under_the_policy():
    # sum_a p(a) k3(a) = sum_a q(a) - 1 + KL(p || q) = KL(p || q), whatever p and q
    p, q = tensor([[0.2, 0.5, 0.3]]), tensor([[0.6, 0.1, 0.3]])
    exact = (p * (p / q).log()).sum()
    torch.testing.assert_close((p * k3_kl(p.log(), q.log())).sum(), exact)


@given(st.floats(-20, 0), st.floats(-20, 0))
@settings(max_examples=100, deadline=None)
def test_k3_is_never_negative(policy, reference):
    assert k3_kl(tensor(policy), tensor(reference)) >= 0


# --- ratios ---


def test_ratios_by_hand():
    log_ratio = tensor([[2.0, 0.5, 0], [0.25, 0, 0]]).where(
        torch.tensor([[True, True, False], [True, False, False]]), 1.0
    )
    log_ratio = log_ratio.log()  # ratios 2, 0.5 and 0.25; log-ratio 0 outside the mask
    mask = torch.tensor([[True, True, False], [True, False, False]])
    token = importance_ratio(log_ratio, mask, "token")
    torch.testing.assert_close(token, tensor([[2, 0.5, 1], [0.25, 1, 1]]))
    # geometric means over the row's own tokens: sqrt(2 * 0.5) = 1 and 0.25
    sequence = importance_ratio(log_ratio, mask, "sequence")
    torch.testing.assert_close(sequence, tensor([[1, 1, 1], [0.25, 0.25, 0.25]]))
    with pytest.raises(ValueError, match="turn"):
        importance_ratio(log_ratio, mask, "turn")


def test_sequence_ratio_of_an_empty_row_is_one():
    ratio = importance_ratio(tensor([[0.0, 0.0]]), torch.tensor([[False, False]]), "sequence")
    assert ratio.tolist() == [[1, 1]]


# --- objectives ---

# ratio, advantage -> loss, d loss / d ratio, bound that binds; clip to [0.8, 1.3]
CLIP_CASES = [
    (1.0, 2.0, -2.0, -2.0, None),
    (1.5, 2.0, -2.6, 0.0, "high"),  # min(3, 2.6)
    (0.5, 2.0, -1.0, -2.0, None),  # min(1, 1.6): a good token below the range keeps its gradient
    (0.5, -2.0, 1.6, 0.0, "low"),  # min(-1, -1.6) = -1.6
    (1.5, -2.0, 3.0, 2.0, None),  # min(-3, -2.6): a bad token above the range keeps its gradient
    (1.5, 0.0, 0.0, 0.0, None),  # nothing to clip without an advantage
    (0.5, 0.0, 0.0, 0.0, None),
]


@pytest.mark.parametrize(("ratio", "advantage", "loss", "slope", "bound"), CLIP_CASES)
def test_clip_by_hand(ratio, advantage, loss, slope, bound):
    rho = tensor([[ratio]]).requires_grad_()
    got, low, high = clip_objective(rho, tensor([[advantage]]), rho.log(), 0.8, 1.3)
    assert got.item() == pytest.approx(loss)
    got.sum().backward()
    assert rho.grad.item() == pytest.approx(slope)
    assert (low.item(), high.item()) == (bound == "low", bound == "high")


def test_clip_at_the_very_bound_does_not_count_as_clipped():
    rho = tensor([[0.8, 1.3]])
    _, low, high = clip_objective(rho, tensor([[-1.0, 1.0]]), rho.log(), 0.8, 1.3)
    assert not low.any() and not high.any()


# ratio, advantage -> weight on -A log pi, bound that binds; weights clipped to [0.8, 1.3]
CISPO_CASES = [
    (1.1, 2.0, 1.1, None),
    (1.5, 2.0, 1.3, "high"),
    (1.5, -2.0, 1.3, "high"),  # whatever the sign of the advantage
    (0.5, 2.0, 0.8, "low"),
    (0.5, -2.0, 0.8, "low"),
    (0.5, 0.0, 0.8, None),
]


@pytest.mark.parametrize(("ratio", "advantage", "weight", "bound"), CISPO_CASES)
def test_cispo_by_hand(ratio, advantage, weight, bound):
    old = tensor([[-2.0]])
    policy = (old + math.log(ratio)).requires_grad_()
    rho = (policy - old).exp()
    loss, low, high = cispo_objective(rho, tensor([[advantage]]), policy, 0.8, 1.3)
    # loss = -weight A log pi, and its slope -weight A: none through the weight
    assert loss.item() == pytest.approx(-weight * advantage * policy.item())
    loss.sum().backward()
    assert policy.grad.item() == pytest.approx(-weight * advantage)
    assert (low.item(), high.item()) == (bound == "low", bound == "high")


# --- the loss ---


def random_batch(seed=0, rows=8, longest=6):
    """policy, old, reference log-probs, advantages, mask, of rows with 1 .. `longest` tokens."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    policy = -2 + 0.5 * normal(rows, longest)
    lengths = torch.randint(1, longest + 1, (rows,), generator=generator)
    mask = torch.arange(longest) < lengths[:, None]
    return {
        "policy_logprobs": policy,
        "old_logprobs": policy + 0.4 * normal(rows, longest),
        "ref_logprobs": policy + 0.3 * normal(rows, longest),
        "advantages": normal(rows),
        "loss_mask": mask,
        "denominators": loss_denominators(lengths, loss_norm="sequence", max_completion_tokens=8),
    }


SETTINGS = {"clip_low": 0.2, "clip_high": 0.3, "kl_coef": 0.1}


def loss_and_gradient(batch, **changes):
    batch = dict(batch)
    policy = batch.pop("policy_logprobs").detach().clone().requires_grad_()
    loss, metrics = policy_loss(policy, **batch, **{**SETTINGS, **changes})
    loss.backward()
    return loss.detach(), policy.grad, metrics


def test_policy_loss_by_hand():
    # Row 1: ratios 1.5, 0.5 with A = 1 -> -min(1.5, 1.3), -0.5 = -1.3 - 0.5 = -1.8, over 4
    # Row 2: ratio 0.5 with A = -2 -> -min(-1, -1.6) = 1.6, over 2; loss = -0.45 + 0.8 = 0.35
    # KL at policy 0.5 against 0.25: 0.193147 on each of the 3 tokens, x 0.1 / own denominator:
    #   0.0193147 * (2 / 4 + 1 / 2) = 0.0193147
    mask = torch.tensor([[True, True], [True, False]])
    half = tensor([[0.5, 0.5], [0.5, 0.9]]).log()
    old = half - tensor([[1.5, 0.5], [0.5, 7.0]]).log()
    loss, metrics = policy_loss(
        half,
        old,
        tensor([1, -2]),
        mask,
        clip_low=0.2,
        clip_high=0.3,
        denominators=tensor([4, 2]),
        ref_logprobs=tensor([[0.25, 0.25], [0.25, 0.1]]).log(),
        kl_coef=0.1,
    )
    k3 = math.log(2) - 0.5
    assert loss.item() == pytest.approx(0.35 + 0.1 * k3)
    assert {name: value.item() for name, value in metrics.items()} == pytest.approx(
        {
            "tokens": 3,
            "ratio_sum": 1.5 + 0.5 + 0.5,
            "clip_low_tokens": 1,
            "clip_high_tokens": 1,
            "kl_sum": 3 * k3,
        }
    )


@pytest.mark.parametrize("objective", ["clip", "cispo"])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("sizes", [[8], [1] * 8, [3, 5], [2, 2, 4]])
def test_micro_batches_add_up(objective, level, sizes):
    batch = random_batch()
    whole_loss, whole_gradient, whole_metrics = loss_and_gradient(
        batch, objective=objective, ratio_level=level
    )
    loss, gradients, metrics, start = 0.0, [], {}, 0
    for size in sizes:
        part = {name: value[start : start + size] for name, value in batch.items()}
        longest = int(part["loss_mask"].sum(1).max())  # padded to its own longest row
        part = {name: v[:, :longest] if v.dim() == 2 else v for name, v in part.items()}
        part_loss, gradient, sums = loss_and_gradient(part, objective=objective, ratio_level=level)
        loss += part_loss
        gradients.append(torch.nn.functional.pad(gradient, (0, 6 - longest)))
        metrics = {name: metrics.get(name, 0) + value for name, value in sums.items()}
        start += size
    torch.testing.assert_close(loss, whole_loss, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(torch.cat(gradients), whole_gradient, rtol=0, atol=0)
    for name, value in whole_metrics.items():
        torch.testing.assert_close(metrics[name], value, rtol=1e-14, atol=0)


@pytest.mark.parametrize("objective", ["clip", "cispo"])
def test_rows_without_advantage_have_no_gradient_when_kl_coef_is_0(objective):
    batch = random_batch()
    batch["advantages"][[1, 4, 5]] = 0.0
    loss, gradient, metrics = loss_and_gradient(batch, kl_coef=0.0, objective=objective)
    assert (gradient[[1, 4, 5]] == 0).all()
    live = [0, 2, 3, 6, 7]
    part = {name: value[live] for name, value in batch.items()}
    skipped_loss, skipped_gradient, skipped = loss_and_gradient(
        part, kl_coef=0.0, objective=objective
    )
    assert torch.equal(skipped_gradient, gradient[live])
    torch.testing.assert_close(skipped_loss, loss, rtol=1e-14, atol=0)
    for name in ("clip_low_tokens", "clip_high_tokens"):
        assert skipped[name] == metrics[name]


@pytest.mark.parametrize("objective", ["clip", "cispo"])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("garbage", [NAN, INF, -INF, 300.0])
@pytest.mark.parametrize("where", ["policy_logprobs", "old_logprobs", "ref_logprobs", "all"])
def test_what_stands_outside_the_mask_is_ignored(objective, level, garbage, where):
    clean = random_batch()
    assert not clean["loss_mask"].all()
    dirty = {
        name: value.where(clean["loss_mask"], garbage)
        if name.endswith("logprobs") and where in (name, "all")
        else value
        for name, value in clean.items()
    }
    expected = loss_and_gradient(clean, objective=objective, ratio_level=level)
    got = loss_and_gradient(dirty, objective=objective, ratio_level=level)
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])
    assert got[2] == expected[2]


def test_on_policy_the_gradient_is_that_of_the_policy_gradient_theorem():
    # ratio 1: d loss / d log pi = -A / denominator, for the clipped surrogate and for CISPO alike
    batch = random_batch()
    batch["old_logprobs"] = batch["policy_logprobs"].clone()
    weights = -batch["advantages"][:, None] / batch["denominators"][:, None]
    expected = weights.expand_as(batch["loss_mask"]).where(batch["loss_mask"], 0.0)
    for objective in ("clip", "cispo"):
        for level in ("token", "sequence"):
            _, gradient, metrics = loss_and_gradient(
                batch, objective=objective, ratio_level=level, kl_coef=0.0
            )
            torch.testing.assert_close(gradient, expected, rtol=1e-14, atol=0)
            assert metrics["ratio_sum"] == metrics["tokens"]
            assert metrics["clip_low_tokens"] == metrics["clip_high_tokens"] == 0


def test_a_reference_with_kl_coef_0_is_measured_and_moves_nothing():
    batch = random_batch()
    without = {name: value for name, value in batch.items() if name != "ref_logprobs"}
    measured = loss_and_gradient(batch, kl_coef=0.0)
    plain = loss_and_gradient(without, kl_coef=0.0)
    assert torch.equal(measured[0], plain[0]) and torch.equal(measured[1], plain[1])
    assert measured[2]["kl_sum"] > 0 and "kl_sum" not in plain[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy_logprobs": torch.zeros(8)}, r"policy_logprobs must be \[B, T\]"),
        ({"old_logprobs": torch.zeros(1, 6)}, "old_logprobs is"),
        ({"old_logprobs": torch.zeros(8, 1)}, "old_logprobs is"),
        ({"ref_logprobs": torch.zeros(8, 5)}, "ref_logprobs is"),
        ({"loss_mask": torch.ones(1, 6, dtype=torch.bool)}, "loss_mask is"),
        ({"loss_mask": torch.ones(8, 6)}, "boolean"),
        ({"advantages": torch.zeros(8, 1)}, r"advantages is .* \[B\] = \[8\]"),
        ({"advantages": torch.zeros(1)}, "advantages is"),
        ({"denominators": torch.tensor(3.0)}, "denominators is"),
        ({"denominators": torch.ones(6)}, "denominators is"),
        ({"objective": "ppo"}, "clip, cispo"),
        ({"ref_logprobs": None}, "no ref_logprobs"),
    ],
)
def test_policy_loss_refuses_what_would_broadcast(change, message):
    with pytest.raises(ValueError, match=message):
        policy_loss(**{**random_batch(), **SETTINGS, **change})
