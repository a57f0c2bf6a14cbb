"""A user's reward in a process of its own: where it hangs or crashes it is killed and started anew.

The process is the grader's kind (`open_rs.grade.worker`): a supervisor that imports the user's
module once and forks the child that calls the function, in JSON over pipes. They and whatever they
started end with `close`, and, on Linux, whenever this process ends.
"""

import inspect
import resource
import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

from open_rs.errors import InputError
from open_rs.grade import Grade
from open_rs.grade.pool import OutOfTime, WorkerDied, WorkerProcess
from open_rs.grade.worker import Handler, Message, serve
from open_rs.plugins import load_function
from open_rs.problems import Problem
from open_rs.rollout.protocol import Rollout, RolloutGroup

TIMEOUT_S = 5.0


class IsolatedFailure(Exception):
    """What an isolated function did instead of returning: "raised KeyError: 'a'"."""


class IsolatedFunction:
    """A reward function that is called in another process; a context manager that ends it.

    `timeout_s` is the wall-clock limit of one call, kept by killing.
    """

    def __init__(self, name: str, *, timeout_s: float | None = None) -> None:
        self.name = name
        self.timeout_s = timeout_s or TIMEOUT_S
        self._process: WorkerProcess | None = None

    def __call__(self, rollout: Rollout, problem: Problem, *, group: RolloutGroup) -> float | None:
        """The function's value. IsolatedFailure where it raised, crashed or was killed."""
        self._process = process = self._process or self._start()
        shown = group.rollouts if process.greeting["sees_group"] else [rollout]
        index = next(place for place, one in enumerate(shown) if one is rollout)
        request = encode(problem, group.prompt_ids, shown, index)
        try:
            reply = process.ask(request, self.timeout_s)
        except OutOfTime:
            raise IsolatedFailure(f"took more than {self.timeout_s:g} s and was killed") from None
        except (WorkerDied, TimeoutError, OSError) as error:
            self.close()
            raise IsolatedFailure(f"ended its process ({error})") from None
        except BaseException:  # an interrupt in mid-call: what comes next would be an old reply
            self.close()
            raise
        if "error" in reply:
            raise IsolatedFailure(f"raised {reply['error']}")
        value: float | None = reply["value"]
        return value

    def _start(self) -> WorkerProcess:
        try:
            process = WorkerProcess("open_rs.train.isolation", self.name)
        except (WorkerDied, TimeoutError, OSError) as error:
            raise InputError(
                f"{self.name!r}: importing its module ended or held up the process ({error}); "
                "mend the module"
            ) from None
        if "failed" in process.greeting:
            process.kill()
            raise InputError(process.greeting["failed"])
        return process

    def close(self) -> None:
        """End the process; the next call would start another."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def __enter__(self) -> "IsolatedFunction":
        self._process = self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def sees_group(function: Callable[..., Any]) -> bool:
    """Whether a reward function takes its group, by a parameter of that name."""
    try:
        return "group" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a built-in that does not say what it takes
        return False


def encode(problem: Problem, prompt_ids: list[int], rollouts: list[Rollout], index: int) -> Message:
    """A call as JSON: the rollout at `index` of those that the function may see."""
    rows = [
        {**vars(one), "grade": None if one.grade is None else vars(one.grade)} for one in rollouts
    ]
    return {
        "problem": vars(problem),
        "prompt_ids": prompt_ids,
        "rollouts": rows,
        "index": index,
    }


def decode(request: Message) -> tuple[Rollout, RolloutGroup]:
    """What `encode` was given."""
    rollouts = [
        Rollout(**{**row, "grade": row["grade"] and Grade(**row["grade"])})
        for row in request["rollouts"]
    ]
    group = RolloutGroup(Problem(**request["problem"]), request["prompt_ids"], rollouts)
    return rollouts[request["index"]], group


def main() -> None:
    """The worker: serve the function that the command line names."""
    serve(partial(_load, sys.argv[1]), _no_core_dump)


def _load(name: str) -> tuple[Handler, Message]:
    try:
        function = load_function(name)
        group_too = sees_group(function)
    except InputError as error:
        return _refuse, {"failed": str(error)}
    return partial(_call, function, group_too), {"sees_group": group_too}


def _call(function: Callable[..., Any], group_too: bool, request: Message) -> Message:
    rollout, group = decode(request)
    try:
        seen = {"group": group} if group_too else {}
        returned = function(rollout, group.problem, **seen)
        return {"value": None if returned is None else float(returned)}
    except (Exception, SystemExit) as error:  # of the user's code; the caller counts it
        return {"error": f"{type(error).__name__}: {error}"}


def _refuse(request: Message) -> Message:
    return {"error": "InputError: the function could not be loaded"}


def _no_core_dump() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
