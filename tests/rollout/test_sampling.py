"""Temperature, top-k, top-p and the inverse CDF against numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sampling_oracle import interval, probabilities
from scipy import stats

from open_rs.rollout.noise import uniforms
from open_rs.rollout.sampling import draw, inverse_cdf, truncate

SETTINGS = [
    (1.0, 0, 1.0),
    (0.7, 0, 1.0),
    (1.7, 0, 1.0),
    (1.0, 5, 1.0),
    (1.0, 1, 1.0),
    (1.0, 0, 0.9),
    (1.0, 0, 1e-9),
    (0.6, 7, 0.8),
    (1.0, 100, 1.0),
]


def many_uniforms(count: int) -> torch.Tensor:
    key = torch.tensor([[17] * count, [29] * count])
    return uniforms(key, torch.zeros(count, dtype=torch.long), torch.arange(count))


def random_logits(rows: int, vocabulary: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 2


def draws(logits, uniform, temperature=1.0, top_k=0, top_p=1.0):
    return draw(logits, uniform, temperature=temperature, top_k=top_k, top_p=top_p)


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), SETTINGS)
def test_frequencies_follow_the_distribution(temperature, top_k, top_p):
    count = 20_000
    logits = random_logits(1, 12)
    ids, _, _ = draws(logits.expand(count, -1), many_uniforms(count), temperature, top_k, top_p)
    expected = probabilities(logits[0].numpy(), temperature, top_k, top_p) * count
    seen = np.bincount(ids.numpy(), minlength=12)
    assert seen[expected == 0].sum() == 0
    common = expected > 5
    if common.sum() > 1:
        rest = expected[~common].sum()
        got = np.append(seen[common], seen[~common].sum())
        want = np.append(expected[common], rest)
        if rest == 0:
            got, want = got[:-1], want[:-1]
        assert stats.chisquare(got, want).pvalue > 1e-3
    else:
        assert seen[common] == count


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), SETTINGS)
def test_each_draw_is_the_inverse_cdf(temperature, top_k, top_p):
    logits, uniform = random_logits(400, 50, seed=1), many_uniforms(400)
    ids, logprobs, finite = draws(logits, uniform, temperature, top_k, top_p)
    assert finite.all()
    for row in range(400):
        distribution = probabilities(logits[row].numpy(), temperature, top_k, top_p)
        low, high = interval(distribution, int(ids[row]))
        assert low - 1e-6 <= float(uniform[row]) <= high + 1e-6
        assert distribution[ids[row]] > 0
        # before truncation: log softmax(logits / temperature)
        whole = probabilities(logits[row].numpy(), temperature)
        assert float(logprobs[row]) == pytest.approx(math.log(whole[ids[row]]), abs=2e-6)


def test_nucleus_by_hand():
    # shares in order of size: 8/16, 5/16, 2/16, 1/16
    weights = torch.tensor([[2.0, 8.0, 1.0, 5.0]])
    # 13/16 = 0.8125 >= 0.8 after two tokens
    assert truncate(weights, top_k=0, top_p=0.8).tolist() == [[0, 8, 0, 5]]
    # exactly 13/16: the two suffice; a hair above: the third joins
    assert truncate(weights, top_k=0, top_p=0.8125).tolist() == [[0, 8, 0, 5]]
    assert truncate(weights, top_k=0, top_p=0.82).tolist() == [[2, 8, 0, 5]]
    # of what top-k leaves, 8 + 5 = 13, 0.6 is reached by 8 alone (8/13 = 0.615)
    assert truncate(weights, top_k=2, top_p=0.6).tolist() == [[0, 8, 0, 0]]


def test_top_k_keeps_ties_and_bounds():
    weights = torch.tensor([[1.0, 3.0, 1.0, 2.0]])
    assert truncate(weights, top_k=3, top_p=1.0).tolist() == [[1, 3, 1, 2]]
    assert truncate(weights, top_k=2, top_p=1.0).tolist() == [[0, 3, 0, 2]]
    for off in (0, 4, 9):
        assert truncate(weights, top_k=off, top_p=1.0).tolist() == weights.tolist()


def test_nucleus_of_equal_tokens_keeps_the_first():
    # ten equal tokens, 0.25 is reached by three of them: the first three, so runs agree
    kept = truncate(torch.ones(1, 10), top_k=0, top_p=0.25)[0]
    assert kept.nonzero()[:, 0].tolist() == [0, 1, 2]


def test_inverse_cdf_never_picks_a_token_of_weight_zero():
    weights = torch.tensor([[0.0, 1.0, 0.0, 2.0, 0.0]] * 4)
    ends = [0.5 * 2.0**-32, 1 / 3 - 1e-6, 1 / 3 + 1e-6, 1 - 0.5 * 2.0**-32]
    uniform = torch.tensor(ends, dtype=torch.float64)
    assert inverse_cdf(weights, uniform).tolist() == [1, 1, 3, 3]
    # float32 sums of a large vocabulary still end inside it
    large = torch.rand(1, 150_000, generator=torch.Generator().manual_seed(0))
    large[0, -1] = 0.0
    last = inverse_cdf(large, torch.tensor([1 - 2.0**-33], dtype=torch.float64))
    assert large[0, last] > 0


def test_greedy_takes_the_first_of_the_largest_and_reports_temperature_one():
    logits = torch.tensor([[1.0, 3.0, 3.0, 0.0]])
    ids, logprobs, _ = draws(logits, torch.empty(0), temperature=0.0)
    assert ids.tolist() == [1]
    # 3 - log(e + 2 e^3 + 1)
    expected = 3 - math.log(math.e + 2 * math.exp(3) + 1)
    assert logprobs.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_only_the_row_with_a_value_that_is_not_finite_is_marked(temperature, bad):
    logits = random_logits(3, 8)
    logits[1, 4] = bad
    uniform = many_uniforms(3)
    ids, _, finite = draws(logits, uniform, temperature)
    assert finite.tolist() == [True, False, True]
    alone, _, _ = draws(logits[2:], uniform[2:], temperature)
    assert ids[2] == alone[0]


def test_minus_infinity_is_a_token_that_cannot_be_drawn():
    logits = torch.tensor([[0.0, -math.inf, 1.0]]).expand(500, -1)
    ids, logprobs, finite = draws(logits, many_uniforms(500))
    assert finite.all() and set(ids.tolist()) == {0, 2} and logprobs.isfinite().all()


def test_inputs_are_left_alone_and_half_precision_is_raised():
    logits = random_logits(4, 30)
    before = logits.clone()
    uniform = many_uniforms(4)
    draws(logits, uniform, 1.0, 3, 0.9)
    draws(logits, uniform, 0.5)
    assert torch.equal(logits, before)
    half = logits.bfloat16()
    ids, logprobs, _ = draws(half, uniform)
    exact_ids, exact, _ = draws(half.float(), uniform)
    assert ids.tolist() == exact_ids.tolist() and torch.equal(logprobs, exact)
    assert logprobs.dtype == torch.float32


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-15, 15, width=32), min_size=2, max_size=40),
    st.floats(1e-6, 1 - 1e-6),
    st.integers(0, 2**32 - 1),
)
def test_the_float_caveat(values, uniform, seed):
    """Logits that move by 1e-6 change the token only if the uniform lies that near a border."""
    logits = torch.tensor([values])
    cumulative = np.cumsum(probabilities(logits[0].numpy(), 1.0))
    assume(np.abs(cumulative[:-1] - uniform).min() > 5e-6)
    generator = torch.Generator().manual_seed(seed)
    moved = logits + (torch.rand(logits.shape, generator=generator) * 2 - 1) * 1e-6
    u = torch.tensor([uniform], dtype=torch.float64)
    ids = [int(draws(version, u)[0]) for version in (logits, moved)]
    assert ids[0] == ids[1] == int(np.searchsorted(cumulative, uniform, side="right"))


def test_the_float_caveat_is_real():
    # p(0) = 1/2 exactly and the uniform 1e-8 below: 1e-6 more on the other token flips the draw
    u = torch.tensor([0.5 - 1e-8], dtype=torch.float64)
    assert int(draws(torch.tensor([[0.0, -1e-6]]), u)[0]) == 0
    assert int(draws(torch.tensor([[0.0, 1e-6]]), u)[0]) == 1
