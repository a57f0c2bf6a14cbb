"""Seconds of a complete step as its completions grow longer and more: caps 64 to 2,048, G 2 to 64.

    OMP_NUM_THREADS=1 python perf/growth.py --out runs/growth.md --json runs/growth.json

The tiny model (its context raised to 4,096) takes steps of 2 prompts as `train.loop` takes them:
rollout, grading, rewards, update and the records of both. Lengths are forced to the profile of W3,
so that every cell has as many tokens as its cap and G say, and every row is learnt from. All rows
of a step are decoded side by side, 4 of them at G = 2 and 128 at G = 64. Each round takes one step
of every cell; the first step of all is not counted. A line is fitted by least squares to the
median seconds over the tokens generated; R2 is the share of their variance that it explains.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import add_output, write
from workloads import Forced, Workload, force_ours, forced_lengths, problem_rows

from open_rs.models import model_path
from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.rollout.slots import Slots
from open_rs.runs import append_jsonl, open_run
from open_rs.train import loop
from open_rs.train.setup import Training, open_training

CAPS = (64, 128, 256, 512, 1024, 2048)
GROUP_SIZES = (2, 4, 8, 16, 32, 64)
PROMPTS, CONTEXT, MICRO_BATCH_TOKENS = 2, 4096, 4096
PLAIN = Slots._logits


@dataclass
class Cell:
    """One pair of cap and group size, and its steps: {"seconds", "rollout_s", "tokens"}."""

    cap: int
    group_size: int
    steps: list[dict[str, float]] = field(default_factory=list)

    @property
    def load(self) -> Workload:
        return Workload("tiny", PROMPTS, self.group_size, self.cap, forced=True)

    def median(self, key: str) -> float:
        return statistics.median(step[key] for step in self.steps)


def every_second(rollout: Any, problem: Any) -> float:
    """So that every group teaches, whatever was written."""
    return float(rollout.sample % 2)


def base_recipe(folder: Path, steps: int) -> Recipe:
    """A model with room for the longest rows, and problems enough."""
    shutil.copytree(model_path("tiny"), folder / "model")
    path = folder / "model" / "config.json"
    config = json.loads(path.read_text()) | {"max_position_embeddings": CONTEXT}
    path.write_text(json.dumps(config))
    rows = problem_rows(Workload("tiny", PROMPTS, 2, 64), Path(), PROMPTS * 64)
    problems = folder / "problems.jsonl"
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return recipe_from_dict(
        {
            "model": {"path": str(folder / "model"), "device": "cpu"},
            "data": {"train": {"path": str(problems)}},
            "rollout": {
                "group_size": max(GROUP_SIZES), "prompts_per_step": PROMPTS,
                "max_completion_tokens": max(CAPS), "max_slots": PROMPTS * max(GROUP_SIZES),
            },
            "rewards": [{"type": "custom", "function": "growth:every_second"}],
            "train": {
                "num_steps": steps, "save_every": steps, "learning_rate": 1e-9,
                "micro_batch_tokens": MICRO_BATCH_TOKENS,
            },
        }
    )  # fmt: skip


def with_cell(recipe: Recipe, cell: Cell) -> Recipe:
    size = {"group_size": cell.group_size, "max_completion_tokens": cell.cap}
    return recipe.model_copy(update={"rollout": recipe.rollout.model_copy(update=size)})


def take_step(training: Training, cell: Cell) -> dict[str, float]:
    """One step with the cell's settings, as `loop.steps` takes it."""
    training.now = with_cell(training.recipe, cell)
    Slots._logits = PLAIN  # type: ignore[method-assign]
    force_ours(Slots, cell.load)
    started, step = time.perf_counter(), training.state.step + 1
    Forced.step = step
    groups, metrics = loop.draw(training, step)
    metrics |= loop.learn(training, loop.training_batches(training, groups), first_of_batch=True)
    append_jsonl(training.run.metrics, {"step": step, **metrics})
    seconds = time.perf_counter() - started
    assert metrics["tokens/completion"] == sum(forced_lengths(cell.load, step))
    rolled = metrics["time/rollout_s"]
    return {"seconds": seconds, "rollout_s": rolled, "tokens": metrics["tokens/completion"]}


