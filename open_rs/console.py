"""What a person sees while a stage runs: on stderr, live in a terminal, plain lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

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

console = Console(stderr=True)


def say(text: str) -> None:
    """One plain line of progress."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


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
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar in a terminal; elsewhere a line at the start and one at the end. Yields
    `advance(count)`.
    """
    if not console.is_terminal:
        done = 0

        def advance(count: int = 1) -> None:
            nonlocal done
            done += count

        say(f"{title}: {total} to do")
        yield advance
        say(f"{title}: {done} of {total} done")
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
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield partial(bar.advance, task)
