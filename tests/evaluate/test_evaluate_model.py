"""`evaluate_model`: the files it writes, what is read again, what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_rollouts import Letters, ScriptedEngine

from open_rs.errors import InputError
from open_rs.evaluate.compare import compare
from open_rs.evaluate.records import (
    cost_of,
    light,
    problems_hash,
    read_records,
    read_summary,
    record_row,
    scores_of,
    shares_of,
    tally,
)
from open_rs.evaluate.run import evaluate_model
from open_rs.grade import OUTCOMES, POLICY_VERSION, Grade, Grader
from open_rs.problems import Problem
from open_rs.prompts import Prompter
from open_rs.recipe import PromptRecipe
from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.protocol import Rollout, SamplingParams

PARAMS = SamplingParams(max_completion_tokens=32, temperature=0.6, top_p=0.95)
PROBLEMS = [
    Problem("a", "2 + 2", "4"),
    Problem("b", "2 + 3", "5"),
    Problem("c", "1 + 1 and a prompt that is too long", "2"),
]
ANSWERS = {
    "a": ["\\boxed{4}", "\\boxed{4}", "\\boxed{4}", "\\boxed{3}"],
    "b": ["\\boxed{6}", "five", "\\boxed{5}", "\\boxed{7}"],
}


@pytest.fixture
def sampler() -> Iterator[GradedSampler]:
    with Grader() as grader:
        prompter = Prompter(Letters(), PromptRecipe(max_prompt_tokens=16))
        yield GradedSampler(ScriptedEngine(ANSWERS), grader, prompter)


def run(sampler: GradedSampler, out: Path, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "params": PARAMS,
        "num_samples": 4,
        "seed": 11,
        "name": out.name,
        "model": "checkpoints/000050",
        "step": 50,
        "model_sha256": "abc",
    }
    return evaluate_model(sampler, PROBLEMS, out=out, **(settings | changes))


def test_summary_and_records(sampler: GradedSampler, tmp_path: Path) -> None:
    out = tmp_path / "test-000050"
    summary = run(sampler, out)
    assert json.loads((out / "summary.json").read_text()) == summary
    # a: 3 of 4, b: 1 of 4; pass@2: 1 and 1 - C(3, 2) / C(4, 2) = 1/2; pass@4: 1 and 1;
    # maj@4: 1, and in b three answers have one vote each, one of them correct: 1/3
    scores = summary["scores"]
    assert {key: one["value"] for key, one in scores.items()} == pytest.approx(
        {"pass@1": 0.5, "pass@2": 0.75, "pass@4": 1.0, "maj@4": 2 / 3}, abs=1e-12
    )
    assert (scores["pass@1"]["n"], scores["pass@1"]["k"]) == (2, 4)
    assert (summary["num_problems"], summary["num_samples"], summary["too_long"]) == (2, 4, 1)
    assert (summary["name"], summary["step"], summary["model"]) == (
        "test-000050",
        50,
        "checkpoints/000050",
    )
    assert summary["no_answer_frac"] == 0.125  # one "five" of eight
    assert summary["truncated_frac"] == summary["undecided_frac"] == 0.0
    assert summary["mean_tokens"] == 2.0
    rows = read_records(out, summary)
    assert [(row["problem_id"], row["sample"]) for row in rows] == [
        (problem, sample) for problem in "ab" for sample in range(4)
    ]
    assert rows[0] == {
        "problem_id": "a",
        "sample": 0,
        "completion": "\\boxed{4}",
        "num_tokens": 2,
        "finish_reason": "stop",
        "outcome": "correct",
        "extracted": "4",
        "correct": True,
        "seed": 11,
        "policy_version": POLICY_VERSION,
        "mean_logprob": -0.5,
    }
    assert [row["correct"] for row in rows] == [True] * 3 + [False] * 3 + [True, False]


def test_noise_is_that_of_the_seed_and_step_zero(sampler: GradedSampler, tmp_path: Path) -> None:
    run(sampler, tmp_path / "one")
    given = sampler.engine.given
    assert given == {"group_size": 4, "params": PARAMS, "seed": 11, "step": 0}


def test_a_finished_evaluation_is_read_not_sampled_again(
    sampler: GradedSampler, tmp_path: Path
) -> None:
    first = run(sampler, tmp_path / "one")
    again = run(sampler, tmp_path / "one", model="the same weights at another path")
    assert again == first and sampler.engine.calls == 1


def test_an_evaluation_killed_before_its_summary_is_done_again(
    sampler: GradedSampler, tmp_path: Path
) -> None:
    first = run(sampler, tmp_path / "one")
    (tmp_path / "one" / "summary.json").unlink()
    (tmp_path / "one" / "records.jsonl").write_text('{"problem_id": "a"')
    again = run(sampler, tmp_path / "one")
    assert sampler.engine.calls == 2 and again["scores"] == first["scores"]
    assert len(read_records(tmp_path / "one", again)) == 8


def test_another_confidence_needs_no_new_samples(sampler: GradedSampler, tmp_path: Path) -> None:
    wide = run(sampler, tmp_path / "one", confidence=0.95)["scores"]["pass@1"]
    narrow = run(sampler, tmp_path / "one", confidence=0.8)["scores"]["pass@1"]
    assert sampler.engine.calls == 1
    assert narrow["confidence"] == 0.8 and narrow["value"] == wide["value"]
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]
    assert read_summary(tmp_path / "one")["scores"]["pass@1"] == narrow


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_sha256": "def"}, "model_sha256"),
        ({"step": 60}, "step"),
        ({"seed": 12}, "fingerprint.seed"),
        ({"params": SamplingParams(32, 0.7, 0.95)}, "fingerprint.sampling.temperature"),
        ({"extras": {"benchmark": "aime24"}}, "fingerprint.benchmark"),
        ({"model_sha256": None}, "model_sha256"),
    ],
)
def test_another_evaluation_in_the_folder_is_refused(
    sampler: GradedSampler, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    run(sampler, tmp_path / "one")
    with pytest.raises(InputError, match=rf"different: {told}\); remove that folder or write"):
        run(sampler, tmp_path / "one", **changes)
    assert sampler.engine.calls == 1


def test_without_a_hash_the_name_of_the_model_tells(sampler: GradedSampler, tmp_path: Path) -> None:
    run(sampler, tmp_path / "one", model="x", model_sha256=None)
    run(sampler, tmp_path / "one", model="x", model_sha256=None)
    assert sampler.engine.calls == 1
    with pytest.raises(InputError, match=r"different: model\)"):
        run(sampler, tmp_path / "one", model="y", model_sha256=None)


def test_other_problems_in_the_folder_are_refused(sampler: GradedSampler, tmp_path: Path) -> None:
    run(sampler, tmp_path / "one")
    with pytest.raises(InputError, match=r"different: fingerprint\.problems"):
        evaluate_model(
            sampler,
            PROBLEMS[:1],
            params=PARAMS,
            num_samples=4,
            seed=11,
            out=tmp_path / "one",
            name="one",
            model="m",
            step=50,
            model_sha256="abc",
        )


def test_only_prompts_over_the_limit_are_refused_before_sampling(
    sampler: GradedSampler, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"all 1 prompts are over prompt.max_prompt_tokens = 16"):
        evaluate_model(
            sampler,
            PROBLEMS[2:],
            params=PARAMS,
            num_samples=1,
            seed=0,
            out=tmp_path / "one",
            name="one",
            model="m",
        )
    assert not (tmp_path / "one").exists() and sampler.engine.calls == 0


def test_the_fingerprint_names_what_moves_scores(sampler: GradedSampler, tmp_path: Path) -> None:
    fingerprint = run(sampler, tmp_path / "one", extras={"benchmark": "x"})["fingerprint"]
    versions = fingerprint.pop("versions")
    assert versions["torch"] and versions["math-verify"]
    assert fingerprint == {
        "problems": problems_hash(PROBLEMS),
        "prompt": sampler.prompter.fingerprint,
        "sampling": {
            "max_completion_tokens": 32,
            "temperature": 0.6,
            "top_p": 0.95,
            "top_k": 0,
            "stop": [],
        },
        "num_samples": 4,
        "seed": 11,
        "engine": "scripted",
        "dtype": None,
        "device": None,
        "grader_policy": POLICY_VERSION,
        "template": sampler.prompter.template_hash,
        "opens_think": False,
        "benchmark": "x",
    }


def test_two_evaluations_compare(sampler: GradedSampler, tmp_path: Path) -> None:
    run(sampler, tmp_path / "test-000000", step=0, model_sha256="base")
    sampler.engine.answers = {"a": ["\\boxed{4}"] * 4, "b": ["\\boxed{5}"] * 4}
    run(sampler, tmp_path / "test-000050")
    found = compare(tmp_path / "test-000000", tmp_path / "test-000050")
    # a: 3/4 -> 1, b: 1/4 -> 1
    assert found["difference"]["value"] == pytest.approx(0.5, abs=1e-12)
    assert found["verdict"] == "not distinguishable from noise"  # two problems


def test_problems_hash_ignores_order_and_sees_the_gold() -> None:
    assert problems_hash(PROBLEMS) == problems_hash(reversed(PROBLEMS))
    changed = [Problem("a", "2 + 2", "5"), *PROBLEMS[1:]]
    assert problems_hash(changed) != problems_hash(PROBLEMS)


def sample(problem: str, number: int, correct: bool | None, **changes: Any) -> dict[str, Any]:
    outcome = {True: "correct", False: "wrong", None: "timeout"}[correct]
    row = {"problem_id": problem, "sample": number, "correct": correct, "outcome": outcome}
    row |= {"finish_reason": "stop", "num_tokens": 10, "completion": "fine", "extracted": "1"}
    return light(row | changes, ("latin",))


def test_undecided_samples_are_left_out_and_counted() -> None:
    rows = [
        sample("a", 0, True),
        sample("a", 1, None),
        sample("b", 0, False, outcome="no_answer", finish_reason="length", num_tokens=30),
        sample("b", 1, True),
        sample("c", 0, None),
        sample("c", 1, None, completion="ja да"),
    ]
    counts = tally(rows)
    assert counts.problem_ids == ["a", "b", "c"]
    assert (counts.correct.tolist(), counts.decided.tolist()) == ([1, 1, 0], [1, 2, 0])
    scores = scores_of(rows, num_samples=2, confidence=0.95)
    assert (scores["pass@1"]["value"], scores["pass@1"]["n"]) == (0.75, 2)  # a: 1, b: 1/2
    assert (scores["pass@2"]["value"], scores["pass@2"]["n"]) == (1.0, 1)  # b alone
    # shares of all six samples; (5 * 10 + 30) / 6 tokens
    assert shares_of(rows) == pytest.approx(
        {
            "truncated_frac": 1 / 6,
            "no_answer_frac": 1 / 6,
            "undecided_frac": 0.5,
            "other_script_frac": 0.5 / 6,  # ja, and in another script as many letters
            "mean_tokens": 80 / 6,
            "tokens_per_problem": 80 / 3,
        }
    )


def test_cost_is_that_of_the_machine_and_of_the_endpoint() -> None:
    rows = [{"num_tokens": 30}, {"num_tokens": 50, "usd": 0.25}, {"num_tokens": 40, "usd": 0.5}]
    free = {"seconds": 60.0, "tokens_per_s": 2.0, "endpoint_usd": 0.75, "usd": 0.75}
    assert cost_of(rows, 60.0, None) == free
    assert cost_of(rows, 60.0, 1.2) == free | {"usd": pytest.approx(0.77)}  # 1.2 / 60 more
    assert cost_of(rows[:1], 60.0, None)["usd"] is None
    assert cost_of(rows[:1], 60.0, 1.2)["usd"] == pytest.approx(0.02)


def test_a_sample_that_could_not_be_judged_has_no_verdict_in_its_record() -> None:
    rollouts = [
        Rollout([1, 2, 3], [0.0] * 3, "text", "length", number, grade=Grade(outcome, "4", 0.1))
        for number, outcome in enumerate(OUTCOMES)
    ]
    rows = [record_row("a", one, seed=3, policy_version="9") for one in rollouts]
    assert {row["outcome"]: row["correct"] for row in rows} == {
        "correct": True,
        "wrong": False,
        "no_answer": False,
        "bad_gold": None,
        "timeout": None,
        "error": None,
    }
    assert {(row["num_tokens"], row["finish_reason"], row["seed"]) for row in rows} == {
        (3, "length", 3)
    }


def test_no_verdict_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="could judge none of the samples"):
        scores_of([sample("a", 0, None)], num_samples=1, confidence=0.95)
