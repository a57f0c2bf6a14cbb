"""Processes that judge chunks (`worker`), and who gives them their work."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from open_rs.errors import GuardStop, InputError
from open_rs.interrupt import result_of


class Workers:
    """`count` workers on the folder `out`, for one shard; a context manager that ends them."""

    def __init__(self, count: int, out: Path, shard: tuple[int, int]) -> None:
        self._arguments = [str(out), *map(str, shard)]
        self._threads = ThreadPoolExecutor(count)
        self._own = threading.local()
        self._started: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()

    def judge(self, round_: int, chunks: Sequence[int], on_done: Callable[[int], Any]) -> None:
        """Have all these chunks judged in a round; the first error ends it."""
        futures = [self._threads.submit(self._one, round_, number) for number in chunks]
        try:
            for future, number in zip(futures, chunks, strict=True):
                result_of(future)
                on_done(number)
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def _one(self, round_: int, number: int) -> None:
        process = self._process()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(f"{round_} {number}\n".encode())
            reply = process.stdout.readline()
        except BrokenPipeError:
            reply = b""
        if not reply:
            status = process.wait()
            what = f"a worker ended (exit status {status}) in round {round_}, chunk {number}"
            if status > 0:
                raise RuntimeError(f"{what}; its error stands above")
            raise GuardStop(
                f"{what}: killed, perhaps for its memory; the same command goes on, with fewer "
                "--workers if need be"
            )
        error = json.loads(reply)["error"]
        if error is not None:
            raise InputError(error)

    def _process(self) -> "subprocess.Popen[bytes]":
        """The worker of this thread."""
        if not hasattr(self._own, "process"):
            root = str(Path(__file__).resolve().parents[2])
            path = os.pathsep.join([root, *(entry for entry in sys.path if entry)])
            self._own.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "open_rs.curate.worker", *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path},
                bufsize=0,  # a pipe with something left to write could not be closed
                start_new_session=True,  # the terminal's Ctrl-C goes to the caller alone
            )
            with self._lock:
                self._started.append(self._own.process)
        process: subprocess.Popen[bytes] = self._own.process
        return process

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is not None:
            for process in self._started:
                process.terminate()
        self._threads.shutdown(cancel_futures=True)
        for process in self._started:  # one that was just starting, too
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            process.wait()
            process.stdout.close()
