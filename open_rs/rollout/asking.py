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
    ask: Callable[[J, int], A],
    *,
    at_once: int,
    places: int = 1,
    may_send: Callable[[J], bool] = lambda job: True,
) -> Generator[tuple[J, int, A | BaseException]]:
    """(job, its place, its answer or what `ask` raised) as they end, `at_once` of them under way at
    a time at each of the places. A job goes to the place that has the fewest, the first of them.

    `ask` runs in daemon threads, so an interrupt waits for no answer; everything else happens in
    the calling thread. Where `may_send` refuses a job it is held until others have ended; a job
    that is refused with none under way ends it, and stays unasked.
    """
    asked: SimpleQueue[tuple[J, int] | None] = SimpleQueue()
    ended: SimpleQueue[tuple[J, int, A | BaseException]] = SimpleQueue()

    def work() -> None:
        while (given := asked.get()) is not None:
            job, place = given
            try:
                outcome: A | BaseException = ask(job, place)
            except BaseException as error:  # raised again in the calling thread
                outcome = error
            ended.put((job, place, outcome))

    threads, under_way = 0, [0] * places
    job = next(wanted, None)
    try:
        while job is not None or any(under_way):
            while job is not None and min(under_way) < at_once and may_send(job):
                place = under_way.index(min(under_way))
                asked.put((job, place))
                under_way[place] += 1
                if threads < sum(under_way):
                    threading.Thread(target=work, daemon=True).start()
                    threads += 1
                job = next(wanted, None)
            if not any(under_way):
                return
            done = awaited(ended)
            under_way[done[1]] -= 1
            yield done
    finally:
        for _ in range(threads):
            asked.put(None)
