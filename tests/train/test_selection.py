"""What a history expects of a problem, and what a step takes because of it."""

from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from open_rs.grade import Grade
from open_rs.problems import Problem
from open_rs.recipe import recipe_from_dict
from open_rs.rollout.protocol import Prompt, Rollout, RolloutGroup
from open_rs.train.advantages import set_advantages
from open_rs.train.schedule import ProblemSampler
from open_rs.train.selection import PRIOR, History, kept_probability, next_ids, predicted_dead

POOL = [Problem(f"p{i:02}", f"{i} + 1", str(i + 1)) for i in range(40)]
HISTORY = {"data": {"select": "history", "explore": 0.25}}


def group(problem, outcomes, rewards=None):
    rewards = rewards or [float(outcome == "correct") for outcome in outcomes]
    rollouts = [
        Rollout([5, 1], [-1.0, -1.0], "", "stop", sample=i, grade=Grade(o, None, 0.0), reward=r)
        for i, (o, r) in enumerate(zip(outcomes, rewards, strict=True))
    ]
    return RolloutGroup(problem, [1], rollouts)


def taken(history, step, count=8, stream=None, **sections):
    return next_ids(
        recipe_from_dict(HISTORY | sections),
        stream or ProblemSampler(POOL, seed=0),
        history,
        step=step,
        missing=count,
        most=count,
        exclude=frozenset(),
    )


def known(right, wrong, step=0):
    """A history that knows the same of every problem of the pool."""
    return {problem.id: (right, wrong, step) for problem in POOL}


def test_counts_halve_and_add_up():
    history = History(half_life=10)
    history.note(1, [group(POOL[0], ["correct", "correct", "wrong", "no_answer"])])
    history.note(11, [group(POOL[0], ["correct", "timeout", "bad_gold", "wrong"])])
    # ten steps later 2 and 2 are 1 and 1; one more of each, and two that were not judged
    assert history.counts == {"p00": (2.0, 2.0, 11, 2.0)}  # and two tokens each
    a, b = history.posterior(POOL[:2], 31)  # a quarter of 2 is left
    assert a.tolist() == b.tolist() == [0.5 + PRIOR, PRIOR]


def test_lengths_are_those_of_the_latest_group():
    history = History(half_life=10, counts={"p01": (1.0, 0.0, 3)})  # of an older checkpoint
    history.note(4, [group(POOL[0], ["wrong"] * 4)])
    latest = group(POOL[0], ["wrong", "wrong", "correct"])
    latest.rollouts[2].completion_ids = [5, 5, 5, 5, 1]
    history.note(5, [latest])
    prompts = [Prompt(problem, [1, 2]) for problem in POOL[:3]]
    # (2 + 2 + 5) / 3; no length was kept of the second, the third was never drawn
    assert [one.expected_tokens for one in history.expecting(prompts)] == [3.0, None, None]


@pytest.mark.parametrize(("right", "wrong"), [(0, 0), (8, 0), (0, 8), (3, 5), (0.1, 30)])
def test_the_expected_signal_is_the_integral_over_the_posterior(right, wrong):
    history = History(50, {"p00": (right, wrong, 7)})
    [found] = history.expected_signal(POOL[:1], 7, 8)
    posterior = beta(right + PRIOR, wrong + PRIOR)
    # the density is infinite at the ends, so by p = F^-1(u): the mean over u of the signal
    expected = quad(lambda u: 1 - posterior.ppf(u) ** 8 - (1 - posterior.ppf(u)) ** 8, 0, 1)[0]
    assert found == pytest.approx(expected, abs=1e-6)


def test_what_is_predicted_dead_is_passed_over_in_the_order_of_the_stream():
    stream, dead = ProblemSampler(POOL, seed=0), {f"p{i:02}" for i in range(0, 40, 2)}
    history = History(50, known(4, 4) | dict.fromkeys(dead, (0, 8, 0)))
    in_turn = [one.id for one in ProblemSampler(POOL, seed=0).take(40)]
    recipe = recipe_from_dict(HISTORY)
    passed_over = predicted_dead(recipe, POOL, history, 1)
    assert passed_over < dead  # some of twenty are spared with probability 0.25
    assert taken(history, 1, stream=stream) == [id for id in in_turn if id not in passed_over][:8]


def test_a_dead_problem_is_spared_with_the_probability_that_is_stated():
    history = History(1e9, known(80, 0))
    spared = sum(
        len(POOL) - len(predicted_dead(recipe_from_dict(HISTORY), POOL, history, step))
        for step in range(1, 101)
    )
    # 4,000 draws of probability 1/4: 1,000 with a standard deviation of 27
    assert abs(spared - 1000) < 4 * 27


def test_select_stream_passes_nothing_over():
    in_turn = [one.id for one in ProblemSampler(POOL, seed=0).take(8)]
    assert taken(History(50, known(8, 0)), 1, data={}) == in_turn


def test_where_all_are_predicted_dead_the_step_is_filled_all_the_same():
    assert len(set(taken(History(50, known(0, 8)), 1))) == 8


