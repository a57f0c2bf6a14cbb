"""Ways to choose an answer: hand-computed votes, blocks, token costs, and what is refused."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from evaluation_folders import FINGERPRINT

from open_rs.errors import InputError
from open_rs.evaluate.compare import DifferentHarness, compare
from open_rs.evaluate.records import drawn_tokens, scores_of, write_evaluation
from open_rs.evaluate.search import (
    WAYS,
    Sample,
    answer_groups,
    equal_pairs,
    frontier,
    sampled,
)

SPEC = {"type": "beam", "width": 2, "branch": 2, "step_tokens": 4, "step_end": ""}


def one(group, correct, logprob=-1.0, tokens=10):
    return Sample(group, correct, logprob, tokens)


def by_way(samples):
    return {name: choose(samples) for name, choose in WAYS.items()}


def test_votes_by_hand():
    samples = [
        one(0, False, -0.2),
        one(1, True, -0.1),
        one(0, False, -1.0),
        one(1, True, -0.3),
        one(0, False, -1.2),
    ]
    # majority: group 0 with 3 of 5. Weights: e^-0.2 + e^-1.0 + e^-1.2 = 0.819 + 0.368 + 0.301 =
    # 1.488 against e^-0.1 + e^-0.3 = 0.905 + 0.741 = 1.646. The likeliest is the second.
    assert by_way(samples) == {
        "single": 0.0,
        "majority": 0.0,
        "likeliest": 1.0,
        "weighted": 1.0,
        "any": 1.0,
    }


def test_a_tie_counts_as_the_share_that_is_right():
    samples = [one(0, False), one(1, True), one(2, False)]
    assert by_way(samples)["majority"] == pytest.approx(1 / 3)
    assert by_way([one(0, False, -2.0), one(1, True, -1.0)])["weighted"] == 1.0


def test_what_gives_no_answer_has_no_vote():
    samples = [one(None, False, -0.01), one(None, False, -0.01), one(1, True, -3.0)]
    assert by_way(samples) == {
        "single": 0.0,
        "majority": 1.0,
        "likeliest": 1.0,
        "weighted": 1.0,
        "any": 1.0,
    }
    assert set(by_way([one(None, False)] * 2).values()) == {0.0}


@pytest.mark.parametrize("sample", [one(0, True), one(0, False), one(None, False)])
def test_of_one_sample_every_way_is_the_sample(sample):
    assert set(by_way([sample]).values()) == {float(sample.correct)}


def test_equal_weights_vote_as_the_majority():
    rng = np.random.default_rng(0)
    for _ in range(50):
        groups = rng.integers(0, 4, size=7)
        samples = [one(int(group), bool(group == 2), -0.7) for group in groups]
        assert by_way(samples)["weighted"] == by_way(samples)["majority"]


def test_no_way_but_any_looks_at_the_gold():
    # turning every verdict round turns every score round: the choice is the same
    rng = np.random.default_rng(1)
    for _ in range(50):
        groups = rng.integers(0, 4, size=6)
        right = rng.integers(0, 2, size=4).astype(bool)
        logprobs = -rng.random(6)
        chosen = [
            [
                one(int(g), bool(right[g] ^ turned), float(p))
                for g, p in zip(groups, logprobs, strict=True)
            ]
            for turned in (False, True)
        ]
        for way in set(WAYS) - {"any"}:
            assert WAYS[way](chosen[0]) == pytest.approx(1 - WAYS[way](chosen[1]))


def test_blocks_and_their_tokens():
    samples = [
        [one(*it) for it in ((0, True, 0, 1), (1, False, 0, 2), (1, False, 0, 4))]
        + [one(0, True), one(0, True, tokens=7)],
        [one(0, False, tokens=3)] * 5,
    ]
    found = sampled("majority", samples, 2)
    # two blocks of two, the fifth sample is left over: ties of 1/2 and 1/2; 3 and 14 tokens
    assert found.scores.tolist() == [0.5, 0.0]
    assert found.tokens.tolist() == [8.5, 6.0]
    assert (found.blocks, found.budget) == (2, "2")
    assert found.spread is not None and found.spread.tolist() == [0.0, 0.0]
    single = sampled("single", samples, 1)
    # 1, 0, 0, 1, 1: mean 3/5, variance of the mean (3 * 0.16 + 2 * 0.36) / 4 / 5 = 0.06
    assert single.scores.tolist() == [0.6, 0.0]
    assert single.spread is not None and single.spread[0] == pytest.approx(0.06)
    assert sampled("any", samples, 5).spread is None


def test_equal_answers():
    answers = ["1/2", "0.5", None, "3", "\\frac{1}{2}", " 3"]
    same = equal_pairs([answers])
    groups = answer_groups(answers, same)
    assert groups[0] == groups[1] == groups[4] and groups[3] == groups[5]
    assert groups[2] is None and groups[0] != groups[3]


def test_a_chain_of_equal_answers_is_one_group():
    same = {("a", "b"): False, ("a", "c"): True, ("b", "c"): True}
    assert answer_groups(["a", "b", "c", "d"], same) == [0, 0, 0, 3]


def evaluation(folder, samples, **fingerprint):
    """A finished evaluation of (extracted, correct, mean log-prob, tokens, drawn or None)."""
    held = FINGERPRINT | fingerprint
    rows = [
        {
            "problem_id": problem,
            "sample": sample,
            "completion": "",
            "num_tokens": tokens,
            "finish_reason": "stop",
            "outcome": "wrong",
            "extracted": extracted,
            "correct": correct,
            "mean_logprob": logprob,
            "seed": held["seed"],
            "policy_version": held["grader_policy"],
        }
        | ({} if drawn is None else {"search": {"drawn": drawn, "read_tokens": 7, "kept": []}})
        for problem, several in samples.items()
        for sample, (extracted, correct, logprob, tokens, drawn) in enumerate(several)
    ]
    k = len(next(iter(samples.values())))
    summary = {
        "name": folder.name,
        "model": "m",
        "model_sha256": "aa",
        "step": 0,
        "num_problems": len(samples),
        "num_samples": k,
        "scores": scores_of(rows, num_samples=k, confidence=0.95),
        "fingerprint": held,
    }
    write_evaluation(folder, rows, summary)
    return folder


PLAIN = {
    "a": [("4", True, -0.1, 10, None), ("5", False, -0.3, 20, None)] * 2,
    "b": [("7", False, -0.1, 10, None), ("8", True, -0.3, 20, None)] * 2,
}
BEAM = {
    "a": [("4", True, -0.1, 10, [[10, 20], [15]]), ("5", False, -0.1, 10, [[10, 25]])],
    "b": [("8", True, -0.1, 10, [[30, 30]]), ("8", True, -0.1, 10, [[30], [30]])],
}


def test_the_frontier_of_two_problems(tmp_path):
    found = frontier(
        evaluation(tmp_path / "plain", PLAIN),
        [evaluation(tmp_path / "beam", BEAM, search=SPEC)],
    )
    rows = {(row["way"], row["budget"]): row for row in found["rows"]}
    assert {key: row["score"]["value"] for key, row in rows.items()} == {
        ("single", "1"): 0.5,
        ("majority", "2"): 0.5,  # ties
        ("likeliest", "2"): 0.5,  # right of a, wrong of b
        ("weighted", "2"): 0.5,
        ("any", "2"): 1.0,
        ("majority", "4"): 0.5,
        ("likeliest", "4"): 0.5,
        ("weighted", "4"): 0.5,
        ("any", "4"): 1.0,
        ("beam", "2 x 2"): 0.75,
    }
    assert rows["single", "1"]["tokens"] == 15
    assert rows["majority", "4"]["tokens"] == 60
    # beam: (45 + 35) / 2 of a, 60 of b: 50 tokens; 50 / 15 = 3.3 samples, so 3 of them
    beam = rows["beam", "2 x 2"]
    assert (beam["tokens"], beam["read_tokens"]) == (50, 7)
    # the block of three is 4, 5, 4 of a: right; 7, 8, 7 of b: wrong; 40 tokens
    assert beam["baseline"] == {"budget": "3", "tokens": 40}
    assert beam["difference"]["value"] == pytest.approx(0.75 - 0.5)  # (0.5 - 1, 1 - 0) / 2
    assert (beam["score"]["n"], beam["score"]["k"]) == (2, 2)


def test_against_another_way(tmp_path):
    plain = evaluation(tmp_path / "plain", PLAIN)
    found = frontier(plain, [], against="likeliest")
    rows = {(row["way"], row["budget"]): row for row in found["rows"]}
    # of a both are right in part: 1/2 (a tie) - 1, of b 1/2 - 0
    assert rows["majority", "2"]["difference"]["value"] == 0.0
    assert rows["any", "2"]["difference"]["value"] == 0.5  # (1 - 1, 1 - 0) / 2
    with pytest.raises(InputError, match="--against best: unknown; use one of single, majority"):
        frontier(plain, [], against="best")


def test_the_cost_of_a_record():
    assert drawn_tokens({"num_tokens": 3}) == 3
    assert drawn_tokens({"num_tokens": 3, "search": {"drawn": [[3, 2], [1]]}}) == 6


def without_logprobs(folder):
    records = folder / "records.jsonl"
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    rows[1].pop("mean_logprob")
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_refusals(tmp_path):
    plain = evaluation(tmp_path / "plain", PLAIN)
    beam = evaluation(tmp_path / "beam", BEAM, search=SPEC)
    with pytest.raises(InputError, match="is a search; the first folder"):
        frontier(beam, [])
    with pytest.raises(InputError, match="plain: is no search"):
        frontier(plain, [plain])
    other = evaluation(tmp_path / "other", BEAM, search=SPEC, prompt="cc")
    with pytest.raises(InputError, match="not measured as the samples were: prompt"):
        frontier(plain, [other])
    warmer = evaluation(
        tmp_path / "warm", BEAM, search=SPEC, sampling={"temperature": 1.0, "top_p": 0.95}
    )
    assert frontier(plain, [warmer])["rows"]
    summary = json.loads((beam / "summary.json").read_text())
    (beam / "summary.json").write_text(json.dumps(summary | {"model_sha256": "bb"}))
    with pytest.raises(InputError, match="beam: is of another model"):
        frontier(plain, [beam])
    with pytest.raises(InputError, match="sample 1 of problem 'a' has no mean_logprob"):
        frontier(without_logprobs(plain), [])


def test_weights_are_geometric_means_of_probabilities():
    samples = [
        one(0, False, math.log(0.5)),
        one(1, True, math.log(0.3)),
        one(1, True, math.log(0.3)),
    ]
    assert by_way(samples)["weighted"] == 1.0  # 0.3 + 0.3 > 0.5
    assert by_way(samples[:2])["weighted"] == 0.0


def test_no_torch():
    code = "import sys, open_rs.evaluate.search; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_samples_and_a_beam_search_by_command(tmp_path, monkeypatch, capsys):
    from open_rs.cli import main
    from open_rs.problems import load_problems, problem_lines
    from open_rs.recipe import Source

    monkeypatch.chdir(tmp_path)
    problems = load_problems(Source(task="arithmetic", split="test", count=4, levels=(1,)))
    Path("few.jsonl").write_text(problem_lines(problems))
    plain = ["--set", "prompt.user={problem}", "--set", "evaluate.max_completion_tokens=24"]
    plain += ["--benchmark", "few.jsonl"]

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["open-rs", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code in (0, None), capsys.readouterr().err
        return capsys.readouterr().out

    command("evaluate", "tiny", *plain, "--num-samples", "4", "--out", "s")
    beam = ["--search", "beam", "--set", "evaluate.search.width=2"]
    beam += ["--set", "evaluate.search.branch=2", "--num-samples", "1", "--out", "b"]
    command("evaluate", "tiny", *plain, *beam)
    summary = json.loads(Path("b/summary.json").read_text())
    assert summary["fingerprint"]["search"]["width"] == 2
    rows = [json.loads(line) for line in Path("b/records.jsonl").read_text().splitlines()]
    drawn = [sum(map(sum, row["search"]["drawn"])) for row in rows]
    assert summary["tokens_per_problem"] == pytest.approx(sum(drawn) / 4)
    assert all(row["search"]["kept"][0]["num_tokens"] == row["num_tokens"] for row in rows)
    assert all(cost > row["num_tokens"] for cost, row in zip(drawn, rows, strict=True))
    from open_rs.evaluate.regrade import regrade

    regrade(Path("b"))
    regraded = [json.loads(line) for line in Path("b/records.jsonl").read_text().splitlines()]
    assert [row["search"] for row in regraded] == [row["search"] for row in rows]
    assert json.loads(Path("b/summary.json").read_text())["tokens_per_problem"] == sum(drawn) / 4
    with pytest.raises(DifferentHarness, match="search"):
        compare(Path("s"), Path("b"))
    text = command("search", "s", "b")
    assert "beam         2 x 2" in text and "an upper bound: it looks at the gold" in text
    found = json.loads(command("search", "s", "b", "--json"))
    assert [row["way"] for row in found["rows"]][-1] == "beam"
    assert found["rows"][-1]["tokens"] == pytest.approx(sum(drawn) / 4)
