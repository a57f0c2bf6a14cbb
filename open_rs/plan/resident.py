"""What memory a piece of work takes, watched from beside it."""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

EVERY_S = 0.004
PAGE = os.sysconf("SC_PAGE_SIZE")
JUDGED = r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"  # one that needs sympy
JUDGE_S = 30.0


def resident_bytes() -> int:
    """Of this process; 0 where the system has no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


def judge_bytes() -> int:
    """What the processes of one grading worker take: their proportional sets, after an answer."""
    import psutil

    from open_rs.grade.pool import WorkerProcess

    mine = psutil.Process()
    before = set(mine.children(recursive=True))
    worker = WorkerProcess()
    try:
        worker.judge(*JUDGED, timeout_s=JUDGE_S)
        started = set(mine.children(recursive=True)) - before
        return sum(int(one.memory_full_info().pss) for one in started)
    except (psutil.Error, AttributeError):  # no such number on this system
        return 0
    finally:
        worker.kill()


def machine_memory() -> int:
    """Of this machine, or of the container that this process is in."""
    whole = os.sysconf("SC_PHYS_PAGES") * PAGE
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdecimal() else whole


def memory_of(device: Any) -> int:
    """All that a device has, bytes; of a CPU that of its machine."""
    if device.type != "cuda":
        return machine_memory()
    import torch

    return int(torch.cuda.get_device_properties(device).total_memory)


class PeakMemory:
    """`with PeakMemory(device) as peak: ...; peak.bytes`: the most that was held meanwhile. On CUDA
    what tensors took, elsewhere the resident memory of this process.
    """

    def __init__(self, device: Any) -> None:
        self.cuda = device if device.type == "cuda" else None
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if self.cuda is not None:
            import torch

            torch.cuda.reset_peak_memory_stats(self.cuda)
        else:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.cuda is not None:
            import torch

            self.bytes = torch.cuda.max_memory_allocated(self.cuda)
            return
        self._done.set()
        self._thread.join()
        self.bytes = max(self.bytes, resident_bytes())

    def _watch(self) -> None:
        while not self._done.wait(EVERY_S):
            self.bytes = max(self.bytes, resident_bytes())
