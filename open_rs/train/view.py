"""What a person sees of training: one live panel in a terminal, a line a step elsewhere."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from open_rs.console import console, live_panel, say
from open_rs.recipe import Recipe
from open_rs.rollout.protocol import RolloutGroup
from open_rs.runs import RunFolder
from open_rs.text import shown

BARS = "▁▂▃▄▅▆▇█"
SPARK_STEPS = 60
SAMPLE_LINES = 8


class TrainView:
    """`step` and `score` are told what happened; the rest is display."""

    def __init__(self, recipe: Recipe, run: RunFolder) -> None:
        self.name, self.num_steps, self.run = recipe.name, recipe.train.num_steps, run
        self.budget = recipe.budget
        self.rewards: list[float] = []
        self.scores: list[tuple[int, float, float, float]] = []
        self.metrics: dict[str, float] = {}
        self.sample = ""
        self.at_step, self.seconds = 0, list[float]()
        self.last = time.perf_counter()
        self.live = Live(self.panel(), console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self.shown = ExitStack()
        self.shown.enter_context(live_panel(self.live))
        return self

    def __exit__(self, *error: object) -> None:
        self.shown.close()

    def score(self, step: int, row: dict[str, float]) -> None:
        """A validation score."""
        value, low, high = (row[f"validation/pass@1{end}"] for end in ("", "_low", "_high"))
        self.scores.append((step, value, low, high))
        self.last = time.perf_counter()  # what an evaluation takes is not a step's
        if console.is_terminal:
            self.live.update(self.panel(), refresh=True)
        else:
            say(f"step {step:>4}  validation pass@1 {value:.3f} [{low:.3f}, {high:.3f}]")

    def step(self, step: int, metrics: dict[str, float], groups: Sequence[RolloutGroup]) -> None:
        """One optimizer update; `metrics` of a batch's later updates hold no rollout figures."""
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last, self.at_step = now, step
        self.metrics |= metrics
        if "reward/mean" in metrics:
            self.rewards.append(metrics["reward/mean"])
        first = groups[0]
        self.sample = f"{first.problem.problem}\n{first.rollouts[0].completion}"
        if console.is_terminal:
            self.live.update(self.panel(), refresh=True)
        else:
            say(self.line())

    def line(self) -> str:
        get = self.metrics.get
        parts = (
            f"step {self.at_step:>4}/{self.num_steps}",
            f"reward {get('reward/mean', float('nan')):.3f}",
            f"length {get('completion/mean_tokens', 0):.0f}",
            f"truncated {get('completion/truncated_frac', 0):.0%}",
            f"groups {get('groups/effective', 0):.0f}",
            f"grad {get('optim/grad_norm', 0):.3f}",
            f"{self.seconds[-1]:.1f} s",
            self.spent(),
        )
        return "  ".join(part for part in parts if part)

    def spent(self) -> str:
        """What the run has cost so far, over all its starts, where it has a price or a cap."""
        seconds, usd = self.metrics.get("time/spent_s", 0.0), self.metrics.get("cost/usd")
        cap = self.budget
        parts = []
        if cap.hours is not None:
            parts.append(f"{seconds / 3600:.2f} of {cap.hours:g} h")
        if usd is not None:
            parts.append(f"${usd:.2f}" + ("" if cap.usd is None else f" of ${cap.usd:g}"))
        return ", ".join(parts)

    def panel(self) -> RenderableType:
        get = self.metrics.get
        table = Table.grid(padding=(0, 2))
        parts = "  ".join(
            f"{key.partition('/')[2]} {value:.2f}"
            for key, value in sorted(self.metrics.items())
            if key.startswith("reward/") and key not in ("reward/std", "reward/undecided_frac")
        )
        table.add_row("reward", f"{spark(self.rewards[-SPARK_STEPS:])}  {parts}")
        for step, value, low, high in self.scores[-3:]:
            table.add_row("validation", f"step {step}: pass@1 {value:.3f} [{low:.3f}, {high:.3f}]")
        table.add_row(
            "length",
            f"{get('completion/mean_tokens', 0):.0f} tokens, 90 % below "
            f"{get('completion/p90_tokens', 0):.0f}, "
            f"{get('completion/truncated_frac', 0):.0%} truncated",
        )
        table.add_row(
            "groups",
            f"{get('groups/effective', 0):.0f} with signal, "
            f"{get('groups/dead_frac', 0):.0%} without; gradient norm "
            f"{get('optim/grad_norm', 0):.3f}, entropy {get('policy/entropy', 0):.3f}",
        )
        left = (self.num_steps - self.at_step) * (
            sum(self.seconds[-20:]) / max(len(self.seconds[-20:]), 1)
        )
        table.add_row("time", f"{sum(self.seconds):.0f} s of steps, about {left:.0f} s left")
        if spent := self.spent():
            table.add_row("cost", spent)
        lines = shown(self.sample).split("\n")[:SAMPLE_LINES]  # a model may write escape codes
        sample = Text("\n".join(lines), style="dim")
        bar = Table.grid(expand=True)  # alone, a bar does not end its line
        bar.add_row(ProgressBar(total=self.num_steps, completed=self.at_step))
        return Panel(
            Group(bar, table, Text(), sample),
            title=f"{self.name}: step {self.at_step} of {self.num_steps}",
        )


def spark(values: Sequence[float]) -> str:
    """A line of bars between the smallest and the largest value."""
    if not values:
        return ""
    low, high = min(values), max(values)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in values)
