"""The governor: what a run has cost over all its starts, and when it has to save and stop.

Time counts from start to end, whatever it went to: the ledger's phases, evaluation, repeated work,
and `idle` between them. A process that was killed left no end: the last beat of `.heartbeat` says
how far it came, and what the ledger lacks of that is added as `killed` at the next start. Beats
count by the monotonic clock, so a wall clock that jumps neither adds to the bill nor takes off.
"""

import os
import time
import zlib
from contextlib import suppress
from typing import Any

from open_rs.console import say
from open_rs.errors import InputError
from open_rs.interrupt import longest_gap, on_poll, set_deadline
from open_rs.plan.cost import first_use_seconds, price_per_hour, step_seconds
from open_rs.recipe import Recipe
from open_rs.runs import RunFolder, append_jsonl, read_json, read_log, read_metrics

SLACK = 0.01  # of the cap, kept back for what cannot be foreseen
SAVE_MARGIN = 1.5  # on the longest save so far
WRITE_BYTES_PER_S, WRITE_FILES_S = 50e6, 0.2  # of a slow disk, until the first save was timed
BEAT_SECONDS = 1.0


class Budget:
    """Counts from `started` (time.monotonic). `save_bytes`: of one checkpoint; `devices`: that the
    run holds, each at the price.
    """

    def __init__(
        self,
        recipe: Recipe,
        run: RunFolder,
        device_name: str,
        save_bytes: int,
        started: float,
        devices: int = 1,
    ) -> None:
        self.recipe, self.run = recipe.budget, run
        self.usd_per_hour = price_per_hour(recipe.budget, device_name, devices)
        charge_killed(run, self.usd_per_hour)
        rows = read_log(run.ledger)
        self.rows_before = len(rows)
        self.seconds_before = sum(row["seconds"] for row in rows)
        self.usd_before = sum(cost(row, self.usd_per_hour) for row in rows)
        self.started = started
        self.save_seconds = WRITE_FILES_S + save_bytes / WRITE_BYTES_PER_S
        self.beat_at = 0.0
        self.beat(time.monotonic())
        on_poll(self.beat)

    def beat(self, now: float) -> None:
        """Note now and then what has been spent: one write, so that a kill leaves it whole."""
        if now < self.beat_at:
            return
        self.beat_at = now + BEAT_SECONDS
        text = f"{self.seconds_before + now - self.started:.2f}"
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
        if self.usd_per_hour is None:
            return None
        return self.usd_before + (time.monotonic() - self.started) / 3600 * self.usd_per_hour

    @property
    def seconds_left(self) -> float | None:
        """Until the nearer of the caps, None without one."""
        left = []
        if self.recipe.hours is not None:
            left.append(self.recipe.hours * 3600 - self.seconds)
        if self.recipe.usd is not None and self.usd is not None and self.usd_per_hour is not None:
            left.append((self.recipe.usd - self.usd) / self.usd_per_hour * 3600)
        return min(left, default=None)

    @property
    def cap_seconds(self) -> float | None:
        """The nearer cap as seconds over all starts."""
        left = self.seconds_left
        return None if left is None else left + self.seconds

    @property
    def stop_seconds(self) -> float:
        """What a stop takes: to notice it, to save, and a little that is not known."""
        slack = SLACK * (self.cap_seconds or 0.0)
        return SAVE_MARGIN * self.save_seconds + longest_gap() + slack

    def watch(self, save_seconds: float = 0.0) -> None:
        """Have `poll` stop the run in time, by what is known by now."""
        self.save_seconds = save_seconds or self.save_seconds
        if (left := self.seconds_left) is not None:
            set_deadline(time.monotonic() + left - self.stop_seconds)

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
        need += self.stop_seconds
        if need > left:
            key = "budget.hours" if self.recipe.usd is None else "budget.hours or budget.usd"
            raise InputError(
                f"{key}: {max(left, 0):.0f} s are left and {what} needs about {need:.0f} s; "
                "raise it"
            )

    def close(self, step: int) -> None:
        """Enter what no phase counted."""
        on_poll(None)
        rows = read_log(self.run.ledger)[self.rows_before :]
        idle = time.monotonic() - self.started - sum(row["seconds"] for row in rows)
        append_jsonl(self.run.ledger, priced("idle", step, max(idle, 0.0), self.usd_per_hour))

    def sentence(self) -> str:
        """What was spent of what."""
        parts = []
        if self.recipe.hours is not None:
            parts.append(f"{self.seconds / 3600:.3g} of {self.recipe.hours:g} h")
        if self.recipe.usd is not None and self.usd is not None:
            parts.append(f"${self.usd:.2f} of ${self.recipe.usd:g}")
        return ", ".join(parts)


def priced(phase: str, step: int, seconds: float, usd_per_hour: float | None) -> dict[str, Any]:
    """A row of the ledger."""
    usd = None if usd_per_hour is None else seconds / 3600 * usd_per_hour
    return {"phase": phase, "step": step, "seconds": seconds, "usd": usd}


def cost(row: dict[str, Any], usd_per_hour: float | None) -> float:
    """Dollars of a row; one that was written without a price has today's."""
    if row.get("usd") is not None:
        return float(row["usd"])
    return float(row["seconds"]) / 3600 * (usd_per_hour or 0.0)


def charge_killed(run: RunFolder, usd_per_hour: float | None) -> None:
    """Enter what the last beat counted and the ledger does not have: a start that ended by itself
    has entered more than it ever beat.
    """
    rows = read_log(run.ledger)
    lost = last_beat(run) - sum(row["seconds"] for row in rows)
    if lost > 0.01:  # beats are rounded
        step = int(rows[-1]["step"]) if rows else 0
        append_jsonl(run.ledger, priced("killed", step, lost, usd_per_hour))
        say(f"the last start was killed; {lost:.0f} s of it are added to the ledger")


def last_beat(run: RunFolder) -> float:
    """Seconds that all starts had spent when a training last beat; 0 where that cannot be read."""
    try:
        text, checksum = run.heartbeat.read_text(encoding="ascii").split()
        whole = zlib.crc32(text.encode()) == int(checksum, 16)
        return float(text) if whole else 0.0
    except (OSError, ValueError):
        return 0.0
