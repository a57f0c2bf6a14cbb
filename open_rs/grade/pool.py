"""The caller's side of the workers: a queue, and for each worker a thread that feeds and guards it.

A pair that runs out of time has its process killed; a process that dies under a pair is replaced
and the pair tried once more. Nothing is shared between workers but the queue, so no death can block
another. Workers are fresh interpreters (never a fork of the caller), safe beside torch's threads.
"""

import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_SECONDS = 120.0  # to import sympy on a loaded machine
END_SECONDS = 20.0  # for the guard to kill what is below it, which takes milliseconds
CPU_SHARE = 1 / 6  # of the wall-clock limit: other work on the machine makes no answer a timeout


@dataclass
class Task:
    """One pair to judge; `future` receives (outcome, seconds)."""

    gold: str
    answer: str
    future: "Future[tuple[str, float]]" = field(default_factory=Future)


class OutOfTime(Exception):
    """The child that took too long is dead, and its successor ready."""


class WorkerDied(Exception):
    """The process ended under its request; `status` is its wait status. Only `kill` is left: what
    was asked may still be answered by a successor.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"worker ended with wait status {status}")
        self.status = status


class WorkerProcess:
    """A supervisor and its serving child (worker.py) below a guard (processes.py), started here and
    spoken to over pipes.

    `module` is run with `arguments`; its main calls `worker.serve`. `greeting`: its first
    message.
    """

    def __init__(self, module: str = "open_rs.grade.worker", *arguments: str) -> None:
        package_root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([package_root, *(entry for entry in sys.path if entry)])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            bufsize=0,
            start_new_session=True,  # the terminal's Ctrl-C goes to the caller alone
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        os.set_blocking(self._requests.fileno(), False)
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(self._replies, select.POLLIN)
        self._writable.register(self._requests, select.POLLOUT)
        self._unread = b""
        try:
            self.greeting = self._wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def judge(self, gold: str, answer: str, timeout_s: float) -> str:
        """The outcome of one pair; "timeout" after killing the child that took too long."""
        request = {"gold": gold, "answer": answer, "cpu_seconds": timeout_s * CPU_SHARE}
        try:
            return str(self.ask(request, timeout_s)["outcome"])
        except OutOfTime:
            return "timeout"
        except WorkerDied as died:
            if os.WIFSIGNALED(died.status) and os.WTERMSIG(died.status) == signal.SIGPROF:
                return "timeout"
            raise

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The reply to one request. OutOfTime or WorkerDied where there is none."""
        deadline = time.monotonic() + timeout_s
        try:
            self._send(json.dumps(request).encode() + b"\n", deadline)
            reply = self._receive(deadline)
        except TimeoutError:
            self._process.send_signal(signal.SIGUSR1)
            self._wait_until_ready()
            raise OutOfTime from None
        except BrokenPipeError:
            raise WorkerDied(0) from None
        if "ready" in reply:  # the child died and this is its successor
            raise WorkerDied(int(reply["last_status"]))
        return reply

    def _wait_until_ready(self) -> dict[str, Any]:
        deadline = time.monotonic() + START_SECONDS
        while "ready" not in (greeting := self._receive(deadline)):
            pass
        return greeting

    def _send(self, line: bytes, deadline: float) -> None:
        """Write a line; TimeoutError where nobody reads it until the deadline."""
        unsent = memoryview(line)
        while unsent:
            _wait(self._writable, deadline)
            unsent = unsent[self._requests.write(unsent) or 0 :]

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The next message; TimeoutError at the deadline, WorkerDied when the pipe ends."""
        while b"\n" not in self._unread:
            _wait(self._readable, deadline)
            piece = self._replies.read(1 << 16)
            if not piece:
                raise WorkerDied(self._process.wait())
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def kill(self) -> None:
        """End its processes now, and what a served function started."""
        self._requests.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._replies.close()


def _wait(poll: select.poll, deadline: float) -> None:
    """Until there is something to read or room to write; TimeoutError at the deadline."""
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise TimeoutError


class WorkerPool:
    """`workers` processes, each started by the first pair that it takes from the queue."""

    def __init__(self, workers: int, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # nothing enters the queue behind the marks of its end
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"grader-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, gold: str, answer: str) -> "Future[tuple[str, float]]":
        task = Task(gold, answer)
        with self._lock:
            if self._closed:
                raise RuntimeError("this Grader is closed")
            self._tasks.put(task)
        return task.future

    def close(self, *, cancel: bool) -> None:
        """Finish what is queued, or cancel it; then end the workers."""
        with self._lock:
            self._closed = True
        while cancel:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                break
            if task is not None:
                task.future.cancel()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        """The life of one thread: take a pair, have it judged, answer it."""
        process: WorkerProcess | None = None
        while (task := self._tasks.get()) is not None:
            if not task.future.set_running_or_notify_cancel():
                continue
            started = time.monotonic()
            outcome = "error"
            for _ in range(2):  # a second try when the process died for no reason of its own
                try:
                    process = process or WorkerProcess()
                    started = time.monotonic()
                    outcome = process.judge(task.gold, task.answer, self._timeout_s)
                    break
                except Exception:  # whatever it was, the next pair finds a live thread
                    if process is not None:
                        process.kill()
                    process = None
            task.future.set_result((outcome, time.monotonic() - started))
        if process is not None:
            process.kill()
