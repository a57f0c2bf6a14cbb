"""A run as it stands, read from its files: the panel of a terminal, or a line a step elsewhere.

The process that trains shows it, and so does `open-rs watch` on another terminal or machine: both
read the same logs, as far as they have been written.
"""

import gzip
import math
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from open_rs.console import console, live_panel, say
from open_rs.runs import RunFolder, json_object, read_json
from open_rs.text import shown

BARS = "▁▂▃▄▅▆▇█"
SPARK_STEPS = 60
BESIDE_SPARK = 18  # columns of the panel that its line does not have
RATE_STEPS = 20  # the last steps, by which the time that is left is judged
SAMPLE_LINES = 8
BACKLOG = 5  # lines and notes that one who comes later is told
SAMPLE_EVERY_S = 5.0
SILENT_S = 120.0  # a run that has written nothing for longer may be dead
SHOWN_EVENTS = ("alarm", "roll_back", "change", "skipped_step", "out_of_memory", "failed", "stop")
HIDDEN_PARTS = ("std", "undecided_frac")


class Tail:
    """The rows that a log has gained since the last look. One that was rewritten, as a roll-back
    does, is read anew: `restarted` says so.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.restarted = False
        self._file, self._read = 0, 0

    def rows(self) -> list[dict[str, Any]]:
        """A line that is being written, and one that is no JSON object, are left out."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return []
        other = found.st_ino != self._file or found.st_size < self._read
        self.restarted = other and self._read > 0
        if self.restarted:
            self._read = 0
        self._file = found.st_ino
        with self.path.open("rb") as file:
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        return [row for line in whole.split(b"\n") if (row := json_object(line))]


