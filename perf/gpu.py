"""W4, the paper's own step on one CUDA device: seconds, tokens/s, memory, against `generate`.

    bash perf/gpu.sh                                       the H100's table, under 9 minutes
    python perf/gpu.py --scale small --device cpu          the same code on any machine, in seconds

A Qwen2 of 1.78 billion parameters (the shape of DeepSeek-R1-Distill-Qwen-1.5B) with random weights;
12 prompts x 6 completions, cap 3,584, lengths forced to the published mean of about 2,800 tokens,
every second group without signal. Nothing is fetched. Each part is a process of its own, so that
its peak of memory is its own; `full` trains all weights in bfloat16 arithmetic over float32
masters, `lora` adapters of rank 16. Each step is everything from prompts to new weights: rollout,
grading, rewards, update. The first step of each is not counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads import Forced, Workload, force_ours, forced_ends, forced_lengths

WARM_UP = 1
TARGETS = {
    "full, a step": "22 s",
    "full, rollout": "22,000 tokens/s, 8 times generate",
    "full, peak memory": "40 GB",
    "lora, peak memory": "12 GB",
}


@dataclass(frozen=True)
class Scale:
    """The shape of the model and of the step."""

    hidden: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    load: Workload
    micro_batch_tokens: int


def workload(prompts: int, group_size: int, cap: int) -> Workload:
    """Lengths of the paper's runs: a third at the cap, the others about 0.67 of it."""
    return Workload("", prompts, group_size, cap, forced=True, at_cap=0.35, middle=0.67, spread=0.3)


SCALES = {
    "paper": Scale(1536, 8960, 28, 12, 2, 151_936, workload(12, 6, 3584), 8192),
    "small": Scale(64, 128, 2, 4, 2, 4096, workload(4, 4, 48), 256),
}


