"""sample and mix: exact counts, drawn by content, strata that are short."""

import json
from dataclasses import replace

import pytest
from curation_stand_ins import problem
from hypothesis import given, settings
from hypothesis import strategies as st

from open_rs.curate import sampling
from open_rs.curate.stages import Drop, Note, Setting
from open_rs.errors import InputError
from open_rs.recipe import MixFilter, Recipe, SampleFilter, recipe_from_dict


def fetch(rows):
    raise AssertionError("drawing needs no texts")


def sampled(problems, **settings):
    spec = SampleFilter(**settings)
    return sampling.sample(sampling.sample_features(problems, spec), fetch, spec)


def mixed(problems, folder, **settings):
    spec = MixFilter(**settings)
    with sampling.open_strata(spec, Setting(Recipe(), folder)) as stratum_of:
        features = sampling.mix_features(problems, spec, stratum_of)
    features = json.loads(json.dumps(features))  # as they come back from a worker
    return sampling.mix(features, fetch, spec)


def kept(problems, verdicts):
    return [
        one.id
        for one, verdict in zip(problems, verdicts, strict=True)
        if not isinstance(verdict, Drop)
    ]


ROWS = [problem(f"p{number}", f"Compute {number} + {number}.") for number in range(100)]


def test_a_sample_has_the_count_and_stays_in_row_order():
    verdicts = sampled(ROWS, count=30)
    names = kept(ROWS, verdicts)
    assert len(names) == 30
    assert names == sorted(names, key=lambda name: int(name[1:]))
    assert {str(one) for one in verdicts if one} == {"not drawn: sample: 30 of 100"}
    assert kept(ROWS, sampled(ROWS, count=30, seed=1)) != names


@settings(deadline=None)
@given(st.permutations(ROWS), st.integers(1, 99))
def test_the_order_of_the_rows_does_not_matter(order, count):
    assert set(kept(order, sampled(order, count=count))) == set(
        kept(ROWS, sampled(ROWS, count=count))
    )


def test_a_smaller_sample_is_part_of_a_larger_one_and_ids_do_not_matter():
    few, many = (set(kept(ROWS, sampled(ROWS, count=count))) for count in (10, 60))
    assert few < many
    renamed = [replace(one, id=f"x{one.id}", source="elsewhere") for one in ROWS]
    assert {name[1:] for name in kept(renamed, sampled(renamed, count=10))} == few


def test_copies_of_a_row_are_counted_one_by_one():
    rows = [problem(f"p{number}", "Compute 1 + 1.") for number in range(5)]
    assert kept(rows, sampled(rows, count=2)) == ["p0", "p1"]


def test_a_short_sample_is_reported_or_refused(capsys):
    assert sampled(ROWS[:3], count=5) == [Note("sample is short: 3 of 5 rows")] * 3
    assert "sample: 5 rows are asked for and 3 are left" in capsys.readouterr().err
    with pytest.raises(InputError, match="filter sample: 5 rows are asked for and 3 are left; ask"):
        sampled(ROWS[:3], count=5, short="refuse")
    assert sampled(ROWS[:3], count=3) == [None] * 3


MIXED = [replace(one, source="ab"[number % 4 == 0]) for number, one in enumerate(ROWS)]  # 75 + 25


def test_a_mix_by_source_has_its_counts(tmp_path):
    rows = [*MIXED, problem("other", "Find $x$.")]
    verdicts = mixed(rows, tmp_path, counts={"a": 20, "b": 10})
    names = kept(rows, verdicts)
    sources = {one.id: one.source for one in rows}
    assert [sources[name] for name in names].count("a") == 20
    assert len(names) == 30
    assert verdicts[-1] == Drop("of no stratum of the mix", "")
    alone = [one for one in rows if one.source == "b"]  # the other strata change nothing
    assert set(kept(alone, mixed(alone, tmp_path, counts={"b": 10}))) <= set(names)


