"""One check after the other, each timed, all of them within a limit."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from open_rs.errors import GuardStop, InputError
from open_rs.plan.doctor.finding import Check, Finding, Verdict, fail, refused, skipped
from open_rs.plan.doctor.subject import Subject
from open_rs.text import brief


def diagnose(subject: Subject, checks: Sequence[Check]) -> list[Finding]:
    """What each check says, in their order. Once the subject's time is over the rest is skipped."""
    findings: dict[str, Finding] = {}
    ahead = [check for check in checks if check.ahead]
    pool = ThreadPoolExecutor(len(ahead) or 1, thread_name_prefix="doctor")
    begun = {check.name: pool.submit(_look, subject, check) for check in ahead}
    pool.shutdown(wait=False)
    for check in checks:
        started = time.perf_counter()
        verdict = _verdict(subject, check, findings, begun)
        seconds = time.perf_counter() - started
        findings[check.name] = Finding(
            check.name, verdict.status, verdict.sentence, verdict.cure, seconds
        )
    return list(findings.values())


def _verdict(
    subject: Subject,
    check: Check,
    findings: Mapping[str, Finding],
    begun: Mapping[str, Future[Verdict]],
) -> Verdict:
    for name in check.needs:
        if name in findings and findings[name].status in ("fail", "skipped"):
            return skipped(f"needs {name}")
    late = skipped(f"not done within {subject.seconds:g} s", "give it more by --seconds")
    if check.ahead:
        try:
            return begun[check.name].result(max(subject.seconds_left, 0.0))
        except TimeoutError:
            return late
    return _look(subject, check) if subject.seconds_left > 0 else late


def _look(subject: Subject, check: Check) -> Verdict:
    try:
        return check.look(subject)
    except InputError as error:
        return refused(error)
    except GuardStop as error:
        return fail(str(error), "mend the cause")
    except Exception as error:  # a check that breaks has found something, be it in itself
        reason = brief(error, 300)
        return fail(
            f"the check broke: {type(error).__name__}: {reason}",
            "mend what the error names; where that is open-rs itself, report it",
        )


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """How many findings of each status."""
    found: dict[str, int] = dict.fromkeys(("ok", "warn", "fail", "skipped"), 0)
    return found | Counter(one.status for one in findings)


def as_dict(findings: Sequence[Finding]) -> dict[str, Any]:
    """For a machine."""
    number = counts(findings)
    return {
        "status": "fail" if number["fail"] else "warn" if number["warn"] else "ok",
        "seconds": sum(one.seconds for one in findings),
        "counts": number,
        "findings": [vars(one) for one in findings],
    }
