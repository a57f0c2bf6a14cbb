"""Pass rates through the sampler: the counts, the journal, a kill, other thresholds."""

import json

import pytest
from curation_stand_ins import Failure, Killed, ScriptedEngine, problem, sampler_of

from open_rs.curate import CuratedFolder, curate
from open_rs.curate.pass_rates import PassRate, pass_rate, pass_rate_of, wilson
from open_rs.curate.stages import Drop
from open_rs.errors import GuardStop
from open_rs.problems import problem_id
from open_rs.recipe import PassRateFilter, recipe_from_dict
from open_rs.rollout.protocol import SamplingParams

NUM_SAMPLES = 4
OUTPUT = ("problems.jsonl", "manifest.jsonl", "summary.json")
IN_THE_GRADER = 8  # answers that a kill may find between engine and journal
SERVER = {"type": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "some/model"}
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


def answers_of(folder):
    """(number of the problem, sample) of each journalled answer."""
    rows = rows_of(folder.path / "answers.jsonl")
    return sorted((NUMBERS[row["problem_id"]], row["sample"]) for row in rows)


def asked_of(engine):
    return sorted((NUMBERS[id_], sample) for id_, sample in engine.asked)


ALL = [(n, sample) for n in range(5) for sample in range(NUM_SAMPLES)]


def test_counts_of_undecided_samples():
    samples = [{"correct": one} for one in (True, None, False, True)]
    assert pass_rate_of(dict(enumerate(samples)), 4) == PassRate(2, 3, 4)
    assert pass_rate_of(dict(enumerate(samples)), 2) == PassRate(1, 1, 2)  # the first two
    assert pass_rate_of({1: {"correct": None}}, 2) == PassRate(0, 0, 2)  # one is missing


def test_the_interval_of_a_pass_rate():
    # Wilson's interval for 2 of 4 at z = 1.959964: (p + z^2/2n -+ z sqrt(p q/n + z^2/4n^2)) /
    # (1 + z^2/n) = (0.980182 -+ 0.686112) / 1.960364
    assert wilson(2, 4) == (0.15, 0.85)
    assert wilson(0, 8)[0] == 0 and wilson(8, 8)[1] == 1
    assert wilson(0, 0) == (0.0, 1.0)


RATES = {
    "never": PassRate(0, 8, 8),
    "rarely": PassRate(1, 8, 8),
    "always": PassRate(8, 8, 8),
    "half": PassRate(1, 2, 8),
    "undecided": PassRate(0, 0, 8),
}


@pytest.mark.parametrize(
    ("above", "below", "kept"),
    [
        (0.0, 1.0, {"rarely", "half"}),
        (-1.0, 1.0, {"never", "rarely", "half"}),
        (0.0, 2.0, {"rarely", "half", "always"}),
        (0.125, 1.0, {"half"}),  # strictly above
        (0.0, 0.5, {"rarely"}),  # strictly below
    ],
)
def test_pass_rate_band(above, below, kept):
    problems = [problem(name) for name in RATES]
    verdicts = pass_rate(problems, RATES, PassRateFilter(above=above, below=below), {})
    assert {p.id for p, verdict in zip(problems, verdicts, strict=True) if not verdict} == kept


