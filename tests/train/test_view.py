"""The live panel and the plain lines, rendered to text."""

import io
from pathlib import Path

from rich.console import Console

from open_rs.problems import Problem
from open_rs.recipe import recipe_from_dict
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.runs import RunFolder
from open_rs.train.view import TrainView, spark


def rendered(view: TrainView) -> list[str]:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(view.panel())
    return [line.strip("│ ") for line in console.export_text().splitlines()]


def test_the_panel_shows_reward_scores_lengths_and_a_sample():
    view = TrainView(recipe_from_dict({"train": {"num_steps": 10}}), RunFolder(Path("x")))
    group = RolloutGroup(
        Problem("a", "Compute 1 + 1.", "2"), [1], [Rollout([1], [0.0], "= 2 [/red]", "stop")]
    )
    for step, reward in enumerate((0.25, 0.5), start=1):
        view.step(step, {"reward/mean": reward, "completion/mean_tokens": 31.0}, [group])
    view.score(2, {"validation/pass@1": 0.5, "validation/pass@1_low": 0.4,
                   "validation/pass@1_high": 0.6})  # fmt: skip
    lines = rendered(view)
    assert "run: step 2 of 10" in lines[0]
    assert lines[1].startswith("━")
    assert lines[2].split() == ["reward", "▁█", "mean", "0.50"]
    assert "step 2: pass@1 0.500 [0.400, 0.600]" in lines[3]
    assert "31 tokens" in lines[4]
    assert "= 2 [/red]" in lines  # what a model wrote is no markup


def test_spark_by_hand():
    assert spark([]) == ""
    assert spark([1.0, 1.0]) == "▁▁"
    assert spark([0.0, 0.5, 1.0]) == "▁▅█"  # 0.5 of seven steps is 3.5, rounded to even: 4
