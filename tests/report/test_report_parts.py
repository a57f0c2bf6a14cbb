"""The parts of the page, on files small enough to work out by hand."""

from pathlib import Path

import pytest
from synthetic_run import make_recipe, make_run

from open_rs.report import tables
from open_rs.report.cautions import cautions
from open_rs.report.curves import curves, smoothing_window
from open_rs.report.load import RunData, load_run, merged
from open_rs.report.verdict import facts, flips, method, pass_rates, status, verdict
from open_rs.runs import RunFolder, write_jsonl


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    return load_run(make_run(tmp_path_factory.mktemp("runs") / "full"))


def test_verdict_says_both_scores_the_difference_and_the_interval(full: RunData) -> None:
    made = verdict(full)
    assert made is not None
    assert (made["word"], made["kind"], made["sign"]) == ("improved", "good", "▲")
    assert made["sentence"] == "Test pass@1 rose from 41.0 % to 64.0 %."
    assert (made["difference"], made["interval"]) == ("+23.0 points", "+17.0 to +29.0")
    # axis +-36.25 points (1.25 x 29): 0.17 / 0.3625 = 46.9 %, so the band starts at 50 + 23.45
    assert made["gap"]["low"] == pytest.approx(73.45, abs=0.01)
    assert made["gap"]["width"] == pytest.approx(16.55, abs=0.01)


@pytest.mark.parametrize(
    ("word", "kind", "verb"),
    [("worse", "bad", "fell"), ("not distinguishable from noise", "unsure", "was")],
)
def test_verdict_without_a_gain_never_looks_like_one(
    full: RunData, word: str, kind: str, verb: str
) -> None:
    comparison = {**full.comparison, "verdict": word}
    made = verdict(RunData(full.run, comparison=comparison))
    assert made is not None and made["kind"] == kind and made["sign"] != "▲"
    assert f" {verb} " in made["sentence"] and "rose" not in made["sentence"]


def test_flips_count_problems_by_the_change_of_their_pass_rate(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)

    def record(problem: str, *correct: bool | None) -> list[dict[str, object]]:
        return [{"problem_id": problem, "correct": one} for one in correct]

    before = record("a", True, False) + record("b", False, None) + record("c", True, True)
    after = record("a", True, True) + record("b", False, False) + record("c", None, False)
    after += record("only after", True)
    write_jsonl(run.evaluation("test-0") / "records.jsonl", before)
    write_jsonl(run.evaluation("test-9") / "records.jsonl", after)
    # a: 1/2 -> 1 rose; b: 0/1 -> 0/2 stayed (undecided counts neither way); c: 1 -> 0/1 fell
    old, new = (pass_rates(RunData(run), name) for name in ("test-0", "test-9"))
    made = flips(old, new)
    assert made is not None
    assert (made["rose"], made["same"], made["fell"]) == ("1", "1", "1")
    assert made["shares"] == [33.33, 33.33, 33.33]
    assert flips(old, pass_rates(RunData(run), "test-5")) is None


def test_unequal_harness_is_named(full: RunData) -> None:
    evaluations = {name: dict(one) for name, one in full.evaluations.items()}
    evaluations["test-000050"]["fingerprint"] = {
        "temperature": 1.0,
        "top_p": 0.95,
        "prompt": "ab12",
    }
    data = RunData(full.run, comparison=full.comparison, evaluations=evaluations)
    assert "they differ in: engine, temperature." in " ".join(cautions(data))
    assert "not measured quite alike" not in " ".join(cautions(full))


