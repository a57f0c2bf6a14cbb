"""What this machine can do, and which share of it each phase of our step reaches.

    OMP_NUM_THREADS=2 python perf/roofline.py --model models/smollm2-135m --json runs/roofline.json

Measured first: the rate of large float32 (and bfloat16) matrix products, the bandwidth of memory
(a copy of 256 MB, read and write counted), and the time of one decoding step's matrix products at
the number of rows in flight: the model's own weight matrices one after the other, with nothing
between them, by the faster of torch's products and oneDNN's with packed weights. That last time is
the limit that decoding is held against: attention, norms and sampling come on top. Training is held
against the rate of large products over useful tokens: 6 floating-point operations per weight and
token (forward 2, backward 4), where a prompt counts once per group and padding not at all.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import add_output, write
from workloads import WORKLOADS, forced_lengths

from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.rollout.slots import Slots
from open_rs.runs import open_run
from open_rs.train import loop
from open_rs.train.setup import open_training

REPEATS = 5


def seconds_of(work: Callable[[], Any]) -> float:
    """Median over the repeats, after one that is not counted."""
    work()
    spent = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


def gemm_rate(dtype: torch.dtype, size: int = 2048) -> float:
    """Floating-point operations a second of a large product, by the faster way."""
    left, right = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    return 2 * size**3 / min(map(seconds_of, ways(left, right)))


def ways(inputs: torch.Tensor, weight: torch.Tensor) -> list[Callable[[], Any]]:
    """inputs @ weight.T as torch does it, and by weights that were packed before."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
    return [
        lambda: inputs @ weight.T,
        lambda: torch.ops.mkldnn._linear_pointwise(inputs, packed, None, "none", [], ""),
    ]


def bandwidth() -> float:
    """Bytes a second that a copy reads and writes, far beyond any cache."""
    source = torch.zeros(64 * 2**20, dtype=torch.float32)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / seconds_of(lambda: target.copy_(source))


def weight_matrices(model: Any) -> list[torch.Tensor]:
    """The matrices that every decoded token is multiplied with, the LM head among them."""
    return [
        module.weight.detach() for module in model.modules() if isinstance(module, torch.nn.Linear)
    ]


def product_seconds(matrices: list[torch.Tensor], rows: int) -> float:
    """One pass of `rows` rows through all matrices, nothing between them."""
    inputs = {one.shape[1]: torch.randn(rows, one.shape[1]) for one in matrices}
    found = [ways(inputs[one.shape[1]], one) for one in matrices]
    return min(seconds_of(lambda which=which: [way[which]() for way in found]) for which in (0, 1))


def forced_seconds(matrices: list[torch.Tensor], step: int) -> float:
    """The products of a rollout of W3, with as many rows as are still in flight at each token."""
    lengths = forced_lengths(WORKLOADS["W3"], step)
    rows = [1, 2, 4, 8, 16, 32]
    spent = [product_seconds(matrices, one) for one in rows]
    alive = [sum(length > token for length in lengths) for token in range(max(lengths))]
    return float(np.interp(alive, rows, spent).sum())


class Timed:
    """Seconds of every decoding step, by the number of rows in flight."""

    def __init__(self) -> None:
        self.seconds: dict[int, list[float]] = defaultdict(list)
        plain, seconds = Slots.step, self.seconds

        def step(slots: Slots) -> Any:
            started = time.perf_counter()
            codes = plain(slots)
            seconds[len(slots.rows)].append(time.perf_counter() - started)
            return codes

        Slots.step = step  # type: ignore[method-assign]


def workload(model: str, data: Path, cap: int) -> Recipe:
    """W2 of perf/step.py."""
    return recipe_from_dict(
        {
            "model": {"path": model, "device": "cpu"},
            "data": {"train": {"path": str(data / "train/gsm8k_r1zero.jsonl.gz"), "count": 64}},
            "rollout": {
                "group_size": 8, "prompts_per_step": 4, "max_completion_tokens": cap,
                "max_slots": 32,
            },
            "train": {"num_steps": 10, "save_every": 10},
        }
    )  # fmt: skip


@dataclass(frozen=True)
class Phase:
    """A phase of a step, seconds: those it took, and those of its limit."""

    name: str
    seconds: float
    limit: float
    limit_is: str  # what the limit is made of

    @property
    def line(self) -> str:
        return (
            f"| {self.name} | {self.seconds:.3g} s | {self.limit:.3g} s {self.limit_is} | "
            f"{self.limit / self.seconds:.0%} |"
        )


def measure(recipe: Recipe, rows: int) -> tuple[list[Phase], float]:
    """A step of the workload against the limits; and the limit of W3's rollout, seconds."""
    timed = Timed()
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(Path(folder) / "run", recipe)
        with open_training(recipe, run) as training:
            matrices = weight_matrices(training.policy)
            weights = sum(one.numel() for one in matrices)
            peak = gemm_rate(torch.float32)
            limit = product_seconds(matrices, rows)
            forced = forced_seconds(matrices, 1)
            started = time.perf_counter()
            groups, metrics = loop.roll_out(training, 1)
            whole = time.perf_counter() - started
            full = statistics.median(timed.seconds[rows])
            tokens = metrics["tokens/completion"]
            streamed = weights * 4 / bandwidth()
            decoding = Phase(
                f"decoding, {rows} rows in flight",
                full,
                limit,
                f"of products (reading the weights: {streamed:.3g} s)",
            )
            sampled = Phase(
                f"rollout as a whole, {tokens:,.0f} tokens",
                whole,
                tokens / rows * limit,
                f"with {rows} rows in flight throughout",
            )
            for group in groups:  # signal in every group, so that every row is trained on
                for rollout in group.rollouts:
                    rollout.advantage = 1.0 if rollout.sample % 2 else -1.0
            batches = loop.training_batches(training, groups)
            started = time.perf_counter()
            loop.learn(training, batches, first_of_batch=True)
            spent = time.perf_counter() - started
            useful = tokens + sum(len(group.prompt_ids) for group in groups)
            learning = Phase(
                f"update, {useful:,.0f} useful tokens",
                spent,
                6 * weights * useful / peak,
                "at the rate of large products",
            )
    return [decoding, sampled, learning], forced


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="models/smollm2-135m")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cap", type=int, default=256)
    parser.add_argument("--rows", type=int, default=32)
    add_output(parser)
    given = parser.parse_args()
    rates = {
        "float32, FLOP/s": gemm_rate(torch.float32),
        "bfloat16, FLOP/s": gemm_rate(torch.bfloat16),
        "memory, bytes/s": bandwidth(),
    }
    phases, forced = measure(workload(given.model, given.data, given.cap), given.rows)
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}",
        "",
        f"- float32 products: {rates['float32, FLOP/s'] / 1e9:.0f} GFLOP/s",
        f"- bfloat16 products: {rates['bfloat16, FLOP/s'] / 1e9:.0f} GFLOP/s",
        f"- memory, a copy: {rates['memory, bytes/s'] / 1e9:.1f} GB/s",
        "",
        f"| phase ({given.model}, 4 x 8, cap {given.cap}) | measured | limit | reached |",
        "|---|---|---|---|",
        *[phase.line for phase in phases],
        "",
        f"The products of a rollout of W3, as rows end: {forced:.1f} s.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    facts = {"model": given.model, "rates": rates, "phases": [asdict(one) for one in phases]}
    facts["forced_s"] = forced
    write(given, text, facts)


if __name__ == "__main__":
    main()
