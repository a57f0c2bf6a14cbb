"""What run folders say for the paper's tables and figures."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open_rs.errors import InputError
from open_rs.report.costs import RunCost, run_cost
from open_rs.report.load import RunData, load_run
from open_rs.runs import RunFolder
from open_rs.text import visible

SCORED = re.compile(r"(?P<name>.+)-(?P<step>\d{6,})")
UNEXPECTED = (AttributeError, IndexError, KeyError, TypeError, ValueError)


@dataclass(frozen=True)
class OurScore:
    """A finished evaluation of a run: pass@1 with its interval over problems, from 0 to 1."""

    held: str  # a benchmark's name, "test" or "validation"
    step: int
    value: float
    low: float
    high: float
    n: int
    k: int
    confidence: float
    harness: str


@dataclass
class OurRun:
    """A run folder as tables and figures need it; `label` is unique among those asked for."""

    label: str
    data: RunData
    cost: RunCost | None = None
    scores: list[OurScore] = field(default_factory=list)
    parameters: int | None = None
    selected: int | None = None  # the step of the checkpoint that validation picked

    @property
    def model(self) -> str:
        return str(self.data.recipe["model"].get("path") or "unknown model")

    def score(self, held: str, step: int) -> OurScore | None:
        return next((one for one in self.scores if (one.held, one.step) == (held, step)), None)

    def rewards(self) -> set[str]:
        return {str(one.get("type")) for one in self.data.recipe["rewards"]}


def open_runs(
    paths: Sequence[Path], usd_per_hour: float | None = None
) -> tuple[list[OurRun], list[str], list[str]]:
    """(the runs, a sentence for each folder that is none, a sentence for each part of a run that
    is missing or damaged). `usd_per_hour` is for devices without a known price.
    """
    runs: list[OurRun] = []
    refused: list[str] = []
    missing: list[str] = []
    for path, label in zip(paths, labels(paths), strict=True):
        try:
            runs.append(open_run(path, label, usd_per_hour, missing))
        except InputError as error:
            refused.append(str(error))
    return runs, refused, missing


def labels(paths: Sequence[Path]) -> list[str]:
    """A name for each folder, with the folder above and then a number where several are alike."""
    full = [path.resolve() for path in paths]
    names = [visible(path.name).replace("\n", " ") or "run" for path in full]
    if not apart(names):
        names = [
            f"{visible(path.parent.name)} {name}" for path, name in zip(full, names, strict=True)
        ]
    if not apart(names):
        names = [f"{number} {name}" for number, name in enumerate(names, start=1)]
    return names


def apart(names: Sequence[str]) -> bool:
    """Whether files that bear these names are different ones, on any file system."""
    return len({file_part(name).casefold() for name in names}) == len(names)


def file_part(label: str) -> str:
    """`label` as part of a file name."""
    return re.sub(r"[^\w.-]+", "_", label).strip("._")[:100] or "run"


def open_run(path: Path, label: str, usd_per_hour: float | None, missing: list[str]) -> OurRun:
    if not (path / "recipe.json").is_file():
        raise InputError(f"{path}: holds no recipe.json, so it is no run folder; name a run")
    data = load_run(RunFolder(path))
    if not is_recipe(data.recipe):
        raise InputError(f"{path}: recipe.json is no recipe of open-rs; restore it")
    run = OurRun(label, data)
    try:
        run.cost = run_cost(data, usd_per_hour)
    except UNEXPECTED as error:
        data.damaged.append(
            f"costs: its files are not as expected ({type(error).__name__}: {error})"
        )
    for name, summary in data.evaluations.items():
        try:
            run.scores.append(our_score(name, summary))
        except UNEXPECTED as error:
            data.damaged.append(f"evaluations/{name}: not as expected ({error!r})")
    run.scores.sort(key=lambda one: (one.held, one.step))
    try:
        run.selected = data.selected_step
    except UNEXPECTED:
        data.damaged.append("events.jsonl: its select event names no step")
    run.parameters = parameters_of(data.run)
    if not data.ledger:
        data.damaged.append("no ledger.jsonl, so no hours and dollars")
    if all(one.held == "validation" for one in run.scores):
        data.damaged.append("no evaluation of test problems; run open-rs evaluate on it")
    missing.extend(f"{label}: {sentence}" for sentence in data.damaged)
    return run


def is_recipe(recipe: dict[str, Any]) -> bool:
    """Whether the sections that are read here are there."""
    sections = all(isinstance(recipe.get(key), dict) for key in ("model", "rollout", "loss"))
    rewards = recipe.get("rewards")
    named = isinstance(rewards, list) and all(isinstance(one, dict) for one in rewards)
    return sections and named and isinstance(recipe.get("budget", {}), dict | None)


def our_score(name: str, summary: dict[str, Any]) -> OurScore:
    found = SCORED.fullmatch(name)
    score, print_ = summary["scores"]["pass@1"], summary.get("fingerprint") or {}
    value, low, high = (float(score[key]) for key in ("value", "low", "high"))
    known = (print_.get("benchmark") or {}).get("name")
    return OurScore(
        str(known or (found["name"] if found else name)),
        int(summary.get("step") or (found["step"] if found else 0)),
        value,
        low,
        high,
        n=int(score["n"]),
        k=int(score["k"]),
        confidence=float(score.get("confidence", 0.95)),
        harness=harness(print_),
    )


def harness(fingerprint: dict[str, Any]) -> str:
    """What measured a score, in short; the whole of it stands in the run's summary.json."""
    sampling = fingerprint.get("sampling") or {}
    version = (fingerprint.get("versions") or {}).get("open-rs")
    parts = [f"open-rs {version}" if version else "open-rs"]
    if fingerprint.get("engine"):
        parts.append(str(fingerprint["engine"]))
    for name, key in (("temperature", "temperature"), ("top-p", "top_p")):
        if sampling.get(key) is not None:
            parts.append(f"{name} {sampling[key]:g}")
    if sampling.get("max_completion_tokens"):
        parts.append(f"{sampling['max_completion_tokens']:,} tokens")
    return ", ".join(parts)


def parameters_of(run: RunFolder) -> int | None:
    """Weights of the newest checkpoint, from the headers of its safetensors files; None where it
    holds no whole model (an adapter, or no checkpoint).

    A file begins with the length of its JSON header in 8 little-endian bytes; the header tells
    every tensor's shape.
    """
    folders = sorted(one for one in run.checkpoints.glob("*") if one.name.isdigit())
    total = 0
    for path in sorted(folders[-1].glob("model*.safetensors")) if folders else ():
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            total += sum(
                math.prod(tensor["shape"])
                for key, tensor in header.items()
                if key != "__metadata__"
            )
        except (OSError, OverflowError, MemoryError, *UNEXPECTED):
            return None
    return total or None
