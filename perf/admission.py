"""What it is worth to start the rows first of which the most tokens are expected.

    OMP_NUM_THREADS=1 python perf/admission.py --run runs/quickstart --slots 32 64 96

The engine draws the same rows in three orders: problem by problem as they are given; the longest
first by what `train.selection.History` expects from the latest group of each problem (as training
does); and the longest first as if every length were known, which no order can beat by much. Lengths
are forced, to those of a run's own rollouts (its first steps are left out, while most problems are
new), and to made up ones: log-normal as in W3, with a tenth at the cap of 256, where the problem
decides a share of the variance of log length. The shipped model decodes them, as many rows at a
time as `slots` says. Orders take turns; seconds are of the processor.
"""

import argparse
import os
import platform
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import add_output, write
from workloads import force

from open_rs.models import load_model, load_tokenizer
from open_rs.problems import Problem
from open_rs.recipe import ModelRecipe
from open_rs.rollout import native
from open_rs.rollout.protocol import Prompt, Rollout, RolloutGroup, SamplingParams
from open_rs.rollout.slots import Row, Slots
from open_rs.runs import RunFolder, read_log
from open_rs.train.selection import History

PROMPT_TOKENS, CAP = 17, 256
ORDERS = ("as given", "by history", "known")
FIRST = 25  # steps of a run that only teach the history
STEPS = 12  # that are drawn of each kind of lengths


@dataclass(frozen=True)
class Batch:
    """The problems of a step, the tokens of their completions [P, G], and what is expected."""

    ids: list[str]
    lengths: list[list[int]]
    expected: list[float | None]


class Tally:
    """Decoding steps of the engine."""

    def __init__(self) -> None:
        self.steps = 0
        plain = Slots.step

        def step(slots: Slots) -> Any:
            self.steps += 1
            return plain(slots)

        setattr(Slots, "step", step)  # noqa: B010 - a method, for all engines here


def from_run(run: RunFolder) -> Iterator[Batch]:
    """The last steps of a run, with the history that training had before each."""
    history = History(200.0)
    files = sorted(run.rollouts(0).parent.glob("*.jsonl.gz"))
    for place, path in enumerate(files):
        lengths: dict[str, list[int]] = defaultdict(list)
        for row in read_log(path):
            lengths[row["problem_id"]].append(len(row["completion_ids"]))
        prompts = [Prompt(Problem(id, "", ""), [0]) for id in lengths]
        expected = [one.expected_tokens for one in history.expecting(prompts)]
        if place >= max(FIRST, len(files) - STEPS):
            yield Batch(list(lengths), list(lengths.values()), expected)
        history.note(
            place + 1,
            [
                RolloutGroup(
                    Problem(id, "", ""), [0], [Rollout([0] * n, [], "", "stop") for n in of]
                )
                for id, of in lengths.items()
            ],
        )


def made_up(share: float, prompts: int, group_size: int) -> Iterator[Batch]:
    """Two visits to each problem, of which the first is what is expected of the second."""
    draw = np.random.default_rng(0)
    for _ in range(STEPS):
        own = np.sqrt(share) * draw.normal(size=(prompts, 1, 1))
        noise = np.sqrt(1 - share) * draw.normal(size=(prompts, 2, group_size))
        lengths = np.clip(np.round(0.3 * CAP * np.exp(0.9 * (own + noise))), 4, CAP).astype(int)
        ids = [f"p{number}" for number in range(prompts)]
        yield Batch(ids, lengths[:, 1].tolist(), lengths[:, 0].mean(axis=1).tolist())


class Bench:
    """The shipped model, decoding rows of given lengths."""

    def __init__(self) -> None:
        recipe = ModelRecipe(path="tiny", device="cpu")
        self.model, self.tokenizer = load_model(recipe), load_tokenizer(recipe)
        self.tally, self.by_expectation = Tally(), native.longest_first
        self.plain = Slots._logits

    def draw(self, batch: Batch, slots: int, order: str) -> tuple[int, float]:
        """(decoding steps, CPU seconds)."""
        size = len(batch.lengths[0])
        flat = [length for group in batch.lengths for length in group]
        setattr(Slots, "_logits", self.plain)  # noqa: B010
        force(Slots, size, lambda: flat)

        def known(prompts: Sequence[Prompt], rows: Iterator[Row]) -> list[Row]:
            return sorted(rows, key=lambda row: -flat[row.prompt * size + row.sample])

        native.longest_first = known if order == "known" else self.by_expectation  # type: ignore
        prompts = [
            Prompt(Problem(id, "", ""), [5 + place % 100] * PROMPT_TOKENS)
            for place, id in enumerate(batch.ids)
        ]
        if order == "by history":
            prompts = [
                replace(one, expected_tokens=tokens)
                for one, tokens in zip(prompts, batch.expected, strict=True)
            ]
        engine = native.NativeEngine(self.model, self.tokenizer, max_slots=slots)
        before, started = self.tally.steps, time.process_time()
        groups = engine.generate(prompts, group_size=size, params=SamplingParams(CAP), seed=0)
        spent = time.process_time() - started
        assert [[one.num_tokens for one in group.rollouts] for group in groups] == batch.lengths
        return self.tally.steps - before, spent


def measure(bench: Bench, name: str, batches: Sequence[Batch], slots: int) -> dict[str, Any]:
    """Sums over the batches, by order."""
    found: dict[str, Any] = {
        "lengths": name,
        "rows": sum(map(len, batches[0].lengths)),
        "slots": slots,
        "steps": dict.fromkeys(ORDERS, 0),
        "seconds": dict.fromkeys(ORDERS, 0.0),
    }
    for batch in batches:
        for order in ORDERS:
            steps, seconds = bench.draw(batch, slots, order)
            found["steps"][order] += steps
            found["seconds"][order] += seconds
    return found


def text_of(found: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}",
        "",
        "| lengths | rows | slots | steps as given | by history | known | CPU s as given | by "
        "history | known |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        cells = [one["lengths"], f"{one['rows']}", f"{one['slots']}"]
        for key, form in (("steps", "{:,}"), ("seconds", "{:.2f}")):
            given = one[key]["as given"]
            cells.append(form.format(given))
            cells += [f"{one[key][order] / given - 1:+.1%}" for order in ORDERS[1:]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, help="a run whose rollouts give lengths")
    parser.add_argument("--slots", type=int, nargs="+", default=[32, 64, 96])
    parser.add_argument("--shares", type=float, nargs="*", default=[0.0, 0.35, 0.6])
    add_output(parser)
    given = parser.parse_args()
    kinds = {f"made up, share {one:g}": list(made_up(one, 16, 8)) for one in given.shares}
    if given.run is not None:
        kinds = {f"of {given.run.name}": list(from_run(RunFolder(given.run)))} | kinds
    bench, found = Bench(), []
    bench.draw(next(iter(kinds.values()))[0], given.slots[0], "as given")  # not counted
    for name, batches in kinds.items():
        for slots in given.slots:
            found.append(measure(bench, name, batches, slots))
            print(text_of(found[-1:]).splitlines()[-1], flush=True)
    write(given, text_of(found), found)


if __name__ == "__main__":
    main()
