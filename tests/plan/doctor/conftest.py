"""A bench for faults: a healthy set-up, in which one thing is broken at a time."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from open_rs.machine import package_version
from open_rs.plan.doctor import environment
from open_rs.plan.doctor.finding import Finding
from open_rs.plan.doctor.runner import diagnose
from open_rs.plan.doctor.subject import Subject
from open_rs.plan.doctor.table import CHECKS
from open_rs.recipe import recipe_from_dict

sys.path.append(str(Path(__file__).parent))

GRADER = ("grader.starts", "grader.known_pairs", "grader.hang", "data.golds")  # seconds each
LEFT_OUT = ("CUDA_VISIBLE_DEVICES", "OPENAI_API_KEY", "MASTER_PORT", "VLLM_PORT")


class Bench:
    """Runs the doctor in an empty folder. `settings` are those of the recipe."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        # Those of the process have a test module of their own, and would say the same every time
        self.checks = [one for one in CHECKS if one not in environment.CHECKS]
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

    def set(self, section: str, **values: Any) -> None:
        """Change settings of a section of the recipe."""
        self.settings[section] = {**self.settings.get(section, {}), **values}

    def own_model(self, file: str = "", **values: Any) -> Path:
        """A copy of the tiny model that the recipe names, with keys of one of its files changed;
        None removes a key.
        """
        from open_rs.models import model_path

        copy = self.folder / "model"
        if not copy.exists():
            shutil.copytree(model_path("tiny"), copy)
        self.set("model", path=str(copy))
        if file:
            held = json.loads((copy / file).read_text())
            changed = {key: value for key, value in {**held, **values}.items() if value is not None}
            (copy / file).write_text(json.dumps(changed))
        return copy

    def template(self, text: str) -> None:
        """A chat template of its own."""
        (self.folder / "template.jinja").write_text(text)
        self.set("prompt", chat_template="template.jinja")

    def rows(self, *rows: Any, key: str = "train") -> None:
        """The rows of a set; a text is a line as it stands, a number so many sound rows."""
        lines = []
        for row in rows:
            sound = [
                {"id": f"{key}-{n}", "problem": f"{key} {n}?", "answer": str(n)} for n in range(24)
            ]
            several = sound[:row] if isinstance(row, int) else [row]
            lines += [one if isinstance(one, str) else json.dumps(one) for one in several]
        (self.folder / f"{key}.jsonl").write_text("\n".join(lines))
        self.set("data", **{key: {"path": f"{key}.jsonl"}})

    def findings(self, *, grader: bool = False) -> dict[str, Finding]:
        """What the doctor finds, by check; with the grader's own checks where a test needs them."""
        recipe = recipe_from_dict({"name": "bench", **self.settings})
        checks = [one for one in self.checks if grader or one.name not in GRADER]
        with Subject(recipe, self.run, seconds=600) as subject:
            return {one.check: one for one in diagnose(subject, checks)}

    def sees(self, check: str, status: str, *words: str, grader: bool = False) -> None:
        """That check finds it, says these words, and no other check finds anything."""
        found = self.findings(grader=grader)
        wrong = {name: one for name, one in found.items() if one.status in ("warn", "fail")}
        assert list(wrong) == [check], wrong or found.get(check)
        told = wrong[check]
        assert told.status == status and told.cure, told
        for word in words:
            assert word in f"{told.sentence}; {told.cure}", told


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [*LEFT_OUT, *(one for one in os.environ if one.lower().endswith("_proxy"))]:
        monkeypatch.delenv(name, raising=False)
    package_version.cache_clear()
    yield Bench(tmp_path)
    package_version.cache_clear()
