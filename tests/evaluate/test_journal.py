"""The journal of an evaluation under way: what a kill leaves, whose it is, what is refused."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_rollouts import Letters, ScriptedEngine

from open_rs.errors import GuardStop, InputError
from open_rs.evaluate.journal import Journal
from open_rs.evaluate.records import read_records
from open_rs.evaluate.run import evaluate_model
from open_rs.grade import Grader
from open_rs.problems import Problem
from open_rs.prompts import Prompter
from open_rs.recipe import PromptRecipe
from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.protocol import Rollout, RolloutGroup, SamplingParams

IDENTITY = {"model_sha256": "abc", "fingerprint": {"seed": 0}}
ROWS = [{"problem_id": p, "sample": s, "completion": f"{p}{s} é"} for p in "ab" for s in range(3)]


def journal_of(path: Path, rows: list[dict[str, Any]]) -> bytes:
    with Journal(path, IDENTITY) as journal:
        for row in rows:
            journal.add(row)
    return path.read_bytes()


def test_rows_come_back_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal_of(path, ROWS[:4])
    with Journal(path, IDENTITY) as journal:
        assert list(journal.places) == [("a", 0), ("a", 1), ("a", 2), ("b", 0)]
        for row in ROWS[4:]:
            journal.add(row)
        keys = [(row["problem_id"], row["sample"]) for row in reversed(ROWS)]
        assert list(journal.rows(keys)) == ROWS[::-1]


@given(share=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_cut_anywhere_it_holds_the_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, share: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    whole = journal_of(path, ROWS)
    cut = len(whole) * share // 1000
    path.write_bytes(whole[:cut])
    samples = max(whole[:cut].count(b"\n") - 2, 0)  # after the evaluation and the session
    with Journal(path, IDENTITY) as journal:
        assert len(journal.places) == samples
        for row in ROWS[samples:]:
            journal.add(row)
    with Journal(path, IDENTITY) as journal:
        assert list(journal.rows(list(journal.places))) == ROWS


def test_seconds_are_those_of_all_sessions(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    lines = [
        {"evaluation": IDENTITY},
        {"session": 0},
        {**ROWS[0], "elapsed": 2.0},
        {**ROWS[1], "elapsed": 5.5},
        {"session": 2},
        {"session": 2},  # killed before its first sample
        {**ROWS[2], "elapsed": 1.0},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Journal(path, IDENTITY) as journal:
        assert journal.seconds == 6.5
        assert 6.5 <= journal.elapsed < 7.5


def test_another_evaluation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out" / "journal.jsonl"
    before = journal_of(path, ROWS)
    with pytest.raises(
        InputError, match=r"out: another evaluation was begun here \(different: fingerprint\.seed\)"
    ):
        Journal(path, {**IDENTITY, "fingerprint": {"seed": 1}})
    assert path.read_bytes() == before


def test_a_line_changed_by_hand_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    lines = journal_of(path, ROWS).splitlines(keepends=True)
    for wrong in (b"{}\n", b"[]\n", b'{"problem_id": "a"\n', b'"x"\n', b"\xff\n"):
        path.write_bytes(b"".join([*lines[:3], wrong, *lines[3:]]))
        with pytest.raises(InputError, match=r"journal\.jsonl, line 4: is no line of an eval"):
            Journal(path, IDENTITY)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match=r"out.*: cannot be written \(Permission denied\)"):
            Journal(tmp_path / "out" / "journal.jsonl", IDENTITY)
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(
        InputError, match=r"out.*: cannot be written \(.*\); name a folder that can be written"
    ):
        Journal(tmp_path / "out" / "journal.jsonl", IDENTITY)


# --- an evaluation that is cut off -----------------------------------------------------------

PROBLEMS = [Problem("a", "2 + 2", "4"), Problem("b", "2 + 3", "5")]
ANSWERS = {
    "a": ["\\boxed{4}", "\\boxed{3}", "\\boxed{4}", "four"],
    "b": ["\\boxed{6}", "five", "\\boxed{5}", "\\boxed{7}"],
}


class DyingEngine(ScriptedEngine):
    """Gives up, as an endpoint that went away, after so many samples; keeps a list of them."""

    def __init__(self, lives: int | None = None) -> None:
        super().__init__(ANSWERS)
        self.lives, self.drawn = lives, []

    def generate(self, prompts, *, on_finished, **settings: Any) -> list[RolloutGroup]:
        assert settings["keep"] is False  # memory does not grow with the number of samples

        def finished(prompt, rollout: Rollout) -> None:
            if len(self.drawn) == self.lives:
                raise GuardStop("endpoint: no answer; go on later")
            self.drawn.append((prompt.problem.id, rollout.sample))
            on_finished(prompt, rollout)

        return super().generate(prompts, on_finished=finished, **settings)


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as grader:
        yield grader


def evaluate(engine: ScriptedEngine, grader: Grader, out: Path) -> dict[str, Any]:
    return evaluate_model(
        GradedSampler(engine, grader, Prompter(Letters(), PromptRecipe())),
        PROBLEMS,
        params=SamplingParams(max_completion_tokens=32),
        num_samples=4,
        seed=11,
        out=out,
        name="one",
        model="m",
    )


def timeless(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: summary[key] for key in summary.keys() - {"seconds", "tokens_per_s"}}


@pytest.mark.parametrize("lives", [0, 1, 3, 7])
def test_an_engine_that_dies_in_the_middle_loses_nothing(
    lives: int, grader: Grader, tmp_path: Path
) -> None:
    whole = evaluate(DyingEngine(), grader, tmp_path / "whole")
    first = DyingEngine(lives)
    with pytest.raises(GuardStop, match="go on later"):
        evaluate(first, grader, tmp_path / "cut")
    assert not (tmp_path / "cut" / "summary.json").exists()
    second = DyingEngine()
    summary = evaluate(second, grader, tmp_path / "cut")
    assert len(first.drawn) == lives and len(second.drawn) == 8 - lives
    assert not set(first.drawn) & set(second.drawn)
    assert timeless(summary) == timeless(whole)
    files = [(tmp_path / name / "records.jsonl").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]
    assert sorted(file.name for file in (tmp_path / "cut").iterdir()) == [
        "problems.jsonl",
        "records.jsonl",
        "summary.json",
    ]


def test_samples_without_an_answer_are_asked_again(grader: Grader, tmp_path: Path) -> None:
    """An error counts neither way when all is done, and is no answer when the rest is not."""

    class Failing(DyingEngine):
        def generate(self, prompts, *, on_finished, **settings: Any) -> list[RolloutGroup]:
            def finished(prompt, rollout: Rollout) -> None:
                if rollout.sample == 0:
                    rollout.error = "no answer"
                on_finished(prompt, rollout)

            return super().generate(prompts, on_finished=finished, **settings)

    with pytest.raises(GuardStop):
        evaluate(Failing(5), grader, tmp_path / "out")
    again = Failing()
    summary = evaluate(again, grader, tmp_path / "out")
    assert {("a", 0), ("b", 0)} <= set(again.drawn) and len(again.drawn) == 5
    assert summary["undecided_frac"] == 0.25
    rows = read_records(tmp_path / "out", summary)
    assert [row["error"] for row in rows if row["correct"] is None] == ["no answer"] * 2
    # a: 1 of 3 decided samples correct, b: 1 of 3
    assert summary["scores"]["pass@1"]["value"] == pytest.approx(1 / 3, abs=1e-12)
