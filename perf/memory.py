"""Peak memory of an update, and its CPU seconds, as a function of lengths, groups and vocabulary.

    OMP_NUM_THREADS=1 python perf/memory.py --out runs/memory.md

Each line is a process of its own: a model of random weights, two optimizer steps that make moments
and gradients, then one step of the real trainer (`train.batches.make_batches`, `train.update`)
whose peak is read from the kernel (VmHWM, reset before). `held` is what stood in memory before it:
weights, moments, libraries. `beside` is what the update took on top: gradients, activations,
logits. Every prompt has 128 tokens and every completion as many as the line says; every row is
learnt from. Seconds are of the processor, which other work on the machine moves little.
"""

import argparse
import gc
import json
import os
import platform
import random
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MIB = 2**20
PROMPT = 128


@dataclass(frozen=True)
class Case:
    """One line of a table; the model has the shape of SmolLM2-135M with so many layers."""

    layers: int = 8
    vocabulary: int = 49_152
    prompts: int = 2
    group_size: int = 8
    completion: int = 256
    micro_batch_tokens: int = 4096
    gradient_checkpointing: bool = False
    optimizer: str = "adamw"


TABLES: dict[str, list[Case]] = {
    "Group size, 2 prompts": [
        Case(group_size=size, micro_batch_tokens=1024) for size in (2, 4, 8, 16, 32, 64)
    ],
    "Length, 2 x 8": [Case(completion=size) for size in (64, 128, 256, 512, 1024, 2048)],
    "Tokens of a micro-batch": [
        Case(micro_batch_tokens=size, group_size=16) for size in (1024, 2048, 4096, 8192)
    ],
    "Vocabulary, one micro-batch of 4,096 completion tokens, all 30 layers": [
        Case(layers=30, vocabulary=size, micro_batch_tokens=4400, gradient_checkpointing=recompute)
        for recompute in (False, True)
        for size in (32_768, 151_936)
    ],
    "Optimizer, all 30 layers, 1 x 2": [
        Case(layers=30, prompts=1, group_size=2, completion=64, optimizer=kind)
        for kind in ("adamw", "adamw_8bit")
    ],
}


# --- the process of one line -------------------------------------------------------------------


def kernel_figure(name: str) -> int:
    """Bytes of a field of /proc/self/status, such as VmRSS."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {name}: Linux is needed")


def build(case: Case) -> Any:
    """A model of random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=case.vocabulary,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=case.layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        head_dim=64,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(config).train()
    if case.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return model


def rows_of(case: Case, completion: int) -> list[Any]:
    """P x G rows of one length; every second one of a group is good."""
    from open_rs.train.batches import Row

    draw = random.Random(0)
    rows = []
    for _ in range(case.prompts):
        prompt = [draw.randrange(case.vocabulary) for _ in range(PROMPT)]
        for sample in range(case.group_size):
            ids = [draw.randrange(case.vocabulary) for _ in range(completion)]
            rows.append(Row(prompt, ids, [-10.0] * completion, 1.0 if sample % 2 else -1.0))
    return rows


def measure(case: Case) -> dict[str, float]:
    """One update of the case, in this process."""
    from open_rs.recipe import LossRecipe, recipe_from_dict
    from open_rs.train.batches import make_batches
    from open_rs.train.optimizer import make_optimizer
    from open_rs.train.packed import can_pack
    from open_rs.train.update import update

    model = build(case)
    settings = {"learning_rate": 1e-6, "optimizer": case.optimizer}
    optimizer = make_optimizer(model, recipe_from_dict({"train": settings}))

    def step(completion: int) -> dict[str, float]:
        batches = make_batches(
            rows_of(case, completion),
            micro_batch_tokens=case.micro_batch_tokens,
            loss_norm="sequence",
            max_completion_tokens=completion,
            packed=can_pack(model),
        )
        started = time.process_time()
        metrics = update(
            model,
            optimizer,
            batches,
            LossRecipe(),
            temperature=1.0,
            max_grad_norm=1.0,
            first_of_batch=True,
            autocast=nullcontext(),
        )
        assert metrics["optim/skipped"] == 0
        return {
            "seconds": time.process_time() - started,
            "largest": max(batch.tokens for batch in batches),
            "forwarded": sum(batch.tokens for batch in batches),
        }

    for _ in range(2):
        step(4)
    gc.collect()
    held = kernel_figure("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    found = step(case.completion)
    weights = sum(one.nbytes for one in model.parameters())
    peak = kernel_figure("VmHWM")
    return found | {"held": held, "peak": peak, "beside": peak - held, "weights": weights}


# --- the tables --------------------------------------------------------------------------------


def in_a_process(case: Case) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--case", json.dumps(asdict(case))],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def lines_of(title: str, cases: list[Case]) -> list[str]:
    """A table; what all its cases have in common stands in the title."""
    varied = [
        name
        for name, value in asdict(cases[0]).items()
        if any(getattr(case, name) != value for case in cases)
    ]
    lines = [
        f"### {title}",
        "",
        f"| {' | '.join(varied)} | tokens forwarded | largest micro-batch | held, MiB | "
        "beside, MiB | peak, MiB | CPU s | ms a token |",
        "|" + "---|" * (len(varied) + 7),
    ]
    for case in cases:
        got = in_a_process(case)
        values = [getattr(case, name) for name in varied]
        cells = [one if isinstance(one, str) else f"{one:,}" for one in values]
        cells += [f"{got[name]:,.0f}" for name in ("forwarded", "largest")]
        cells += [f"{got[name] / MIB:,.0f}" for name in ("held", "beside", "peak")]
        cells += [f"{got['seconds']:.1f}", f"{1e3 * got['seconds'] / got['forwarded']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", type=json.loads, help="one line, for the process that makes it")
    parser.add_argument("--only", default="", help="tables whose title begins so")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.case:
        print(json.dumps(measure(Case(**given.case))))
        return
    import torch

    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, OMP_NUM_THREADS="
        f"{os.environ.get('OMP_NUM_THREADS', 'unset')}, torch {torch.__version__}",
        "",
    ]
    for title, cases in TABLES.items():
        if title.startswith(given.only):
            lines += lines_of(title, cases)
    text = "\n".join(lines)
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
