"""The final judge: math-verify, called inside a worker process and nowhere else."""

import logging
import re
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify

from open_rs.grade.compare import same
from open_rs.grade.exact import looks_cheap
from open_rs.grade.latex import Unwritable, latex
from open_rs.grade.reader import Tree
from open_rs.grade.readings import read_pair
from open_rs.grade.types import Outcome

# The guard is the kill of the process, so math-verify's own SIGALRM timeouts are off, and with them
# the warning that says so.
for _module in ("math_verify.parser", "math_verify.grader"):
    logging.getLogger(_module).setLevel(logging.CRITICAL)

# LaTeX alone: the expression target would take the 7 out of "if 7 then 8".
_TARGETS = (LatexExtractionConfig(boxed_match_priority=0),)
_DECIMALS = 12  # what is left to math-verify is exact; its own default of 6 would let 0.333333 pass
_SIGNIFICANT_DIGITS = 60  # and its default of 15 would let 10^20 pass for the root of 10^40 + 1


def judge(gold: str, answer: str) -> Outcome:
    """The policy of compare.py with math-verify as its algebra; math-verify alone where one side is
    beyond our reader.
    """
    (gold_text, gold_tree), (answer_text, answer_tree) = read_pair(gold, answer)
    if gold_tree is not None and answer_tree is not None:
        verdict = same(gold_tree, answer_tree, ask=_equal_expressions)
        if verdict is not None:
            return "correct" if verdict else "wrong"
    if not (looks_cheap(gold_text) and looks_cheap(answer_text)):
        return "timeout"
    gold_parsed = _parsed(gold_text)
    if gold_tree is None and all(isinstance(one, str) for one in gold_parsed):
        return "bad_gold"  # nobody knows what it says
    if gold_text == answer_text:
        return "correct"
    return "correct" if _verified(gold_parsed, _parsed(answer_text)) else "wrong"


def _equal_expressions(gold: Tree, answer: Tree) -> bool | None:
    try:
        return _verified(_parsed(latex(gold)), _parsed(latex(answer)))
    except Unwritable:
        return None


_SUM_OVER_I = re.compile(r"\\(?:sum|prod)\s*_\s*\{?\s*i\s*=")
_LONE_I = re.compile(r"(?<![A-Za-z\\])i(?![A-Za-z])")


def _parsed(text: str) -> list[Any]:
    """What math-verify reads in `text`: an expression where it can, else the text itself. It takes
    an index i for the imaginary unit, so that gets a letter of its own.
    """
    if _SUM_OVER_I.search(text):
        free = next((letter for letter in "jkmpqrstuvw" if letter not in text), "i")
        text = _LONE_I.sub(free, text)
    return parse("\\boxed{" + text + "}", _TARGETS, fallback_mode="first_match", parsing_timeout=0)


def _verified(gold: list[Any], answer: list[Any]) -> bool:
    """`verify(gold, answer)`, in this order: the comparison is not symmetric."""
    return bool(
        verify(
            gold,
            answer,
            float_rounding=_DECIMALS,
            numeric_precision=_SIGNIFICANT_DIGITS,
            timeout_seconds=0,
        )
    )
