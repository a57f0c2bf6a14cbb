"""Runs with a cap on hours or dollars: the trials of `perf/reliability.py budget`."""

import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kill_recipes import PLAIN
from kill_starts import Board, start

from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.runs import open_run, read_log, read_metrics
from open_rs.train import checkpoint

ENDLESS = 100_000  # steps


@dataclass
class Capped:
    """Where a capped run stopped."""

    recipe: Recipe
    status: int
    share: float  # of the cap, by the ledger
    process: float  # the process from its start to its end, as a share of the cap
    steps: int
    step_seconds: float
    intact: bool  # the newest checkpoint is that of the last step, and whole
    reason: str

    @property
    def is_good(self) -> bool:
        return 0.95 <= self.share <= 1 and self.status == 3 and self.intact


def capped_trial(path: Path, board: Board, draw: random.Random, seconds: float) -> Capped:
    recipe = capped_recipe(draw, seconds)
    run = open_run(path, recipe)
    began = time.monotonic()
    status = start(run, board).wait()
    process = (time.monotonic() - began) / seconds
    spent = read_log(run.ledger)
    share = sum(row["seconds"] for row in spent) / seconds
    if recipe.budget.usd is not None:
        share = sum(row["usd"] for row in spent) / recipe.budget.usd
    steps = [row["time/step_s"] for row in read_metrics(run) if "time/step_s" in row]
    intact = bool(steps) and checkpoint.newest_valid(run) == (len(steps), [])
    mean = sum(steps) / max(len(steps), 1)
    reason = str(read_log(run.events)[-1].get("reason"))
    shutil.rmtree(path)
    return Capped(recipe, status, share, process, len(steps), mean, intact, reason)


def row_of(one: Capped) -> str:
    """A row of the table."""
    train, evaluate, caps = one.recipe.train, one.recipe.evaluate, one.recipe.budget
    cap = f"{caps.hours * 3600:g} s" if caps.hours else f"${caps.usd:.4f} at ${caps.usd_per_hour:g}"
    saves = str(train.save_every) if train.save_every < ENDLESS else "-"
    scores = str(evaluate.every) if one.recipe.data.validation else "-"
    cells = [cap, saves, scores, f"{one.step_seconds:.2f}", str(one.steps), str(one.status),
             f"{one.share:.1%}", f"{one.process:.1%}", "yes" if one.intact else "NO",
             one.reason]  # fmt: skip
    return " | ".join(cells)


def capped_recipe(draw: random.Random, seconds: float) -> Recipe:
    """An endless run whose steps take as long as the draw will have it, with saves and validation
    scores or without, and a cap in hours or in dollars that comes to `seconds`.
    """
    settings: dict[str, Any] = dict(PLAIN)
    settings["rollout"] = {
        "group_size": draw.choice((2, 4, 8)),
        "prompts_per_step": draw.choice((1, 2, 4, 8)),
        "max_completion_tokens": draw.choice((8, 24, 64)),
    }
    every = draw.choice((1, 3, 10, ENDLESS))
    settings["train"] = {"num_steps": ENDLESS, "save_every": every, "micro_batch_tokens": 512}
    scored = draw.choice((2, 5, 20, None))
    settings["data"] = {"train": PLAIN["data"]["train"]}
    if scored:
        held_out = {"task": "arithmetic", "split": "validation", "levels": [1]}
        settings["data"]["validation"] = held_out | {"count": draw.choice((2, 8, 24))}
    settings["evaluate"] = {"every": scored or ENDLESS, "validation_samples": 2}
    settings["train"]["keep_last"] = 2
    price = draw.choice((None, 0.44, 2.5))
    budget = {"hours": seconds / 3600}
    if price:
        budget = {"usd": price * seconds / 3600, "usd_per_hour": price}
    return recipe_from_dict(settings | {"budget": budget})
