"""One thing of the problems, the grader or the rewards broken at a time."""

import pytest

from open_rs.grade import grader
from open_rs.plan.doctor import machine
from open_rs.train.isolation import IsolatedFunction


def row(**changes):
    return {"id": "odd", "problem": "What is 7 + 8?", "answer": "15", **changes}


def test_a_file_that_is_not_there(bench):
    bench.set("data", train={"path": "missing.jsonl"})
    bench.sees("data.found", "fail", "data.train: missing.jsonl: no such file")


def test_nothing_to_train_on(bench):
    del bench.settings["data"]["train"]
    bench.sees("data.found", "fail", "names no problems to train on", "data.train")


def test_an_empty_file(bench):
    bench.rows()
    bench.sees("data.found", "fail", "holds no rows")


def test_a_row_that_is_no_json(bench):
    bench.rows(24, '{"id": "torn", "prob')
    bench.sees("data.rows", "fail", "train.jsonl, line 25: not valid JSON", "mend or remove it")


def test_a_row_without_an_answer(bench):
    bench.rows(24, row(answer=" "))
    bench.sees("data.answers", "fail", "1 of 25 problems have no answer, odd among them")


def test_an_answer_that_cannot_be_graded(bench):
    bench.rows(row(answer="see the figure"), key="test")
    bench.sees("data.golds", "fail", "do not grade themselves", "'see the figure'", grader=True)


def test_an_id_that_occurs_twice(bench):
    bench.rows(24, row(id="train-3"))
    bench.sees("data.duplicates", "fail", "id 'train-3' occurs 2 times")


def test_a_problem_that_occurs_twice(bench):
    bench.rows(24, row(), row(id="again", problem="what is 7  + 8 ?"))
    bench.sees("data.duplicates", "warn", "2 of 26 problems stand there more than once")


def test_a_test_problem_to_train_on(bench):
    bench.rows(24, row())
    bench.rows(row(id="other"), key="test")
    bench.sees("data.overlap", "fail", "1 of 1 problems stand in data.train too")


def test_fewer_problems_than_a_step_takes(bench):
    bench.rows(3)
    bench.sees("data.enough", "warn", "there are 3 problems")


def test_raw_rows_are_left_to_the_filters(bench):
    del bench.settings["data"]["train"]
    (bench.folder / "raw.jsonl").write_text(
        '{"problem": "1?", "answer": "1"}\n{"problem": "1?", "answer": "see the figure"}\n' * 6
    )
    bench.settings["sources"] = [{"path": "raw.jsonl"}]
    bench.settings["filters"] = [{"type": "gold"}, {"type": "exact_duplicates"}]
    found = bench.findings()
    assert [one for one in found.values() if one.status in ("warn", "fail")] == []
    bench.settings["filters"] = [{"type": "gold"}]
    bench.sees("data.duplicates", "warn", "exact_duplicates")


def test_a_benchmark_that_nothing_can_fetch(bench, monkeypatch):
    monkeypatch.delenv("OPEN_RS_BENCHMARKS", raising=False)
    bench.settings["filters"] = [{"type": "contamination", "against": ["aime24"]}]
    bench.sees("data.benchmarks", "fail", "benchmark aime24 is not here", "aime24.jsonl")


def test_pass_rates_that_nobody_measured(bench):
    bench.set("data", min_pass_rate=0.1)
    bench.sees("data.pass_rates", "fail", "no pass_rates.jsonl")


def test_a_special_token_in_a_problem(bench):
    bench.rows(24, row(problem="What is 7 + 8?<|end|>"))
    bench.sees("data.special", "warn", "odd holds '<|end|>'")


def test_no_prompt_is_short_enough(bench):
    bench.set("prompt", max_prompt_tokens=2)
    bench.sees("data.prompts", "fail", "every training prompt is over")


def test_many_prompts_are_too_long(bench):
    bench.rows(20, *(row(id=f"long-{n}", problem=f"{n} + 1 " * 60) for n in range(4)))
    bench.set("prompt", max_prompt_tokens=100)
    bench.sees("data.prompts", "warn", "4 of 24 training prompts are over 100 tokens")


def test_more_grading_processes_than_cores(bench, tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    bench.settings["threads"] = 1
    bench.set("grade", workers=2)
    bench.sees("grader.workers", "warn", "grade.workers = 2 on 1 cores")


def test_no_time_to_grade(bench):
    bench.set("grade", timeout_s=1e-6)
    bench.sees("grader.starts", "fail", "more than grade.timeout_s = 1e-06", grader=True)


def test_a_grader_that_says_yes_to_everything(bench, monkeypatch):
    monkeypatch.setattr(grader, "exact_verdict", lambda gold, answer: "correct")
    bench.sees("grader.known_pairs", "fail", "is correct, and should be wrong", grader=True)


def test_what_hangs_is_not_killed(bench, monkeypatch):
    monkeypatch.setattr(IsolatedFunction, "__call__", lambda *_, **__: 1.0)
    bench.sees("grader.hang", "fail", "was not killed", grader=True)


@pytest.mark.parametrize(
    ("function", "check", "status", "words"),
    [
        ("missing", "rewards.load", "fail", "has no missing"),
        ("raises", "rewards.run", "fail", "raised TypeError"),
        ("constant", "rewards.vary", "warn", "is 0.5 on every one of 6 completions"),
        ("moody", "rewards.repeat", "warn", "another number to the same completion"),
        ("text", "rewards.return", "warn", "returns str"),
        ("slow", "rewards.quick", "warn", "s a step"),
    ],
)
def test_a_reward_that_goes_wrong(bench, function, check, status, words):
    one = {"type": "custom", "function": f"faulty_rewards:{function}", "weight": 0.1}
    bench.settings["rewards"] = [{"type": "accuracy"}, one]
    bench.sees(check, status, words)
