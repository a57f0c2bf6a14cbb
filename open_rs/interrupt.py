"""Asking a run to stop: a signal or a deadline is noted, and long loops look at the note.

`poll()` stands wherever a run spends time: a decoding step, a verdict that is waited for, a
micro-batch. It raises `Interrupted` there, so that a stop comes at a place where nothing is half
done, and whoever runs the loop saves and leaves. Signals belong to the process, and so does the
note.
"""

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # Slurm: --signal=USR1@120
WAIT_SECONDS = 0.05  # between two looks while something else is waited for

T = TypeVar("T")


class Interrupted(Exception):
    """A signal asked for the stop; `number` is the signal's, `sentence` for whoever sent it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.sentence = f"stopped by {self}; the same command goes on"


class DeadlinePassed(Exception):
    """The time that `set_deadline` gave is over."""


class Abandoned(Exception):
    """What this thread does is wanted no more (`beside`)."""


_asked: int | None = None  # the signal
_deadline: float | None = None  # on time.monotonic's clock
_reserve: Callable[[], float] | None = None  # seconds before it at which to stop
_told: Callable[[float], None] | None = None  # `on_poll`
_patient = False  # `patient`
_at_once = False  # `at_once`
_paid = 0.0  # dollars, `pay`
_gaps: deque[float] = deque([0.0], maxlen=4)  # the longest between two looks, lap by lap


class Own(threading.local):
    """What a thread has for itself."""

    looked: float | None = None  # when it last called `poll`
    unwanted: threading.Event | None = None  # set: what it does is wanted no more


_own = Own()


def poll() -> None:
    """Raise what has been asked for."""
    now = time.monotonic()
    if _told is not None:
        _told(now)
    if _own.unwanted is not None and _own.unwanted.is_set():
        raise Abandoned
    if _patient:
        return
    _gaps[-1] = max(now - (_own.looked or now), _gaps[-1])
    _own.looked = now
    poll_signal()
    if _deadline is not None and now >= _deadline - (_reserve() if _reserve else 0.0):
        raise DeadlinePassed


def poll_signal() -> None:
    """`poll` between two stages, where time need not be left for anything."""
    if _asked is not None and not _patient:
        raise Interrupted(_asked)


def ask(number: int) -> None:
    """Note a signal that came elsewhere, as if it had come here."""
    global _asked
    _asked = number


@contextmanager
def patient() -> Iterator[None]:
    """Inside, `poll` raises nothing, since other processes wait for what is under way. A stop comes
    at the next `poll` after it, and counts as late as it is (`longest_gap`).
    """
    global _patient
    _patient = True
    try:
        yield
    finally:
        _patient = False


def on_poll(tell: Callable[[float], None] | None) -> None:
    """Have `poll` tell its time, by time.monotonic, to this; None: to nobody."""
    global _told
    _told = tell


def pay(usd: float) -> None:
    """Note what somebody outside has cost as soon as it is known: a cap must not wait for it."""
    global _paid
    _paid += usd


def paid() -> float:
    """Dollars that were noted by `pay` since this process began."""
    return _paid


def longest_gap() -> float:
    """Seconds between two looks: the longest of the last laps, so how late a stop may come."""
    return max(_gaps)


def forget_gaps() -> None:
    """Other work begins: how long the work before it went without a look says nothing of it."""
    _own.looked = None
    _gaps.extend([0.0] * 4)


def set_deadline(deadline: float | None, reserve: Callable[[], float] | None = None) -> None:
    """`poll` raises DeadlinePassed from `deadline` (time.monotonic) on, or `reserve()` seconds
    before it; None: never. A run sets it at each step, which begins a lap: what happened once, as
    imports do, is forgotten.
    """
    global _deadline, _reserve
    _deadline, _reserve = deadline, reserve
    _gaps.append(0.0)


@contextmanager
def at_once() -> Iterator[None]:
    """Inside, a signal raises Interrupted where it comes: for what cannot poll, as a download or
    the loading of a model, and may be left anywhere. Time in it is no gap between two looks.
    """
    global _at_once
    poll_signal()
    before, _at_once = _at_once, True
    try:
        yield
    except Exception:
        poll_signal()  # where a library, or we, took it for an error of its own
        raise
    finally:
        _at_once, _own.looked = before, None
    poll_signal()  # where it was swallowed


def result_of(future: "Future[T]") -> T:
    """`future.result()`, looking at the note while it waits."""
    while True:
        try:
            return future.result(timeout=WAIT_SECONDS)
        except NotYet:
            if future.done():  # its own timeout, not ours
                raise
            poll()


@contextmanager
def beside(work: Callable[[], T]) -> "Iterator[Future[T]]":
    """What `work` returns or raises, from a thread of its own. The thread has ended when this is
    left: where an exception leaves it, at the thread's next `poll`.
    """
    future: Future[T] = Future()
    unwanted = threading.Event()

    def run() -> None:
        _own.unwanted = unwanted
        try:
            future.set_result(work())
        except BaseException as error:  # raised again where the result is asked for
            future.set_exception(error)

    thread = threading.Thread(target=run, name="beside", daemon=True)
    thread.start()
    try:
        yield future
    finally:
        unwanted.set()
        thread.join()


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Inside, the first SIGTERM, SIGINT or SIGUSR1 is noted. A second one ends the process at once,
    by the signal's own default action: it reaches even a long call into C.
    """
    global _asked, _deadline, _told

    def note(number: int, frame: FrameType | None) -> None:
        global _asked
        _asked = number
        for one in SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        if _at_once:
            raise Interrupted(number)

    forget_gaps()
    main = threading.current_thread() is threading.main_thread()  # only it may set handlers
    before = {one: signal.signal(one, note) for one in SIGNALS if main}
    try:
        yield
    finally:
        _asked = _deadline = _told = None
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside, `poll` is silent: what has to be whole, such as the save before the end."""
    global _asked, _deadline
    held = _asked, _deadline
    _asked = _deadline = None
    try:
        yield
    finally:
        _asked, _deadline = _asked if _asked is not None else held[0], held[1]
