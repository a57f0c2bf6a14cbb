"""Would weights in int8 make rollouts on this CPU faster, and how far off would they sample?

    OMP_NUM_THREADS=1 python perf/int8.py tiny models/smollm2-135m --out runs/int8.md

A step of decoding (`rollout.compiled`) at several numbers of rows, with every matrix product as it
is, in float32 by oneDNN's packed weights, and by what torch has for int8, one scale a row of the
weights: `_weight_int8pack_mm` multiplies float32 inputs by int8 weights, `linear_dynamic` (fbgemm
and oneDNN) makes the inputs int8 as well with one scale for all rows, by which a row would depend
on its company, and `_int_mm` here with a scale for each row, by which it does not: sums of integers
have no rounding. Ways take turns; seconds are of the processor, medians.

Then each way draws tokens at temperature 1 behind problems of the tasks, and float32 reads the same
tokens: KL is k3 of the drawn ones, `ratio` what importance correction would weigh a token by, the
probability in float32 over the one it was drawn with.
"""

import argparse
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from results import add_output, write
from torch import Tensor

from open_rs.models import load_model, load_tokenizer
from open_rs.prompts import Prompter
from open_rs.recipe import ModelRecipe, PromptRecipe
from open_rs.rollout.compiled import CompiledForward, kernels_of
from open_rs.rollout.fit import check_model
from open_rs.rollout.prefill import Prefill, run_module
from open_rs.rollout.weights import PACKED_FROM, Product, Weights, lay_out
from open_rs.tasks.arithmetic import arithmetic_problems

CAPACITY, TOKENS, AT = 320, 128, 96  # positions; drawn of a row; position of the timed step
DRAWN_ROWS, DRAWN_TOKENS = 16, 64
CAP = 2.0  # of the ratio: loss.importance_cap where an engine differs


