"""The native engine against transformers' `generate`: tokens per second in one process.

    OMP_NUM_THREADS=2 python perf/rollout.py W1 --out runs/rollout_w1.md
    OMP_NUM_THREADS=2 python perf/rollout.py W3 --batch-sizes 32 --slots 32 --no-generate-batch

W1 and W3 are the workloads of `workloads.py`, W1 with 64 problems. All ways sample the same prompts
with the same model, cap, temperature 1 and top-p 1, and stop at the same EOS. `generate` gets
left-padded batches in which every prompt stands once per sample, at the batch size that was fastest
in one sweep; `generate_batch` is transformers' own continuous batching; the engine runs at its
default and at other slot counts. Repeats are interleaved. Tokens are those up to the EOS: what
`generate` computes behind it, until the longest row of a batch stops, is not work that anybody
asked for.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from results import add_output, write
from transformers import GenerationConfig, LogitsProcessorList
from workloads import WORKLOADS, Forced, Workload, force_ours, forced_ends, problem_rows

from open_rs.models import load_model, load_tokenizer
from open_rs.problems import Problem
from open_rs.prompts import Prompter
from open_rs.recipe import ModelRecipe, PromptRecipe
from open_rs.rollout import slots as slots_module
from open_rs.rollout.native import NativeEngine
from open_rs.rollout.prefill import Prefill
from open_rs.rollout.protocol import Prompt, SamplingParams
from open_rs.rollout.slots import Slots


@dataclass(frozen=True)
class Run:
    """One pass over all prompts and samples."""

    seconds: float
    cpu_seconds: float
    lengths: list[int]  # completion tokens, the EOS included

    @property
    def speed(self) -> float:
        return sum(self.lengths) / self.seconds


class Bench:
    """A model, its prompts, and the ways to sample from it."""

    def __init__(self, load: Workload, data: Path) -> None:
        recipe = ModelRecipe(path=load.model, device="cpu", dtype="float32")
        self.model, self.tokenizer = load_model(recipe), load_tokenizer(recipe)
        rows = [Problem(**row) for row in problem_rows(load, data, load.prompts)]
        self.prompts, _ = Prompter(self.tokenizer, PromptRecipe()).encode_all(rows)
        self.load, self.samples, self.cap = load, load.group_size, load.cap
        self.eos = NativeEngine(self.model, self.tokenizer).eos_token_ids
        if load.forced:
            force_ours(Slots, load)

    def native(self, max_slots: int | None, seed: int) -> Run:
        settings = {} if max_slots is None else {"max_slots": max_slots}
        engine = NativeEngine(self.model, self.tokenizer, **settings)
        Forced.step = seed
        with clock() as spent:
            groups = engine.generate(
                self.prompts, group_size=self.samples, params=SamplingParams(self.cap), seed=seed
            )
        return Run(*spent, [len(r.completion_ids) for group in groups for r in group.rollouts])

    def peer(self, batch_size: int, seed: int) -> Run:
        torch.manual_seed(seed)
        Forced.step = seed
        rows = [prompt for prompt in self.prompts for _ in range(self.samples)]
        lengths: list[int] = []
        with clock() as spent:
            for start in range(0, len(rows), batch_size):
                lengths += self.peer_batch(rows[start : start + batch_size])
        return Run(*spent, lengths)

    def peer_batch(self, rows: list[Prompt]) -> list[int]:
        longest, pad = max(len(row.prompt_ids) for row in rows), self.tokenizer.pad_token_id
        holes = [longest - len(row.prompt_ids) for row in rows]
        ids = [[pad] * hole + list(row.prompt_ids) for hole, row in zip(holes, rows, strict=True)]
        mask = [[0] * hole + [1] * (longest - hole) for hole in holes]
        forced = [forced_ends(self.load, longest, self.eos[0])] if self.load.forced else []
        output = self.model.generate(
            input_ids=torch.tensor(ids),
            attention_mask=torch.tensor(mask),
            do_sample=True,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            max_new_tokens=self.cap,
            eos_token_id=self.eos,
            pad_token_id=pad,
            logits_processor=LogitsProcessorList(forced),
        )[:, longest:]
        ended = torch.isin(output, torch.tensor(self.eos)).cumsum(dim=1) > 0
        return ((~ended).sum(dim=1) + ended.any(dim=1)).tolist()

    def peer_continuous(self, seed: int) -> Run:
        """`generate_batch`; forced lengths it cannot take."""
        torch.manual_seed(seed)
        rows = [list(prompt.prompt_ids) for prompt in self.prompts for _ in range(self.samples)]
        settings = GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            max_new_tokens=self.cap,
            eos_token_id=self.eos,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        with clock() as spent:
            made = self.model.generate_batch(rows, generation_config=settings)
        return Run(*spent, [len(one.generated_tokens) for one in made.values()])


@contextmanager
def clock() -> Iterator[list[float]]:
    """Yields a list: (wall seconds, CPU seconds of the process) once the block is over."""
    spent: list[float] = []
    wall, cpu = time.perf_counter(), time.process_time()
    yield spent
    spent += [time.perf_counter() - wall, time.process_time() - cpu]


def profile(bench: Bench, seed: int) -> dict[str, float]:
    """Share of the wall seconds of one engine run by phase; "other" is the engine's own Python."""
    seconds: dict[str, float] = {}
    phases = {
        "prefill": (Prefill, "_run_batch"),
        "put rows into slots (with prefill, noise)": (Slots, "put"),
        "forward": (Slots, "_logits"),
        "sampling": (slots_module, "draw"),
        "take and pack": (Slots, "take"),
        "pack": (Slots, "remove"),
    }
    originals = {name: getattr(*place) for name, place in phases.items()}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started

        return call

    for name, (owner, attribute) in phases.items():
        setattr(owner, attribute, timed(name, originals[name]))
    try:
        run = bench.native(None, seed)
    finally:
        for name, (owner, attribute) in phases.items():
            setattr(owner, attribute, originals[name])
    put, packed = "put rows into slots (with prefill, noise)", seconds.pop("pack")
    seconds["cache and noise of new rows"] = seconds.pop(put) - seconds["prefill"]
    seconds["take and pack"] += packed
    seconds["other"] = run.seconds - sum(seconds.values())
    return {name: value / run.seconds for name, value in seconds.items()}


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.2f} ({min(values):,.2f}-{max(values):,.2f})"


