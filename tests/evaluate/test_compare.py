"""The paired comparison: by hand, against scipy, on degenerate data, from files, with refusals."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_folders import evaluation
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from open_rs.errors import InputError
from open_rs.evaluate.compare import (
    IMPROVED,
    NOISE,
    WORSE,
    DifferentHarness,
    compare,
    compare_all,
    verdict_of,
)
from open_rs.evaluate.family import holm
from open_rs.evaluate.paired import paired_difference, paired_differences


def test_difference_by_hand() -> None:
    # d = .25; squares .5625 + 3 * .0625 + 1 / (2 * 1^2) = 1.25; error = sqrt(1.25 / 3 / 4) =
    # .322749; t(3) = 3.182446, half = 1.027130; high is cut at 1.
    # p: t = .774597; with 3 degrees of freedom, u = t / sqrt(3) = .447214,
    # p = 1 - (2 / pi) (u / (1 + u^2) + atan u) = 1 - (2 / pi) (.372678 + .420534) = .495026
    found, p_value = paired_difference(np.array([1.0, 0.0, 0.0, 0.0]), 1, 0.95)
    assert (found.value, found.low, found.high) == pytest.approx((0.25, -0.777130, 1.0), abs=1e-5)
    assert p_value == pytest.approx(0.495026, abs=1e-5)


def test_with_many_samples_it_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.random(40), rng.random(40)
    found, p_value = paired_difference(after - before, 10**9, 0.9)
    oracle = stats.ttest_rel(after, before)
    ends = oracle.confidence_interval(0.9)
    assert p_value == pytest.approx(oracle.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), abs=1e-9)


def test_no_change_at_all_is_not_certainty() -> None:
    # q = 1 - .025^(1/30) = 1 - exp(-.122963) = .115703
    found, p_value = paired_difference(np.zeros(30), 16, 0.95)
    assert (found.low, found.high) == pytest.approx((-0.115703, 0.115703), abs=1e-6)
    assert p_value == 1.0
    assert verdict_of(found.low, found.high) == NOISE


def test_the_same_change_everywhere() -> None:
    # All four problems from wrong to right: the sign test's p is 2 / 2^4 = .125, so no verdict.
    found, p_value = paired_difference(np.ones(4), 1, 0.95)
    assert p_value == pytest.approx(0.125, abs=1e-12)
    assert verdict_of(found.low, found.high) == NOISE
    found, p_value = paired_difference(np.full(30, -1.0), 1, 0.95)
    assert p_value == pytest.approx(2 / 2**30, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((-1.0, -1 + 2 * 0.115703), abs=1e-5)
    assert verdict_of(found.low, found.high) == WORSE


def test_one_problem_decides_nothing() -> None:
    found, p_value = paired_difference(np.array([1.0]), 64, 0.95)
    assert p_value == 1.0 and verdict_of(found.low, found.high) == NOISE


@pytest.mark.parametrize("n", [10, 15, 30, 40, 64, 200])
def test_false_improved_by_enumeration_with_one_sample_each(n: int) -> None:
    """Every table of c changed problems, g of them gains, at every share of problems that change.

    Two draws from one rate p differ with probability 2 p (1 - p) <= 1/2, up or down alike.
    """
    improved = np.zeros(n + 1)  # by c: chance that the gains g ~ Binomial(c, 1/2) look improved
    for c in range(n + 1):
        gains = np.arange(c + 1)
        differences = np.array([np.repeat([1.0, -1.0, 0.0], [g, c - g, n - c]) for g in gains])
        found = paired_differences(differences, 1, 0.95)
        improved[c] = stats.binom.pmf(gains, c, 0.5) @ (found.low > 0)
    shares = np.linspace(0.005, 0.5, 100)
    rates = [improved @ stats.binom.pmf(np.arange(n + 1), n, share) for share in shares]
    assert max(rates) <= 0.02505
    assert n < 30 or max(rates) >= 0.02  # and it is not just blind


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 8).flatmap(
        lambda k: st.tuples(st.just(k), st.lists(st.integers(-k, k), min_size=1, max_size=40))
    ),
    st.sampled_from([0.8, 0.95, 0.99]),
)
def test_interval_and_p_value_agree(case: tuple[int, list[int]], confidence: float) -> None:
    k, steps = case
    differences = np.array(steps) / k
    found, p_value = paired_difference(differences, k, confidence)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high and 0 <= p_value <= 1
    if abs(p_value - (1 - confidence)) > 1e-9:
        assert (p_value < 1 - confidence) == (verdict_of(found.low, found.high) != NOISE)
    swapped, p_swapped = paired_difference(-differences, k, confidence)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low), abs=1e-12)
    assert p_swapped == pytest.approx(p_value, rel=1e-9)


@pytest.mark.parametrize(("n", "k"), [(30, 1), (30, 4), (200, 4)])
def test_a_model_against_itself_seldom_improves(n: int, k: int) -> None:
    # 3 x 1,000 comparisons, one-sided level 2.5 %: 3.4 % is three standard errors above it.
    rng = np.random.default_rng([n, k])
    improved = 0
    for mean in (0.29, 0.65, 0.83):
        rates = rng.beta(0.8 * mean, 0.8 * (1 - mean), size=(1000, n))
        differences = (rng.binomial(k, rates) - rng.binomial(k, rates)) / k
        improved += int((paired_differences(differences, k, 0.95).low > 0).sum())
    assert 0.001 <= improved / 3000 <= 0.034


def test_verdicts() -> None:
    assert verdict_of(0.01, 0.2) == IMPROVED
    assert verdict_of(-0.2, -0.01) == WORSE
    assert verdict_of(-0.01, 0.2) == verdict_of(0.0, 0.2) == verdict_of(-0.2, 0.0) == NOISE


def test_folders_are_paired_by_problem_whatever_their_order(tmp_path: Path) -> None:
    old = {"a": [True, False], "b": [False, False], "c": [True, True], "d": [False, True]}
    new = {"d": [True, True], "c": [True, True], "b": [True, False], "a": [True, False]}
    found = compare(
        evaluation(tmp_path / "test-000000", old), evaluation(tmp_path / "test-000040", new)
    )
    # differences by problem: 0, .5, 0, .5; unpaired they would be 0.5, 0.5, 0, -0.5 of other pairs
    expected, p_value = paired_difference(np.array([0.0, 0.5, 0.0, 0.5]), 2, 0.95)
    assert (found["before"], found["after"]) == ("test-000000", "test-000040")
    assert found["difference"]["value"] == 0.25
    assert found["difference"]["low"] == pytest.approx(expected.low, abs=1e-12)
    assert found["p_value"] == pytest.approx(p_value, abs=1e-12)
    assert (found["num_problems"], found["num_samples"], found["left_out"]) == (4, 2, 0)
    assert found["scores"]["before"]["pass@1"]["value"] == 0.5
    assert found["scores"]["after"]["pass@1"]["value"] == 0.75
    assert found["scores"]["after"]["pass@2"]["value"] == 1.0
    assert found["verdict"] == NOISE
    json.dumps(found, allow_nan=False)


def test_undecided_samples_count_neither_way(tmp_path: Path) -> None:
    old = {"a": [True, None], "b": [False, True], "c": [None, None]}
    new = {"a": [False, True], "b": [None, True], "c": [True, True]}
    found = compare(evaluation(tmp_path / "old", old), evaluation(tmp_path / "new", new))
    # a: 1 -> 1/2, b: 1/2 -> 1, c has no verdict before
    assert (found["num_problems"], found["left_out"]) == (2, 1)
    assert found["difference"]["value"] == pytest.approx(0.0, abs=1e-15)
    assert found["scores"]["after"]["pass@1"]["value"] == 0.75


def test_different_problems_are_refused_and_the_first_ten_named(tmp_path: Path) -> None:
    old = {f"p{number:02d}": [True] for number in range(14)}
    new = {f"p{number:02d}": [True] for number in range(2, 15)}
    with pytest.raises(InputError) as caught:
        compare(evaluation(tmp_path / "old", old), evaluation(tmp_path / "new", new))
    assert "different problems, 3 of them: p00 (only in" in str(caught.value)
    assert "p01 (only in" in str(caught.value) and "p14 (only in" in str(caught.value)
    many = {f"q{number:02d}": [True] for number in range(30)}
    with pytest.raises(InputError, match=r"44 of them: p00 .*p09 \(only in [^)]*\), \.\.\.;"):
        compare(tmp_path / "old", evaluation(tmp_path / "other", many))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"sampling": {"temperature": 1.0, "top_p": 0.95}},
            r"sampling.temperature \(0.6 and 1.0\)",
        ),
        ({"grader_policy": "2"}, r"grader_policy \('1' and '2'\)"),
        ({"prompt": "cc"}, "prompt"),
        ({"problems": "cc"}, "problems"),
        ({"engine": "vllm"}, "engine"),
        ({"dtype": "bfloat16"}, "dtype"),
        ({"benchmark": "aime24"}, r"benchmark \(None and 'aime24'\)"),
        (
            {"versions": {"torch": "2.13.0", "math-verify": "9"}},
            r"versions.math-verify \(None and '9'\)",
        ),
    ],
)
def test_another_harness_is_refused_and_named(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    same = {"a": [True], "b": [False]}
    old, new = evaluation(tmp_path / "old", same), evaluation(tmp_path / "new", same, **change)
    with pytest.raises(InputError, match=f"not measured alike: {told}"):
        compare(old, new)


def test_seed_device_versions_and_sample_count_may_differ(tmp_path: Path) -> None:
    old = evaluation(tmp_path / "old", {"a": [True] * 4, "b": [False] * 4})
    new = evaluation(
        tmp_path / "new",
        {"a": [True], "b": [True]},
        **{"seed": 1, "device": "cuda", "versions": {"torch": "3"}, "num_samples": 1},
    )
    found = compare(old, new)
    assert found["num_samples"] == 1 and found["difference"]["value"] == 0.5
    assert found["scores"]["before"]["pass@1"]["k"] == 4


def test_damaged_evaluations_are_refused_with_the_line(tmp_path: Path) -> None:
    good = evaluation(tmp_path / "good", {"a": [True, True], "b": [False, True]})
    with pytest.raises(InputError, match=r"nowhere: holds no summary.json"):
        compare(good, tmp_path / "nowhere")
    bad = evaluation(tmp_path / "bad", {"a": [True, True], "b": [False, True]})
    records, lines = bad / "records.jsonl", (bad / "records.jsonl").read_text().splitlines()

    def refused(text: str, message: str) -> None:
        records.write_text(text)
        with pytest.raises(InputError, match=message):
            compare(good, bad)

    refused("\n".join(lines)[:-9], "records.jsonl, line 4: not valid JSON")
    refused("\n".join(lines[:3]), "holds 3 samples and summary.json counts 4")
    refused("\n".join([*lines, lines[0]]), "line 5: sample 0 of problem 'a' occurs twice")
    refused("\n".join([lines[0].replace("true", "1"), *lines[1:]]), "line 1: correct must be true")
    refused("\n".join([lines[0].replace("true", "NaN"), *lines[1:]]), "line 1: correct must be")
    refused(lines[0].replace('"a"', "7"), "line 1: problem_id or sample is missing")
    records.write_text("\n".join(lines))
    (bad / "summary.json").write_text('{"name": "bad"}')
    with pytest.raises(InputError, match=r"summary.json: step, num_problems.* missing"):
        compare(good, bad)


def test_nothing_decided_on_both_sides_is_refused(tmp_path: Path) -> None:
    old = evaluation(tmp_path / "old", {"a": [True], "b": [None]})
    new = evaluation(tmp_path / "new", {"a": [None], "b": [True]})
    with pytest.raises(InputError, match="could judge no problem on both sides"):
        compare(old, new)


def test_comparing_needs_no_torch() -> None:
    code = (
        "import sys, open_rs.evaluate.compare, open_rs.evaluate.select\n"
        "heavy = {'torch', 'transformers', 'math_verify', 'scipy.stats'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_small_gain_on_many_problems_by_hand() -> None:
    # 10 of 200 problems gain one of four samples: d = 1 / 80;
    # squares 10 / 16 - 200 / 6400 + 1 / 32 = .625; t = .0125 / sqrt(.625 / 199 / 200) = 3.154
    found = paired_differences(np.repeat([0.25, 0.0], [10, 190]), 4, 0.95)
    error = math.sqrt(0.625 / 199 / 200)
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.0125 / error, 199), rel=1e-9)
    # what is found with a chance of 80 %: (1.971957 + .841621) errors
    assert found.smallest_gain == pytest.approx(2.813578 * error, rel=1e-6)


def test_published_example() -> None:
    # Student, Biometrika 6 (1908), 1-25: hours of sleep gained, ten patients, two soporifics.
    # t = 4.0621, p = 0.00283, 95 % interval 0.7001 to 2.4599 (as in R's t.test of `sleep`).
    hours = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    found, p_value = paired_difference(hours / 10, 10**6, 0.95)
    ends = (10 * found.value, 10 * found.low, 10 * found.high)
    assert ends == pytest.approx((1.58, 0.7001, 2.4599), abs=5e-5)
    assert p_value == pytest.approx(0.00283, abs=5e-6)


@pytest.mark.parametrize("n", [30, 40, 272])
def test_with_one_sample_each_the_verdict_is_mcnemars_mid_p(n: int) -> None:
    # Every table of c <= 30 changed problems, g of them gains.
    for c in range(31):
        gains = np.arange(c + 1)
        differences = np.array([np.repeat([1.0, -1.0, 0.0], [g, c - g, n - c]) for g in gains])
        fewer = np.minimum(gains, c - gains)
        mid_p = 2 * (stats.binom.cdf(fewer, c, 0.5) - stats.binom.pmf(fewer, c, 0.5) / 2)
        found = paired_differences(differences, 1, 0.95).p_value
        assert ((found < 0.05) == (mid_p < 0.05)).all(), c


def test_many_comparisons_at_once_are_the_single_ones() -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(-4, 5, size=(3, 5, 12)) / 4
    table[0, 0] = 0.25
    found = paired_differences(table, 4, 0.9)
    for place in np.ndindex(3, 5):
        one, p_value = paired_difference(table[place], 4, 0.9)
        assert (one.value, one.low, one.high) == (
            found.value[place],
            found.low[place],
            found.high[place],
        )
        assert p_value == found.p_value[place]


def test_holm_by_hand() -> None:
    # ordered .01, .02, .03, .5: 4 * .01 = .04; 3 * .02 = .06; 2 * .03 = .06; .5
    assert holm(np.array([0.03, 0.01, 0.5, 0.02])) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    # 3 * .01 = .03; then 2 * .012 = .024, which may not be below it
    assert holm(np.array([0.01, 0.012, 0.9])) == pytest.approx([0.03, 0.03, 0.9])
    assert holm(np.array([0.04])) == pytest.approx([0.04])


def test_a_family_of_two_equals_asks_for_more(tmp_path: Path) -> None:
    # Candidate b gains 6 of 30 problems without a loss: alone p = .012, of two .025, of six .074.
    old = {f"p{i:02d}": [False] for i in range(30)}
    better = old | {f"p{i:02d}": [True] for i in range(6)}
    folders = [evaluation(tmp_path / "base", old), evaluation(tmp_path / "b", better)]
    folders += [evaluation(tmp_path / f"same{i}", old) for i in range(5)]
    assert compare(folders[0], folders[1])["verdict"] == IMPROVED
    pair = compare_all(folders[:3])
    assert [one["verdict"] for one in pair["comparisons"]] == [IMPROVED, NOISE]
    six = compare_all(folders)
    first = six["comparisons"][0]
    assert first["p_adjusted"] == pytest.approx(6 * first["p_value"])
    assert first["verdict"] == NOISE and first["difference"]["low"] > 0
    assert six["family"]["comparisons"] == 6 and "Holm" in six["family"]["method"]
    json.dumps(six, allow_nan=False)


def test_the_best_of_several_stands_beside_what_chance_gives(tmp_path: Path) -> None:
    # Base: 2 of 4 samples right on each of 16 problems. Variance of a problem's mean
    # .25 / 3 = 1/12; of the score 1/192; E max of 2 normal draws 1 / sqrt(pi).
    half = {f"p{i:02d}": [True, True, False, False] for i in range(16)}
    more = half | {"p00": [True, True, True, False]}
    base = evaluation(tmp_path / "base", half)
    paths = [base, evaluation(tmp_path / "x", half), evaluation(tmp_path / "y", more)]
    (best,) = compare_all(paths)["best"]
    assert best["candidate"].endswith("y") and best["best_of"] == 2
    assert best["gain"] == pytest.approx(1 / 64)
    assert best["expected_if_none_differs"] == pytest.approx((1 / 192 / math.pi) ** 0.5, rel=1e-3)


def test_folders_of_several_benchmarks_are_paired_by_name(tmp_path: Path) -> None:
    for model in ("old", "new"):
        evaluation(tmp_path / model / "aime24", {"a": [model == "new"], "b": [False]})
        evaluation(tmp_path / model / "math500", {"c": [True], "d": [True]})
    found = compare_all([tmp_path / "old", tmp_path / "new"])
    assert [one["benchmark"] for one in found["comparisons"]] == ["aime24", "math500"]
    assert [one["difference"]["value"] for one in found["comparisons"]] == [0.5, 0.0]
    assert found["best"] == []
    evaluation(tmp_path / "new" / "amc23", {"c": [True]})
    with pytest.raises(InputError, match="do not hold the same benchmarks: amc23"):
        compare_all([tmp_path / "old", tmp_path / "new"])
    with pytest.raises(InputError, match=r"aime24 is one evaluation and .*new a folder of several"):
        compare_all([tmp_path / "old" / "aime24", tmp_path / "new"])
    (tmp_path / "nothing" / "curated").mkdir(parents=True)
    (tmp_path / "nothing" / "curated" / "summary.json").write_text("{}")  # of a run, no score
    with pytest.raises(InputError, match=r"nothing: holds no summary\.json"):
        compare_all([tmp_path / "old", tmp_path / "nothing"])


def test_another_harness_can_be_told_but_never_a_gain(tmp_path: Path) -> None:
    old = evaluation(tmp_path / "old", {f"p{i:02d}": [False] for i in range(30)})
    new = evaluation(tmp_path / "new", {f"p{i:02d}": [True] for i in range(30)}, prompt="cc")
    with pytest.raises(DifferentHarness, match="not measured alike: prompt"):
        compare(old, new)
    found = compare(old, new, allow_different_harness=True)
    assert found["verdict"] == "different harness: not comparable"
    assert found["different_harness"] == ["prompt ('bb' and 'cc')"]
    assert found["difference"]["value"] == 1.0
    many = compare_all([old, new], allow_different_harness=True)
    assert many["comparisons"][0]["verdict"] == "different harness: not comparable"


def test_samples_that_the_grader_could_not_judge_bring_no_gain(tmp_path: Path) -> None:
    # Ten problems are solved on both sides; the candidate's twenty wrong ones time out.
    old = {f"p{i:02d}": [i < 10, False] for i in range(30)}
    new = {name: [seen or None for seen in samples] for name, samples in old.items()}
    base = evaluation(tmp_path / "old", old)
    found = compare(base, evaluation(tmp_path / "new", new))
    # of the ten problems that both sides decide: 1/2 -> 1
    assert (found["difference"]["value"], found["left_out"]) == (0.5, 20)
    assert found["undecided"]["before"] == 0 and found["undecided"]["after"] == 50
    # as wrong ones the candidate's are what the base's are: no difference at all
    assert found["undecided"]["p_value"] == 1.0
    assert found["verdict"] == NOISE
    assert compare(tmp_path / "new", base)["verdict"] == NOISE  # nor are they a loss


def test_a_gain_stands_whichever_way_a_few_undecided_samples_would_fall(tmp_path: Path) -> None:
    old = {f"p{i:02d}": [False] for i in range(30)}
    new = {name: [number < 12] for number, name in enumerate(old)}
    found = compare(
        evaluation(tmp_path / "old", old | {"p00": [None]}),
        evaluation(tmp_path / "new", new | {"p01": [None]}),
    )
    # 10 of 28 gained; counted against it p00 is 1 -> 1 and p01 0 -> 0: 10 of 30
    expected, p_value = paired_difference(np.repeat([1.0, 0.0], [10, 20]), 1, 0.95)
    assert found["verdict"] == IMPROVED and found["left_out"] == 2
    assert (found["undecided"]["low"], found["undecided"]["high"]) == (expected.low, expected.high)
    assert found["undecided"]["p_value"] == p_value > found["p_value"]


def test_a_family_counts_undecided_samples_too(tmp_path: Path) -> None:
    # 6 of 30 gained without a loss: p = .012; with one more judged against it 5 of 30: p = .026,
    # which is no verdict beside a second candidate.
    old = {f"p{i:02d}": [False] for i in range(30)}
    new = old | {f"p{i:02d}": [True] for i in range(6)}
    base = evaluation(tmp_path / "base", old | {"p05": [None]})
    paths = [base, evaluation(tmp_path / "a", new), evaluation(tmp_path / "b", old)]
    assert compare(*paths[:2])["verdict"] == IMPROVED
    family = compare_all(paths)["comparisons"]
    assert family[0]["p_adjusted"] == 2 * family[0]["undecided"]["p_value"] > 0.05
    assert family[0]["verdict"] == NOISE


def test_records_that_do_not_fit_their_summary_are_refused(tmp_path: Path) -> None:
    samples = {"a": [True, False], "b": [False, False]}
    good = evaluation(tmp_path / "good", samples)
    edited = evaluation(tmp_path / "edited", samples)
    records = edited / "records.jsonl"
    text = records.read_text()
    records.write_text(text.replace('"correct": false', '"correct": true'))
    with pytest.raises(InputError, match=r"edited.*pass@1 is 1 .*summary.json says 0.25; .*regrad"):
        compare(good, edited)
    records.write_text(text.replace('"policy_version": "1"', '"policy_version": "2"', 1))
    with pytest.raises(InputError, match=r"policy_version .*'2'.*grader_policy is '1'.*--regrade"):
        compare(good, edited)
    records.write_text(text.replace('"seed": 0', '"seed": 7', 1))
    with pytest.raises(InputError, match=r"seed of sample 0 of problem 'a' is 7.*seed is 0"):
        compare(good, edited)


def test_one_model_measured_twice_has_not_improved(tmp_path: Path) -> None:
    folders = []
    for name, right in (("one", False), ("two", True)):
        folder = evaluation(tmp_path / name, {f"p{i:02d}": [right] for i in range(30)})
        summary = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps(summary | {"model_sha256": "ab"}))
        folders.append(folder)
    found = compare(*folders)
    assert found["same_model"] and found["verdict"] == NOISE and found["p_value"] < 0.001
    assert not compare(evaluation(tmp_path / "old", {"a": [True]}), tmp_path / "old")["same_model"]


def test_a_comparison_bears_the_name_of_its_benchmark(tmp_path: Path) -> None:
    told = {"benchmark": {"name": "aime24", "version": 1}}
    paths = [evaluation(tmp_path / name, {"a": [True]}, **told) for name in ("x", "y", "z")]
    found = compare_all(paths)
    assert [one["benchmark"] for one in found["comparisons"]] == ["aime24", "aime24"]
    assert found["best"][0]["benchmark"] == "aime24"


def test_samples_that_all_agree_count_as_one(tmp_path: Path) -> None:
    # Greedy: 16 times the same. 4 of 30 gained is no improvement, as with one sample each.
    old = {f"p{i:02d}": [False] * 16 for i in range(30)}
    new = {name: [number < 4] * 16 for number, name in enumerate(old)}
    once = {name: samples[:1] for name, samples in new.items()}
    base = evaluation(tmp_path / "old", old)
    found = compare(base, evaluation(tmp_path / "new", new))
    single = compare(base, evaluation(tmp_path / "once", once, num_samples=1))
    assert found["verdict"] == NOISE and found["p_value"] == single["p_value"] > 0.05
    # One sample of 480 that differs from the others of its problem shows that they are drawn.
    new["p29"] = [True] + [False] * 15
    assert compare(base, evaluation(tmp_path / "drawn", new))["p_value"] < 0.05
