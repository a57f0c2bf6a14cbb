"""`open-rs plan` against what a run then takes: peak memory, seconds and tokens of a step.

    OMP_NUM_THREADS=1 python perf/plan_accuracy.py judge --out runs/plan_accuracy
    python perf/plan_accuracy.py table runs/plan_accuracy/judge.jsonl

Each configuration is planned in one process and trained in another. Memory: the resident set of the
training process and the proportional sets of its children, looked at every 20 ms, against the
plan's total. Time: the mean over steps of `time/step_s`, the first one left out, which pays for
what is made at first use. Lengths are drawn, so that time is judged twice: against the plan as it
stood, and against the plan's pace with the lengths and dead groups that then came. What a file
holds already is not measured again.

`develop` are the configurations that the plan was built on, `judge` others: another group, batch,
cap, budget and number of slots each.
"""

import argparse
import gzip
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

TINY, SMOL = "tiny", "models/smollm2-135m"
EVERY_S = 0.02
COSINE = [{"type": "cosine"}]
REPETITION = [{"type": "repetition", "ngram_size": 2}]  # differs where every answer is wrong


@dataclass(frozen=True)
class Configuration:
    """Prompts x group, cap; `more` are further settings by their dotted keys."""

    model: str
    prompts: int
    group: int
    cap: int
    budget: int = 8192
    slots: int = 64
    steps: int | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def num_steps(self) -> int:
        """So many that chance moves the mean length by some 5 %, and two saves are in them."""
        saves = 2 * self.more.get("train.updates_per_batch", 1)
        return self.steps or saves * max(3, math.ceil(400 / (self.prompts * self.group)))

    @property
    def name(self) -> str:
        extra = "".join(f", {key}={value}" for key, value in self.more.items() if key != "rewards")
        return (
            f"{Path(self.model).name} {self.prompts}x{self.group} cap {self.cap}, "
            f"{self.budget} tokens, {self.slots} slots{extra}"
        )

    def recipe(self, data: Path) -> dict[str, Any]:
        made: dict[str, Any] = {
            "model": {"path": self.model, "device": "cpu"},
            "data": {"train": {"task": "arithmetic", "count": 400}},
            "rollout": {
                "prompts_per_step": self.prompts,
                "group_size": self.group,
                "max_completion_tokens": self.cap,
                "max_slots": self.slots,
            },
            "train": {
                "num_steps": self.num_steps,
                "save_every": self.num_steps // 2,
                "micro_batch_tokens": self.budget,
                "learning_rate": 1e-6,
            },
        }
        if self.model == SMOL:
            path = data / "train" / "gsm8k_r1zero.jsonl.gz"
            made["data"]["train"] = {"path": str(path), "count": 60}
            made["prompt"] = {"max_prompt_tokens": 1024}
            made["rewards"] = REPETITION
        for key, value in self.more.items():
            place = made
            *parents, last = key.split(".")
            for part in parents:
                place = place.setdefault(part, {})
            place[last] = value
        return made