class RunView:
    """What is to be seen of a run: `refresh` reads what is new in its folder."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        recipe = read_json(run.recipe)
        self.name: str = recipe["name"]
        self.num_steps: int = recipe["train"]["num_steps"]
        self.budget: dict[str, float | None] = recipe["budget"]
        self.logs = {path: Tail(path) for path in (run.metrics, run.events, run.ledger)}
        self.sample, self.sample_at = "", -math.inf
        self.ended = ""
        self.steps: dict[int, dict[str, Any]] = {}
        self.scores: dict[int, tuple[float, float, float]] = {}  # pass@1 with its interval
        self.notes: list[str] = []
        self.evaluations: list[float] = []  # seconds

    def refresh(self) -> list[str]:
        """Read what is new. Returns a line for each step and score; events go to `notes`."""
        lines = list[str]()
        for path, tail in self.logs.items():
            rows = tail.rows()
            if tail.restarted:
                self._forget(path)
            for row in rows:
                lines += self._take(path, row)
        if time.monotonic() - self.sample_at > SAMPLE_EVERY_S:
            self.sample, self.sample_at = newest_sample(self.run) or self.sample, time.monotonic()
        return lines

    def _forget(self, path: Path) -> None:
        """What came from a log that now holds something else."""
        if path == self.run.metrics:
            self.steps.clear()
            self.scores.clear()
        elif path == self.run.events:
            self.notes.clear()
        else:
            self.evaluations.clear()

    def _take(self, path: Path, row: dict[str, Any]) -> Iterator[str]:
        step = row.get("step", 0)
        if path == self.run.ledger:
            if row.get("phase") == "evaluate":
                self.evaluations.append(row.get("seconds", 0.0))
        elif path == self.run.events:
            self.ended = ending(row)
            if row.get("event") in SHOWN_EVENTS:
                self.notes.append(note(row))
        elif "validation/pass@1" in row:
            ends = ("", "_low", "_high")
            value, low, high = (row[f"validation/pass@1{end}"] for end in ends)
            self.scores[step] = value, low, high
            yield f"step {step:>4}  validation pass@1 {value:.3f} [{low:.3f}, {high:.3f}]"
        else:
            self.steps[step] = row
            yield self.line()

    @property
    def step(self) -> int:
        return max(self.steps, default=0)

    @property
    def metrics(self) -> dict[str, Any]:
        """The newest figures; those of a rollout stand in the first row of its updates."""
        newest: dict[str, Any] = {}
        for step in sorted(self.steps)[-RATE_STEPS:]:
            newest |= self.steps[step]
        return newest

    def line(self) -> str:
        get = self.metrics.get
        parts = (
            f"step {self.step:>4}/{self.num_steps}",
            f"reward {get('reward/mean', math.nan):.3f}",
            f"length {get('completion/mean_tokens', 0):.0f}",
            f"truncated {get('completion/truncated_frac', 0):.0%}",
            f"groups {get('groups/effective', 0):.0f}",
            f"grad {get('optim/grad_norm', 0):.3f}",
            f"{get('time/step_s', 0):.1f} s",
            self.spent(),
        )
        return "  ".join(part for part in parts if part)

    def spent(self) -> str:
        """What the run has cost so far, over all its starts, where it has a price or a cap."""
        seconds, usd = self.metrics.get("time/spent_s", 0.0), self.metrics.get("cost/usd")
        parts = []
        if self.budget.get("hours") is not None:
            parts.append(f"{seconds / 3600:.2f} of {self.budget['hours']:g} h")
        if usd is not None:
            cap = self.budget.get("usd")
            parts.append(f"${usd:.2f}" + ("" if cap is None else f" of ${cap:g}"))
        return ", ".join(parts)

    def seconds_left(self) -> float | None:
        """Steps that are left at the rate of the last ones; evaluation comes on top."""
        took = [self.steps[one].get("time/step_s", 0.0) for one in sorted(self.steps)]
        if not took:
            return None
        left = max(self.num_steps - self.step, 0)
        return left * sum(took[-RATE_STEPS:]) / len(took[-RATE_STEPS:])

    def time_left(self) -> str:
        left = self.seconds_left()
        if left is None:
            return "no step yet"
        each = sum(self.evaluations) / len(self.evaluations) if self.evaluations else 0.0
        scoring = f"; an evaluation takes {duration(each)}" if each else ""
        return f"{duration(left)} of steps left{scoring}"

    def state(self) -> str:
        """How the run ended, or for how long none of its logs has grown."""
        if self.ended:
            return self.ended
        written = [path.stat().st_mtime for path in self.logs if path.exists()]
        silent = time.time() - max(written, default=time.time())
        return f"silent for {duration(silent)}" if silent > SILENT_S else ""

    def panel(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        for name, text in self.rows():
            table.add_row(name, Text(text))
        for one in self.notes[-3:]:
            table.add_row(Text("note", style="bold red"), Text(shown(one)))
        sample = Text("\n".join(shown(self.sample).split("\n")[:SAMPLE_LINES]), style="dim")
        bar = Table.grid(expand=True)  # alone, a bar does not end its line
        bar.add_row(ProgressBar(total=self.num_steps, completed=self.step))
        title = f"{self.name}: step {self.step} of {self.num_steps}"
        if state := self.state():
            title += f", {state}"
        return Panel(Group(bar, table, Text(), sample), title=Text(shown(title)))

    def rows(self) -> Iterator[tuple[str, str]]:
        """What the panel says, line by line; of a step only where there was one."""
        get = self.metrics.get
        if self.steps:
            rewards = [row["reward/mean"] for row in self.steps.values() if "reward/mean" in row]
            parts = "  ".join(
                f"{name} {value:.2f}"
                for key, value in sorted(self.metrics.items())
                if key.startswith("reward/") and (name := key[7:]) not in HIDDEN_PARTS
            )
            wide = max(min(SPARK_STEPS, console.width - BESIDE_SPARK), 1)
            yield "reward", f"{spark(rewards[-wide:])}  {shown(parts)}"
        for step, (value, low, high) in sorted(self.scores.items())[-3:]:
            yield "validation", f"step {step}: pass@1 {value:.3f} [{low:.3f}, {high:.3f}]"
        if self.steps:
            yield (
                "length",
                f"{get('completion/mean_tokens', 0):.0f} tokens, 90 % below "
                f"{get('completion/p90_tokens', 0):.0f}, "
                f"{get('completion/truncated_frac', 0):.0%} truncated",
            )
            yield (
                "groups",
                f"{get('groups/effective', 0):.0f} with signal, "
                f"{get('groups/dead_frac', 0):.0%} without; gradient norm "
                f"{get('optim/grad_norm', 0):.3f}, entropy {get('policy/entropy', 0):.3f}",
            )
        yield "time", self.time_left()
        if spent := self.spent():
            yield "cost", spent


class LiveView:
    """A `RunView` on the screen, or in lines. The process that trains tells events by itself, so
    only who watches from outside wants them `with_notes`.
    """

    def __init__(self, run: RunFolder, *, with_notes: bool = False) -> None:
        self.view = RunView(run)
        held = self.view.refresh()
        self.backlog = held[-BACKLOG:] if with_notes else []  # to the process itself it is no news
        self.told = max(len(self.view.notes) - BACKLOG, 0) if with_notes else None
        self.live = Live(self.view.panel(), console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self.shown = ExitStack()
        self.shown.enter_context(live_panel(self.live))
        return self

    def __exit__(self, *error: object) -> None:
        self.shown.close()

    def row(self, row: Mapping[str, Any]) -> None:
        """The run has a row more."""
        self.show()

    def show(self) -> None:
        """What the files hold now."""
        lines, self.backlog = [*self.backlog, *self.view.refresh()], []
        if console.is_terminal:
            self.live.update(self.view.panel(), refresh=True)
            return
        if self.told is not None:
            lines += self.view.notes[self.told :]
            self.told = len(self.view.notes)
        for line in lines:
            say(line)


def ending(row: dict[str, Any]) -> str:
    """How a run stands after this event: empty while it goes on."""
    match row.get("event"):
        case "finish":
            return "finished"
        case "stop":
            return f"stopped ({row.get('reason', 'no reason given')})"
        case "failed":
            return "failed"
    return ""


def note(row: dict[str, Any]) -> str:
    """An event in a line: its name, where, and what it says of itself."""
    said = next(
        (str(row[key]) for key in ("sentence", "cause", "error", "reason") if row.get(key)), ""
    )
    what = f"{row.get('key')} = {row.get('value')}" if row["event"] == "change" else said
    return f"step {row.get('step', 0)}: {row['event'].replace('_', ' ')} {what}".rstrip()


def newest_sample(run: RunFolder) -> str:
    """Problem and completion of the first rollout of the newest finished step, empty without."""
    files = sorted((run.path / "rollouts").glob("*.jsonl.gz"))
    if not files:
        return ""
    try:
        with gzip.open(files[-1]) as lines:
            row = json_object(lines.readline()) or {}
    except (OSError, EOFError, zlib.error):
        return ""
    return f"{row.get('problem', '')}\n{row.get('completion', '')}"


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{seconds / 3600:.1f} h"


def spark(values: list[float]) -> str:
    """A line of bars between the smallest and the largest value."""
    if not values:
        return ""
    low, high = min(values), max(values)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in values)