def measure(cells: Sequence[Cell], rounds: int) -> Iterator[int]:
    """Yields the number of rounds that are complete."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = base_recipe(Path(folder), rounds * len(cells) + 1)
        with open_training(recipe, open_run(Path(folder) / "run", recipe)) as training:
            take_step(training, Cell(max(CAPS), 2))
            for number in range(rounds):
                for cell in cells:
                    cell.steps.append(take_step(training, cell))
                    took = cell.steps[-1]
                    print(
                        f"{number} cap {cell.cap}, G {cell.group_size}: {took['seconds']:.2f} s, "
                        f"{took['tokens']:.0f} tokens",
                        file=sys.stderr,
                        flush=True,
                    )
                yield number + 1


def line(cells: Sequence[Cell]) -> tuple[float, float, float]:
    """(intercept in seconds, seconds a token, R2) of seconds over tokens, by least squares."""
    tokens = np.array([cell.median("tokens") for cell in cells])
    seconds = np.array([cell.median("seconds") for cell in cells])
    slope, intercept = np.polyfit(tokens, seconds, 1)
    left = seconds - intercept - slope * tokens
    return float(intercept), float(slope), float(1 - left.var() / seconds.var())


def table(title: str, cells: Sequence[Cell], text_of: Any) -> list[str]:
    """A line for each cap, a column for each group size."""
    at = {(cell.cap, cell.group_size): cell for cell in cells}
    lines = [
        f"{title}:",
        "",
        f"| cap | {' | '.join(f'G {size}' for size in GROUP_SIZES)} |",
        "|" + "---|" * (len(GROUP_SIZES) + 1),
    ]
    for cap in CAPS:
        found = [at.get((cap, size)) for size in GROUP_SIZES]
        texts = ["" if cell is None else text_of(cell) for cell in found]
        lines.append(f"| {cap:,} | {' | '.join(texts)} |")
    return [*lines, ""]


def fits(cells: Sequence[Cell]) -> list[str]:
    """The straight lines along both axes, and through everything."""
    by_size = {f"caps at G {s}": [c for c in cells if c.group_size == s] for s in GROUP_SIZES}
    by_cap = {f"G at cap {cap:,}": [c for c in cells if c.cap == cap] for cap in CAPS}
    lines = ["| line over | cells | s at 0 tokens | ms a token | R2 |", "|---|---|---|---|---|"]
    for name, several in (by_size | by_cap | {"everything": list(cells)}).items():
        if len(several) > 2:
            intercept, slope, share = line(several)
            lines.append(
                f"| {name} | {len(several)} | {intercept:.3f} | {1e3 * slope:.3f} | {share:.4f} |"
            )
    return [*lines, ""]


def text_of(cells: Sequence[Cell], rounds: int) -> str:
    head = [
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}; medians of {rounds} rounds; the tiny model, {PROMPTS} prompts",
        "",
    ]
    seconds = table("Seconds a step", cells, lambda cell: f"{cell.median('seconds'):.2f}")
    tokens = table("Tokens generated", cells, lambda cell: f"{cell.median('tokens'):,.0f}")
    each = table(
        "Milliseconds a generated token",
        cells,
        lambda cell: f"{1e3 * cell.median('seconds') / cell.median('tokens'):.3f}",
    )
    return "\n".join([*head, *seconds, *each, *tokens, *fits(cells)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--most", type=int, default=2**14, help="leave out cells with cap x G above this"
    )
    add_output(parser)
    given = parser.parse_args()
    cells = [Cell(cap, size) for cap in CAPS for size in GROUP_SIZES if cap * size <= given.most]
    for rounds in measure(cells, given.rounds):  # what is complete stays if the rest is cut off
        facts = [vars(cell) for cell in cells]
        write(given, text_of(cells, rounds), {"prompts": PROMPTS, "cells": facts})
    print(text_of(cells, given.rounds))


if __name__ == "__main__":
    main()
