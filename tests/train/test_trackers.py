"""Metrics in a tracker's own files, read back by the tracker's own reader."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from open_rs.errors import InputError
from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.runs import RunFolder, open_run
from open_rs.train.trackers import flat, open_trackers


def opened(tmp_path: Path, *trackers: str) -> tuple[Recipe, RunFolder]:
    recipe = recipe_from_dict({"train": {"trackers": trackers}})
    return recipe, open_run(tmp_path / "run", recipe)


def test_tensorboard_holds_every_figure_under_its_step(tmp_path: Path) -> None:
    recipe, run = opened(tmp_path, "tensorboard")
    with open_trackers(recipe, run) as trackers:
        trackers.log({"step": 1, "reward/mean": 0.25, "policy/kl": 0.5})
        trackers.log({"step": 2, "reward/mean": 0.75})
    events = EventAccumulator(str(run.path / "trackers" / "tensorboard")).Reload()
    assert [(one.step, one.value) for one in events.Scalars("reward/mean")] == [
        (1, 0.25),
        (2, 0.75),
    ]
    assert [one.value for one in events.Scalars("policy/kl")] == [0.5]


def test_without_trackers_nothing_is_made(tmp_path: Path) -> None:
    recipe, run = opened(tmp_path)
    with open_trackers(recipe, run) as trackers:
        trackers.log({"step": 1, "reward/mean": 0.25})
    assert not (run.path / "trackers").exists()


def test_a_tracker_that_is_not_installed_is_named_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    recipe, run = opened(tmp_path, "wandb")
    with pytest.raises(InputError, match=r"wandb is not installed; pip install .*\[trackers\]"):
        open_trackers(recipe, run).__enter__()


def test_settings_under_their_dotted_paths() -> None:
    settings = {"a": {"b": 1, "c": None}, "d": [{"e": 0.5}, "f"], "g": True}
    assert flat(settings) == {"a.b": 1, "a.c": "None", "d.0.e": 0.5, "d.1": "f", "g": True}
