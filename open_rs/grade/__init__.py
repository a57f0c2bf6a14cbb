"""Is this completion right? One grader for curation, reward and evaluation."""

from open_rs.grade.types import OUTCOMES, Grade, Outcome

__all__ = ["OUTCOMES", "Grade", "Outcome"]
