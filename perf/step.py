"""A complete GRPO step, ours and TRL's, interleaved on one machine: seconds, tokens, peak memory.

    make perf-env                                          # once: .venv-perf, with trl==1.16.0
    OMP_NUM_THREADS=2 .venv-perf/bin/python perf/step.py W1 --out runs/step_w1.md \\
        --json runs/step_w1.json

Two worker processes hold the same model, prompts, group size, cap and threads; the parent lets them
take one step each in turn, so that both meet the same machine. A step is everything from prompts
to new weights: rollout, grading, rewards, loss, backward, optimizer; ours also writes its rollouts
and metrics to the run folder. TRL runs without vLLM, as on any device that has none, once with the
whole batch in one pass and once in micro-batches of 8 rows; the table takes its faster setting.

W1  the quickstart: the tiny model, 16 prompts x 8, cap 256
W2  SmolLM2-135M on GSM8K, 4 prompts x 8, cap 256, natural lengths; every second answer is rewarded,
    since this model solves so few that a step would have nothing to learn from
W3  W2 with forced lengths (median 0.3 of the cap, 10 % at the cap) and every second group dead

With W2 and W3 the whole batch in one pass takes TRL past 20 GB: `--passes 8` leaves that one out.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from results import add_output, write
from workloads import WORKLOADS, Forced, Workload, force_ours, forced_ends, problem_rows

WARM_UP = 1  # steps of each side that are not counted
MICRO_BATCH = 8  # rows of a pass of TRL's second setting
MICRO_BATCH_TOKENS = 2048  # of a pass of ours


# --- the workers -----------------------------------------------------------------------------


class Pipe:
    """Lines of JSON to and from the parent; all else that is printed goes to stderr."""

    def __init__(self) -> None:
        self.out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def wait(self) -> bool:
        """Until the parent asks for a step; False where it asks for the end."""
        return sys.stdin.readline().strip() == "step"

    def say(self, **facts: Any) -> None:
        print(json.dumps(facts), file=self.out)


def ours(load: Workload, problems: Path, steps: int) -> None:
    """Our steps, as `train.loop.train` takes them."""
    from open_rs.recipe import recipe_from_dict
    from open_rs.rollout.slots import Slots
    from open_rs.runs import append_jsonl, open_run
    from open_rs.train import loop
    from open_rs.train.records import write_rollouts
    from open_rs.train.setup import open_training

    pipe = Pipe()
    rewards: list[dict[str, Any]] = [{"type": "accuracy"}, {"type": "format", "weight": 0.5}]
    if load.gsm8k:
        name = "every_second_group" if load.forced else "every_second"
        rewards = [{"type": "custom", "function": f"step:{name}"}]
    recipe = recipe_from_dict(
        {
            "model": {"path": load.model, "device": "cpu"},
            "data": {"train": {"path": str(problems)}},
            "prompt": {"max_prompt_tokens": 1024},
            "rollout": {
                "group_size": load.group_size,
                "prompts_per_step": load.prompts,
                "max_completion_tokens": load.cap,
                "max_slots": 128,
            },
            "rewards": rewards,
            "train": {
                "num_steps": steps,
                "save_every": steps,
                "learning_rate": 1e-6,
                "micro_batch_tokens": MICRO_BATCH_TOKENS,
            },
        }
    )
    if load.forced:
        force_ours(Slots, load)
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(Path(folder) / "run", recipe)
        with open_training(recipe, run) as training:
            pipe.say(ready=True)
            while pipe.wait():
                started = time.perf_counter()
                step = training.state.step + 1
                Forced.step = step
                groups, metrics = loop.roll_out(training, step)
                write_rollouts(run, step, groups, training.sampler)
                batches = loop.training_batches(training, groups)
                metrics |= loop.learn(training, batches, first_of_batch=True)
                append_jsonl(run.metrics, {"step": step, **metrics})
                pipe.say(
                    seconds=time.perf_counter() - started,
                    rollout_s=metrics["time/rollout_s"],
                    tokens=metrics["tokens/completion"],
                    dead=metrics["groups/dead_frac"],
                )


def every_second(rollout: Any, problem: Any, *, group: Any) -> float:
    """1 for every other rollout: every group has a signal."""
    return float(rollout.sample % 2)


GROUPS: dict[int, dict[str, int]] = {}  # by step, the place of each problem in it


def every_second_group(rollout: Any, problem: Any, *, group: Any) -> float:
    """1 for every other rollout of every other group: half of the groups have no signal."""
    places = GROUPS.setdefault(Forced.step, {})
    return float(places.setdefault(problem.id, len(places)) % 2 and rollout.sample % 2)


def trl(load: Workload, problems: Path, steps: int, rows_per_pass: int) -> None:
    """TRL's steps; the trainer waits for the parent before each."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer
    from trl.rewards import accuracy_reward, think_format_reward

    from open_rs.models import load_model, load_tokenizer
    from open_rs.problems import load_problems
    from open_rs.prompts import Prompter
    from open_rs.recipe import ModelRecipe, PromptRecipe, Source

    pipe = Pipe()
    recipe = ModelRecipe(path=load.model, device="cpu")
    model, tokenizer = load_model(recipe), load_tokenizer(recipe)
    prompter = Prompter(tokenizer, PromptRecipe())
    rows = [
        {"prompt": prompter.text(one.problem), "solution": f"${one.answer}$", "index": number}
        for number, one in enumerate(load_problems(Source(path=str(problems))))
    ]

    def as_messages(completions: list[str]) -> list[list[dict[str, str]]]:
        return [[{"role": "assistant", "content": one}] for one in completions]

    def accuracy(completions: list[str], solution: list[str], **_: Any) -> list[float | None]:
        return accuracy_reward(as_messages(completions), solution)

    def thought(completions: list[str], **_: Any) -> list[float]:
        return think_format_reward(as_messages(completions))

    def given(completions: list[str], index: list[int], **_: Any) -> list[float]:
        groups = [number % 2 if load.forced else 1 for number in index]
        return [float(alive and row % 2) for row, alive in enumerate(groups)]

    if load.forced:
        plain = model.generate

        def generate(*args: Any, **settings: Any) -> Any:
            forced = forced_ends(load, settings["input_ids"].shape[1], tokenizer.eos_token_id)
            return plain(*args, logits_processor=[forced], **settings)

        model.generate = generate

    class Turns(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not pipe.wait():
                os._exit(0)
            Forced.step = state.global_step + 1
            self.started = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            lengths = trainer._metrics["train"]["completions/mean_length"]
            pipe.say(
                seconds=time.perf_counter() - self.started,
                tokens=lengths[-1] * load.prompts * load.group_size,
            )

    total = load.prompts * load.group_size
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(rows),
            reward_funcs=[given] if load.gsm8k else [accuracy, thought],
            args=GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=rows_per_pass,
                gradient_accumulation_steps=total // rows_per_pass,
                num_generations=load.group_size,
                max_completion_length=load.cap,
                max_steps=steps,
                learning_rate=1e-6,
                beta=0.0,
                temperature=1.0,
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=True,
                shuffle_dataset=False,
                disable_tqdm=True,
                logging_strategy="no",
                save_strategy="no",
                report_to=[],
            ),
            callbacks=[Turns()],
        )
        pipe.say(ready=True)
        trainer.train()


