"""What each part of the training step is worth: with it and without it, in one process.

    OMP_NUM_THREADS=1 python perf/update.py W1 W2 --out runs/update.md

The rows have made up token ids and the lengths of the forced profile of W3 (log-normal about
0.3 of the cap of 256, a tenth at it); prompts have 120 tokens for SmolLM2-135M and 17 for the tiny
model. Variants take turns; seconds are of the processor, medians of the repeats. A variant leaves
out one thing: the stream (rows are padded to the longest of their micro-batch instead, sorted by
length), the backward pass of a chunk of logits at once (they are made again instead), or the fused
optimizer. `difference` is that of the whole gradient from the first line's, relative to its norm.
"""

import argparse
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from workloads import WORKLOADS, Workload, forced_lengths

from open_rs.models import load_policy
from open_rs.recipe import LossRecipe, ModelRecipe
from open_rs.train.batches import MicroBatch, Row, make_batches
from open_rs.train.logprobs import completion_logprobs
from open_rs.train.packed import TRIED, can_pack
from open_rs.train.update import add_loss, learn_from

PROMPT = {"W1": 17, "W2": 120}


def rows_of(load: Workload, prompt: int, vocabulary: int) -> list[Row]:
    """The rows of a step; every second one of a group is good."""
    draw = torch.Generator().manual_seed(0)

    def ids(count: int) -> list[int]:
        made: list[int] = torch.randint(0, vocabulary, (count,), generator=draw).tolist()
        return made

    lengths, rows = forced_lengths(load, 1), []
    for first in range(0, len(lengths), load.group_size):
        shared = ids(prompt)
        for place, length in enumerate(lengths[first : first + load.group_size]):
            rows.append(Row(shared, ids(length), [-5.0] * length, 1.0 if place % 2 else -1.0))
    return rows


def batches_of(rows: list[Row], cap: int, packed: bool) -> list[MicroBatch]:
    return make_batches(
        rows,
        micro_batch_tokens=8192,
        loss_norm="sequence",
        max_completion_tokens=cap,
        packed=packed,
    )


def learn(model: Any, batches: list[MicroBatch]) -> None:
    """The trainer's own gradient."""
    for batch in batches:
        learn_from(model, batch, defaultdict(float), LossRecipe(), 1.0, True, nullcontext())


def learn_twice(model: Any, batches: list[MicroBatch]) -> None:
    """The same where the logits of every chunk are made again in the backward pass."""
    for batch in batches:
        logprobs, entropy = completion_logprobs(
            model,
            batch.input_ids,
            batch.attention_mask,
            batch.completion_mask,
            temperature=1.0,
            with_entropy=True,
        )
        assert entropy is not None
        add_loss(logprobs, entropy, batch, defaultdict(float), LossRecipe(), True).backward()


def gradient(model: Any) -> torch.Tensor:
    return torch.cat([one.grad.flatten() for one in model.parameters()])


def timed(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def gemm_rate() -> float:
    """Floating-point operations a second of large float32 products, as perf/roofline.py's."""
    one = torch.randn(2048, 2048)
    return 2 * 2048**3 / min(timed(lambda: torch.mm(one, one)) for _ in range(5))


def compare(name: str, repeats: int, prompts: int | None) -> list[str]:
    """The table of one workload."""
    load = WORKLOADS[name]
    load = replace(load, prompts=prompts or load.prompts)
    model = load_policy(ModelRecipe(path=load.model, device="cpu")).train()
    rows = rows_of(load, PROMPT[name], model.get_input_embeddings().weight.shape[0])
    stream, padded = batches_of(rows, load.cap, True), batches_of(rows, load.cap, False)
    assert can_pack(model)
    variants: dict[str, tuple[bool, Callable[[Any, list[MicroBatch]], None], list[MicroBatch]]] = {
        "as it is": (True, learn, stream),
        "logits made again": (True, learn_twice, stream),
        "rows padded": (False, learn, padded),
    }
    seconds: dict[str, list[float]] = defaultdict(list)
    gradients: dict[str, torch.Tensor] = {}
    for turn in range(repeats + 1):  # the first is not counted
        for variant, (packs, work, batches) in variants.items():
            model.zero_grad(set_to_none=True)
            TRIED[model] = packs
            took = timed(lambda work=work, batches=batches: work(model, batches))
            if turn:
                seconds[variant].append(took)
            else:
                gradients[variant] = gradient(model)
    weights = sum(one.weight.numel() for one in model.modules() if isinstance(one, torch.nn.Linear))
    useful = sum(len(row.completion_ids) for row in rows) + PROMPT[name] * load.prompts
    ideal, best = 6 * weights * useful / gemm_rate(), gradients["as it is"]
    lines = [
        f"### {name}: {load.model}, {load.prompts} x {load.group_size}, {useful:,} useful tokens",
        "",
        "| variant | tokens forwarded | CPU s, median (least - most) | of the rate of large "
        "products | difference |",
        "|---|---|---|---|---|",
    ]
    for variant, (_, _, batches) in variants.items():
        took = seconds[variant]
        middle = statistics.median(took)
        error = (gradients[variant] - best).norm() / best.norm()
        lines.append(
            f"| {variant} | {sum(batch.tokens for batch in batches):,} | {middle:.2f} "
            f"({min(took):.2f} - {max(took):.2f}) | {ideal / middle:.0%} | {error:.0e} |"
        )
    del gradients, best
    return [*lines, "", shares(model, stream), *optimizers(model, repeats), ""]


def shares(model: Any, batches: list[MicroBatch]) -> str:
    """Where the time of an update goes, by torch's profiler."""
    kinds = {"products": ("aten::mm", "aten::addmm"), "attention": ("aten::_scaled_dot_product",)}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        learn(model, batches)
    events = [(one.key, one.self_cpu_time_total) for one in profile.key_averages()]
    total = sum(spent for _, spent in events)
    parts = {
        kind: sum(spent for key, spent in events if key.startswith(names)) / total
        for kind, names in kinds.items()
    }
    return ", ".join(f"{kind} {part:.0%}" for kind, part in parts.items()) + ", the rest others"


def optimizers(model: Any, repeats: int) -> list[str]:
    """A step of AdamW, fused or not."""
    lines = []
    for fused in (True, False):
        for one in model.parameters():
            one.grad = torch.full_like(one, 1e-3)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=fused)
        optimizer.step()
        took = [timed(lambda optimizer=optimizer: optimizer.step()) for _ in range(repeats)]
        lines.append(
            f"AdamW {'fused' if fused else 'not fused'}: {1e3 * statistics.median(took):.1f} ms "
            f"({1e3 * min(took):.1f} - {1e3 * max(took):.1f})"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workloads", nargs="+", choices=sorted(PROMPT))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--prompts", type=int, help="of a step; without it, the workload's")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}, {gemm_rate() / 1e9:.0f} GFLOP/s in large float32 products",
        "",
    ]
    for name in given.workloads:
        lines += compare(name, given.repeats, given.prompts)
    text = "\n".join(lines)
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
