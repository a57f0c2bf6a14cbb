"""The worker side: a supervisor that imports what is served once (here the judge) and forks a child
that serves it.

    caller --JSON line per pair--> child --JSON line per verdict--> caller

The caller has the supervisor kill the child (SIGUSR1) when a pair runs out of time, with everything
that the child started; the supervisor forks the next one within milliseconds, with nothing to
import again. Both stand below a guard (processes.py). Requests and replies are JSON: nothing that
came from a completion is unpickled, evaluated as Python or written to a file.
"""

import json
import os
import resource
import select
import signal
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO

from open_rs.grade.processes import (
    adopt_orphans,
    children,
    end_children,
    fork_and_exit,
    fork_under_guard,
    kill_group,
)

MEMORY_BYTES = 512 * 2**20

Message = dict[str, Any]
Handler = Callable[[Message], Message]  # from a request to its reply


def main() -> None:
    serve(_load_judge, _limit_process)


def serve(load: Callable[[], tuple[Handler, Message]], limit_process: Callable[[], None]) -> None:
    """Serve until the caller closes the pipe or dies. `load` runs once and returns the handler and
    what a child says of it when it is ready; `limit_process` runs in each child.
    """
    requests, replies = _private_pipes()
    supervise = partial(_supervise, requests, replies, load, limit_process)
    fork_under_guard(supervise, lifeline=requests, kept=[replies])


def _private_pipes() -> tuple[int, int]:
    """The pipes to the caller, out of reach of print(): the standard streams become /dev/null."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    return requests, replies


def _supervise(
    requests: int,
    replies: int,
    load: Callable[[], tuple[Handler, Message]],
    limit_process: Callable[[], None],
) -> int:
    """Have one child after another serve, until one finds that the caller closed the pipe."""
    adopt_orphans()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    handler, greeting = load()
    helpers = children()  # what the import itself started stays
    status = 0
    while True:
        greeting = {**greeting, "last_status": status}
        child = fork_and_exit(
            partial(_serve_requests, requests, replies, handler, greeting, limit_process)
        )
        status = _wait_for(child)
        end_children(spared=helpers)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            return 0
        _drain(requests)


def _wait_for(child: int) -> int:
    """The wait status of a child once it is gone, with its process group. SIGUSR1 kills them."""
    _lead_group(child)
    signal.signal(signal.SIGUSR1, lambda *_: kill_group(child))
    gone, status = os.waitpid(-1, 0)
    while gone != child:  # an orphan of its that ended: it had to be reaped, no more
        gone, status = os.waitpid(-1, 0)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    kill_group(child)
    return status


def _lead_group(child: int) -> None:
    """Put the child into a process group of its own; both sides do it, whoever comes first."""
    try:
        os.setpgid(child, child)
    except (ProcessLookupError, PermissionError):  # it is gone already
        return


def _serve_requests(
    requests: int,
    replies: int,
    handler: Handler,
    greeting: Message,
    limit_process: Callable[[], None],
) -> int:
    """The life of a child; 0 when the caller closed the pipe."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    own = os.getpid()
    _lead_group(own)
    try:
        with os.fdopen(requests, "rb") as lines, os.fdopen(replies, "wb") as out:
            limit_process()
            _send(out, {**greeting, "ready": own})
            for line in lines:
                reply = handler(json.loads(line))
                if os.getpid() != own:  # the function forked, and this copy of it returned, too
                    os._exit(0)
                _send(out, reply)
    except BrokenPipeError:
        return 0  # the caller is gone
    return 0


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