def test_status_tells_finished_stopped_and_killed_apart(full: RunData) -> None:
    assert status(full)["text"] == "finished, 60 steps"
    killed = RunData(full.run, recipe=full.recipe, metrics=full.metrics[:31], events=[])
    assert status(killed)["text"] == "step 30 of 60, no end recorded: still running, or killed"
    stop = [{"event": "stop", "step": 30, "reason": "nonfinite"}]
    killed.events = stop
    assert status(killed)["text"] == "stopped at step 30 of 60: nonfinite"
    later = {"event": "stop", "step": 0, "reason": "SIGTERM", "stage": "evaluate"}
    killed.events = [*stop, later]  # of an evaluation of what there is
    assert status(killed)["text"] == "stopped at step 30 of 60: nonfinite"
    killed.events = [*stop, {"event": "resume", "step": 30}]
    assert status(killed)["kind"] == "unsure"


def test_method_names_what_departs_from_plain_grpo() -> None:
    plain = make_recipe().model_dump(mode="json")
    assert method(plain) == "GRPO, clip −0.2 +0.2, sequence norm, no KL"
    plain["loss"] |= {"clip_high": 0.28, "loss_norm": "token", "dynamic_sampling": True}
    assert method(plain) == "GRPO, clip −0.2 +0.28, token norm, no KL, dynamic sampling"


def test_curves_draw_what_is_recorded_and_name_the_rest(full: RunData) -> None:
    made = curves(full)
    charts = {chart["id"]: chart for chart in made["charts"]}
    assert [line["label"] for line in charts["reward"]["lines"]] == ["reward", "accuracy", "format"]
    assert charts["validation"]["lines"][0]["steps"] == [0, 10, 20, 30, 40, 50, 60]
    assert charts["validation"]["references"][0]["label"] == "before training"
    assert charts["length"]["references"] == [{"label": "cap", "value": 256.0}]
    assert len(charts["length"]["lines"][0]["low"]) == 60
    why = "loss.kl_coef is 0, so no reference model was kept"
    assert made["absent"] == [{"title": "KL to the start", "why": why}]
    with_kl = {**full.recipe, "loss": {**full.recipe["loss"], "kl_coef": 0.04}}
    lost = RunData(full.run, recipe=with_kl, metrics=full.metrics)
    assert curves(lost)["absent"][0]["why"] == "not recorded"
    marked = [(mark["kind"], mark["step"]) for mark in made["events"]]
    assert marked.count(("skipped_step", 17)) == 1  # told by both the event and the metric
    assert ("select", 50) in marked and ("resume", 20) in marked
    labels = [mark["label"] for mark in made["events"] if mark["step"] in (25, 26)]
    assert labels == [
        "alarm: truncation",
        "alarm: length_up",
        "setting changed: rollout.max_completion_tokens",
    ]


def test_what_a_comparison_has_to_bear_is_said(full: RunData) -> None:
    bears = {
        "undecided": {"before": 0, "after": 3, "low": -0.02, "high": 0.31},
        "smallest_gain": 0.062,
        "untold": ["model"],
    }
    data = RunData(full.run, comparison=full.comparison | bears, evaluations=full.evaluations)
    told = " ".join(cautions(data))
    assert "0 samples before, 3 after" in told and "−2.0 to +31.0" in told
    assert "A gain of +6.2 points would be found in 80 %" in told
    assert "no file tells it: model." in told


def test_alarms_are_counted_among_the_facts(full: RunData) -> None:
    assert dict(facts(full))["Alarms"] == "truncation 1, length_up 1"


def test_a_value_that_is_not_finite_leaves_a_gap(tmp_path: Path) -> None:
    run = make_run(tmp_path, num_steps=3, evaluated=False)
    rows = [{"step": step, "optim/grad_norm": float(step)} for step in (1, 2, 3)]
    rows[1]["optim/grad_norm"] = float("nan")
    write_jsonl(run.metrics, [*rows, {"step": 3, "optim/grad_norm": 9.0}])  # step 3 was done again
    line = curves(load_run(run))["charts"][0]["lines"][0]
    assert (line["steps"], line["values"]) == ([1, 3], [1.0, 9.0])