# --- the parent --------------------------------------------------------------------------------


class Worker:
    """One side in a process of its own, with its peak memory."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.name = name
        root = Path(__file__).resolve().parent.parent  # whose open_rs is measured
        environment = os.environ | {"PYTHONPATH": f"{root}:{root / 'perf'}"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.steps: list[dict[str, float]] = []
        self.read()
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")  # its high water starts anew
        self.peak = 0

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: its process ended; see above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def step(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        print("step", file=self.process.stdin, flush=True)
        made = self.read()
        self.steps.append(made)
        self.peak = max(self.peak, self.held())
        return made

    def held(self) -> int:
        """The most that the process held since it was ready, and what its children hold now.

        Asked after a step: to walk the pages of gigabytes ten times a second, as a watch would,
        takes most of a core from the steps that are measured.
        """
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        most = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        children = psutil.Process(self.process.pid).children(recursive=True)
        return int(most.split()[1]) * 1024 + sum(one.memory_full_info().pss for one in children)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def counted(self, key: str) -> list[float]:
        return [one[key] for one in self.steps[WARM_UP:]]


def table(name: str, load: Workload, workers: list[Worker]) -> str:
    """Medians with their range, and the ratio to TRL's faster setting."""
    mine, fastest = workers[0], faster_setting(workers)
    rows = [
        f"### {name}: {load.model}, {load.prompts} x {load.group_size}, cap {load.cap}"
        + (", forced lengths, half of the groups dead" if load.forced else ""),
        "",
        "| | s a step, median (least - most) | tokens a step | tokens/s | peak memory |",
        "|---|---|---|---|---|",
    ]
    for one in workers:
        seconds, tokens = one.counted("seconds"), one.counted("tokens")
        middle = statistics.median(seconds)
        rows.append(
            f"| {one.name} | {middle:.2f} ({min(seconds):.2f} - {max(seconds):.2f}) | "
            f"{statistics.mean(tokens):,.0f} | {sum(tokens) / sum(seconds):,.0f} | "
            f"{one.peak / 2**30:.2f} GiB |"
        )
    ratios = sorted(ratios_of(workers))
    rows += [
        "",
        f"{name}: {statistics.median(ratios):.1f}x faster than {fastest.name} "
        f"({ratios[0]:.1f} - {ratios[-1]:.1f} over {len(ratios)} interleaved steps), "
        f"{mine.peak / fastest.peak:.0%} of its peak memory; "
        f"{statistics.mean(mine.counted('dead')):.0%} of our groups had no signal",
    ]
    return "\n".join(rows)