def write_model(scale: Scale, folder: Path) -> None:
    """A model folder with random weights in bfloat16 and the shipped tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from open_rs.models import load_tokenizer
    from open_rs.recipe import ModelRecipe

    torch.manual_seed(0)
    tokenizer = load_tokenizer(ModelRecipe())
    config = AutoConfig.for_model(
        "qwen2",
        vocab_size=scale.vocabulary,
        hidden_size=scale.hidden,
        intermediate_size=scale.mlp,
        num_hidden_layers=scale.layers,
        num_attention_heads=scale.heads,
        num_key_value_heads=scale.kv_heads,
        tie_word_embeddings=False,
        max_position_embeddings=131_072,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def settings(scale: Scale, model: Path, device: str, part: str, steps: int) -> dict[str, Any]:
    """The recipe of a part."""
    return {
        "name": "w4",
        "model": {"path": str(model), "device": device, "lora": {} if part == "lora" else None},
        "data": {"train": {"task": "arithmetic", "count": scale.load.prompts * steps}},
        "rollout": {
            "group_size": scale.load.group_size,
            "prompts_per_step": scale.load.prompts,
            "max_completion_tokens": scale.load.cap,
            "max_slots": scale.load.prompts * scale.load.group_size,
            "temperature": 0.7,
        },
        "rewards": [{"type": "custom", "function": "gpu:every_second_group"}],
        "train": {
            "num_steps": steps,
            "save_every": steps,
            "learning_rate": 1e-6,
            "micro_batch_tokens": scale.micro_batch_tokens,
            "gradient_checkpointing": True,
        },
    }


def every_second_group(rollout: Any, problem: Any, *, group: Any) -> float:
    """1 for every other rollout of every other problem, whose id ends in its number."""
    number = sum(map(ord, problem.id))
    return float(number % 2 and rollout.sample % 2)


def peak_bytes(device: str) -> int:
    """The most that was allocated on the device, or held by this process on a CPU."""
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if "VmHWM" in line).split()[1])


def train_part(scale: Scale, model: Path, device: str, part: str, steps: int) -> dict[str, Any]:
    """Steps as `train.loop` takes them: seconds, tokens and the peak of memory."""
    from open_rs.recipe import recipe_from_dict
    from open_rs.rollout.slots import Slots
    from open_rs.runs import open_run
    from open_rs.train import loop
    from open_rs.train.setup import open_training

    force_ours(Slots, scale.load)
    recipe = recipe_from_dict(settings(scale, model, device, part, steps))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(Path(folder) / "run", recipe)
        with open_training(recipe, run) as training:
            for number in range(steps):
                Forced.step = number + 1
                started = time.perf_counter()
                groups, metrics = loop.roll_out(training, number + 1)
                batches = loop.training_batches(training, groups)
                metrics |= loop.learn(training, batches, first_of_batch=True)
                seconds = time.perf_counter() - started
                rows.append(
                    {
                        "step_s": seconds,
                        "rollout_s": metrics["time/rollout_s"],
                        "tokens": metrics["tokens/completion"],
                    }
                )
    return {"steps": rows[WARM_UP:], "peak_bytes": peak_bytes(device)}


def generate_part(scale: Scale, model: Path, device: str) -> dict[str, Any]:
    """`generate` of transformers on the rows of a step in one batch, to their forced lengths."""
    import torch
    from transformers import AutoModelForCausalLM, LogitsProcessorList

    from open_rs.models import load_tokenizer
    from open_rs.prompts import Prompter
    from open_rs.recipe import ModelRecipe, PromptRecipe
    from open_rs.tasks.arithmetic import arithmetic_problems

    tokenizer = load_tokenizer(ModelRecipe(path=str(model)))
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    policy: Any = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    policy = policy.to(device).eval()
    prompter = Prompter(tokenizer, PromptRecipe())
    problems = arithmetic_problems("train", scale.load.prompts, seed=0, levels=(1, 2, 3, 4))
    texts = [prompter.text(one.problem) for one in problems for _ in range(scale.load.group_size)]
    tokenizer.padding_side = "left"
    inputs = tokenizer(texts, return_tensors="pt", padding=True).to(device)
    Forced.step = WARM_UP + 1
    eos = tokenizer.eos_token_id
    forced = forced_ends(scale.load, inputs["input_ids"].shape[1], eos)

    def run(cap: int) -> float:
        started = time.perf_counter()
        with torch.inference_mode():
            made = policy.generate(
                **inputs,
                do_sample=True,
                temperature=0.7,
                top_k=0,
                top_p=1.0,
                max_new_tokens=cap,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=eos,
                logits_processor=LogitsProcessorList([forced]),
            )
        made.cpu()
        return time.perf_counter() - started

    run(8)  # warm up
    seconds = run(scale.load.cap)
    return {
        "seconds": seconds,
        "tokens": sum(forced.lengths.tolist()),
        "peak_bytes": peak_bytes(device),
    }


# --- the parent --------------------------------------------------------------------------------


def part_in_a_process(part: str, given: argparse.Namespace, model: Path) -> dict[str, Any]:
    """What a part measured; where its process failed, the last line of what it said."""
    command = [sys.executable, __file__, "--part", part, "--model", str(model)]
    command += ["--scale", given.scale, "--device", given.device, "--steps", str(given.steps)]
    here = Path(__file__).resolve().parent
    environment = os.environ | {"PYTHONPATH": f"{here.parent}:{here}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return {"failed": f"ended with {done.returncode}: {last}"}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def table(found: dict[str, dict[str, Any]], targets: dict[str, str]) -> list[str]:
    """What was measured beside its target; what failed says so."""
    lines = ["| what | measured | target |", "|---|---|---|"]

    def line(what: str, measured: str) -> None:
        lines.append(f"| {what} | {measured} | {targets.get(what, '')} |")

    peer = found["generate"]
    if "failed" in peer:
        line("generate", peer["failed"])
    else:
        rate = peer["tokens"] / peer["seconds"]
        line("generate", f"{rate:,.0f} tokens/s, {peer['seconds']:.1f} s")
    for part in ("full", "lora"):
        one = found[part]
        if "failed" in one:
            line(part, one["failed"])
            continue
        seconds = [row["step_s"] for row in one["steps"]]
        rates = [row["tokens"] / row["rollout_s"] for row in one["steps"]]
        middle = statistics.median(rates)
        spread = f"{min(seconds):.2f} - {max(seconds):.2f}, {len(seconds)} steps"
        line(f"{part}, a step", f"{statistics.median(seconds):.2f} s ({spread})")
        times = "" if "failed" in peer else f", {middle / rate:.1f} times generate"
        line(f"{part}, rollout", f"{middle:,.0f} tokens/s{times}")
        line(f"{part}, peak memory", f"{one['peak_bytes'] / 1e9:.2f} GB")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", choices=SCALES, default="paper")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--steps", type=int, default=3, help="of each part, the first not counted")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--part", choices=("full", "lora", "generate"), help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    scale = SCALES[given.scale]
    if given.part == "generate":
        print(json.dumps(generate_part(scale, given.model, given.device)))
        return
    if given.part:
        made = train_part(scale, given.model, given.device, given.part, given.steps)
        print(json.dumps(made))
        return
    import torch

    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device; --scale small --device cpu runs anywhere")
    name = torch.cuda.get_device_name() if given.device == "cuda" else "CPU"
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        write_model(scale, model)
        found = {
            part: part_in_a_process(part, given, model) for part in ("generate", "full", "lora")
        }
    rows = scale.load.prompts * scale.load.group_size
    head = (
        f"{name}, torch {torch.__version__}: {rows} completions, cap {scale.load.cap}, mean length "
        f"{statistics.mean(forced_lengths(scale.load, WARM_UP + 1)):,.0f}, `--scale {given.scale}`"
    )
    text = "\n".join([head, "", *table(found, TARGETS if given.scale == "paper" else {}), ""])
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, encoding="utf-8")
    if any("failed" in one for one in found.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
