"""The governor of a run: what it has cost over all its starts, and when this process must stop.

A start is a process that works for a run, from its first stage to its last. `governed` opens it:
inside, time counts, signals are noted, and `interrupt.poll` ends the stage that is under way before
a cap is passed. Time goes on from start to end, whatever it went to: the ledger's phases,
evaluation, repeated work, and `idle` between them. A process that was killed left no end: the last
beat of `.heartbeat` says how far its start came, and what the ledger lacks of that is added as
`killed` by the next one. Beats count by the monotonic clock, so a wall clock that jumps neither
adds to the bill nor takes off.
"""

import os
import secrets
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from open_rs.console import say
from open_rs.errors import GuardStop, InputError
from open_rs.interrupt import (
    DeadlinePassed,
    Interrupted,
    forget_gaps,
    longest_gap,
    on_poll,
    paid,
    poll_signal,
    set_deadline,
    stop_on_signals,
)
from open_rs.plan.cost import device_name, first_use_seconds, price_per_hour, step_seconds
from open_rs.recipe import Recipe
from open_rs.runs import (
    Ledger,
    RunFolder,
    json_object,
    log_event,
    read_json,
    read_log,
    read_metrics,
    write_bytes,
)

SLACK = 0.01  # of the cap, kept back for what cannot be foreseen
BEAT_SECONDS = 1.0

SAME = "go on by the same command"

# Of each stage: what is kept where it is broken off, and the way on
STAGES = {
    "curate": ("in curation, whose answers are kept", SAME),
    "plan": ("before training", SAME),
    "train": ("while the run was opened", "go on by open-rs train --resume {run}"),
    "evaluate": ("in evaluation, whose samples are kept", SAME),
    "report": ("before the report was made", "go on by open-rs report {run}"),
}
RAISED = {"evaluate": "by --max-hours or --set budget.usd, in open-rs evaluate {run}"}

EVENT_KEYS = {"event": str, "step": int, "time": int | float}
LEDGER_KEYS = {"phase": str, "step": int, "seconds": int | float}

_current: "Budget | None" = None  # of the start that this process is in


@contextmanager
def governed(recipe: Recipe, run: RunFolder, stage: str) -> Iterator["Budget"]:
    """A stage of a run, in the start that is under way, or as a start of its own.

    A signal (Interrupted) or a cap (GuardStop) ends the start with a `stop` in the run's diary and
    a sentence that says how to go on.
    """
    global _current
    if _current is not None and _current.run.path.resolve() == run.path.resolve():
        with _current.in_stage(stage):
            yield _current
        return
    outer = _current
    with stop_on_signals():
        _current = Budget(recipe, run)
        try:
            with _current.counting(), _current.in_stage(stage):
                yield _current
        finally:
            _current = outer


@contextmanager
def limited(recipe: Recipe) -> Iterator[None]:
    """Work that belongs to no run: signals are noted, and `budget.hours` count from here."""
    hours = recipe.budget.hours
    with stop_on_signals():
        if hours is not None:
            seconds = hours * 3600
            set_deadline(time.monotonic() + seconds, lambda: longest_gap() + SLACK * seconds)
        try:
            yield
        except DeadlinePassed:
            raise GuardStop(
                f"budget.hours: {hours:g} h are used; what was made is kept, and the same command "
                "goes on"
            ) from None


