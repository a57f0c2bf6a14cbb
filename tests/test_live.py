"""The live panel and the plain lines, from a run's files alone."""

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from open_rs.live import LiveView, RunView, Tail, duration, spark
from open_rs.recipe import recipe_from_dict
from open_rs.runs import RunFolder, append_jsonl, log_event, open_run, write_jsonl

ROW = {"reward/mean": 0.25, "completion/mean_tokens": 31.0, "time/step_s": 2.0}
SCORE = {"validation/pass@1": 0.5, "validation/pass@1_low": 0.4, "validation/pass@1_high": 0.6}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    recipe = recipe_from_dict({"train": {"num_steps": 10}, "budget": {"usd": 3}})
    return open_run(tmp_path / "näme of a run", recipe)


def steps(run: RunFolder, *rewards: float) -> None:
    for step, reward in enumerate(rewards, start=1):
        append_jsonl(run.metrics, {"step": step, **ROW, "reward/mean": reward})


def rendered(view: RunView, width: int = 80) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(view.panel())
    return [line.strip("│ ") for line in console.export_text().splitlines()]


def refreshed(run: RunFolder) -> RunView:
    view = RunView(run)
    view.refresh()
    return view


def test_the_panel_shows_reward_scores_lengths_time_cost_and_a_sample(run: RunFolder) -> None:
    steps(run, 0.25, 0.5)
    append_jsonl(run.metrics, {"step": 2, **SCORE})
    append_jsonl(run.metrics, {"step": 3, **ROW, "cost/usd": 1.25})
    append_jsonl(run.ledger, {"phase": "evaluate", "step": 2, "seconds": 30.0, "usd": None})
    rollout = {"problem": "Compute 1 + 1.", "completion": "= 2 [/red]\x1b[31m"}
    write_jsonl(run.rollouts(3), [rollout, {"problem": "another"}])
    lines = rendered(refreshed(run))
    assert "run: step 3 of 10" in lines[0]
    assert lines[1].startswith("━")
    assert lines[2].split() == ["reward", "▁█▁", "mean", "0.25"]
    assert "step 2: pass@1 0.500 [0.400, 0.600]" in lines[3]
    assert "31 tokens" in lines[4]
    # seven steps of 2 s are left
    assert "time        14 s of steps left; an evaluation takes 30 s" in lines
    assert "cost        $1.25 of $3" in lines
    assert "= 2 [/red]␛[31m" in lines  # what a model wrote is no markup and moves no cursor


@pytest.mark.parametrize("width", [40, 60])
def test_a_narrow_terminal_gets_whole_lines(run: RunFolder, width: int) -> None:
    steps(run, *[0.1] * 100)
    log_event(run, "alarm", 2, sentence="length_up: completions grow " * 5)
    lines = rendered(refreshed(run), width)
    assert all(len(line) <= width for line in lines)
    assert "100" in "".join(lines) and "length_up" in "".join(lines)


def test_before_the_first_step_no_figures_are_made_up(run: RunFolder) -> None:
    text = "\n".join(rendered(refreshed(run)))
    assert "no step yet" in text
    assert not [name for name in ("reward", "length", "groups") if name in text]


def test_names_of_rewards_are_shown_and_obeyed_by_nothing(run: RunFolder) -> None:
    name = "reward/[/bold]\x1b[2J\u202e"
    append_jsonl(run.metrics, {"step": 11, **ROW, name: 0.5})  # one more than the recipe asks for
    text = "\n".join(rendered(refreshed(run)))
    assert "[/bold]\u241b[2J<U+202E> 0.50" in text
    assert "0 s of steps left" in text


def test_what_is_new_comes_once_and_a_torn_line_when_it_is_whole(run: RunFolder) -> None:
    view = RunView(run)
    assert view.refresh() == []
    steps(run, 0.5)
    with run.metrics.open("ab") as file:
        file.write(b'{"step": 2, "reward/mean": 0.7')
    assert [line[:27] for line in view.refresh()] == ["step    1/10  reward 0.500 "]
    assert view.refresh() == [] and view.step == 1
    with run.metrics.open("ab") as file:
        file.write(b"5}\n\xff\n[1]\n")
    assert [line[:27] for line in view.refresh()] == ["step    2/10  reward 0.750 "]


def test_a_roll_back_takes_steps_and_scores_away(run: RunFolder) -> None:
    steps(run, 0.1, 0.2, 0.3)
    append_jsonl(run.metrics, {"step": 3, **SCORE})
    view = refreshed(run)
    write_jsonl(run.metrics, [{"step": 1, **ROW}])
    view.refresh()
    assert (view.step, view.scores) == (1, {})


def test_a_shorter_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    tail = Tail(path)
    assert [row["a"] for row in tail.rows()] == [1, 2] and not tail.restarted
    path.write_text('{"a": 3}\n')  # the same inode
    assert [row["a"] for row in tail.rows()] == [3] and tail.restarted


def test_the_title_says_how_a_run_ended_or_that_it_is_silent(run: RunFolder) -> None:
    steps(run, 0.5)
    os.utime(run.metrics, (1e9, 1e9))
    assert "silent for" in rendered(refreshed(run))[0]
    log_event(run, "stop", 1, reason="budget")
    assert "stopped (budget)" in rendered(refreshed(run))[0]
    log_event(run, "resume", 1)
    log_event(run, "finish", 1)
    assert "finished" in rendered(refreshed(run))[0]


def test_events_are_told_by_those_who_watch_alone(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    log_event(run, "alarm", 1, sentence="old")
    steps(run, *[0.5] * 9)
    with LiveView(run) as inside, LiveView(run, with_notes=True) as outside:
        log_event(run, "change", 2, key="rollout.temperature", value=0.7, cause="trigger")
        log_event(run, "save", 2)
        inside.show()
        assert capsys.readouterr().err == ""
        outside.show()
        outside.show()
    told = capsys.readouterr().err.splitlines()
    assert [line[:9] for line in told[:5]] == [f"step    {step}" for step in (5, 6, 7, 8, 9)]
    assert told[5:] == ["step 1: alarm old", "step 2: change rollout.temperature = 0.7"]


def test_a_run_without_logs_or_with_a_broken_rollout_file(run: RunFolder) -> None:
    assert "no step yet" in "".join(rendered(refreshed(run)))
    run.rollouts(1).parent.mkdir()
    run.rollouts(1).write_bytes(b"no gzip")
    assert refreshed(run).sample == ""


def test_spark_and_duration_by_hand() -> None:
    assert spark([]) == ""
    assert spark([1.0, 1.0]) == "▁▁"
    assert spark([0.0, 0.5, 1.0]) == "▁▅█"  # 0.5 of seven steps is 3.5, rounded to even: 4
    # 150 s round to 2 minutes, as half to even
    assert [duration(one) for one in (99.4, 150, 7200)] == ["99 s", "2 min", "2.0 h"]


def test_watch_prints_lines_and_ends_with_the_run(
    run: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from open_rs.cli import main

    monkeypatch.setattr("sys.argv", ["open-rs", "watch", str(run.path), "--json"])
    steps(run, 0.5, 0.75)
    append_jsonl(run.metrics, {"step": 2, **SCORE})
    log_event(run, "finish", 2)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {
        "name": "run",
        "step": 2,
        "num_steps": 10,
        "state": "finished",
        "seconds_left": 16.0,
        "metrics": {**ROW, "step": 2, "reward/mean": 0.75},
        "scores": {"2": [0.5, 0.4, 0.6]},
        "notes": [],
    }


def test_watch_needs_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from open_rs.cli import main

    monkeypatch.setattr("sys.argv", ["open-rs", "watch", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
