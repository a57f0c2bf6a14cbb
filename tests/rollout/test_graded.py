"""`GradedSampler`: every rollout graded, grading beside sampling, verdicts that come late."""

import threading
from concurrent.futures import Future
from typing import Any

import pytest
from scripted_rollouts import Letters, ScriptedEngine

from open_rs.grade import Grade, Grader
from open_rs.problems import Problem
from open_rs.prompts import Prompter
from open_rs.recipe import PromptRecipe
from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.protocol import Prompt, Rollout, SamplingParams

PARAMS = SamplingParams(max_completion_tokens=8)


class LaggingGrader:
    """Judges a completion when the next one is submitted, and the one called "last" at once."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.open: list[Future[Grade]] = []

    def submit(self, completion: str, gold: str, *, opens_think: bool = False) -> Future[Grade]:
        self.log.append(f"submit {completion} for {gold}")
        for earlier in self.open:
            earlier.set_result(Grade("correct", "4", 0.0))
        future: Future[Grade] = Future()
        self.open = [future]
        if completion == "last":
            future.set_result(Grade("wrong", "5", 0.0))
        return future


class LateVerdict(Future[Grade]):
    """Never done when looked at; there when waited for."""

    def done(self) -> bool:
        return False

    def result(self, timeout: float | None = None) -> Grade:
        return Grade("timeout", None, 5.0)


class LateGrader:
    def submit(self, *_: Any, **__: Any) -> Future[Grade]:
        return LateVerdict()


class BrokenGrader:
    def submit(self, *_: Any, **__: Any) -> Future[Grade]:
        future: Future[Grade] = Future()
        future.set_exception(RuntimeError("no workers"))
        return future


def prompts_of(*ids: str) -> list[Prompt]:
    return [Prompt(Problem(one, f"what is {one}?", "4"), [1]) for one in ids]


def test_every_rollout_is_graded_by_its_own_gold() -> None:
    problems = [Problem("a", "2 + 2", "4"), Problem("b", "2 + 3", "5")]
    engine = ScriptedEngine({"a": ["\\boxed{4}", "\\boxed{5}"], "b": ["\\boxed{5}", "five"]})
    prompter = Prompter(Letters(), PromptRecipe())
    with Grader() as grader:
        groups = GradedSampler(engine, grader, prompter).sample(
            [prompter.encode(one) for one in problems],
            group_size=2,
            params=PARAMS,
            seed=7,
            step=3,
        )
    outcomes = [[r.grade.outcome for r in group.rollouts if r.grade] for group in groups]
    assert outcomes == [["correct", "wrong"], ["correct", "no_answer"]]
    assert [group.problem.id for group in groups] == ["a", "b"]
    assert engine.given == {"group_size": 2, "params": PARAMS, "seed": 7, "step": 3}


def test_grading_runs_beside_sampling_and_reports_in_order() -> None:
    log: list[str] = []
    caller = threading.get_ident()
    engine = ScriptedEngine({"a": ["a0", "a1"], "b": ["b0", "last"]}, log)

    def on_graded(prompt: Prompt, rollout: Rollout) -> None:
        assert threading.get_ident() == caller and rollout.grade is not None
        log.append(f"graded {rollout.completion} {rollout.grade.outcome}")

    sampler = GradedSampler(engine, LaggingGrader(log), Prompter(Letters(), PromptRecipe()))
    sampler.sample(prompts_of("a", "b"), group_size=2, params=PARAMS, seed=0, on_graded=on_graded)
    # each completion is submitted as it ends; its verdict is taken up while the engine still runs
    assert log == [
        "end a0",
        "submit a0 for 4",
        "end b0",
        "submit b0 for 4",
        "graded a0 correct",
        "end a1",
        "submit a1 for 4",
        "graded b0 correct",
        "end b1",
        "submit last for 4",
        "graded a1 correct",
        "graded last wrong",
        "engine done",
    ]


def test_verdicts_that_come_after_the_last_completion_are_waited_for() -> None:
    engine = ScriptedEngine({"a": ["x", "y"]})
    groups = GradedSampler(engine, LateGrader(), Prompter(Letters(), PromptRecipe())).sample(
        prompts_of("a"), group_size=2, params=PARAMS, seed=0
    )
    assert [r.grade for r in groups[0].rollouts] == [Grade("timeout", None, 5.0)] * 2


@pytest.mark.parametrize(("opening", "outcome"), [("", "correct"), ("<think>\n", "no_answer")])
def test_the_grader_knows_whether_the_template_opened_the_thought(
    opening: str, outcome: str
) -> None:
    # Never closed: a boxed number inside the thought is no answer.
    engine = ScriptedEngine({"a": ["so \\boxed{4}"]})
    with Grader() as grader:
        sampler = GradedSampler(engine, grader, Prompter(Letters(opening), PromptRecipe()))
        groups = sampler.sample(prompts_of("a"), group_size=1, params=PARAMS, seed=0)
    grade = groups[0].rollouts[0].grade
    assert grade is not None and grade.outcome == outcome


def test_what_ended_before_the_engine_gave_up_is_graded() -> None:
    engine = ScriptedEngine({"a": ["x", "y"], "b": ["z"]})  # the second sample of b is missing
    seen: list[str] = []
    sampler = GradedSampler(engine, LateGrader(), Prompter(Letters(), PromptRecipe()))
    with pytest.raises(IndexError):
        sampler.sample(
            prompts_of("a", "b"),
            group_size=2,
            params=PARAMS,
            seed=0,
            on_graded=lambda _, rollout: seen.append(rollout.completion),
        )
    assert seen == ["x", "z", "y"]


def test_a_broken_grader_is_not_swallowed() -> None:
    engine = ScriptedEngine({"a": ["x"]})
    sampler = GradedSampler(engine, BrokenGrader(), Prompter(Letters(), PromptRecipe()))
    with pytest.raises(RuntimeError, match="no workers"):
        sampler.sample(prompts_of("a"), group_size=1, params=PARAMS, seed=0)
