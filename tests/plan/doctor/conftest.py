"""A bench for faults: a healthy set-up, in which one thing is broken at a time."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "rollout"))

from open_rs.plan.doctor.finding import Finding
from open_rs.plan.doctor.runner import diagnose
from open_rs.plan.doctor.subject import Subject
from open_rs.plan.doctor.table import CHECKS
from open_rs.recipe import recipe_from_dict

GRADER = ("grader.starts", "grader.known_pairs", "grader.hang", "data.golds")  # seconds each


class Bench:
    """Runs the doctor in an empty folder. `settings` are those of the recipe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = {
            "data": {
                name: {"task": "arithmetic", "count": 24, "levels": [1], "split": name}
                for name in ("train", "validation", "test")
            },
            "rollout": {"group_size": 2, "prompts_per_step": 4, "max_completion_tokens": 64},
            "train": {"num_steps": 4, "save_every": 2},
            "evaluate": {"every": 2},
        }

    def own_model(self) -> Path:
        """A copy of the tiny model that the recipe names and the test may break."""
        from open_rs.models import model_path

        copy = self.folder / "model"
        shutil.copytree(model_path("tiny"), copy)
        self.settings["model"] = {"path": str(copy)}
        return copy

    def findings(self, *, grader: bool = False, **settings: Any) -> dict[str, Finding]:
        """What the doctor finds, by check; with the grader's own checks where a test needs them."""
        recipe = recipe_from_dict({"name": "bench", **self.settings, **settings})
        checks = [one for one in CHECKS if grader or one.name not in GRADER]
        with Subject(recipe, self.folder / "run", seconds=600) as subject:
            return {one.check: one for one in diagnose(subject, checks)}

    def sees(self, check: str, status: str, *words: str, **settings: Any) -> Finding:
        """That check finds it, says these words, and no other check finds anything."""
        found = self.findings(**settings)
        wrong = {name: one for name, one in found.items() if one.status in ("warn", "fail")}
        assert list(wrong) == [check], wrong or found.get(check)
        told = wrong[check]
        assert told.status == status and told.cure, told
        for word in words:
            assert word in f"{told.sentence}; {told.cure}", told
        return told


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("CUDA_VISIBLE_DEVICES", "OPENAI_API_KEY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    return Bench(tmp_path)
