"""The learning rate by hand; the stream of problems."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_rs.problems import Problem
from open_rs.recipe import TrainRecipe
from open_rs.train.schedule import ProblemSampler, learning_rate

# --- learning rate ---


def rates(**settings):
    recipe = TrainRecipe(learning_rate=2.0, **settings)
    return [learning_rate(step, recipe) for step in range(1, recipe.num_steps + 1)]


def test_learning_rate_by_hand():
    # 4 of 20 steps of warm-up: 2/4, 4/4, 6/4, 8/4; then half a cosine from 2 to 0.1 x 2 in 16 steps
    found = rates(num_steps=20, warmup_ratio=0.2, min_lr_ratio=0.1)
    assert found[:4] == [0.5, 1.0, 1.5, 2.0]
    assert found[11] == pytest.approx(1.1)  # step 12 is half way: (2 + 0.2) / 2
    assert found[7] == pytest.approx(0.2 + 1.8 * (1 + math.cos(math.pi / 4)) / 2)  # a quarter
    assert found[15] == pytest.approx(0.2 + 1.8 * (1 - math.cos(math.pi / 4)) / 2)
    assert found[19] == pytest.approx(0.2)
    assert max(found) == found[3] and min(found) == found[19]


def test_learning_rate_without_warm_up_starts_near_the_peak_and_never_above():
    # step 1 of 4: (1 + cos(pi / 4)) / 2
    found = rates(num_steps=4, warmup_ratio=0.0, min_lr_ratio=0.0)
    assert found[0] == pytest.approx(1 + math.cos(math.pi / 4))
    assert found[1] == pytest.approx(1.0)
    assert found[3] == pytest.approx(0.0, abs=1e-15)


def test_min_lr_ratio_1_is_constant_after_warm_up():
    assert rates(num_steps=10, warmup_ratio=0.2, min_lr_ratio=1.0) == [1.0] + [2.0] * 9


@pytest.mark.parametrize(("num_steps", "warmup_ratio"), [(1, 0.0), (1, 0.9), (2, 0.99), (3, 0.5)])
def test_short_runs_have_positive_rates_up_to_the_peak(num_steps, warmup_ratio):
    found = rates(num_steps=num_steps, warmup_ratio=warmup_ratio, min_lr_ratio=0.1)
    assert all(0.2 - 1e-12 <= rate <= 2.0 for rate in found)


@given(st.integers(1, 200), st.floats(0, 0.99), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_the_rate_rises_to_the_peak_and_then_falls_to_the_minimum(steps, warmup_ratio, low):
    found = rates(num_steps=steps, warmup_ratio=warmup_ratio, min_lr_ratio=low)
    warmup = round(warmup_ratio * steps)
    assert found[:warmup] == sorted(found[:warmup])
    assert found[warmup:] == sorted(found[warmup:], reverse=True)
    assert all(0 <= rate <= 2.0 for rate in found)
    if warmup < steps:
        assert found[-1] == pytest.approx(2.0 * low, abs=1e-12)
    if warmup:
        assert found[warmup - 1] == 2.0


# --- the stream of problems ---


def problems(count):
    return [Problem(f"p{i}", "?", "!") for i in range(count)]


def ids(taken):
    return [problem.id for problem in taken]


def test_each_epoch_is_a_permutation_of_its_own():
    sampler = ProblemSampler(problems(20), seed=1)
    epochs = [ids(sampler.take(20)) for _ in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(ids(problems(20)))
    assert len({tuple(epoch) for epoch in [*epochs, ids(problems(20))]}) == 4
    assert sampler.position == 60


def test_the_order_depends_on_the_seed_alone():
    first, again, other = (ids(ProblemSampler(problems(20), seed).take(20)) for seed in (1, 1, 2))
    assert first == again != other


@given(st.integers(1, 7), st.lists(st.integers(0, 9), max_size=8), st.integers(0, 8))
@settings(max_examples=80, deadline=None)
def test_a_sampler_goes_on_from_its_position(size, counts, stop):
    whole = ProblemSampler(problems(size), seed=3)
    expected = [ids(whole.take(count)) for count in counts]
    first = ProblemSampler(problems(size), seed=3)
    before = [ids(first.take(count)) for count in counts[:stop]]
    second = ProblemSampler(problems(size), seed=3, position=first.position)
    assert before + [ids(second.take(count)) for count in counts[stop:]] == expected
    assert second.position == whole.position


@given(st.integers(1, 8), st.integers(0, 12), st.sets(st.integers(0, 9)), st.integers(0, 20))
@settings(max_examples=80, deadline=None)
def test_a_batch_holds_no_problem_twice_and_none_that_is_excluded(size, count, out, position):
    sampler = ProblemSampler(problems(size), seed=5, position=position)
    exclude = {f"p{i}" for i in out}
    taken = ids(sampler.take(count, exclude))
    assert len(set(taken)) == len(taken) == min(count, len({*ids(problems(size))} - exclude))
    assert not exclude & set(taken)


def test_excluded_problems_keep_their_place_in_the_stream():
    plain = ids(ProblemSampler(problems(6), seed=2).take(6))
    passed_over = ids(ProblemSampler(problems(6), seed=2).take(4, exclude={plain[0], plain[3]}))
    assert passed_over == [plain[1], plain[2], plain[4], plain[5]]


def test_more_than_there_are_and_none_at_all():
    assert len(ProblemSampler(problems(3), seed=0).take(5)) == 3
    assert ProblemSampler(problems(3), seed=0).take(2, exclude={"p0", "p1", "p2"}) == []
    assert ProblemSampler([], seed=0).take(2) == []


def test_repeated_ids_count_once_and_do_not_hang():
    twice = [*problems(2), *problems(2)]
    assert sorted(ids(ProblemSampler(twice, seed=0).take(4))) == ["p0", "p1"]
