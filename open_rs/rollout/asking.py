"""Requests to a server, several under way at a time, for the engines whose model is elsewhere."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

from open_rs.interrupt import WAIT_SECONDS, poll

J = TypeVar("J")
A = TypeVar("A")
T = TypeVar("T")


def awaited(queue: SimpleQueue[T]) -> T:
    """The next entry of a queue, looking at whether a stop was asked for while it waits."""
    while True:
        poll()
        with suppress(Empty):
            return queue.get(timeout=WAIT_SECONDS)


def answers(
    wanted: Iterator[J],
    ask: Callable[[J], A],
    *,
    at_once: int,
    may_send: Callable[[J], bool] = lambda job: True,
) -> Generator[tuple[J, A | BaseException]]:
    """(job, its answer or what `ask` raised) as they end, `at_once` of them under way at a time.

    `ask` runs in daemon threads, so an interrupt waits for no answer; everything else happens in
    the calling thread. Where `may_send` refuses a job it is held until others have ended; a job
    that is refused with none under way ends it, and stays unasked.
    """
    asked: SimpleQueue[J | None] = SimpleQueue()
    ended: SimpleQueue[tuple[J, A | BaseException]] = SimpleQueue()

    def work() -> None:
        while (job := asked.get()) is not None:
            try:
                outcome: A | BaseException = ask(job)
            except BaseException as error:  # raised again in the calling thread
                outcome = error
            ended.put((job, outcome))

    threads = under_way = 0
    job = next(wanted, None)
    try:
        while job is not None or under_way:
            while job is not None and under_way < at_once and may_send(job):
                asked.put(job)
                under_way += 1
                if threads < under_way:
                    threading.Thread(target=work, daemon=True).start()
                    threads += 1
                job = next(wanted, None)
            if not under_way:
                return
            yield awaited(ended)
            under_way -= 1
    finally:
        for _ in range(threads):
            asked.put(None)
