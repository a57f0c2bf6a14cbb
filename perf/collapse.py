"""The sentinel on trial: how soon it sees faults put into a run, how often it errs about health.

    OMP_NUM_THREADS=1 python perf/collapse.py faults --seeds 10 --out runs/faults.md
    OMP_NUM_THREADS=1 python perf/collapse.py healthy --seeds 10 --steps 500 --out runs/healthy.md

The model is the shipped one, on the quickstart's arithmetic with 8 prompts x 8 a step. `faults`
trains each seed once up to the onset, then goes on from that checkpoint once for every fault, in a
copy of the run, for ten steps with the fault in place. Found means: an alarm of any detector after
the onset; the table says how late, and which detectors. `healthy` counts alarms in runs that nobody
disturbed; after step 60 they train on what they have learnt.
"""

import argparse
import itertools
import json
import os
import platform
import shutil
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from open_rs.errors import GuardStop
from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.runs import RunFolder, open_run, read_log
from open_rs.scripts import outside_share
from open_rs.train import loop
from open_rs.train.resume import recipe_to_resume

ONSET, AFTER = 30, 10  # the last healthy step, and the steps with a fault
Patches = Iterator[Any]


class Enough(BaseException):
    """Ends a run from outside; nothing in the package may catch it."""


def recipe_of(seed: int, num_steps: int) -> Recipe:
    return recipe_from_dict(
        {
            "name": f"collapse-{seed}",
            "seed": seed,
            "data": {"train": {"task": "arithmetic", "count": 400, "levels": [1, 2, 3, 4]}},
            "rollout": {
                "group_size": 8, "prompts_per_step": 8, "max_completion_tokens": 128,
                "max_slots": 64,
            },
            "rewards": [{"type": "accuracy"}, {"type": "format", "weight": 0.5}],
            "loss": {"kl_coef": 1e-4},  # so that the KL is measured
            "train": {
                "num_steps": num_steps, "save_every": ONSET, "learning_rate": 2e-4,
                "warmup_ratio": 0.05,
            },
        }
    )  # fmt: skip


# --- faults: each gives the patches that are in place after the onset -------------------------


def rewarded(add: Callable[[Any], float], *, keep: bool = True) -> Any:
    """Rewards with something added to them, or put in their place."""
    plain = loop.score

    def score(groups: Any, *args: Any, **kwargs: Any) -> Any:
        report = plain(groups, *args, **kwargs)
        for rollout in itertools.chain.from_iterable(group.rollouts for group in groups):
            if rollout.reward is not None:
                rollout.reward = add(rollout) + (rollout.reward if keep else 0.0)
        return report

    return patch.object(loop, "score", score)


def sampled(training: Any, change: Callable[[list[Any]], None]) -> Any:
    """Groups that were changed after they were sampled and graded."""
    plain = training.sampler.sample

    def sample(*args: Any, **kwargs: Any) -> Any:
        groups = plain(*args, **kwargs)
        change(groups)
        return groups

    return patch.object(training.sampler, "sample", sample)


def higher_rate(factor: float) -> Callable[[Any], Patches]:
    def fault(training: Any) -> Patches:
        plain = loop.learning_rate
        yield patch.object(loop, "learning_rate", lambda *args: factor * plain(*args))

    return fault


def pays_for_length(training: Any) -> Patches:
    yield rewarded(lambda rollout: 3 * rollout.num_tokens / 128)


def pays_for_language(training: Any) -> Patches:
    yield rewarded(lambda rollout: 3 * outside_share(rollout.completion, ("latin",)))


def pays_for_nothing(training: Any) -> Patches:
    yield rewarded(lambda rollout: 0.0, keep=False)


def mixed_groups(training: Any) -> Patches:
    def rotate(groups: list[Any]) -> None:
        rows = [group.rollouts for group in groups]
        for group, other in zip(groups, rows[1:] + rows[:1], strict=True):
            group.rollouts = other

    yield sampled(training, rotate)


def grader_times_out(training: Any) -> Patches:
    def half(groups: list[Any]) -> None:
        for rollout in itertools.chain.from_iterable(group.rollouts for group in groups):
            if rollout.sample % 2:
                rollout.grade = replace(rollout.grade, outcome="timeout")

    yield sampled(training, half)


def stale_weights(training: Any) -> Patches:
    training.sampler.engine.load_weights(deepcopy(training.policy))
    yield from ()


def squeezed_cap(training: Any) -> Patches:
    plain = loop.settings_of

    def settings(training: Any, step: int) -> Recipe:
        now = plain(training, step)
        rollout = now.rollout.model_copy(update={"max_completion_tokens": 24})
        return now.model_copy(update={"rollout": rollout})

    yield patch.object(loop, "settings_of", settings)


