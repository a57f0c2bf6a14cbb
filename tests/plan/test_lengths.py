"""How long completions are: what was cut off, what was recorded, what is assumed."""

import math
import random

import pytest

from open_rs.plan.lengths import Lengths, assumed, expected_rest, recorded
from open_rs.plan.schedule import Group
from open_rs.runs import RunFolder, append_jsonl


def test_lengths_that_all_ended():
    lengths = Lengths((Group(5, (10, 20)), Group(7, (30, 40))), 100, 100, "the probe")
    low, mean, high = lengths.means()
    assert mean == 25 and low < 25 < high
    assert lengths.truncated_frac() == 0
    assert (lengths.quantile(0.1), lengths.quantile(0.5), lengths.quantile(0.9)) == (10, 30, 40)


def test_what_was_cut_off_goes_on_at_the_rate_at_which_the_others_ended():
    # beyond 50 two ended (at 60 and 90) and two did not: 10 + 40 + 50 + 50 tokens
    lengths = Lengths((Group(5, (60, 90)), Group(5, (100, 100))), 100, 400, "the probe")
    hazard = 2.5 / 150
    assert lengths.hazard()[1] == pytest.approx(hazard)
    rest = (1 - math.exp(-hazard * 300)) / hazard
    assert lengths.means()[1] == pytest.approx((60 + 90 + 100 + 100) / 4 + 0.5 * rest)
    assert lengths.truncated_frac() == pytest.approx(0.5 * math.exp(-hazard * 300))
    low, mean, high = lengths.means()
    assert low < mean < high <= 400


def test_nothing_ended_may_go_on_to_the_cap():
    lengths = Lengths((Group(5, (64, 64)),) * 4, 64, 1000, "the probe")
    low, mean, high = lengths.means()
    assert 64 < low < mean < high <= 1000
    assert lengths.truncated_frac() > 0.1


def test_the_rest_of_one_that_hardly_ever_ends_is_the_room():
    assert expected_rest(0.0, 50) == 50
    assert expected_rest(1e-3, 10**9) == pytest.approx(1000)


def test_drawn_lengths_have_the_mean_that_is_told():
    lengths = Lengths((Group(5, (10, 64)), Group(9, (30, 64))), 64, 300, "the probe")
    groups = lengths.draw(random.Random(0), 2000, 4, dead=0.25)
    drawn = [length for group in groups for length in group.lengths]
    assert sum(drawn) / len(drawn) == pytest.approx(lengths.means()[1], rel=0.05)
    assert max(drawn) <= 300
    assert sum(not group.taught for group in groups) / 2000 == pytest.approx(0.25, abs=0.03)


def test_an_assumed_mean():
    stated = assumed(50, 4096, 700.0)
    assert stated.means()[1] == 700 and stated.truncated_frac() is None
    drawn = [one for g in stated.draw(random.Random(0), 3000, 1) for one in g.lengths]
    assert sum(drawn) / len(drawn) == pytest.approx(700, rel=0.05)
    low, mean, high = assumed(50, 1000, None).means()
    assert (low, mean, high) == (300, 600, 1000)


def test_lengths_that_curation_recorded(tmp_path):
    run = RunFolder(tmp_path)
    run.curated.mkdir()
    for number in range(40):
        row = {"problem_id": f"p{number % 4}", "sample": number, "tokens": 10 + number % 4,
               "correct": True, "sampling": "key"}  # fmt: skip
        append_jsonl(run.curated / "answers.jsonl", row)
    judged = {"problem_id": "p0", "tokens": 99, "sampling": "key"}
    append_jsonl(run.curated / "answers.jsonl", judged)
    other = {"problem_id": "p0", "tokens": 11, "correct": True, "sampling": "another recipe's"}
    append_jsonl(run.curated / "answers.jsonl", other)
    found = recorded(run, {"p0": 5, "p1": 6, "p2": 7}, 12, "key")
    assert found is None  # 30 are too few
    found = recorded(run, {"p0": 5, "p1": 6, "p2": 7, "p3": 8}, 12, "key")
    assert sorted(found.seen) == [10] * 10 + [11] * 10 + [12] * 20  # cut at the cap
    assert found.groups[3].prompt == 8
