"""What the plan's audit (`open_rs.plan.findings`) says of a recipe, in the doctor's words."""

from collections.abc import Iterable

from open_rs.plan.doctor.finding import Finding, Status, Verdict, ok
from open_rs.plan.doctor.subject import Subject
from open_rs.plan.doctor.weights import parameters
from open_rs.plan.findings import Facts, Severity, find
from open_rs.plan.findings import Finding as PlanFinding

STATUS: dict[Severity, Status] = {"error": "fail", "warning": "warn", "note": "ok"}


def gravest(found: Iterable[PlanFinding], key: str, otherwise: str) -> Verdict:
    """The first error or warning about a setting as a verdict; `otherwise` is what is well."""
    told = [one for one in found if one.key == key and one.severity != "note"]
    told.sort(key=lambda one: one.severity)
    if not told:
        return ok(otherwise)
    return Verdict(STATUS[told[0].severity], f"{key}: {told[0].sentence}", told[0].cure)


def audit(subject: Subject, findings: Iterable[Finding]) -> list[Finding]:
    """A finding for each of the plan's that needs neither a probe nor what a check has looked at;
    its check is called plan.KEY. `findings`: of the checks, since only what they passed is known.
    """
    passed = {one.check for one in findings if one.status in ("ok", "warn")}
    held_out = {
        name: len(sample.problems)
        for name in ("validation", "test")
        if "data.found" in passed
        and (sample := subject.samples.get(f"data.{name}")) is not None
        and sample.complete
    }
    facts = Facts(
        held_out=held_out,
        parameters=parameters(subject.model_folder) if "model.whole" in passed else None,
        opens_think=subject.prompter.opens_think if "template.renders" in passed else None,
    )
    return [
        Finding(f"plan.{one.key}", STATUS[one.severity], one.sentence, one.cure, 0.0)
        for one in find(subject.recipe, facts)
    ]
