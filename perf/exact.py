"""Exact mode: how many log-probs differ between sampling and training, and what it costs.

    OMP_NUM_THREADS=1 python perf/exact.py W1 --repeats 5
    OMP_NUM_THREADS=1 python perf/exact.py W2 --prompts 2 --repeats 3

For the workloads of `perf/step.py`, with random prompts as long as theirs. First the bits: rows are
drawn with each number of slots, and their log-probs made anew by the trainer in micro-batches of
several sizes and in two orders; then an optimizer step, a checkpoint of the weights, and the same
from the weights as they were loaded again. Then the time: rollout and update of the same tokens,
exact and not, in turns; seconds are of the processor, medians of the repeats.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from workloads import WORKLOADS, Workload, forced_lengths

from open_rs.models import load_policy, load_tokenizer
from open_rs.problems import Problem
from open_rs.recipe import LossRecipe, ModelRecipe
from open_rs.rollout.native import NativeEngine
from open_rs.rollout.protocol import Prompt, SamplingParams
from open_rs.train.batches import Row, make_batches
from open_rs.train.exact import EXACT, make_exact
from open_rs.train.update import learn_from

PROMPT = {"W1": 17, "W2": 120}
SLOTS = (1, 2, 3, 8, 32, 64)
BUDGETS = (1, 1024, 8192)  # tokens of a micro-batch; 1: a row alone


def prompts_of(load: Workload, length: int, vocabulary: int) -> list[Prompt]:
    draw = torch.Generator().manual_seed(0)
    return [
        Prompt(
            Problem(f"p{index}", "?", "!"),
            torch.randint(0, vocabulary, (length - index % 5,), generator=draw).tolist(),
        )
        for index in range(load.prompts)
    ]


def rows_drawn(
    model: Any, load: Workload, prompts: list[Prompt], *, slots: int, exact: bool, step: int = 1
) -> list[Row]:
    """Rows of a step, cut to the workload's profile of lengths: the tokens are the same for all."""
    tokenizer = load_tokenizer(ModelRecipe(path=load.model))
    engine = NativeEngine(model, tokenizer, max_slots=slots, eos_token_ids=(), exact=exact)
    groups = engine.generate(
        prompts,
        group_size=load.group_size,
        params=SamplingParams(load.cap),
        seed=0,
        step=step,
    )
    lengths = iter(forced_lengths(load, step))
    return [
        Row(
            group.prompt_ids,
            one.completion_ids[: (length := next(lengths))],
            one.engine_logprobs[:length],
            1.0 if place % 2 else -1.0,
        )
        for group in groups
        for place, one in enumerate(group.rollouts)
    ]


def learn(model: Any, rows: list[Row], cap: int, budget: int = 8192) -> tuple[float, int]:
    """The gradient of an update; the largest difference to the engine's log-probs, and tokens."""
    largest, tokens = 0.0, 0
    for batch in make_batches(
        rows,
        micro_batch_tokens=budget,
        loss_norm="sequence",
        max_completion_tokens=cap,
        packed=True,
    ):
        ours = learn_from(model, batch, defaultdict(float), LossRecipe(), 1.0, True, nullcontext())
        difference = (ours - batch.old_logprobs).abs().where(batch.loss_mask, 0.0)
        largest = max(largest, difference.max().item())
        tokens += int(batch.loss_mask.sum())
    return largest, tokens


def bits(model: Any, load: Workload, prompts: list[Prompt], when: str) -> list[str]:
    lines, first = [], None
    for slots in SLOTS:
        rows = rows_drawn(model, load, prompts, slots=slots, exact=True)
        drawn = [(row.completion_ids, row.engine_logprobs) for row in rows]
        first = first or drawn
        largest, tokens = 0.0, 0
        for budget in BUDGETS if slots == SLOTS[0] else BUDGETS[-1:]:
            for ordered in (rows, rows[::-1]):
                model.zero_grad(set_to_none=True)
                difference, counted = learn(model, ordered, load.cap, budget)
                largest, tokens = max(largest, difference), tokens + counted
        lines.append(f"| {when} | {slots} | {tokens:,} | {largest:.1g} | {drawn == first} |")
    return lines


def bits_table(model: Any, load: Workload, prompts: list[Prompt]) -> list[str]:
    """Before and after a step and a reload."""
    lines = bits(model, load, prompts, "as loaded")
    torch.optim.AdamW(model.parameters(), lr=1e-4).step()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        other = load_policy(ModelRecipe(path=folder, device="cpu", dtype="float32")).train()
    make_exact(other)
    return [
        "| weights | slots | tokens compared | largest difference | tokens and log-probs as with "
        f"{SLOTS[0]} |",
        "|---|---|---|---|---|",
        *lines,
        *bits(other, load, prompts, "after a step, saved and loaded"),
    ]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def time_table(model: Any, load: Workload, prompts: list[Prompt], repeats: int) -> list[str]:
    seconds: dict[tuple[bool, str], list[float]] = defaultdict(list)
    usual = 0.0
    for turn in range(repeats + 1):  # the first is not counted
        for exact in (False, True):
            EXACT.discard(model)
            if exact:
                make_exact(model)
            slots, step = load.prompts * load.group_size, 1 + turn

            def draw(exact: bool = exact, slots: int = slots, step: int = step) -> list[Row]:
                return rows_drawn(model, load, prompts, slots=slots, exact=exact, step=step)

            model.zero_grad(set_to_none=True)
            rollout, rows = timed(draw)
            update, (largest, _) = timed(lambda rows=rows: learn(model, rows, load.cap))
            assert not (exact and largest), "the log-probs differ"
            usual = usual if exact else max(usual, largest)
            if turn:
                for what, took in (("rollout", rollout), ("update", update)):
                    seconds[exact, what].append(took)
                seconds[exact, "both"].append(rollout + update)
    lines = ["| | usual, CPU s | exact, CPU s | times |", "|---|---|---|---|"]
    for what in ("rollout", "update", "both"):
        pairs = list(zip(seconds[False, what], seconds[True, what], strict=True))
        ratios = [exact / plain for plain, exact in pairs]
        cells = [spread(seconds[exact, what]) for exact in (False, True)]
        lines.append(f"| {what} | {cells[0]} | {cells[1]} | {spread(ratios)} |")
    return [*lines, "", f"Without exact mode the log-probs differ by up to {usual:.1g}."]


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} - {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workload", choices=sorted(PROMPT))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--prompts", type=int, help="of a step; without it, the workload's")
    parser.add_argument("--only", choices=("bits", "time"))
    given = parser.parse_args()
    load = WORKLOADS[given.workload]
    load = replace(load, prompts=given.prompts or load.prompts)
    model = load_policy(ModelRecipe(path=load.model, device="cpu", dtype="float32")).train()
    vocabulary = model.get_input_embeddings().weight.shape[0]
    prompts = prompts_of(load, PROMPT[given.workload], vocabulary)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}; {given.workload}: {load.model}, {load.prompts} x {load.group_size}, "
        f"cap {load.cap}\n"
    )
    if given.only != "bits":
        print("\n".join([*time_table(model, load, prompts, given.repeats), ""]), flush=True)
    if given.only != "time":
        make_exact(model)
        print("\n".join(bits_table(model, load, prompts)))


if __name__ == "__main__":
    main()