def not_a_number(training: Any) -> Patches:
    plain = loop.training_batches

    def batches(*args: Any) -> Any:
        made = plain(*args)
        for batch in made[:1]:
            batch.advantages[0] = float("nan")
        return made

    yield patch.object(loop, "training_batches", batches)


def wrong_golds(training: Any) -> Patches:
    for number, (name, prompt) in enumerate(sorted(training.prompts.items())):
        if number % 2:
            wrong = replace(prompt.problem, answer="123456789")
            training.prompts[name] = replace(prompt, problem=wrong)
    yield from ()


FAULTS: dict[str, Callable[[Any], Patches]] = {
    "learning rate x 30": higher_rate(30),
    "reward pays for length": pays_for_length,
    "reward pays for another script": pays_for_language,
    "rollouts in another group": mixed_groups,
    "engine keeps old weights": stale_weights,
    "cap cut to 24 tokens": squeezed_cap,
    "KL: learning rate x 100": higher_rate(100),
    "reward constant, dead groups": pays_for_nothing,
    "NaN in the loss": not_a_number,
    "half of the golds wrong": wrong_golds,
    "grader times out on half": grader_times_out,
}


@contextmanager
def until(last: int, fault: Callable[[Any], Patches] | None = None) -> Iterator[None]:
    """Runs end after step `last`; the fault is in place from the first rollout on."""
    plain, placed = loop.roll_out, list[Any]()

    def roll_out(training: Any, step: int) -> Any:
        if step > last:
            raise Enough
        if fault is not None and not placed:
            placed.append(None)
            for one in fault(training):
                one.start()
                placed.append(one)
        return plain(training, step)

    with patch.object(loop, "roll_out", roll_out):
        try:
            yield
        except (Enough, GuardStop):  # a guard of its own may end a run with a fault
            pass
        finally:
            for one in placed[1:]:
                one.stop()


def alarms(run: RunFolder, after: int = 0) -> list[dict[str, Any]]:
    return [row for row in read_log(run.events) if row["event"] == "alarm" and row["step"] > after]


def faults(seeds: int) -> list[str]:
    """One line a fault: how many of the seeds it was found in, how late, by what."""
    delays: dict[str, list[int]] = {name: [] for name in FAULTS}
    by: dict[str, Counter[str]] = {name: Counter() for name in FAULTS}
    early = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            recipe = recipe_of(seed, 60)
            healthy = open_run(Path(folder) / f"{seed}", recipe)
            with until(ONSET):
                loop.train(recipe, healthy)
            early += len(alarms(healthy))
            for number, (name, fault) in enumerate(FAULTS.items()):
                run = RunFolder(Path(folder) / f"{seed}-{number}")
                shutil.copytree(healthy.path, run.path)
                with until(ONSET + AFTER, fault):
                    loop.train(recipe_to_resume(run), run)
                found = alarms(run, ONSET)
                if found:
                    delays[name].append(found[0]["step"] - ONSET)
                    by[name].update({row["detector"] for row in found})
                shutil.rmtree(run.path)
                print(json.dumps({"seed": seed, "fault": name, "found": found[:1]}), flush=True)
    lines = [
        f"{seeds} seeds; {early} alarms in {seeds * ONSET} steps before the onset",
        "",
        "| fault | found within ten steps | delay, median (most) | detectors (runs) |",
        "|---|---|---|---|",
    ]
    for name, found in delays.items():
        delay = f"{statistics.median(found):g} ({max(found)})" if found else "-"
        detectors = ", ".join(f"{one} ({count})" for one, count in by[name].most_common())
        lines.append(f"| {name} | {len(found)} of {seeds} | {delay} | {detectors} |")
    return lines


def healthy(seeds: int, steps: int) -> list[str]:
    """Alarms in runs that nobody disturbed."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            recipe = recipe_of(seed, steps)
            run = open_run(Path(folder) / f"{seed}", recipe)
            loop.train(recipe, run)
            raised = alarms(run)
            found.update(row["detector"] for row in raised)
            print(json.dumps({"seed": seed, "alarms": [r["sentence"] for r in raised]}), flush=True)
            shutil.rmtree(run.path)
    rate = 1000 * found.total() / (seeds * steps)
    listed = ", ".join(f"{name} {count}" for name, count in found.most_common()) or "none"
    return [f"{found.total()} alarms in {seeds * steps:,} steps, {rate:.2f} a thousand: {listed}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trial", choices=("faults", "healthy"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=500, help="of each healthy run")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    made = faults(given.seeds) if given.trial == "faults" else healthy(given.seeds, given.steps)
    text = "\n".join([f"{platform.machine()}, {os.cpu_count()} cores", "", *made]) + "\n"
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
