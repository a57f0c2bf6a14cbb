"""Is this completion right? One grader for curation, reward and evaluation."""

from open_rs.grade.audit import Audit, Disagreement, audit_files
from open_rs.grade.grader import Grader
from open_rs.grade.policy import POLICY_VERSION
from open_rs.grade.stream import GradeSummary, grade_file
from open_rs.grade.types import OUTCOMES, Grade, Outcome

__all__ = [
    "OUTCOMES",
    "POLICY_VERSION",
    "Audit",
    "Disagreement",
    "Grade",
    "GradeSummary",
    "Grader",
    "Outcome",
    "audit_files",
    "grade_file",
]
