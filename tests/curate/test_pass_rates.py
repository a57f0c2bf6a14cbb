"""Pass rates through the sampler: the counts, the journal, a kill, other thresholds."""

import json

import pytest
from curation_stand_ins import Killed, ScriptedEngine, sampler_of

from open_rs.curate import CuratedFolder, curate
from open_rs.curate.filters import PassRate
from open_rs.curate.pass_rates import pass_rate_of
from open_rs.problems import problem_id
from open_rs.recipe import recipe_from_dict
from open_rs.rollout.protocol import SamplingParams

NUM_SAMPLES = 4
NUMBERS = {problem_id("ab" * (n + 1), str(n + 10)): n for n in range(5)}  # of the five problems


def numbers_of(rows, key="problem_id"):
    return [NUMBERS[row[key]] for row in rows]


def solves(problem, sample):
    """Problem n is solved by n of its four samples; the others say another number or nothing."""
    if sample < NUMBERS[problem.id]:
        return f"\\boxed{{{problem.answer}}}"
    return "\\boxed{77}" if sample % 2 else "no idea"


def make_recipe(tmp_path, **changes):
    rows = tmp_path / "rows.jsonl"
    if not rows.exists():
        lines = [json.dumps({"problem": "ab" * (n + 1), "answer": str(n + 10)}) for n in range(5)]
        rows.write_text("\n".join(lines), encoding="utf-8")
    return recipe_from_dict(
        {
            "seed": 3,
            "model": {"path": "scripted/model"},
            "sources": [{"path": str(rows)}],
            "filters": [{"type": "pass_rate", "num_samples": NUM_SAMPLES}],
            "rollout": {"max_completion_tokens": 99, "temperature": 0.7, "top_p": 0.9, "top_k": 5},
            **changes,
        }
    )


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_counts_of_undecided_samples():
    assert pass_rate_of([True, None, False, True]) == PassRate(2, 3, 4)
    assert pass_rate_of([None, None]) == PassRate(0, 0, 2)


def test_counts_reasons_and_what_the_engine_was_asked(tmp_path):
    engine = ScriptedEngine(solves)
    summary = curate(make_recipe(tmp_path), tmp_path / "out", open_sampler=sampler_of(engine))
    folder = CuratedFolder(tmp_path / "out")
    assert numbers_of(rows_of(folder.problems), "id") == [1, 2, 3]
    assert summary["funnel"][-1]["reasons"] == {
        "pass rate not above 0": 1,
        "pass rate not below 1": 1,
    }
    rates = rows_of(folder.pass_rates)
    assert sorted((NUMBERS[row["problem_id"]], row["correct"]) for row in rates) == [
        (0, 0), (1, 1), (2, 2), (3, 3), (4, 4),
    ]  # fmt: skip
    assert {(row["decided"], row["num_samples"]) for row in rates} == {(4, 4)}
    params = SamplingParams(max_completion_tokens=99, temperature=0.7, top_p=0.9, top_k=5)
    assert engine.calls == [{"params": params, "seed": 3, "step": -1}]
    assert sorted((NUMBERS[id_], sample) for id_, sample in engine.asked) == [
        (n, sample) for n in range(5) for sample in range(4)
    ]


def test_prompts_over_the_limit_are_dropped_before_sampling(tmp_path):
    engine = ScriptedEngine(solves)
    recipe = make_recipe(tmp_path)
    out = tmp_path / "out"
    # Problem n has 2 (n + 1) bytes: 8 and 10 are over 7
    summary = curate(recipe, out, open_sampler=sampler_of(engine, max_prompt_tokens=7))
    assert summary["too_long"] == 2
    assert summary["funnel"][0] == {
        "filter": "prompt_limit",
        "input": 5,
        "dropped": 2,
        "kept": 3,
        "reasons": {"prompt over 7 tokens": 2},
        "noted": {},
        "expected": None,
    }
    assert {NUMBERS[id_] for id_, _ in engine.asked} == {0, 1, 2}
    assert rows_of(CuratedFolder(out).manifest)[3]["detail"] == "8 tokens"


