"""Philox against its published vectors, and the uniforms made from it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_oracle import philox, uniform
from scipy import stats

from open_rs.rollout.noise import philox4x32, stream_key, uniforms

WORDS = st.integers(0, 2**32 - 1)
# kat_vectors of Random123, philox4x32 with 10 rounds
KNOWN = [
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def column(words: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor(words, dtype=torch.long)[:, None]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_words(counter, key, expected):
    assert tuple(philox4x32(column(counter), column(key))[:, 0].tolist()) == expected
    assert philox(counter, key) == expected  # the oracle of the other tests, too


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[WORDS] * 6), min_size=1, max_size=5))
def test_philox_equals_python_integers_and_columns_do_not_mix(rows):
    counter = torch.tensor([row[:4] for row in rows]).T
    key = torch.tensor([row[4:] for row in rows]).T
    got = philox4x32(counter, key).T.tolist()
    assert got == [list(philox(row[:4], row[4:])) for row in rows]


def test_uniform_is_the_stated_function_of_its_arguments():
    samples, positions = [0, 3, 0, 70_000], [0, 0, 9, 123]
    key = stream_key(11, 5, "a problem")
    got = uniforms(
        torch.tensor([key] * 4).T, torch.tensor(samples), torch.tensor(positions)
    ).tolist()
    expected = [uniform(11, 5, "a problem", s, p) for s, p in zip(samples, positions, strict=True)]
    assert got == expected


def test_uniforms_are_uniform_and_independent_of_their_neighbours():
    count = 40_000
    position = torch.arange(count)
    key = torch.tensor([stream_key(0, 1, "p0")] * count).T
    drawn = uniforms(key, torch.zeros(count, dtype=torch.long), position).numpy()
    assert drawn.min() > 0 and drawn.max() < 1
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3
    # correlations have a standard deviation of 1 / sqrt(40,000) = 0.005
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.02
    other = uniforms(key, torch.ones(count, dtype=torch.long), position).numpy()
    assert abs(np.corrcoef(drawn, other)[0, 1]) < 0.02


def test_uniform_never_reaches_its_ends():
    # the smallest and the largest word give 0.5 / 2^32 and 1 - 0.5 / 2^32
    low, high = 0.5 * 2.0**-32, 1 - 0.5 * 2.0**-32
    assert low > 0 and high < 1


def test_streams_differ_by_seed_step_and_problem():
    keys = {
        stream_key(seed, step, name)
        for seed in (0, 1, 10)
        for step in (-1, 0, 1, 10)
        for name in ("", "0", "p0", "p00", "0\0p")
    }
    assert len(keys) == 3 * 4 * 5
    assert all(0 <= word < 2**32 for key in keys for word in key)
