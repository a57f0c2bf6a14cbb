"""What a check is, and what it says."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from open_rs.errors import InputError

if TYPE_CHECKING:
    from open_rs.plan.doctor.subject import Subject

Status = Literal["ok", "warn", "fail", "skipped"]


@dataclass(frozen=True)
class Verdict:
    """What a check found: one sentence, and a cure where something is to be done."""

    status: Status
    sentence: str
    cure: str = ""


@dataclass(frozen=True)
class Finding:
    """A verdict with the name of its check and the seconds that it took."""

    check: str
    status: Status
    sentence: str
    cure: str
    seconds: float


@dataclass(frozen=True)
class Check:
    """One thing that can be wrong.

    `needs`: checks without whose success this one cannot say anything, and is skipped. `ahead`: it
    waits for another process and needs nothing, so it is begun first, in a thread.
    """

    name: str
    look: "Callable[[Subject], Verdict]"
    needs: tuple[str, ...] = ()
    ahead: bool = False

    @property
    def what(self) -> str:
        """What it checks, in one sentence: the docstring of its function."""
        return " ".join((inspect.getdoc(self.look) or "").split())


def ok(sentence: str) -> Verdict:
    return Verdict("ok", sentence)


def warn(sentence: str, cure: str) -> Verdict:
    """The run can be made; something about it is worse than it could be."""
    return Verdict("warn", sentence, cure)


def fail(sentence: str, cure: str) -> Verdict:
    """The run would stop, or its result would be wrong."""
    return Verdict("fail", sentence, cure)


def skipped(sentence: str, cure: str = "") -> Verdict:
    """There is nothing to check, or it cannot be checked."""
    return Verdict("skipped", sentence, cure)


def refused(error: InputError) -> Verdict:
    """An InputError says what is wrong and, after its last semicolon, the cure."""
    sentence, mark, cure = str(error).rpartition("; ")
    return fail(sentence, cure) if mark else fail(cure, "mend it")
