"""Is this completion right? One grader for curation, reward and evaluation."""

from open_rs.grade.grader import Grader
from open_rs.grade.policy import POLICY_VERSION
from open_rs.grade.types import OUTCOMES, Grade, Outcome

__all__ = ["OUTCOMES", "POLICY_VERSION", "Grade", "Grader", "Outcome"]