LORA = {"model.lora": {"rank": 8}, "train.learning_rate": 1e-4}
LARGE_LORA = {"model.lora": {"rank": 32}}
CHECKPOINTED = {"train.gradient_checkpointing": True}
DEVELOP = (
    Configuration(TINY, 16, 8, 256, slots=128),
    Configuration(TINY, 4, 4, 128),
    Configuration(TINY, 8, 16, 512, budget=2048, slots=32),
    Configuration(TINY, 32, 4, 64, budget=16384, more={"loss.kl_coef": 0.04}),
    Configuration(TINY, 8, 8, 256, more=LORA),
    Configuration(TINY, 16, 8, 256, more=CHECKPOINTED),
    Configuration(SMOL, 2, 8, 64, budget=2048, steps=4),
    Configuration(SMOL, 4, 4, 96, budget=1024, slots=8, steps=4),
)
JUDGE = (
    Configuration(TINY, 12, 6, 192),
    Configuration(TINY, 24, 8, 256, slots=192),
    Configuration(TINY, 6, 12, 384, budget=4096),
    Configuration(TINY, 16, 16, 128, budget=16384, slots=256),
    Configuration(TINY, 5, 7, 300, budget=3000, slots=20),
    Configuration(TINY, 2, 4, 64),
    Configuration(TINY, 40, 4, 200, budget=32768, slots=160),
    Configuration(TINY, 10, 10, 500, budget=1500, slots=50),
    Configuration(TINY, 12, 8, 256, more={"loss.kl_coef": 0.04}),
    Configuration(TINY, 20, 6, 128, budget=2000, more={"loss.kl_coef": 0.01}),
    Configuration(TINY, 8, 12, 200, more=LORA),
    Configuration(TINY, 16, 6, 320, budget=4096, more={**LORA, **LARGE_LORA}),
    Configuration(TINY, 12, 12, 256, budget=6000, more=CHECKPOINTED),
    Configuration(TINY, 16, 8, 256, slots=16, more={"rewards": COSINE}),
    Configuration(TINY, 6, 8, 256, more={"train.updates_per_batch": 2, "rewards": COSINE}),
    Configuration(SMOL, 2, 6, 80, budget=1536, steps=4),
    Configuration(SMOL, 3, 4, 48, budget=4096, steps=4),
    Configuration(SMOL, 1, 12, 72, budget=800, slots=6, steps=4),
    Configuration(SMOL, 2, 4, 64, budget=2048, steps=4, more={"model.lora": {"rank": 16}}),
    Configuration(SMOL, 2, 4, 56, budget=1024, steps=4, more={"loss.kl_coef": 0.04}),
)
SETS = {"develop": DEVELOP, "judge": JUDGE}


def open_rs(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "open_rs.cli", *arguments]


