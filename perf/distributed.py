"""Training on several ranks against one process: what differs, step by step.

    python perf/distributed.py [--steps 20] [--ranks 2] [--out FOLDER]

Every run trains the shipped model in float32 on the CPU, by `open-rs train` itself: in one
process, by torchrun with all weights on each rank, and with a share on each (FSDP2). Then runs are
taken back to the middle and gone on with by another number of ranks. The control is one process
that cuts its micro-batches elsewhere: what the order of sums alone does.

A difference of metrics is relative, |a - b| / |b|, and the largest of all steps and metrics; losses
at a ratio of 1 and the KL between sampler and trainer are rounding themselves, so theirs is
absolute and stated apart. That of weights and moments is ||a - b|| / ||b||. What --out holds
already is not trained again.
"""

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from open_rs.runs import RunFolder, read_log, read_metrics
from open_rs.train.checkpoint import checkpoint_steps, remove_checkpoint
from open_rs.train.resume import take_back

RECIPE = """
name = "ranks"
seed = 3
threads = 1
[data]
train = {{ task = "arithmetic", count = 160, levels = [1, 2, 3] }}
validation = {{ task = "arithmetic", split = "validation", count = 8, levels = [1, 2] }}
[rollout]
group_size = 8
prompts_per_step = 8
max_completion_tokens = 64
[train]
num_steps = {steps}
save_every = {half}
learning_rate = 1e-4
[evaluate]
every = {steps}
validation_samples = 4
"""
ROUNDING = ("policy/loss", "policy/engine_kl")  # all rounding, where a batch serves one update
TIMES = ("time/", "cost/")
CLOSE = 1e-6


@dataclass(frozen=True)
class Difference:
    """How far a run is from another one that should be the same."""

    rollouts: int | None  # the first step with another token, None without one
    metric: tuple[float, str, int]  # the largest relative one, of which metric, at which step
    above: tuple[int, int]  # how many metrics of steps are more than CLOSE apart, of how many
    rounding: float  # the largest absolute one of `ROUNDING`
    weights: float
    moments: float

    @property
    def row(self) -> str:
        value, name, step = self.metric
        where = "all equal" if self.rollouts is None else f"differ from step {self.rollouts} on"
        metric = f"{value:.1e} ({name}, step {step})" if value else "0"
        cells = [where, metric, "{} of {}".format(*self.above)]
        cells += [
            f"{one:.1e}" if one else "0" for one in (self.rounding, self.weights, self.moments)
        ]
        return " | ".join(cells)


def compare(run: RunFolder, expected: RunFolder) -> Difference:
    """Both have to be finished and of the same recipe."""
    rows = {row["step"]: row for row in read_metrics(run)}
    others = {row["step"]: row for row in read_metrics(expected)}
    if rows.keys() != others.keys():
        raise ValueError(f"{run.path} and {expected.path} do not hold the same steps")
    largest, rounding, above, count = (0.0, "", 0), 0.0, 0, 0
    for step, row in rows.items():
        if row.keys() != others[step].keys():
            raise ValueError(f"step {step} does not hold the same metrics")
        for name, value in row.items():
            apart = abs(value - others[step][name])
            if name in ROUNDING:
                rounding = max(rounding, apart)
            elif not name.startswith(TIMES):
                relative = apart / abs(others[step][name] or 1.0)
                largest = max(largest, (relative, name, step))
                above, count = above + (relative > CLOSE), count + 1
    drawn = [step for step in rows if expected.rollouts(step).exists()]
    steps = [step for step in drawn if tokens(run, step) != tokens(expected, step)]
    last = max(rows)
    weights, moments = (
        distance(*(load_file(one.checkpoint(last) / name) for one in (run, expected)))
        for name in ("model.safetensors", "trainer/optimizer.safetensors")
    )
    first = min(steps, default=None)
    return Difference(first, largest, (above, count), rounding, weights, moments)


def tokens(run: RunFolder, step: int) -> list[list[int]]:
    """The completions of a step."""
    with gzip.open(run.rollouts(step), "rt") as lines:
        return [json.loads(line)["completion_ids"] for line in lines]