def test_a_short_stratum_is_reported_or_refused(tmp_path):
    verdicts = mixed(MIXED, tmp_path, counts={"a": 20, "b": 40})
    notes = [verdict for verdict in verdicts if isinstance(verdict, Note)]
    assert notes == [Note("mix b is short: 25 of 40 rows")] * 25
    with pytest.raises(InputError, match="filter mix b: 40 rows are asked for and 25 are left"):
        mixed(MIXED, tmp_path, counts={"b": 40}, short="refuse")


def test_a_source_that_is_not_there_names_those_that_are(tmp_path):
    with pytest.raises(InputError, match=r"no row of source 'c' is left \(there are: a, b\)"):
        mixed(MIXED, tmp_path, counts={"a": 1, "c": 1})


def test_a_mix_by_pass_rate(tmp_path):
    rates = {"p0": (0, 4), "p1": (1, 4), "p2": (2, 4), "p3": (4, 4), "p4": (0, 0)}
    journal = tmp_path / "pass_rates.jsonl"
    rows = [
        {
            "problem_id": id_,
            "correct": correct,
            "decided": decided,
            "num_samples": 4,
            "sampling": "x",
        }
        for id_, (correct, decided) in rates.items()
    ]
    journal.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bands = {"0-0.25": 5, "0.25-0.5": 5, "0.5-1": 5}
    verdicts = mixed(ROWS[:5], tmp_path, by="pass_rate", counts=bands)
    assert [verdict.reason for verdict in verdicts] == [
        "mix 0-0.25 is short: 1 of 5 rows",
        "mix 0.25-0.5 is short: 1 of 5 rows",  # the lower bound is in
        "mix 0.5-1 is short: 2 of 5 rows",
        "mix 0.5-1 is short: 2 of 5 rows",  # no rate is above 1, so that it is in the last band
        "of no stratum of the mix",  # nothing was decided
    ]
    rows[0]["sampling"] = "y"
    journal.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match="sampled in 2 ways"):
        mixed(ROWS[:5], tmp_path, by="pass_rate", counts=bands)


def test_pass_rates_have_to_be_measured_before(tmp_path):
    with pytest.raises(InputError, match="needs a pass_rate filter before it"):
        mixed(ROWS, tmp_path, by="pass_rate", counts={"0-1": 1})


def test_a_mix_by_the_users_function(tmp_path, monkeypatch):
    (tmp_path / "my_strata.py").write_text(
        "def parity(problem):\n    return 'odd' if int(problem.id[1:]) % 2 else None\n"
        "def broken(problem):\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    names = kept(ROWS, mixed(ROWS, tmp_path, by="my_strata:parity", counts={"odd": 7}))
    assert len(names) == 7 and all(int(name[1:]) % 2 for name in names)
    spec = MixFilter(by="my_strata:parity", counts={"odd": 7})
    assert set(sampling.strata_inputs(spec, Recipe())["files"]) == {"my_strata:parity"}
    with pytest.raises(InputError, match="my_strata:broken returned 3 for problem p0; return"):
        mixed(ROWS, tmp_path, by="my_strata:broken", counts={"odd": 7})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"counts": {}}, "at least 1"),
        ({"counts": {"a": 0}}, "'a' asks for 0 rows"),
        ({"counts": {"a": 1}, "by": "level"}, "by 'level' unknown; known: source, pass_rate"),
        ({"counts": {"low": 1}, "by": "pass_rate"}, "'low' is no band of pass rates"),
        ({"counts": {"0.5-0.2": 1}, "by": "pass_rate"}, "must rise"),
        ({"counts": {"0-0.5": 1, "0.4-1": 1}, "by": "pass_rate"}, "must not overlap"),
    ],
)
def test_mixes_that_cannot_be(settings, message):
    with pytest.raises(InputError, match=message):
        recipe_from_dict({"filters": [{"type": "mix", **settings}]})