def watched(command: list[str]) -> int:
    """Run a command; the most bytes that its processes held together."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    parent, peak, ended = psutil.Process(process.pid), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(EVERY_S):
            try:
                held = parent.memory_info().rss
                for one in parent.children(recursive=True):
                    held += one.memory_full_info().pss
            except psutil.Error:
                continue
            peak[0] = max(peak[0], held)

    thread = threading.Thread(target=watch)
    thread.start()
    status = process.wait()
    ended.set()
    thread.join()
    if status:
        raise SystemExit(f"{' '.join(command)}: status {status}")
    return peak[0]


def measure(one: Configuration, data: Path) -> dict[str, Any]:
    """Plan, train, and put the two side by side."""
    with tempfile.TemporaryDirectory() as folder:
        recipe, run = Path(folder) / "recipe.json", Path(folder) / "run"
        recipe.write_text(json.dumps(one.recipe(data)))
        started = time.perf_counter()
        subprocess.run(
            open_rs("plan", str(recipe), "--out", str(run)), check=True, stdout=subprocess.DEVNULL
        )
        plan_s = time.perf_counter() - started
        peak = watched(open_rs("train", str(recipe), "--out", str(run)))
        plan = json.loads((run / "plan.json").read_text())
        metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        updates = one.more.get("train.updates_per_batch", 1)
        steps = [row for row in metrics if row["step"] > updates and "time/step_s" in row]
        batches = len(steps) / updates
        given = [
            seconds_given(run, plan, row["step"], one) for row in steps if "time/rollout_s" in row
        ]
        return {
            "name": one.name,
            "plan_s": plan_s,
            "memory": {"planned": plan["memory_bytes"]["total"], "measured": peak},
            "phases": plan["memory_phases"],
            "parts": plan["memory_bytes"],
            "seconds": {
                "planned": plan["step_seconds"] * updates,
                "given": statistics.mean(sum(one) for one in given),
                "measured": sum(row["time/step_s"] for row in steps) / batches,
            },
            "rollout_s": {
                "planned": plan["seconds"]["rollout"] / (plan["steps"] / updates),
                "given": statistics.mean(one[0] for one in given),
                "measured": sum(row.get("time/rollout_s", 0) for row in steps) / batches,
            },
            "update_s": {
                "planned": plan["seconds"]["update"] / (plan["steps"] / updates),
                "given": statistics.mean(one[1] for one in given),
                "measured": sum(row["time/update_s"] for row in steps) / batches,
            },
            "tokens": {
                "planned": plan["step_tokens"] * updates,
                "measured": sum(row.get("tokens/completion", 0) for row in steps) / batches,
            },
            "pace": plan["probe"]["pace"],
        }


def seconds_given(
    run: Path, plan: dict[str, Any], step: int, one: Configuration
) -> tuple[float, float]:
    """(rollout, update) by the plan's pace for the completions that a step then had."""
    from open_rs.models import load_policy
    from open_rs.plan.pace import Pace
    from open_rs.plan.schedule import Group, decoding, passes
    from open_rs.plan.subject import shape_loaded
    from open_rs.recipe import load_recipe

    recipe = load_recipe(run / "recipe.json")
    if run not in SHAPES:
        SHAPES[run] = shape_loaded(load_policy(recipe.model), recipe.model)
    pace = Pace(**{key: held(value) for key, value in plan["probe"]["pace"].items()})
    with gzip.open(run / "rollouts" / f"{step:06d}.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    groups = []
    for first in range(0, len(rows), one.group):
        part = rows[first : first + one.group]
        lengths = tuple(len(row["completion_ids"]) for row in part)
        groups.append(
            Group(len(part[0]["prompt_ids"]), lengths, any(row["advantage"] for row in part))
        )
    rollout = pace.decoding_seconds(decoding(groups, one.slots)) + len(rows) * pace.row_s
    kl = recipe.loss.kl_coef > 0
    made = passes(groups, one.budget, packed=plan["probe"]["packed"], all_rows=kl)
    updates = recipe.train.updates_per_batch
    return rollout, updates * pace.update_seconds(made, SHAPES[run], kl=kl)


SHAPES: dict[Path, Any] = {}


def held(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def table(rows: list[dict[str, Any]]) -> str:
    """Ratios of the forecast to what came."""
    lines = [
        "| configuration | memory, GiB | plan / run | s a step | plan / run | given the tokens | "
        "tokens a step | plan / run | plan, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    memory, seconds, given = [], [], []
    for row in rows:
        of = {
            key: row[key]["planned"] / row[key]["measured"]
            for key in ("memory", "seconds", "tokens")
        }
        with_tokens = row["seconds"]["given"] / row["seconds"]["measured"]
        memory.append(of["memory"])
        seconds.append(of["seconds"])
        given.append(with_tokens)
        lines.append(
            f"| {row['name']} | {row['memory']['measured'] / 2**30:.2f} | {of['memory']:.2f} | "
            f"{row['seconds']['measured']:.2f} | {of['seconds']:.2f} | {with_tokens:.2f} | "
            f"{row['tokens']['measured']:,.0f} | {of['tokens']:.2f} | {row['plan_s']:.0f} |"
        )
    lines += [
        "",
        "| plan / run | configurations within | of | lowest | median | highest |",
        "|---|---|---|---|---|---|",
        summary("memory", memory, 0.1),
        summary("seconds a step", seconds, 0.2),
        summary("seconds a step, given the tokens that came", given, 0.2),
        "",
        f"{platform.machine()}, {os.cpu_count()} cores, one thread, no GPU",
    ]
    return "\n".join(lines)


def summary(what: str, ratios: list[float], bound: float) -> str:
    """How many are within the bound, and the spread."""
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    return (
        f"| {what} | {within(ratios, bound)} within {bound:.0%} | {len(ratios)} | {low:.2f} | "
        f"{middle:.2f} | {high:.2f} |"
    )


def within(ratios: list[float], bound: float) -> int:
    return sum(abs(one - 1) <= bound for one in ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=[*SETS, "table"])
    parser.add_argument("file", nargs="?", type=Path, help="of table: what a run of this wrote")
    parser.add_argument("--only", type=int, nargs="*", help="configurations by number, from 0")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin none after so many")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/plan_accuracy"))
    given = parser.parse_args()
    if given.what == "table":
        print(table([json.loads(line) for line in given.file.read_text().splitlines()]))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    results = given.out / f"{given.what}.jsonl"
    done = {json.loads(line)["name"] for line in results.open()} if results.exists() else set()
    started = time.monotonic()
    for number, one in enumerate(SETS[given.what]):
        if one.name in done or (given.only is not None and number not in given.only):
            continue
        if time.monotonic() - started > given.seconds:
            break
        row = measure(one, given.data)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(table([row]).splitlines()[2], flush=True)


if __name__ == "__main__":
    main()
