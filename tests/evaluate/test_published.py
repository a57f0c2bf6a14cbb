"""Published scores: reading tables, differences against scipy and a worked example, verdicts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from open_rs.errors import InputError
from open_rs.evaluate.compare import DIFFERENT, IMPROVED, NOISE, WORSE
from open_rs.evaluate.published import UNTOLD, difference, judge, newcombe, over_problems
from open_rs.evaluate.tables import (
    Published,
    benchmark_name,
    read_published,
    with_checkpoints,
    with_facts,
)

BASE = "DeepSeek-R1-Distill-Qwen-1.5B"
FACTS = Path(__file__).parents[2] / "examples" / "table1_facts.csv"


@pytest.fixture
def paper(data_dir: Path) -> Path:
    folder = data_dir.parent / "paper"
    if not folder.is_dir():
        pytest.skip(f"no tables of the paper at {folder}")
    return folder


def score(mean: float, **fields: Any) -> Published:
    given: dict[str, Any] = {
        "where": "t.csv, line 2",
        "model": "new",
        "benchmark": "aime24",
        "std": None,
        "seeds": 1,
        "problems": 30,
        "rounding": 0.0,
        "base": "old",
    }
    return Published(mean=mean, **(given | fields))


def table(folder: Path, text: str) -> Path:
    path = folder / "t.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_newcombe_as_published() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), 873-890, table II (a), method 10: 56/70 - 48/80.
    assert newcombe(56 / 70, 70, 48 / 80, 80, 0.95) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_over_seeds_it_is_welchs_t() -> None:
    row, base = score(0.483, std=0.063, seeds=10), score(0.287, std=0.048, seeds=3, model="old")
    found, p_value, error = difference(row, base, 0.95)
    oracle = stats.ttest_ind_from_stats(0.483, 0.063, 10, 0.287, 0.048, 3, equal_var=False)
    assert p_value == pytest.approx(oracle.pvalue, rel=1e-9)
    # error^2 = .063^2 / 10 + .048^2 / 3 = .0003969 + .000768 = .0011649
    # freedom = .0011649^2 / (.0003969^2 / 9 + .000768^2 / 2) = 4.3436
    assert found.high - found.value == pytest.approx(
        stats.t.ppf(0.975, 4.3436) * 0.0011649**0.5, rel=1e-4
    )
    assert error.startswith("samples of the same problems")


def test_rounded_figures_are_taken_at_their_worse_end() -> None:
    # .85 and .84 with std .001 to three places: std .0015, difference .010 - .001
    row = score(0.85, std=0.001, seeds=3, rounding=0.001)
    base = score(0.84, std=0.001, seeds=3, rounding=0.001, model="old")
    found, p_value, _ = difference(row, base, 0.95)
    oracle = stats.ttest_ind_from_stats(0.849, 0.0015, 3, 0.84, 0.0015, 3, equal_var=False)
    assert p_value == pytest.approx(oracle.pvalue, rel=1e-9)
    assert found.value == pytest.approx(0.01)
    half = stats.t.ppf(0.975, 4) * (2 * 0.0015**2 / 3) ** 0.5 + 0.001
    assert found.high - found.value == pytest.approx(half, rel=1e-9)


def test_seeds_without_a_spread_count_as_one_sample() -> None:
    # Greedy runs repeat one score: three of them tell as much as one.
    row, base = score(0.85, std=0.0, seeds=3), score(0.8, std=0.0, seeds=3, model="old")
    found, p_value, error = difference(row, base, 0.95)
    # (25.5 + .5) / 31 and (24 + .5) / 31; variances p (1 - p) / 30
    deviation = sum(p * (1 - p) / 30 for p in (26 / 31, 24.5 / 31)) ** 0.5
    assert p_value == pytest.approx(2 * stats.norm.sf(0.05 / deviation), rel=1e-6)
    assert found.low < 0 < found.high and "at most" in error
    (one,) = judge([base, row], base="old")["rows"]
    assert one["verdict"] == NOISE
    assert any("no spread over 3 seeds" in reason for reason in one["reasons"])


def test_one_seed_is_judged_by_the_number_of_problems() -> None:
    # 14 of 30 against 9 of 30: pooled (23 + .5) / 61; z = 1.3406
    found, p_value, error = difference(score(14 / 30), score(9 / 30, model="old"), 0.95)
    pooled = 23.5 / 61
    z = (5 / 30) / (pooled * (1 - pooled) * 2 / 30) ** 0.5
    assert p_value == pytest.approx(2 * stats.norm.sf(z), rel=1e-9)
    assert found.low < 0 < found.high and "different problems" in error
    mixed = difference(score(14 / 30), score(9 / 30, std=0.05, seeds=10, model="old"), 0.95)
    assert "at most" in mixed[2] and mixed[1] > 0.05


def test_the_interval_over_problems_by_hand() -> None:
    # p = .5 on 30 problems, s = .05, 10 seeds: .25 / 30 - .0025 * .9 = .0060833 for each of both
    one = score(0.5, std=0.05, seeds=10)
    found = over_problems(one, one, 0.95)
    assert found["high"] == pytest.approx(1.959964 * (2 * 0.00608333) ** 0.5, rel=1e-5)


def test_names_of_benchmarks() -> None:
    assert [benchmark_name(name) for name in ("math_500", "custom|aime24|0", "AMC-23", "ours")] == [
        "math500",
        "aime24",
        "amc23",
        "ours",
    ]


def test_a_long_table_in_percent(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "model,base,benchmark,problems,seeds,mean,std\n"
        "old,old,own set,50,10,28.7,4.8\nnew,old,math_500,,1,84,\n",
    )
    first, second = read_published(path)
    assert (first.mean, first.std, first.seeds, first.problems) == (0.287, 0.048, 10, 50)
    assert first.rounding == second.rounding == pytest.approx(0.001)  # 84 is 84.0 here
    assert (second.benchmark, second.problems, second.std) == ("math500", 500, None)
    assert second.where.endswith("t.csv, line 3") and second.base == "old"


def test_a_wide_table_leaves_blank_cells_out(tmp_path: Path) -> None:
    rows = read_published(table(tmp_path, "model,size,aime24,amc23\nold,7B,16.7,\nnew,,20,80.0\n"))
    assert [(row.model, row.benchmark, row.problems, row.seeds) for row in rows] == [
        ("old", "aime24", 30, 1),
        ("new", "aime24", 30, 1),
        ("new", "amc23", 40, 1),
    ]


def test_a_table_of_checkpoints(paper: Path) -> None:
    rows = read_published(paper / "open_rs_checkpoints.csv")
    # 21 checkpoints on three benchmarks, the three released ones on two more; reruns are no rows.
    assert len(rows) == 21 * 3 + 3 * 2 and {row.seeds for row in rows} == {1}
    (best,) = [row for row in rows if row.benchmark == "aime24" and row.mean > 0.45]
    assert best.model == "experiment 3, step 50" and best.problems == 30
    base = score(0.287, std=0.048, seeds=10, model="base", base=None)
    found = judge([base, *with_checkpoints(rows, paper / "open_rs_checkpoints.csv")], base="base")
    assert {one["verdict"] for one in found["rows"]} == {NOISE}


def test_lighteval_results_are_published_scores(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results = {
        "config_general": {"model_name": "me/model"},
        "results": {
            "custom|aime24|0": {"extractive_match": 0.3, "extractive_match_stderr": 0.085},
            "all": {"extractive_match": 0.3},
        },
        "config_tasks": {"custom|aime24": {"effective_num_docs": 30}},
    }
    path.write_text(json.dumps(results))
    (row,) = read_published(path)
    assert (row.model, row.benchmark, row.mean, row.problems, row.harness) == (
        "me/model",
        "aime24",
        0.3,
        30,
        "lighteval",
    )

    def refused(message: str, **changes: Any) -> None:
        path.write_text(json.dumps(results | changes))
        with pytest.raises(InputError, match=message):
            read_published(path)

    refused("not a result file of lighteval", results=[])
    refused("not a result file of lighteval", config_general=7)
    refused("aime24.0: how many problems", config_tasks={"custom|aime24": {"name": "aime24"}})
    refused("aime24.0 has no score", results={"custom|aime24|0": {"extractive_match": 7.0}})
    refused("aime24.0 has no score", results={"custom|aime24|0": {"mean": float("nan")}})
    refused("aime24.0 has no score", results={"custom|aime24|0": None})
    path.write_text("{}")
    with pytest.raises(InputError, match="not a result file of lighteval"):
        read_published(path)


def test_the_papers_own_result_file(paper: Path) -> None:
    (row,) = read_published(paper / "lighteval_results_example.json")
    assert (row.benchmark, row.mean, row.problems) == ("aime24", 0.3, 30)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,benchmark,mean\nm,aime24,nan\n", r"line 2, score: 'nan' is no score"),
        ("model,benchmark,mean\nm,aime24,-3\n", "is no score"),
        ("model,benchmark,mean\nm,aime24,high\n", "'high' is no number"),
        ("model,benchmark,mean\nm,aime24,130\n", "130 is above 100"),
        ("model,benchmark,mean\nm,mine,13\n", "how many problems mine has is not known"),
        ("model,benchmark,mean\nm,aime24\n", "line 2: has not as many cells"),
        ("model,benchmark,mean,seeds\nm,aime24,13,3\n", "3 seeds and no std"),
        (
            "model,benchmark,mean,seeds,std\nm,aime24,.9,3,.8\n",
            "std .8 is more than scores of 0 to 1",
        ),
        ("model,benchmark,mean,seeds\nm,aime24,13,2.5\n", "'2.5' is no count"),
        ("model,benchmark\nm,aime24\n", "no column for the score; name it mean"),
        ("model,mean\nm,13\n", "needs a column benchmark"),
        ("model,benchmark,mean\n,aime24,13\n", "model or benchmark is missing"),
        ("model,benchmark,mean\n", "holds no rows"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_published(table(tmp_path, text))


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_published(tmp_path / "none.csv")


def test_each_row_gets_one_verdict_and_the_family_counts() -> None:
    old = score(0.30, std=0.04, seeds=10, model="old", base=None)
    rows = [old, score(0.50, std=0.04, seeds=10), score(0.15, std=0.04, seeds=10, model="bad")]
    rows += [score(0.34, std=0.04, seeds=10, model=f"m{i}") for i in range(8)]
    found = judge(rows, base="old")
    assert [one["verdict"] for one in found["rows"]] == [IMPROVED, WORSE, *[NOISE] * 8]
    # .04 alone: t = .04 / (.04 sqrt(.2)) = 2.236 with 18 degrees, p = .038; of ten it is 8 p
    (alone,) = judge([old, rows[3]], base="old")["rows"]
    assert alone["verdict"] == IMPROVED and alone["p_adjusted"] == pytest.approx(0.0383, abs=1e-4)
    assert found["rows"][2]["p_adjusted"] == pytest.approx(8 * 0.0383, abs=1e-3)
    assert found["rows"][2]["withheld"] and not found["rows"][0]["withheld"]
    json.dumps(found, allow_nan=False)


def test_reasons_come_from_the_facts_of_the_rows() -> None:
    old = score(0.3, model="old", base=None, harness="A", problems=500, benchmark="math500")
    new = {"problems": 500, "benchmark": "math500"}
    plain, chosen, other = (
        score(0.40, model="plain", harness="A", **new),
        score(0.40, model="chosen", harness="A", best_of=8, **new),
        score(0.40, model="other", harness="B", **new),
    )
    found = {one["model"]: one for one in judge([old, plain, chosen, other], base="old")["rows"]}
    assert found["plain"]["verdict"] == IMPROVED  # 50 of 500 more: p = .0009
    assert found["chosen"]["p_value"] == pytest.approx(
        1 - (1 - found["plain"]["p_value"]) ** 8, rel=1e-9
    )
    assert found["other"]["verdict"] == DIFFERENT and found["other"]["withheld"]
    assert found["other"]["p_adjusted"] is None
    assert any("the base by A, this by B" in one for one in found["other"]["reasons"])
    assert any("n = 1" in one for one in found["other"]["reasons"])
    # E of the best of 8 binomial(500, .3): .3 + 1.4236 sqrt(.21 / 500) = 32.9
    assert any("best of 8 scores up to 32.9" in one for one in found["chosen"]["reasons"])


def test_single_scores_are_no_gain_where_the_harness_is_not_told() -> None:
    facts = {"problems": 500, "benchmark": "math500"}
    old = score(0.3, model="old", base=None, harness="A", **facts)
    new = score(0.5, model="new", **facts)
    for before, after in ((old, new), (replace(old, harness=None), replace(new, harness="A"))):
        (one,) = judge([before, after], base="old")["rows"]
        assert one["p_adjusted"] < 1e-6 and one["verdict"] == UNTOLD and one["withheld"]
        assert any("harness is not told of " in reason for reason in one["reasons"])
    worse = score(0.1, model="new", **facts)
    assert judge([old, worse], base="old")["rows"][0]["verdict"] == UNTOLD
    (told,) = judge([old, replace(new, harness="A")], base="old")["rows"]
    assert told["verdict"] == IMPROVED


def test_a_base_with_several_scores_is_refused_unless_one_is_of_the_same_table() -> None:
    low, high = (
        score(mean, model="Old", base=None, std=0.01, seeds=3, where=f"t.csv, line {line}")
        for line, mean in ((2, 0.3), (3, 0.5))
    )
    new = score(0.5, std=0.01, seeds=3, model="new")
    with pytest.raises(InputError, match=r"t.csv, line 2.*t.csv, line 3.*aime24 of Old.*keep one"):
        judge([low, high, new], base="old")
    elsewhere = replace(low, where="u.csv, line 2")
    for rows in ([high, elsewhere, new], [elsewhere, high, new], [high, high, new]):
        assert judge(rows, base="old")["rows"][-1]["base_score"] == 0.5


def test_each_row_against_its_own_base() -> None:
    rows = [
        score(0.2, model="Base A 1.5B", base=None),
        score(0.9, model="a", base="base-a-1.5b"),
        score(0.9, model="b", base="Base B"),
    ]
    found = judge(rows)
    assert [(one["model"], one["base"]) for one in found["rows"]] == [("a", "Base A 1.5B")]
    assert found["base_missing"] == [{"model": "b", "benchmark": "aime24", "base": "Base B"}]
    with pytest.raises(InputError, match="the table has none of Base B; add them by another"):
        judge(rows[2:])
    with pytest.raises(InputError, match="no model 'c' in the table"):
        judge(rows, base="c")


def test_a_table_without_bases_is_judged_beside_one_that_names_them() -> None:
    old = score(0.2, model="old", base=None)
    rows = [old, score(0.3, model="a", base="old"), score(0.3, model="b", base="other")]
    rows += [score(0.3, model="c", base=None), score(0.3, model="d", base=None, where="u.csv")]
    assert [one["model"] for one in judge(rows, base="old")["rows"]] == ["a", "d"]


def test_facts_and_checkpoints_are_joined(tmp_path: Path) -> None:
    rows = read_published(table(tmp_path, "model,aime24,amc23\nold,20.0,50.0\nnew,46.7,60.0\n"))
    facts = tmp_path / "facts.csv"
    facts.write_text("model,benchmark,harness,best_of\nnew,,theirs,\nNEW,amc23,,4\n")
    joined = {(row.model, row.benchmark): row for row in with_facts(rows, facts)}
    assert joined["new", "aime24"].harness == joined["new", "amc23"].harness == "theirs"
    assert [joined["new", name].best_of for name in ("aime24", "amc23")] == [1, 4]
    assert joined["old", "aime24"].harness is None
    facts.write_text("model,best_of\nnew,2\n")
    told = with_facts([replace(row, best_of=8) for row in rows], facts)
    assert {row.best_of for row in told} == {8}  # a fact adds to what is known
    facts.write_text("model,best_of\nnobody,4\n")
    with pytest.raises(InputError, match="line 2: no model 'nobody'"):
        with_facts(rows, facts)
    checkpoints = tmp_path / "steps.csv"
    # On aime24 it is the best of all five; on amc23 the score is that of no checkpoint.
    checkpoints.write_text(
        "experiment,step,benchmark,extractive_match\n"
        "1,50,aime24,0.3\n1,100,aime24,0.2\n2,50,aime24,0.46667\n2,50,aime24,0.4\n"
        "2,100,aime24,0.1\n2,150,aime24,0.1\n1,50,amc23,0.7\n"
    )
    counts = {
        (row.model, row.benchmark): row.best_of for row in with_checkpoints(rows, checkpoints)
    }
    assert counts == {
        ("old", "aime24"): 1,
        ("old", "amc23"): 1,
        ("new", "aime24"): 5,
        ("new", "amc23"): 1,
    }


def test_table_1_is_withheld_with_every_reason(paper: Path) -> None:
    rows = with_facts(read_published(paper / "table1.csv"), FACTS)
    rows = with_checkpoints(rows, paper / "open_rs_checkpoints.csv")
    found = judge(rows, base=BASE)
    assert len(found["rows"]) == 15 and not any(r["verdict"] == IMPROVED for r in found["rows"])
    for model, benchmark, value in (
        ("Open-RS3", "aime24", 0.467),
        ("Open-RS2", "amc23", 0.80),
        ("Open-RS2", "olympiadbench", 0.524),
        ("Open-RS1", "olympiadbench", 0.524),
    ):
        (one,) = [r for r in found["rows"] if (r["model"], r["benchmark"]) == (model, benchmark)]
        assert one["score"] == pytest.approx(value) and one["withheld"]
        told = " ".join(one["reasons"])
        assert "n = 1" in told and "chosen on the test set" in told and "another harness" in told


def test_sober_scores(paper: Path) -> None:
    rows = read_published(paper / "sober_reasoning_scores.csv")
    found = judge(rows, base=BASE)
    verdicts = {(one["model"], one["benchmark"]): one["verdict"] for one in found["rows"]}
    assert len(verdicts) == 78
    assert {verdict for (model, _), verdict in verdicts.items() if model.startswith("Open-RS")} == {
        NOISE
    }
    nemotron = "Nemotron-Research-Reasoning-Qwen-1.5B"
    for benchmark in ("aime24", "amc23", "math500"):
        assert verdicts[nemotron, benchmark] == IMPROVED
    own = judge(rows)
    missing = {(one["model"], one["base"]) for one in own["base_missing"]}
    assert ("QuestA-Nemotron-1.5B", "OpenMath-Nemotron-1.5B") in missing
    # With its base measured under the same protocol QuestA is judged against that.
    base = score(0.6, std=0.04, seeds=10, model="OpenMath-Nemotron-1.5B", base=None)
    (questa,) = [
        one
        for one in judge([*rows, base], models=["QuestA-Nemotron-1.5B"])["rows"]
        if one["benchmark"] == "aime24"
    ]
    assert questa["base"] == "OpenMath-Nemotron-1.5B" and questa["verdict"] == IMPROVED
