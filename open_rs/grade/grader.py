"""`Grader`: completions and golds in, grades out; the same for curation, reward and evaluation."""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import cast

from open_rs.grade.exact import exact_verdict
from open_rs.grade.extract import extract_answer
from open_rs.grade.policy import policy_version
from open_rs.grade.pool import WorkerPool
from open_rs.grade.types import Grade, Outcome
from open_rs.interrupt import result_of

CACHE_PAIRS = 100_000


class Grader:
    """Grades completions from any thread; a context manager that leaves no process behind.

    `timeout_s` is the wall-clock limit for judging one answer, enforced by killing the process that
    judges it. Workers start when the first answer needs one, so making a Grader costs nothing.
    `unboxed_numbers`: the last number counts where a completion has no box at all.
    """

    def __init__(
        self, *, workers: int = 1, timeout_s: float = 5.0, unboxed_numbers: bool = False
    ) -> None:
        if workers < 1 or timeout_s <= 0:
            raise ValueError("a Grader needs workers >= 1 and timeout_s > 0")
        self._pool = WorkerPool(workers, timeout_s)
        self._unboxed_numbers = unboxed_numbers
        self.policy_version = policy_version(unboxed_numbers=unboxed_numbers)
        self._owner = os.getpid()
        self._closed = False
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[str, str], Outcome] = OrderedDict()
        self._waiting: dict[tuple[str, str], list[Future[Grade]]] = {}  # for one and the same pair

    def submit(self, completion: str, gold: str, *, opens_think: bool = False) -> Future[Grade]:
        """Grade in the background. `opens_think`: the chat template opened the thought, so a
        completion without </think> is an unclosed thought and has no answer.
        """
        if self._closed or os.getpid() != self._owner:
            raise RuntimeError(
                "this Grader is closed, or belongs to the process it was forked from"
            )
        started = time.perf_counter()
        answer = extract_answer(
            completion, opens_think=opens_think, unboxed_numbers=self._unboxed_numbers
        )
        future: Future[Grade] = Future()
        outcome = self._at_once(gold, answer)
        if outcome is not None:
            future.set_result(Grade(outcome, answer, time.perf_counter() - started))
            return future
        assert answer is not None
        self._ask_worker(gold, answer, future)
        return future

    def grade(self, completion: str, gold: str, *, opens_think: bool = False) -> Grade:
        """Grade and wait."""
        return result_of(self.submit(completion, gold, opens_think=opens_think))

    def grade_many(
        self, pairs: Iterable[tuple[str, str]], *, opens_think: bool = False
    ) -> list[Grade]:
        """The grades of (completion, gold) pairs, in their order; all workers share the work."""
        futures = [self.submit(*pair, opens_think=opens_think) for pair in pairs]
        return [result_of(future) for future in futures]

    def check_gold(self, gold: str) -> Grade:
        """Grade the gold against itself: a gold that is not `correct` here cannot be used."""
        return self.grade("\\boxed{" + gold + "}", gold)

    def close(self, *, cancel: bool = False) -> None:
        """Answer what was submitted, or `cancel` it, and end the workers."""
        with self._lock:
            was_closed, self._closed = self._closed, True
        if not was_closed:
            self._pool.close(cancel=cancel)

    def __enter__(self) -> "Grader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(cancel=kind is not None)

    def _at_once(self, gold: str, answer: str | None) -> Outcome | None:
        """The outcome where no worker is needed, None where one is."""
        if not gold.strip():
            return "bad_gold"
        if answer is None:
            return "no_answer"
        with self._lock:
            cached = self._cache.get((gold, answer))
        if cached is not None:
            return cached
        try:
            verdict = exact_verdict(gold, answer)
        except Exception:  # a fault of ours on a text nobody thought of: counted, never a crash
            return "error"
        if verdict == "unknown":
            return None
        return "timeout" if verdict == "unsafe" else verdict

    def _ask_worker(self, gold: str, answer: str, future: Future[Grade]) -> None:
        """Have the pair judged, once for all who wait for it."""
        pair = gold, answer
        with self._lock:
            waiting = self._waiting.setdefault(pair, [])
            waiting.append(future)
            if len(waiting) > 1:
                return

        def answered(judged: Future[tuple[str, float]]) -> None:
            outcome, seconds = (None, 0.0) if judged.cancelled() else judged.result()
            with self._lock:
                futures = self._waiting.pop(pair)
                if outcome not in (None, "error"):  # a timeout costs its time once
                    self._cache[pair] = cast(Outcome, outcome)
                if len(self._cache) > CACHE_PAIRS:
                    self._cache.popitem(last=False)
            for one in futures:
                if outcome is None:
                    one.cancel()
                elif one.set_running_or_notify_cancel():
                    one.set_result(Grade(cast(Outcome, outcome), answer, seconds))

        try:
            self._pool.submit(gold, answer).add_done_callback(answered)
        except RuntimeError:
            with self._lock:
                futures = self._waiting.pop(pair)
            for one in futures:
                one.cancel()
            raise
