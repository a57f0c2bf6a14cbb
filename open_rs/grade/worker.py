"""The worker side: a supervisor that imports what is served once (here the judge) and forks a child
that serves it.

    caller --JSON line per pair--> child --JSON line per verdict--> caller

The caller has the supervisor kill the child (SIGUSR1) when a pair runs out of time; the supervisor
forks the next one within milliseconds, with nothing to import again. Requests and replies are JSON:
nothing that came from a completion is unpickled, evaluated as Python or written to a file.
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

MEMORY_BYTES = 512 * 2**20
_PR_SET_PDEATHSIG = 1

Message = dict[str, Any]
Handler = Callable[[Message], Message]  # from a request to its reply


def main() -> None:
    serve(_load_judge, _limit_process)


def serve(load: Callable[[], tuple[Handler, Message]], limit_process: Callable[[], None]) -> None:
    """Serve until the caller closes the pipe or dies. `load` runs once and returns the handler and
    what a child says of it when it is ready; `limit_process` runs in each child.
    """
    requests, replies = _private_pipes()
    _die_with_parent()
    handler, greeting = load()
    status = 0
    while True:
        greeting = {**greeting, "last_status": status}
        status = _run_child(requests, replies, handler, greeting, limit_process)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            return
        _drain(requests)


def _private_pipes() -> tuple[int, int]:
    """The pipes to the caller, out of reach of print(): the standard streams become /dev/null."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    return requests, replies


def _die_with_parent() -> None:
    """On Linux the kernel kills this process when its parent dies; elsewhere the closed pipe or the
    CPU limit ends it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _run_child(
    requests: int,
    replies: int,
    handler: Handler,
    greeting: Message,
    limit_process: Callable[[], None],
) -> int:
    """Fork a child that serves; its wait status once it is gone. SIGUSR1 kills it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's business
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            _die_with_parent()
            with os.fdopen(requests, "rb") as lines, os.fdopen(replies, "wb") as out:
                limit_process()
                _send(out, {**greeting, "ready": os.getpid()})
                for line in lines:
                    _send(out, handler(json.loads(line)))
            code = 0
        except BrokenPipeError:
            code = 0  # the caller is gone
        finally:
            os._exit(code)
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(child, signal.SIGKILL))
    _, status = os.waitpid(child, 0)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    return status


def _drain(requests: int) -> None:
    """Throw away what the dead child left unread."""
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    while any(event & select.POLLIN for _, event in poll.poll(0)):
        if not os.read(requests, 1 << 16):
            return


def _load_judge() -> tuple[Handler, Message]:
    from open_rs.grade.judge import judge  # the children inherit it

    def judged(request: Message) -> Message:
        signal.setitimer(signal.ITIMER_PROF, request["cpu_seconds"])
        try:
            outcome = judge(request["gold"], request["answer"])
        except Exception:  # whatever the algebra system raises, out of memory included: undecided
            outcome = "error"
        signal.setitimer(signal.ITIMER_PROF, 0)
        return {"outcome": outcome}

    return judged, {}


def _send(out: BinaryIO, message: Message) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()


def _limit_process() -> None:
    """Limits that the kernel keeps, in C code too: memory, no files written, no core dump. The CPU
    time of a pair is limited by ITIMER_PROF, whose unhandled signal ends the process.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


if __name__ == "__main__":
    main()