class Int8:
    """inputs @ weight.T + bias with an int8 weight, in the place of a `Product`."""

    copied = 0

    def __init__(self, weight: Tensor, bias: Tensor | None, *, made: bool = False) -> None:
        weight = weight.detach().float()
        self.bias = bias
        self.scales = weight.abs().amax(1).clamp(min=1e-12) / 127
        self.prepare(weight)

    def prepare(self, weight: Tensor) -> None:
        self.weight = (weight / self.scales[:, None]).round().to(torch.int8).contiguous()

    def product(self, inputs: Tensor) -> Tensor:
        made: Tensor = torch.ops.aten._weight_int8pack_mm(inputs, self.weight, self.scales)
        return made

    def __call__(self, inputs: Tensor) -> Tensor:
        made = self.product(inputs)
        return made if self.bias is None else made + self.bias

    def add_to(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        return hidden + self(inputs)


class Dynamic(Int8):
    """Inputs in int8, too, one scale for all rows of a call."""

    engine = "fbgemm"

    def prepare(self, weight: Tensor) -> None:
        torch.backends.quantized.engine = self.engine
        zeros = torch.zeros(len(self.scales), dtype=torch.long)
        made = torch.quantize_per_channel(weight, self.scales.double(), zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(made, None)

    def product(self, inputs: Tensor) -> Tensor:
        torch.backends.quantized.engine = self.engine
        made: Tensor = torch.ops.quantized.linear_dynamic(inputs, self.packed, False)
        return made


class DynamicOneDNN(Dynamic):
    engine = "onednn"


class ByRow(Int8):
    """Inputs in int8, too, a scale for each row: its numbers are its own to the last bit."""

    def prepare(self, weight: Tensor) -> None:
        super().prepare(weight)
        self.turned = self.weight.t()

    def product(self, inputs: Tensor) -> Tensor:
        scale = inputs.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
        sums: Tensor = torch._int_mm((inputs / scale).round_().to(torch.int8), self.turned)
        return sums.float().mul_(scale).mul_(self.scales)


WAYS: dict[str, Callable[..., Any]] = {
    "float32": partial(Product, pack_from=PACKED_FROM),
    "int8 weights": Int8,
    "int8, fbgemm": Dynamic,
    "int8, oneDNN": DynamicOneDNN,
    "int8, a scale a row": ByRow,
}


class Bench:
    """A model, laid out in every way."""

    def __init__(self, path: str) -> None:
        recipe = ModelRecipe(path=path, device="cpu")
        self.model, self.path = load_model(recipe), path
        self.fit = check_model(self.model)
        prompter = Prompter(load_tokenizer(recipe), PromptRecipe())
        problems = arithmetic_problems("test", DRAWN_ROWS, seed=0, levels=(1, 2))
        self.prompts = [prompter.encode(one).prompt_ids for one in problems]
        with torch.no_grad():
            self.weights = {name: lay_out(self.model, CAPACITY, way) for name, way in WAYS.items()}

    def forward(self, weights: Weights, slots: int) -> CompiledForward:
        kernels = kernels_of(weights)
        assert kernels is not None, "the compiled kernels are what int8 is held against"
        run = partial(run_module, self.model, self.fit.last_only)
        return CompiledForward(weights, kernels, run, slots=slots, tokens=TOKENS)

    def step_seconds(self, rows: int, repeats: int) -> dict[str, float]:
        """Medians of CPU seconds of one decoding step, by way."""
        spent: dict[str, list[float]] = defaultdict(list)
        token = torch.randint(0, self.fit.vocab_size, (rows,))
        position = torch.full((rows,), AT)
        forwards = {name: self.forward(one, rows) for name, one in self.weights.items()}
        for forward in forwards.values():
            forward.held.keys.normal_()
            forward.held.values.normal_()
        for turn in range(repeats + 1):
            for name, forward in forwards.items():
                started = time.process_time()
                forward.logits(token, position, AT)
                if turn:
                    spent[name].append(time.process_time() - started)
        return {name: statistics.median(several) for name, several in spent.items()}

    def ratios(self, name: str) -> Tensor:
        """log p of float32 minus log p of the way, of tokens that the way has drawn."""
        found, draw = [], torch.Generator().manual_seed(0)
        rows = range(len(self.prompts))
        lengths = [len(prompt) - 1 for prompt in self.prompts]
        pair = [self.forward(self.weights[one], len(rows)) for one in (name, "float32")]
        for forward in pair:
            prefill = Prefill(self.prompts, [1] * len(rows), forward.prefill)
            forward.put(rows, lengths, prefill.locate(rows))
        token = torch.tensor([prompt[-1] for prompt in self.prompts])
        position = torch.tensor(lengths)
        for _ in range(DRAWN_TOKENS):
            drawn, exact = (
                forward.logits(token, position, int(position.max())).log_softmax(1)
                for forward in pair
            )
            token = torch.multinomial(drawn.exp(), 1, generator=draw)[:, 0]
            found.append((exact - drawn)[rows, token])
            position = position + 1
        return torch.cat(found)


def measure(path: str, rows: Sequence[int], repeats: int) -> dict[str, Any]:
    bench = Bench(path)
    with torch.no_grad():
        steps = {count: bench.step_seconds(count, repeats) for count in rows}
        logs = {name: bench.ratios(name) for name in WAYS if name != "float32"}
    spread = {}
    for name, log in logs.items():
        ratio = log.exp()
        low, high = (float(ratio.quantile(q)) for q in (0.01, 0.99))
        spread[name] = {
            "kl": float((ratio - 1 - log).mean()),
            "low": low,
            "high": high,
            "largest": float(ratio.max()),
            "capped": float((ratio >= CAP).float().mean()),
        }
    return {"model": path, "steps": steps, "spread": spread}


def text_of(found: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}",
        "",
        f"| model | rows | float32, tokens/s | {' | '.join(list(WAYS)[1:])} |",
        "|---|---|---|" + "---|" * (len(WAYS) - 1),
    ]
    for one in found:
        for rows, spent in one["steps"].items():
            base = spent["float32"]
            times = " | ".join(f"{base / spent[name]:.2f}x" for name in list(WAYS)[1:])
            lines.append(f"| {one['model']} | {rows} | {rows / base:,.0f} | {times} |")
    lines += [
        "",
        f"| model | way | KL | ratio, 1 % to 99 % | largest | at {CAP:g} or above |",
        "|---|---|---|---|---|---|",
    ]
    for one in found:
        for name, got in one["spread"].items():
            lines.append(
                f"| {one['model']} | {name} | {got['kl']:.1e} | {got['low']:.2f} to "
                f"{got['high']:.2f} | {got['largest']:.1f} | {got['capped']:.2%} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--leave-out", nargs="*", default=[], choices=list(WAYS)[1:])
    add_output(parser)
    given = parser.parse_args()
    for name in given.leave_out:
        del WAYS[name]
    found = []
    for path in given.models:
        found.append(measure(path, given.rows, given.repeats))
        write(given, text_of(found), found)
    print(text_of(found))


if __name__ == "__main__":
    main()