def test_a_validation_score_on_its_own_line_joins_its_step() -> None:
    rows = [{"step": 2, "b": 1.0}, {"step": 1, "a": 1.0}, {"step": 2, "c": 3.0}, {"b": 9.0}]
    assert merged(rows) == [{"step": 1, "a": 1.0}, {"step": 2, "b": 1.0, "c": 3.0}]


def test_smoothing_window_is_a_twentieth_of_the_run() -> None:
    assert [smoothing_window(count) for count in (1, 19, 20, 60, 500)] == [1, 1, 1, 3, 25]


def test_ledger_sums_by_phase_and_stands_beside_the_plan(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    rows = [
        {"phase": "rollout", "step": 1, "seconds": 2.0, "tokens": 100, "usd": 0.5},
        {"phase": "update", "step": 1, "seconds": 6.0, "usd": 1.0},
        {"phase": "rollout", "step": 2, "seconds": 2.0, "tokens": 300, "usd": 0.5},
    ]
    data = RunData(run, ledger=rows, plan={"seconds": {"rollout": 5, "total": 12}})
    made = tables.ledger(data)
    assert made is not None
    rollout, update = made["rows"]
    # 2 + 2 = 4 of 10 s; (100 + 300) / 4 = 100 tokens/s
    assert (rollout["seconds"], rollout["share"], rollout["rate"]) == ("4.0 s", "40.0 %", "100")
    assert (rollout["planned"], update["planned"], update["tokens"]) == ("5.0 s", "–", "–")
    assert (made["total"], made["usd"], made["planned_total"]) == ("10 s", "$2.00", "12 s")
    unpriced = RunData(run, ledger=[{"phase": "update", "seconds": 1.0, "usd": None}])
    made = tables.ledger(unpriced)
    assert made is not None and made["usd"] == "–" and not made["priced"]


def test_funnel_narrows_and_gives_reasons_most_frequent_first(full: RunData) -> None:
    made = tables.funnel(full)
    assert made is not None
    assert [stage["kept"] for stage in made["steps"]] == ["382", "373", "333", "311", "190"]
    assert made["steps"][-1]["reasons"] == [("solved 8 of 8", "70"), ("solved 0 of 8", "51")]
    assert (made["share"], made["steps"][-1]["kept_share"]) == ("47.5 %", 47.5)  # 190 / 400


def test_harness_is_told_once_and_then_by_its_differences(tmp_path: Path) -> None:
    test = {"problems": "aa", "sampling": {"top_p": 1.0, "stop": []}, "seed": 0}
    validation = {"problems": "bb", "sampling": {"top_p": 1.0, "stop": []}}
    prints = {"test-000000": test, "test-000050": dict(test), "validation-000000": validation}
    evaluations = {name: {"fingerprint": one} for name, one in prints.items()}
    full_one, other = tables.harness(RunData(RunFolder(tmp_path), evaluations=evaluations))
    assert full_one["names"] == "test-000000, test-000050" and full_one["full"]
    pairs = [("problems", "aa"), ("sampling.top_p", "1.0"), ("sampling.stop", "–"), ("seed", "0")]
    assert full_one["pairs"] == pairs
    assert other["pairs"] == [("problems", "bb"), ("seed", "–")] and not other["full"]
    assert tables.harness(RunData(RunFolder(tmp_path), evaluations={"test-000000": {}})) == []


def test_recipe_shows_what_differs_from_the_defaults(full: RunData) -> None:
    made = tables.recipe(full)
    assert made is not None
    changed = {row["key"]: (row["value"], row["default"]) for row in made["changed"]}
    assert changed["train.num_steps"] == ("60", "500")
    assert changed["filters.1.type"] == ('"gold"', "–")
    assert "train.beta1" not in changed and "sources.0.path" not in changed
    other = RunData(full.run, recipe={"name": "x", "future": {"key": 1}})
    made = tables.recipe(other)
    assert made is not None and made["changed"] is None
    assert {"key": "future.key", "value": "1", "default": "–"} in made["rows"]