def distance(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """||a - b|| / ||b|| over all tensors, which have to have the same names."""
    if ours.keys() != theirs.keys():
        raise ValueError("the checkpoints do not hold the same tensors")
    changes = [(ours[name].double() - theirs[name].double()).square().sum() for name in theirs]
    sizes = [tensor.double().square().sum() for tensor in theirs.values()]
    return float(torch.sqrt(torch.stack(changes).sum() / torch.stack(sizes).sum()))


def taken_back(run: RunFolder, step: int, path: Path) -> RunFolder:
    """A copy of a run as it was when a step was saved; later steps are drawn anew."""
    shutil.copytree(run.path, path)
    copy = RunFolder(path)
    for later in checkpoint_steps(copy):
        if later > step:
            remove_checkpoint(copy.checkpoint(later))
    take_back(copy, step)
    return copy


def train(ranks: int, arguments: list[str]) -> None:
    """`open-rs train`, by torchrun where there are several ranks."""
    command = [sys.executable, "-m", "open_rs"]
    if ranks > 1:
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        command = [sys.executable, "-m", *launcher, "-m", "open_rs"]
    done = subprocess.run(
        [*command, "train", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def events(path: Path) -> list[str]:
    return [row["event"] for row in read_log(RunFolder(path).events)]


def trained(ranks: int, recipe: Path, path: Path, *settings: str) -> RunFolder:
    if events(path)[-1:] != ["finish"]:
        shutil.rmtree(path, ignore_errors=True)
        train(ranks, [str(recipe), "--out", str(path), *settings])
    return RunFolder(path)


def gone_on(ranks: int, run: RunFolder, step: int, path: Path, *settings: str) -> RunFolder:
    """A copy of a run, taken back to a step and trained to its end again."""
    if events(path)[-1:] != ["finish"] or "resume" not in events(path):
        shutil.rmtree(path, ignore_errors=True)
        taken_back(run, step, path)
        train(ranks, ["--resume", str(path), *settings])
    return RunFolder(path)


def measure(folder: Path, steps: int, ranks: int) -> dict[str, tuple[RunFolder, RunFolder]]:
    """Every run with the one that it should equal, by what it is."""
    recipe, half = folder / "recipe.toml", steps // 2
    recipe.write_text(RECIPE.format(steps=steps, half=half))
    full = "train.sharding=full"
    alone = trained(1, recipe, folder / "alone")
    replicas = trained(ranks, recipe, folder / "replicas")
    shards = trained(ranks, recipe, folder / "shards", full)

    def again(run: RunFolder, on: int, *settings: str) -> tuple[RunFolder, RunFolder]:
        path = folder / f"{run.path.name}_on_{on}_{len(settings)}"
        return gone_on(on, run, half, path, *settings), run

    many, middle = f"{ranks} ranks", f"gone on from step {half}"
    return {
        "control: 1 process, micro-batches of 500 tokens": (
            trained(1, recipe, folder / "control", "train.micro_batch_tokens=500"),
            alone,
        ),
        f"{many}, all weights on each": (replicas, alone),
        f"{many}, a share on each": (shards, alone),
        f"{many}, {middle} by {many}": again(replicas, ranks),
        f"{many}, {middle} by 1 process": again(replicas, 1),
        f"{many} with shares, {middle} by {many} with shares": again(shards, ranks),
        f"{many} with shares, {middle} by {ranks + 1} with shares": again(shards, ranks + 1),
        f"{many} with shares, {middle} by 1 process": again(shards, 1),
        f"1 process, {middle} by {many} with shares": again(alone, ranks, full),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given: Any = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(
            "| run | completions | metrics | above 1e-6 | loss, engine KL | weights | moments |\n"
            "|---|---|---|---|---|---|---|"
        )
        for name, (run, expected) in measure(folder, given.steps, given.ranks).items():
            print(f"| {name} | {compare(run, expected).row} |", flush=True)


if __name__ == "__main__":
    main()
