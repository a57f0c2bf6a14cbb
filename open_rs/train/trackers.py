"""Metrics for experiment trackers, by accelerate's adapters: TensorBoard, trackio, wandb.

A tracker is a copy for those who like its pages; the run folder stays the record. Nothing leaves
the machine unless the tracker's own settings say so: TensorBoard and trackio write files, and
`WANDB_MODE=offline` makes wandb do the same.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from open_rs.errors import InputError
from open_rs.recipe import Recipe
from open_rs.runs import RunFolder

Row = Mapping[str, Any]


class Trackers:
    """Those that the recipe names; without one, `log` does nothing."""

    def __init__(self, recipe: Recipe, run: RunFolder) -> None:
        self.open = [start_tracker(name, recipe, run) for name in recipe.train.trackers]

    def log(self, row: Row) -> None:
        """A row of metrics.jsonl under its own step."""
        values = {key: value for key, value in row.items() if key != "step"}
        for tracker in self.open:
            tracker.log(values, step=row["step"])

    def close(self) -> None:
        for tracker in self.open:
            tracker.finish()


@contextmanager
def open_trackers(recipe: Recipe, run: RunFolder) -> Iterator[Trackers]:
    trackers = Trackers(recipe, run)
    try:
        yield trackers
    finally:
        trackers.close()


def start_tracker(name: str, recipe: Recipe, run: RunFolder) -> Any:
    """The adapter, started, with the recipe as its configuration."""
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # the adapters ask it which process is the main one
    folder = run.path / "trackers"
    settings: dict[str, dict[str, Any]] = {
        "tensorboard": {"run_name": "tensorboard", "logging_dir": str(folder)},
        "trackio": {"run_name": "open-rs", "name": recipe.name, "resume": "allow"},
        "wandb": {
            "run_name": "open-rs",
            "name": recipe.name,
            "id": hashlib.sha256(str(run.path.resolve()).encode()).hexdigest()[:16],
            "dir": str(folder),
            "resume": "allow",
        },
    }
    folder.mkdir(exist_ok=True)
    tracker = LOGGER_TYPE_TO_CLASS[name](**settings[name])
    try:
        tracker.start()
    except ImportError:
        raise InputError(
            f'train.trackers: {name} is not installed; pip install "open-rs[trackers]"'
        ) from None
    tracker.store_init_configuration(flat(recipe.model_dump(mode="json")))
    return tracker


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Every setting under its dotted path, as in an override; what is no number is text."""
    if isinstance(settings, dict):
        pairs = [(str(key), value) for key, value in settings.items()]
    elif isinstance(settings, list):
        pairs = [(str(place), value) for place, value in enumerate(settings)]
    else:
        number = isinstance(settings, bool | int | float)
        return {prefix: settings if number else str(settings)}
    made: dict[str, Any] = {}
    for key, value in pairs:
        made |= flat(value, f"{prefix}.{key}" if prefix else key)
    return made
