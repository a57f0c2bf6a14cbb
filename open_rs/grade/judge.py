"""The final judge: math-verify, called inside a worker process and nowhere else."""

import logging
from typing import Any

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

from open_rs.grade.types import Outcome

# The guard is the kill of the process, so math-verify's own SIGALRM timeouts are off, and with them
# the warning that says so.
for _module in ("math_verify.parser", "math_verify.grader"):
    logging.getLogger(_module).setLevel(logging.CRITICAL)

_TARGETS = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())


def parsed(text: str) -> list[Any]:
    """What math-verify reads in `text`: an expression where it can, else the text itself."""
    return parse("\\boxed{" + text + "}", _TARGETS, fallback_mode="first_match", parsing_timeout=0)


def judge(gold: str, answer: str) -> Outcome:
    """`verify(gold, answer)`, in this order: the comparison is not symmetric."""
    gold_parsed = parsed(gold)
    if not gold_parsed:
        return "bad_gold"
    same = verify(gold_parsed, parsed(answer), timeout_seconds=0, raise_on_error=False)
    return "correct" if same else "wrong"