def length_line(runs: list[Run]) -> str:
    lengths = np.array([length for run in runs for length in run.lengths])
    p50, p90 = np.percentile(lengths, [50, 90])
    return f"mean {lengths.mean():.1f}, p50 {p50:.0f}, p90 {p90:.0f}, max {lengths.max()}"


def machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}; "
        f"load average at the start {os.getloadavg()[0]:.1f}"
    )


def measure(bench: Bench, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Sweep `generate` once, then interleave its best size with the engine's settings; yields what
    is known after each repeat.
    """
    bench.native(None, 0)  # warm-up of both paths
    sweep = {size: bench.peer(size, 0) for size in args.batch_sizes}
    best = min(sweep, key=lambda size: sweep[size].seconds)
    names: dict[str, Callable[[int], Run]] = {
        f"generate, batch {best} (the best of {args.batch_sizes})": lambda s: bench.peer(best, s),
        "native engine, default": lambda s: bench.native(None, s),
    }
    if args.generate_batch:
        names["generate_batch"] = bench.peer_continuous
    for slots in args.slots:
        names[f"native engine, max_slots {slots}"] = lambda s, slots=slots: bench.native(slots, s)
    found = {
        "sweep_seconds": {size: run.seconds for size, run in sweep.items()},
        "profile": profile(bench, 0),
        "runs": {name: [] for name in names},
    }
    for repeat in range(args.repeats):
        for name, sample in names.items():
            found["runs"][name].append(sample(repeat))
            seconds = found["runs"][name][-1].seconds
            print(f"{repeat} {name}: {seconds:.2f} s", file=sys.stderr, flush=True)
        yield found


def markdown(found: dict[str, Any], head: list[str]) -> str:
    """The table; a ratio is that of the same repeat, in tokens per second."""
    runs: dict[str, list[Run]] = found["runs"]
    base = next(iter(runs.values()))
    rows = [
        "| what | seconds | CPU seconds | tokens/s | times generate | by CPU seconds | lengths |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, several in runs.items():
        pairs = list(zip(several, base, strict=True))
        cells = (
            name,
            spread([run.seconds for run in several]),
            spread([run.cpu_seconds for run in several]),
            f"{statistics.median(run.speed for run in several):,.0f}",
            spread([run.speed / peer.speed for run, peer in pairs]),
            spread([per_cpu(run) / per_cpu(peer) for run, peer in pairs]),
            length_line(several),
        )
        rows.append("| " + " | ".join(cells) + " |")
    sweep = ", ".join(f"{size}: {took:.1f} s" for size, took in found["sweep_seconds"].items())
    shares = ", ".join(f"{name} {share:.0%}" for name, share in found["profile"].items())
    tail = [f"`generate` by batch size: {sweep}.", "", f"Profile at the default: {shares}."]
    return "\n".join([*head, "", *rows, "", *tail]) + "\n"


def per_cpu(run: Run) -> float:
    return sum(run.lengths) / run.cpu_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workload", choices=("W1", "W3"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--generate-batch", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--slots", type=int, nargs="*", default=[128, 512])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    add_output(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    head = [f"`python perf/rollout.py {' '.join(sys.argv[1:])}`", "", machine()]
    load = WORKLOADS[args.workload]
    bench = Bench(replace(load, prompts=64) if args.workload == "W1" else load, args.data)
    text = ""
    for found in measure(bench, args):  # a run that is cut off keeps its finished repeats
        text = markdown(found, head)
        runs = {name: [asdict(run) for run in several] for name, several in found["runs"].items()}
        write(args, text, {"workload": args.workload, "machine": machine(), **found, "runs": runs})
    print(text)


if __name__ == "__main__":
    main()