def test_pass_rate_reasons():
    problems = [problem(name) for name in RATES]
    assert pass_rate(problems, RATES, PassRateFilter(), {}) == [
        Drop("pass rate not above 0", "0 of 8 correct"),
        None,
        Drop("pass rate not below 1", "8 of 8 correct"),
        None,
        Drop("pass rate undecided", "none of 8 samples was graded"),
    ]


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
    assert {(row["correct"], row["low"], row["high"]) for row in rates} >= {(2, 0.15, 0.85)}
    params = SamplingParams(max_completion_tokens=99, temperature=0.7, top_p=0.9, top_k=5)
    assert engine.calls == [{"params": params, "seed": 3, "step": -1}]
    assert asked_of(engine) == answers_of(folder) == ALL


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
    journalled = answers_of(folder) if (folder.path / "answers.jsonl").exists() else []
    second = ScriptedEngine(solves)
    curate(recipe, folder.path, open_sampler=sampler_of(second))
    assert sorted(journalled + asked_of(second)) == ALL
    assert len(journalled) >= killed_after - IN_THE_GRADER
    for name in (*OUTPUT, "pass_rates.jsonl", "answers.jsonl"):
        assert (folder.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_the_journal_survives_a_torn_line_and_other_thresholds_ask_nothing(tmp_path):
    out = CuratedFolder(tmp_path / "out")
    curate(make_recipe(tmp_path), out.path, open_sampler=sampler_of(ScriptedEngine(solves)))
    out.problems.unlink()  # as after a kill before the end
    journal = out.path / "answers.jsonl"
    journal.write_text(journal.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    torn = set(ALL) - set(answers_of_whole_lines(journal))
    engine = ScriptedEngine(solves)
    wider = [{"type": "pass_rate", "num_samples": NUM_SAMPLES, "above": -1, "below": 0.6}]
    curate(make_recipe(tmp_path, filters=wider), out.path, open_sampler=sampler_of(engine))
    assert set(asked_of(engine)) == torn and len(torn) == 1
    assert numbers_of(rows_of(out.problems), "id") == [0, 1, 2]


def answers_of_whole_lines(journal):
    lines = journal.read_text(encoding="utf-8").split("\n")[:-1]
    return [(NUMBERS[row["problem_id"]], row["sample"]) for row in map(json.loads, lines)]


@pytest.mark.parametrize(("num_samples", "asked"), [(3, []), (6, [4, 5])])
def test_samples_are_used_again_whatever_their_number(tmp_path, num_samples, asked):
    out = CuratedFolder(tmp_path / "out")
    curate(make_recipe(tmp_path), out.path, open_sampler=sampler_of(ScriptedEngine(solves)))
    out.problems.unlink()
    engine = ScriptedEngine(solves)
    other = [{"type": "pass_rate", "num_samples": num_samples}]
    curate(make_recipe(tmp_path, filters=other), out.path, open_sampler=sampler_of(engine))
    assert asked_of(engine) == [(n, sample) for n in range(5) for sample in asked]
    rates = {NUMBERS[row["problem_id"]]: row["correct"] for row in rows_of(out.pass_rates)}
    assert rates == {n: min(n, num_samples) for n in range(5)}
    assert {row["num_samples"] for row in rows_of(out.pass_rates)} == {num_samples}


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 4},
        {"model": {"path": "another/model"}},
        {"rollout": {"max_completion_tokens": 98}},
        {"grade": {"timeout_s": 1.0}},
        {"filters": [{"type": "pass_rate", "model": {"path": "a/solver"}}]},
        {"filters": [{"type": "pass_rate", "engine": SERVER}]},
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


def test_a_second_filter_asks_only_for_what_the_first_did_not(tmp_path):
    filters = [
        {"type": "pass_rate", "num_samples": 2, "above": -1, "below": 1},
        {"type": "pass_rate", "num_samples": 4},
    ]
    out = CuratedFolder(tmp_path / "out")
    recipe = make_recipe(tmp_path, filters=filters)
    engine = ScriptedEngine(solves)
    curate(recipe, out.path, open_sampler=sampler_of(engine))
    # Of two samples problem 0 solves 0, 1 solves 1, the others both and go
    assert asked_of(engine) == sorted([*((n, s) for n in range(5) for s in (0, 1)),
                                       (0, 2), (0, 3), (1, 2), (1, 3)])  # fmt: skip
    counts = {
        (NUMBERS[row["problem_id"]], row["correct"], row["num_samples"])
        for row in rows_of(out.pass_rates)
    }
    assert counts == {(0, 0, 4), (1, 1, 4), (2, 2, 2), (3, 2, 2), (4, 2, 2)}


def test_the_filter_asks_by_its_own_model_and_engine(tmp_path):
    opened = []

    def open_sampler(recipe):
        opened.append(recipe)
        return sampler_of(ScriptedEngine(solves))(recipe)

    own = {"type": "pass_rate", "model": {"path": "a/solver"}, "engine": SERVER}
    curate(make_recipe(tmp_path, filters=[own]), tmp_path / "out", open_sampler=open_sampler)
    (recipe,) = opened  # the prompt limit goes by the same
    assert (recipe.model.path, recipe.rollout.engine.type) == ("a/solver", "openai")


def test_the_prompt_limit_loads_no_model(tmp_path, monkeypatch):
    """A filter that is asked at an endpoint needs no weights here, and chat mode no tokenizer."""
    from open_rs import models

    def loaded(recipe):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(models, "load_model", loaded)
    limit = {"type": "prompt_limit"}
    # the tiny tokenizer has five tokens of template and one a letter: 7, 9, 11, 13 and 15
    prompt = {"max_prompt_tokens": 11}
    recipe = make_recipe(tmp_path, filters=[limit], model={}, prompt=prompt)
    assert curate(recipe, tmp_path / "text")["too_long"] == 2
    recipe = make_recipe(tmp_path, filters=[limit | {"engine": SERVER}], model={}, prompt=prompt)
    assert curate(recipe, tmp_path / "chat")["too_long"] == 0


# Answers that an endpoint did not give


def fails_on(numbers, times=99):
    """As `solves`, but samples of these problems have no answer the first `times` times."""
    failures = dict.fromkeys(numbers, times)

    def script(problem, sample):
        number = NUMBERS[problem.id]
        if failures.get(number, 0) > 0:
            failures[number] -= 1
            return Failure("the server answers 500")
        return solves(problem, sample)

    return script


def test_failed_samples_are_left_out_and_asked_for_again(tmp_path):
    """Of problem 4 two samples fail, so its rate is 2 of 2; another run asks for those alone."""
    out = CuratedFolder(tmp_path / "out")
    recipe = make_recipe(tmp_path)
    curate(recipe, out.path, open_sampler=sampler_of(ScriptedEngine(fails_on([4], times=2))))
    rates = {NUMBERS[row["problem_id"]]: row for row in rows_of(out.pass_rates)}
    assert (rates[4]["correct"], rates[4]["decided"], rates[4]["num_samples"]) == (2, 2, 4)
    missing = set(ALL) - set(answers_of(out))
    assert {number for number, _ in missing} == {4} and len(missing) == 2
    out.problems.unlink()
    engine = ScriptedEngine(solves)
    curate(recipe, out.path, open_sampler=sampler_of(engine))
    assert set(asked_of(engine)) == missing
    rates = {NUMBERS[row["problem_id"]]: row for row in rows_of(out.pass_rates)}
    assert (rates[4]["correct"], rates[4]["decided"]) == (4, 4) and len(rates) == 5


@pytest.mark.parametrize("undecided", ["drop", "keep"])
def test_a_row_without_any_answer_is_marked_with_its_reason(tmp_path, undecided):
    out = CuratedFolder(tmp_path / "out")
    own = {"type": "pass_rate", "num_samples": 4, "max_undecided": 0.2, "undecided": undecided}
    engine = ScriptedEngine(fails_on([2]))
    summary = curate(
        make_recipe(tmp_path, filters=[own]), out.path, open_sampler=sampler_of(engine)
    )
    detail = "none of 4 samples was graded: the server answers 500"
    row = rows_of(out.manifest)[2]
    stage = summary["funnel"][-1]
    if undecided == "drop":
        assert (row["kept"], row["reason"], row["detail"]) == (
            False, "pass rate undecided", detail,
        )  # fmt: skip
        assert stage["reasons"]["pass rate undecided"] == 1
    else:
        assert row["kept"] and row["note"] == f"pass_rate: pass rate undecided: {detail}"
        assert stage["noted"] == {"pass rate undecided": 1}


def test_too_many_undecided_rows_stop_the_curation_and_what_was_answered_is_kept(tmp_path):
    out = CuratedFolder(tmp_path / "out")
    recipe = make_recipe(tmp_path)
    with pytest.raises(GuardStop) as caught:
        curate(recipe, out.path, open_sampler=sampler_of(ScriptedEngine(fails_on([0, 2]))))
    assert str(caught.value).startswith(
        "filter pass_rate: 2 of 5 rows are undecided, above max_undecided = 0.1 (2 x the server "
        "answers 500)"
    )
    assert not out.problems.exists()
    engine = ScriptedEngine(solves)
    curate(recipe, out.path, open_sampler=sampler_of(engine))
    assert {number for number, _ in asked_of(engine)} == {0, 2}
    assert numbers_of(rows_of(out.problems), "id") == [1, 2, 3]


def test_with_the_real_engine_the_slots_do_not_change_the_rates(tmp_path):
    settings = {
        "sources": [{"task": "arithmetic", "count": 4, "levels": [1, 2]}],
        "filters": [{"type": "pass_rate", "num_samples": 3, "above": -1, "below": 2}],
    }
    for slots in (12, 5):
        rollout = {"max_completion_tokens": 16, "max_slots": slots}
        recipe = recipe_from_dict({**settings, "rollout": rollout})
        assert curate(recipe, tmp_path / str(slots))["kept"] == 4
    wide, narrow = (CuratedFolder(tmp_path / str(slots)) for slots in (12, 5))
    assert wide.pass_rates.read_bytes() == narrow.pass_rates.read_bytes()
    assert {row["decided"] for row in rows_of(wide.pass_rates)} == {3}
