"""What a person sees while a stage runs: on stderr, live in a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from open_rs.text import shown

console = Console(stderr=True)
PLAIN_EVERY_S = 30.0  # between two lines of progress where there is no terminal


def say(text: str) -> None:
    """One plain line of progress."""
    console.print(shown(text), highlight=False, markup=False, soft_wrap=True)


@contextmanager
def live_panel(live: Live) -> Iterator[None]:
    """Show `live` in a terminal. Bars inside it are not drawn: two displays would fight for the
    cursor.
    """
    if not console.is_terminal:
        yield
        return
    _shown.append(live)
    try:
        with live:
            yield
    finally:
        _shown.remove(live)


_shown: list[Live] = []


def _not_shown(count: int = 1) -> None:
    """The progress of something inside a live panel."""


@contextmanager
def progress(
    title: str, total: int, *, done: int = 0, note: Callable[[], str] | None = None
) -> Iterator[Callable[[int], None]]:
    """A bar in a terminal; elsewhere a line at the start and one at the end. Yields
    `advance(count)`.

    `done` of `total` were done before; `note` is what else to tell: beside the bar, and elsewhere,
    with the time left, in a line now and then.
    """
    if not console.is_terminal:
        lines = _PlainLines(title, total, done, note)
        say(f"{title}: {total - done} to do")
        yield lines.advance
        say(f"{title}: {lines.done} of {total} done")
        return
    if _shown:
        yield _not_shown
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total, completed=done, note="")

        def advance(count: int = 1) -> None:
            bar.update(task, advance=count, note=note() if note else "")

        yield advance


class _PlainLines:
    """Progress as lines, at most one every PLAIN_EVERY_S seconds, and none without a note."""

    def __init__(self, title: str, total: int, done: int, note: Callable[[], str] | None) -> None:
        self.title, self.total, self.note = title, total, note
        self.before = self.done = done
        self.started = self.said = time.monotonic()

    def advance(self, count: int = 1) -> None:
        self.done += count
        now = time.monotonic()
        if self.note is None or now - self.said < PLAIN_EVERY_S or self.done >= self.total:
            return
        self.said = now
        left = (now - self.started) / (self.done - self.before) * (self.total - self.done)
        say(f"{self.title}: {self.done} of {self.total}, about {left:.0f} s left, {self.note()}")