def faster_setting(workers: list[Worker]) -> Worker:
    """Of TRL's."""
    return min(workers[1:], key=lambda one: statistics.median(one.counted("seconds")))


def ratios_of(workers: list[Worker]) -> list[float]:
    """Of every pair of steps, how many times TRL's seconds are ours."""
    theirs = faster_setting(workers).counted("seconds")
    ours = workers[0].counted("seconds")
    return [their / our for their, our in zip(theirs, ours, strict=True)]


def facts_of(name: str, workers: list[Worker]) -> dict[str, Any]:
    """The numbers behind the table; memory in bytes."""
    sides = {
        one.name: {"peak": one.peak, **{key: one.counted(key) for key in ("seconds", "tokens")}}
        for one in workers
    }
    faster = faster_setting(workers).name
    return {"workload": name, "ratios": ratios_of(workers), "faster": faster, "sides": sides}


def machine() -> str:
    import torch
    import transformers
    import trl as peer

    return (
        f"{platform.machine()}, {os.cpu_count()} cores, OMP_NUM_THREADS="
        f"{os.environ.get('OMP_NUM_THREADS', 'unset')}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}, TRL {peer.__version__}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--steps", type=int, default=6, help="counted steps of each side")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    add_output(parser)
    parser.add_argument(
        "--passes", type=int, nargs="+", help="rows of a pass of TRL; else all, and 8"
    )
    parser.add_argument("--worker", choices=("ours", "trl"), help=argparse.SUPPRESS)
    parser.add_argument("--problems", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    load, steps = WORKLOADS[given.workload], given.steps + WARM_UP
    if given.worker == "ours":
        return ours(load, given.problems, steps)
    if given.worker == "trl":
        return trl(load, given.problems, steps, given.rows)
    with tempfile.TemporaryDirectory() as folder:
        problems = Path(folder) / "problems.jsonl"
        rows = problem_rows(load, given.data, load.prompts * steps)
        problems.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        common = [given.workload, "--steps", str(given.steps), "--problems", str(problems)]
        total = load.prompts * load.group_size
        workers = [Worker("open-rs", [*common, "--worker", "ours"])]
        for rows_per_pass in given.passes or (total, MICRO_BATCH):
            name = f"TRL, {rows_per_pass} rows a pass"
            arguments = [*common, "--worker", "trl", "--rows", str(rows_per_pass)]
            workers.append(Worker(name, arguments))
        for step in range(steps):
            for one in workers:
                made = one.step()
                print(f"step {step}: {one.name} {made['seconds']:.2f} s", file=sys.stderr)
        text = table(given.workload, load, workers) + f"\n\n{machine()}\n"
        for one in workers:
            one.end()
    print(text)
    write(given, text, facts_of(given.workload, workers))


if __name__ == "__main__":
    main()
