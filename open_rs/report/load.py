"""Everything that the page needs from a run folder; what is missing or damaged is a note."""

import math
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from open_rs.errors import InputError
from open_rs.report.format import MAX_TEXT, cut
from open_rs.runs import RunFolder, json_object, log_lines, read_json
from open_rs.text import redact_all, visible

Row = dict[str, Any]
T = TypeVar("T")

DAMAGE = (InputError, OSError, EOFError, UnicodeDecodeError, zlib.error)


@dataclass
class RunData:
    """A run folder in memory: files that are absent are empty, texts are fit to be shown."""

    run: RunFolder
    recipe: Row = field(default_factory=dict)
    environment: Row = field(default_factory=dict)
    plan: Row = field(default_factory=dict)
    metrics: list[Row] = field(default_factory=list)  # by step, one row each
    events: list[Row] = field(default_factory=list)
    ledger: list[Row] = field(default_factory=list)
    curation: Row = field(default_factory=dict)
    evaluations: dict[str, Row] = field(default_factory=dict)  # summaries by name
    comparison: Row = field(default_factory=dict)
    test_uses: list[Row] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)  # a sentence per file that cannot be read

    @property
    def num_steps(self) -> int | None:
        """Steps that the recipe asks for."""
        steps = self.recipe.get("train", {}).get("num_steps")
        return int(steps) if steps is not None else None

    @property
    def last_step(self) -> int:
        return max((int(row["step"]) for row in self.metrics), default=0)

    @property
    def selected_step(self) -> int | None:
        """The checkpoint that validation picked; None where none was.

        Told by the last `select` event, else by the name of the evaluation "after".
        """
        for event in reversed(self.events):
            if event.get("event") == "select":
                return int(event.get("step", 0))
        after = str(self.comparison.get("after", "")).rpartition("-")[2]
        return int(after) if after.isdigit() else None

    def object(self, path: Path) -> Row:
        """A JSON object of the run; empty where the file is absent or damaged."""
        if not path.exists():
            return {}
        value = presentable(redact_all(self._guarded(path, read_json, {})))
        if not isinstance(value, dict):
            self.damaged.append(f"{self._name(path)}: a JSON object is needed")
            return {}
        return value

    def log(self, path: Path, keys: Collection[str] | None = None) -> list[Row]:
        """The rows of a log of the run, cut to `keys`; lines that are no rows are left out."""
        rows: list[Row] = []
        wrong: list[int] = []
        nothing: list[bytes] = []
        for number, line in enumerate(self._guarded(path, log_lines, nothing), start=1):
            if (row := json_object(line)) is not None:
                rows.append(row)
            elif line:
                wrong.append(number)
        if wrong:
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            self.damage(path, f"line {wrong[0]}{more}: no JSON object, left out")
        if keys is not None:
            rows = [{key: row[key] for key in keys if key in row} for row in rows]
        return [presentable(row) for row in rows]

    def _guarded(self, path: Path, reader: Callable[[Path], T], instead: T) -> T:
        try:
            return reader(path)
        except DAMAGE as error:
            self.damage(path, error)
            return instead

    def damage(self, path: Path, why: Exception | str) -> None:
        """Note that a file of the run, or part of it, cannot be read."""
        reason = visible(str(why)).removeprefix(visible(str(path))).lstrip(",: ")
        self.damaged.append(f"{self._name(path)}: {reason or type(why).__name__}")

    def _name(self, path: Path) -> str:
        return visible(str(path.relative_to(self.run.path)))


def load_run(run: RunFolder) -> RunData:
    """Read what there is of `run`. Rollouts and evaluation records are read by their readers."""
    if not run.path.is_dir():
        raise InputError(f"{run.path}: no such run folder; name one that open-rs train has made")
    data = RunData(run)
    data.recipe = data.object(run.recipe)
    data.environment = data.object(run.environment)
    data.plan = data.object(run.plan)
    data.metrics = merged(data.log(run.metrics))
    data.events = [redact_all(row) for row in data.log(run.events) if "event" in row]
    data.ledger = [row for row in data.log(run.ledger) if "phase" in row]
    data.curation = data.object(run.curated / "summary.json")
    evaluations = run.path / "evaluations"
    data.comparison = data.object(evaluations / "comparison.json")
    data.test_uses = data.log(evaluations / "test_uses.jsonl", ("step", "set", "problems"))
    for path in sorted(evaluations.glob("*/summary.json")):
        if summary := data.object(path):
            data.evaluations[path.parent.name] = summary
    return data


def merged(rows: list[Row]) -> list[Row]:
    """One row a step, by step: a validation score is a line of its own, later figures win."""
    steps: dict[int, Row] = {}
    for row in rows:
        if type(row.get("step")) is int:
            steps.setdefault(row["step"], {}).update(row)
    return [steps[step] for step in sorted(steps)]


def presentable(value: Any) -> Any:
    """`value` with all text made visible and of bounded length, and numbers that are not finite
    made None.
    """
    if isinstance(value, str):
        return visible(cut(value, MAX_TEXT))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [presentable(one) for one in value]
    if isinstance(value, dict):
        return {presentable(key): presentable(one) for key, one in value.items()}
    return value