def test_who_is_spared_depends_on_seed_and_step_and_not_on_the_company():
    history = History(50, known(0, 8))
    dead = predicted_dead(recipe_from_dict(HISTORY), POOL, history, 3)
    some = predicted_dead(recipe_from_dict(HISTORY), POOL[5:25][::-1], history, 3)
    assert some == dead & {one.id for one in POOL[5:25]}
    assert dead != predicted_dead(recipe_from_dict(HISTORY), POOL, history, 4)
    assert dead != predicted_dead(recipe_from_dict(HISTORY | {"seed": 1}), POOL, history, 3)


def test_no_problem_is_lost_for_good():
    """Among problems that teach, 20 dead ones: all come within a few hundred steps."""
    counts = known(400, 400) | {f"p{i:02}": (0, 800, 0) for i in range(20)}
    history, stream, seen = History(1e9, counts), ProblemSampler(POOL, seed=3), set()
    for step in range(1, 201):
        seen |= set(taken(history, step, stream=stream))
    # each is met once an epoch, about every 3 steps, and spared then with probability 1/4:
    # 20 x 0.75 ** 60 is the chance that one of them is missing
    assert seen == {problem.id for problem in POOL}


@pytest.mark.parametrize(("solved", "steps"), [(8, 70), (16, 120)])
def test_a_forgotten_problem_comes_again(solved, steps):
    """Even without exploration, since what is known of it fades."""
    history, recipe = (
        History(50, {"p00": (0, solved, 0)}),
        recipe_from_dict({"data": {"select": "history", "explore": 1e-9}}),
    )
    assert predicted_dead(recipe, POOL[:1], history, steps) == {"p00"}
    assert predicted_dead(recipe, POOL[:1], history, steps + 10) == set()


def drawn(history, missing, most, **sections):
    recipe = recipe_from_dict(sections)
    stream = ProblemSampler(POOL, seed=0)
    ids = next_ids(recipe, stream, history, step=1, missing=missing, most=most, exclude=frozenset())
    return len(ids)


def test_as_many_problems_as_are_expected_to_fill_the_step():
    dynamic = {"loss": {"dynamic_sampling": True, "oversample": True}}
    # E[p^8] under Beta(8.4, 0.4) is prod (8.4 + i) / (8.8 + i), i = 0..7: 0.760 ...
    all_right = 1.0
    for i in range(8):
        all_right *= (8.4 + i) / (8.8 + i)
    # ... and E[(1 - p)^8] is nothing beside it: 4 missing over 0.240 are 16.7
    assert 4 / (1 - all_right) == pytest.approx(16.66, abs=0.01)
    assert drawn(History(50, known(8, 0, 1)), 4, 30, **dynamic) == 17
    assert drawn(History(50, known(8, 0, 1)), 4, 10, **dynamic) == 10
    assert drawn(History(50, known(8, 0, 1)), 4, 30) == 4
    assert drawn(History(50, known(8, 0, 1)), 0, 30, **dynamic) == 0
    # the first two completions differ less often than all eight: 2 E[p (1 - p)] = 2 / 3.6 / 2
    screened = dynamic | {"rollout": {"screen_size": 2}}
    assert drawn(History(50, known(0.6, 0.6, 1)), 4, 30, **screened) == 12


# --- the screen ---


def test_the_probability_of_passing_a_screen_by_hand():
    one_of_eight = [1.0] + [0.0] * 7
    assert kept_probability(one_of_eight, 4) == pytest.approx(0.5)  # the right one is among four
    two_of_eight = [1.0] * 2 + [0.0] * 6
    assert kept_probability(two_of_eight, 4) == pytest.approx(1 - 15 / 70)  # C(6, 4) of C(8, 4)
    assert kept_probability([0.0] * 8, 4) == 0
    assert kept_probability([1.0, 0.5, 0.0], 2) == 1


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, None]), min_size=3, max_size=7), st.data())
def test_the_probability_is_the_share_of_screens_that_a_group_passes(rewards, data):
    size = data.draw(st.integers(2, len(rewards) - 1))
    screens = list(combinations(rewards, size))
    passing = sum(len({one for one in screen if one is not None}) > 1 for screen in screens)
    assert kept_probability(rewards, size) == pytest.approx(passing / len(screens))


@pytest.mark.parametrize("rewards", [[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1, 0.5, 0, None]])
@pytest.mark.parametrize("scale", ["group_std", "none"])
def test_over_all_screens_the_mean_advantage_is_that_of_the_whole_group(rewards, scale):
    """Every order in which the four could have been drawn; a group that fails teaches nothing."""
    sections = {"rollout": {"group_size": 4}, "loss": {"advantage_scale": scale}}
    whole = group(POOL[0], ["correct"] * 4, rewards)
    set_advantages([whole], recipe_from_dict(sections))
    sections["rollout"]["screen_size"] = 2
    sums = [0.0] * 4
    orders = list(permutations(range(4)))
    for order in orders:
        shown = [rewards[i] for i in order]
        passed = len({one for one in shown[:2] if one is not None}) > 1
        drawn = shown if passed else shown[:2]
        screened = group(POOL[0], ["correct"] * len(drawn), drawn)
        set_advantages([screened], recipe_from_dict(sections))
        for i, rollout in zip(order, screened.rollouts, strict=False):
            sums[i] += rollout.advantage
    expected = [rollout.advantage for rollout in whole.rollouts]
    assert [one / len(orders) for one in sums] == pytest.approx(expected)