@pytest.mark.parametrize("killed_after", [0, 1, 7, 15, 18, 19])
def test_a_killed_curation_goes_on_and_asks_nothing_twice(tmp_path, killed_after):
    recipe = make_recipe(tmp_path)
    whole = CuratedFolder(tmp_path / "whole")
    curate(recipe, whole.path, open_sampler=sampler_of(ScriptedEngine(solves)))

    folder = CuratedFolder(tmp_path / "killed")
    with pytest.raises(Killed):
        curate(recipe, folder.path, open_sampler=sampler_of(ScriptedEngine(solves, killed_after)))
    assert not folder.problems.exists()
    settled = (
        {row["problem_id"] for row in rows_of(folder.pass_rates)} if killed_after > 15 else set()
    )
    second = ScriptedEngine(solves)
    curate(recipe, folder.path, open_sampler=sampler_of(second))
    assert not settled & {id_ for id_, _ in second.asked}
    for name in ("problems.jsonl", "manifest.jsonl", "summary.json", "pass_rates.jsonl"):
        assert (folder.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_the_journal_survives_a_torn_line_and_other_thresholds_ask_nothing(tmp_path):
    out = CuratedFolder(tmp_path / "out")
    curate(make_recipe(tmp_path), out.path, open_sampler=sampler_of(ScriptedEngine(solves)))
    out.problems.unlink()  # as after a kill before the end
    torn = out.pass_rates.read_text(encoding="utf-8")[:-20]
    out.pass_rates.write_text(torn, encoding="utf-8")
    engine = ScriptedEngine(solves)
    wider = [{"type": "pass_rate", "num_samples": NUM_SAMPLES, "above": -1, "below": 0.6}]
    curate(make_recipe(tmp_path, filters=wider), out.path, open_sampler=sampler_of(engine))
    assert len({id_ for id_, _ in engine.asked}) == 1  # whose row was torn
    assert numbers_of(rows_of(out.problems), "id") == [0, 1, 2]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 4},
        {"model": {"path": "another/model"}},
        {"rollout": {"max_completion_tokens": 98}},
        {"grade": {"timeout_s": 1.0}},
        {"filters": [{"type": "pass_rate", "num_samples": 3}]},
    ],
)
def test_rates_sampled_otherwise_are_not_used(tmp_path, changes):
    out = CuratedFolder(tmp_path / "out")
    curate(make_recipe(tmp_path), out.path, open_sampler=sampler_of(ScriptedEngine(solves)))
    out.problems.unlink()
    engine = ScriptedEngine(solves)
    curate(make_recipe(tmp_path, **changes), out.path, open_sampler=sampler_of(engine))
    assert {id_ for id_, _ in engine.asked} == set(NUMBERS)


def test_slots_do_not_count_as_another_way_of_sampling(tmp_path):
    out = CuratedFolder(tmp_path / "out")
    curate(make_recipe(tmp_path), out.path, open_sampler=sampler_of(ScriptedEngine(solves)))
    rollout = make_recipe(tmp_path).rollout.model_dump() | {"max_slots": 2}
    again = make_recipe(tmp_path, rollout=rollout)
    engine = ScriptedEngine(solves)
    curate(again, out.path, open_sampler=sampler_of(engine))
    assert engine.asked == []


def test_two_pass_rate_filters_keep_both_measurements(tmp_path):
    filters = [
        {"type": "pass_rate", "num_samples": 2, "above": -1, "below": 1},
        {"type": "pass_rate", "num_samples": 4},
    ]
    out = CuratedFolder(tmp_path / "out")
    recipe = make_recipe(tmp_path, filters=filters)
    curate(recipe, out.path, open_sampler=sampler_of(ScriptedEngine(solves)))
    # Of two samples problem 0 solves 0, 1 solves 1, the others both
    counts = [
        (NUMBERS[row["problem_id"]], row["correct"], row["num_samples"])
        for row in rows_of(out.pass_rates)
    ]
    assert sorted(counts) == [
        (0, 0, 2), (0, 0, 4), (1, 1, 2), (1, 1, 4), (2, 2, 2), (3, 2, 2), (4, 2, 2),
    ]  # fmt: skip


def test_with_the_real_engine_the_slots_do_not_change_the_rates(tmp_path):
    settings = {
        "sources": [{"task": "arithmetic", "count": 6, "levels": [1, 2]}],
        "filters": [{"type": "pass_rate", "num_samples": 4, "above": -1, "below": 2}],
    }
    for slots in (24, 5):
        rollout = {"max_completion_tokens": 32, "max_slots": slots}
        recipe = recipe_from_dict({**settings, "rollout": rollout})
        assert curate(recipe, tmp_path / str(slots))["kept"] == 6
    wide, narrow = (CuratedFolder(tmp_path / str(slots)) for slots in (24, 5))
    assert wide.pass_rates.read_bytes() == narrow.pass_rates.read_bytes()
    assert {row["decided"] for row in rows_of(wide.pass_rates)} == {4}