class Budget:
    """Of one start, which counts from now.

    Attributes:
        ledger: where its stages enter what they took.
        step: that the training stands at.
        kept: of the stage that is under way, as a part of a sentence.
        to_save: seconds that a stop takes beside noticing that it is due.
    """

    def __init__(self, recipe: Recipe, run: RunFolder) -> None:
        self.started = time.monotonic()
        self.recipe, self.run = recipe.budget, run
        price = known_price(recipe)
        self.ledger = Ledger(run.ledger, price, start=secrets.token_hex(4))
        mend_logs(run)
        charge_killed(run, price)
        self.rows_before = read_log(run.ledger)
        self.seconds_before = sum(row["seconds"] for row in self.rows_before)
        self.usd_before = sum(cost(row, price) for row in self.rows_before)
        self.paid_before = self.paid_at_watch = paid()
        self.slack = 0.0
        self.to_save: Callable[[], float] | None = None
        self.step = int(self.rows_before[-1]["step"]) if self.rows_before else 0
        self.kept, self.stage = "", ""
        self.beat_at = 0.0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """To the end of the start; how it is stopped is told."""
        self.beat(time.monotonic())
        on_poll(self.beat)
        try:
            yield
        except Interrupted as stop:
            self.note_stop(str(stop))
            stop.sentence = f"stopped by {stop} {self.kept}; {self.way_on()}"
            raise
        except DeadlinePassed:
            self.note_stop("budget", spent_s=self.seconds)
            how = RAISED.get(self.stage, f"and {STAGES[self.stage][1]}").format(run=self.run.path)
            raise GuardStop(
                f"budget: {self.sentence()} are used {self.kept}; raise it {how}"
            ) from None
        finally:
            on_poll(None)
            idle = time.monotonic() - self.started - self.ledger.entered
            with suppress(InputError):  # a full disk: the next start finds it by the last beat
                self.ledger.enter("idle", self.step, max(idle, 0.0))

    @contextmanager
    def in_stage(self, name: str) -> Iterator[None]:
        """What a stage leaves where it is broken off is told after it."""
        before = self.stage, self.kept
        self.stage, self.kept = name, STAGES[name][0]
        poll_signal()
        forget_gaps()
        self.watch()
        yield
        self.stage, self.kept = before

    def note_stop(self, reason: str, **details: Any) -> None:
        with suppress(InputError):  # a full disk must not hide why the run stopped
            log_event(self.run, "stop", self.step, reason=reason, stage=self.stage, **details)

    def way_on(self) -> str:
        return STAGES[self.stage][1].format(run=self.run.path)

    def on_device(self, name: str, devices: int = 1) -> None:
        """Count dollars by the price of so many devices of this name, where it is known."""
        self.at_price(price_per_hour(self.recipe, name, devices))

    def at_price(self, usd_per_hour: float | None) -> None:
        """Count dollars by this price from the begin of the start on."""
        self.ledger.usd_per_hour = usd_per_hour
        self.usd_before = sum(cost(row, usd_per_hour) for row in self.rows_before)
        self.watch()

    def beat(self, now: float) -> None:
        """Note now and then what this start has spent, in one write: a kill leaves it whole."""
        if now < self.beat_at:
            return
        self.beat_at = now + BEAT_SECONDS
        text = f"{self.ledger.start} {now - self.started:.2f}"
        line = f"{text} {zlib.crc32(text.encode()):08x}".ljust(40) + "\n"
        with suppress(OSError):  # a full disk: the bill of a kill is then that of the beat before
            file = os.open(self.run.heartbeat, os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                os.pwrite(file, line.encode(), 0)
            finally:
                os.close(file)

    @property
    def seconds(self) -> float:
        """Spent so far, over all starts."""
        return self.seconds_before + time.monotonic() - self.started

    @property
    def usd(self) -> float | None:
        """Spent so far, None without a price."""
        price = self.ledger.usd_per_hour
        if price is None:
            return None
        rented = (time.monotonic() - self.started) / 3600 * price
        asked = max(paid() - self.paid_before, self.ledger.paid)  # of endpoints
        return self.usd_before + rented + asked

    @property
    def seconds_left(self) -> float | None:
        """Until the nearer of the caps, None without one."""
        left = []
        if self.recipe.hours is not None:
            left.append(self.recipe.hours * 3600 - self.seconds)
        price = self.ledger.usd_per_hour
        if self.recipe.usd is not None and self.usd is not None and price is not None:
            left.append((self.recipe.usd - self.usd) / price * 3600)
        return min(left, default=None)

    @property
    def cap_seconds(self) -> float | None:
        """The nearer cap as seconds over all starts."""
        left = self.seconds_left
        return None if left is None else left + self.seconds

    def stop_seconds(self) -> float:
        """What a stop takes: to notice it, to save, and a little that is not known."""
        return (self.to_save() if self.to_save else 0.0) + longest_gap() + self.slack

    def watch(self) -> None:
        """Have `poll` stop the run in time; a lap begins, by which that is measured."""
        left = self.seconds_left
        self.slack = SLACK * (self.cap_seconds or 0.0)
        self.paid_at_watch = paid()
        set_deadline(None if left is None else time.monotonic() + left, self.reserve)

    def reserve(self) -> float:
        """What a stop takes, and the time that endpoints have cost since the deadline was set."""
        price, asked = self.ledger.usd_per_hour, paid() - self.paid_at_watch
        if self.recipe.usd is None or price is None or not asked:
            return self.stop_seconds()
        return self.stop_seconds() + asked / price * 3600

    def metrics(self) -> dict[str, float]:
        """What has been spent up to this step."""
        usd = self.usd
        return {"time/spent_s": self.seconds} | ({} if usd is None else {"cost/usd": usd})

    def refuse_too_little(self, recipe: Recipe, step: int, validation: int) -> None:
        """Refuse a start that would end before the run has anything to show for it."""
        left = self.seconds_left
        if left is None or step >= recipe.train.num_steps:  # nothing is left to train
            return
        done = [row["time/step_s"] for row in read_metrics(self.run) if "time/step_s" in row]
        if step and done:
            need, what = sorted(done)[len(done) // 2], "one more step"
        elif self.run.plan.exists():
            plan = read_json(self.run.plan)
            need, what = (
                first_use_seconds(recipe, plan, validation),
                "the first score or checkpoint",
            )
            need = max(need, step_seconds(plan))
        else:
            need, what = 0.0, "a save"
        need += self.stop_seconds()
        if need > left:
            key = "budget.hours" if self.recipe.usd is None else "budget.hours or budget.usd"
            raise InputError(
                f"{key}: {max(left, 0):.0f} s are left and {what} needs about {need:.0f} s; "
                "raise it"
            )

    def sentence(self) -> str:
        """What was spent of what."""
        parts = []
        if self.recipe.hours is not None:
            parts.append(f"{self.seconds / 3600:.3g} of {self.recipe.hours:g} h")
        if self.recipe.usd is not None and self.usd is not None:
            parts.append(f"${self.usd:.2f} of ${self.recipe.usd:g}")
        return ", ".join(parts)


def known_price(recipe: Recipe) -> float | None:
    """What the recipe says; the device is only asked, which loads torch, where a cap needs it."""
    if recipe.budget.usd is None or recipe.budget.usd_per_hour is not None:
        return recipe.budget.usd_per_hour
    from open_rs.models import pick_device

    return price_per_hour(recipe.budget, device_name(pick_device(recipe.model)))


def cost(row: dict[str, Any], usd_per_hour: float | None) -> float:
    """Dollars of a row; one that was written without a price has today's."""
    if row.get("usd") is not None:
        return float(row["usd"])
    return float(row["seconds"]) / 3600 * (usd_per_hour or 0.0)


def charge_killed(run: RunFolder, usd_per_hour: float | None) -> None:
    """Enter what the last beat counted and the ledger lacks of that start, whatever was entered
    since: a start that ended by itself has entered more than it ever beat.
    """
    start, spent = last_beat(run)
    rows = read_log(run.ledger)
    lost = spent - sum(row["seconds"] for row in rows if row.get("start") == start)
    if lost > 0.01:  # beats are rounded
        step = int(rows[-1]["step"]) if rows else 0
        Ledger(run.ledger, usd_per_hour, start).enter("killed", step, lost)
        say(f"the last start was killed; {lost:.0f} s of it are added to the ledger")


def last_beat(run: RunFolder) -> tuple[str | None, float]:
    """The start that last beat, and the seconds that it had spent; (None, 0) where that cannot be
    read.
    """
    try:
        start, seconds, checksum = run.heartbeat.read_text(encoding="ascii").split()
        whole = zlib.crc32(f"{start} {seconds}".encode()) == int(checksum, 16)
        return (start, float(seconds)) if whole else (None, 0.0)
    except (OSError, ValueError):
        return None, 0.0


def mend_logs(run: RunFolder) -> None:
    """Leave out lines of the logs that cannot be read, and say so: they say what happened, and the
    future does not depend on them.
    """
    for path, keys in ((run.events, EVENT_KEYS), (run.ledger, LEDGER_KEYS)):
        if not path.exists():
            continue
        lines = path.read_bytes().split(b"\n")[:-1]
        kept = [line for line in lines if is_row(line, keys)]
        if len(kept) < len(lines):
            write_bytes(path, b"".join(line + b"\n" for line in kept))
            say(f"{path.name}: {len(lines) - len(kept)} damaged lines were left out")


def is_row(line: bytes, keys: Mapping[str, Any]) -> bool:
    """Whether a line holds these keys, each of its type."""
    row = json_object(line)
    return row is not None and all(isinstance(row.get(key), keys[key]) for key in keys)
