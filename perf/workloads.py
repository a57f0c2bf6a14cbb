"""What the measurements of a step are made on, and how the lengths of completions are forced.

W1  the quickstart: the tiny model, 16 prompts x 8, cap 256
W2  SmolLM2-135M on GSM8K, 4 prompts x 8, cap 256, natural lengths; every second answer is rewarded,
    since this model solves so few that a step would have nothing to learn from
W3  W2 with forced lengths (median 0.3 of the cap, 10 % at the cap) and every second group dead

W4, the paper's own step, is in `gpu.py`.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Workload:
    model: str
    prompts: int
    group_size: int
    cap: int
    forced: bool = False  # lengths and dead groups are given, not drawn
    at_cap: float = 0.1  # share of the forced lengths that reach the cap
    middle: float = 0.3  # the median of the others, of the cap
    spread: float = 0.5  # and their standard deviation, of the logarithm
    gsm8k: bool = False  # else the arithmetic of the quickstart


WORKLOADS = {
    "W1": Workload("tiny", 16, 8, 256),
    "W2": Workload("models/smollm2-135m", 4, 8, 256, gsm8k=True),
    "W3": Workload("models/smollm2-135m", 4, 8, 256, gsm8k=True, forced=True),
}


@cache
def forced_lengths(load: Workload, step: int) -> tuple[int, ...]:
    """Tokens of each row of a step, prompt by prompt: log-normal, and a share of them cut.

    The same function serves both sides.
    """
    draw, cap = random.Random(step), load.cap
    rows = load.prompts * load.group_size
    capped = set(draw.sample(range(rows), round(rows * load.at_cap)))
    return tuple(
        cap
        if row in capped
        else min(cap - 1, max(4, round(load.middle * cap * draw.lognormvariate(0, load.spread))))
        for row in range(rows)
    )


def problem_rows(load: Workload, data: Path, count: int) -> list[dict[str, Any]]:
    """The problems of the workload as rows of ours, numbered; every step takes the next ones."""
    from dataclasses import asdict

    from open_rs.problems import load_problems
    from open_rs.recipe import Source
    from open_rs.tasks.arithmetic import arithmetic_problems

    if load.gsm8k:
        path = data / "train" / "gsm8k_r1zero.jsonl.gz"
        found = load_problems(Source(path=str(path), count=count))
    else:
        found = arithmetic_problems("train", count, seed=0, levels=(1, 2, 3, 4))
    return [asdict(one) | {"id": f"p{number}"} for number, one in enumerate(found)]


class Forced:
    """Which step is under way, for those who are called from inside a library."""

    step = 1


def force_ours(slots_class: Any, load: Workload) -> None:
    """The lengths of the workload at the step under way."""
    force(slots_class, load.group_size, lambda: forced_lengths(load, Forced.step))


def force(slots_class: Any, group_size: int, lengths: Callable[[], Sequence[int]]) -> None:
    """EOS where the row's length, of all rows prompt by prompt, says so, and nowhere else."""
    plain = slots_class._logits

    def logits(self: Any, n: int) -> Any:
        import torch

        made, every = plain(self, n).clone(), lengths()
        eos = (self.codes == 1).nonzero()[0, 0]
        rows = self.rows[: len(made)]
        wanted = [every[row.prompt * group_size + row.sample] for row in rows]
        ends = self.written[: len(rows)] + 1 >= torch.tensor(wanted, device=made.device)
        made[: len(rows), eos] = torch.where(ends, 1e4, -1e4)
        return made

    slots_class._logits = logits


def forced_ends(load: Workload, prompt_length: int, eos: int) -> Any:
    """The same for `generate`: a logits processor for the rows of the step under way."""
    import torch
    from transformers import LogitsProcessor

    class Ends(LogitsProcessor):
        def __init__(self) -> None:
            self.lengths = torch.tensor(forced_lengths(load, Forced.step))

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            ends = input_ids.shape[1] - prompt_length + 1 >= self.lengths.to(scores.device)
            scores[:, eos] = torch.where(ends, 1e4, -1e4).to(scores.dtype)
            return scores

    return Ends()
