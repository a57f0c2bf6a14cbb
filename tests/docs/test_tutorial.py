"""docs/tutorial.md: its commands, one after the other, do what it says."""

import re
import shlex
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from open_rs.cli import main
from open_rs.runs import RunFolder, read_json, read_metrics

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+) ?([^\n]*)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, _, text in BLOCKS if kind == "sh" for line in text.splitlines()]
# one step of few rollouts; the split of the file stays as it is
SMALL = [
    "sources.0.count=8",
    "data.validation.count=4",
    "data.test.count=4",
    "rollout.group_size=2",
    "rollout.prompts_per_step=2",
    "rollout.max_completion_tokens=12",
    "train.num_steps=1",
    "train.save_every=1",
    "evaluate.every=1",
]


def follow_the_page(monkeypatch: pytest.MonkeyPatch, folder: Path, settings: list[str]) -> None:
    monkeypatch.chdir(folder)
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] == "cd":
            monkeypatch.chdir(words[1])
            monkeypatch.syspath_prepend(str(Path.cwd()))
            continue
        if words[1] in ("plan", "train", "doctor"):
            words += settings
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, command


def test_every_command_of_the_page_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    follow_the_page(monkeypatch, tmp_path, SMALL)
    sys.modules.pop("rewards", None)
    run = RunFolder(tmp_path / "mine" / "runs" / "my-run")
    assert read_json(run.evaluation("comparison.json"))["verdict"]
    assert run.report.is_file()
    assert "reward/brevity" in read_metrics(run)[-1]
    assert "reward/brevity" not in read_metrics(RunFolder(run.path.parent / "plain"))[-1]


@pytest.mark.slow
def test_the_page_as_it_stands_ends_improved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    follow_the_page(monkeypatch, tmp_path, [])
    sys.modules.pop("rewards", None)
    run = RunFolder(tmp_path / "mine" / "runs" / "my-run")
    assert read_json(run.evaluation("comparison.json"))["verdict"] == "improved"


def test_the_reward_shown_is_the_one_that_is_written() -> None:
    shown = [text for kind, name, text in BLOCKS if (kind, name) == ("python", "rewards.py")]
    starter = files("open_rs") / "assets" / "starter" / "rewards.py"
    assert shown == [starter.read_text(encoding="utf-8")]
