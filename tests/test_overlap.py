"""Training, validation and test problems are apart, or refused."""

import pytest

from open_rs.errors import InputError
from open_rs.overlap import refuse_overlap
from open_rs.problems import Problem


def test_sets_that_share_a_problem_are_refused_whatever_its_spelling():
    sets = {
        "data.train": [Problem("a", "Compute 7 + 5.", "12"), Problem("b", "Compute 7 - 5.", "2")],
        "data.validation": [Problem("c", "Compute 9 - 4.", "5")],
        "data.test": [Problem("d", "Compute 1 + 1.", "2"), Problem("e", "  COMPUTE 7+5", "12")],
    }
    with pytest.raises(InputError, match=r"data.test: 1 of 2 problems stand in data.train too"):
        refuse_overlap(sets)
    sets["data.test"].pop()
    refuse_overlap(sets)
    with pytest.raises(InputError, match=r"data\.test: 1 of 1 .* data\.validation"):
        refuse_overlap(
            {"data.validation": sets["data.validation"], "data.test": sets["data.validation"]}
        )
