"""Progress for a person: lines where there is no terminal, a bar where there is one."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from open_rs import console


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written where there is no terminal; the clock goes on by 10 s at each look."""
    file = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=file, width=200))
    now = iter(range(0, 10_000, 10))
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(now)))
    return file


def test_lines_tell_the_time_left_and_the_note_now_and_then(shown: io.StringIO) -> None:
    with console.progress("aime24", 12, done=2, note=lambda: "pass@1 so far 0.5") as advance:
        for _ in range(10):
            advance(1)
    # started at 0 s, one sample every 10 s; a line at 30, 60 and 90 s; 9, 6 and 3 are left after
    # 3, 6 and 9 of the 10: 7, 4 and 1 samples of 10 s
    assert shown.getvalue().splitlines() == [
        "aime24: 10 to do",
        "aime24: 5 of 12, about 70 s left, pass@1 so far 0.5",
        "aime24: 8 of 12, about 40 s left, pass@1 so far 0.5",
        "aime24: 11 of 12, about 10 s left, pass@1 so far 0.5",
        "aime24: 12 of 12 done",
    ]


def test_without_a_note_there_are_two_lines(shown: io.StringIO) -> None:
    with console.progress("pass rate", 20) as advance:
        for _ in range(20):
            advance(1)
    assert shown.getvalue().splitlines() == ["pass rate: 20 to do", "pass rate: 20 of 20 done"]


def test_a_terminal_gets_a_bar_with_the_note(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    terminal = Console(file=file, width=160, force_terminal=True)
    monkeypatch.setattr(console, "console", terminal)
    with console.progress("aime24", 12, done=2, note=lambda: "pass@1 so far 0.5") as advance:
        advance(10)
    assert "12/12" in file.getvalue() and "pass@1 so far 0.5" in file.getvalue()
