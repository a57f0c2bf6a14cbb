"""examples/reference_cosine.py against the published formula, written out anew, and by hand."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest

from open_rs.grade import Grade
from open_rs.problems import Problem
from open_rs.rollout.protocol import Rollout

EXAMPLE = Path(__file__).parents[2] / "examples" / "reference_cosine.py"
PROBLEM = Problem("p", "1 + 1", "2")


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_cosine", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rollout(characters: int, outcome: str) -> Rollout:
    return Rollout([1], [0.0], "x" * characters, "stop", grade=Grade(outcome, "2", 0.0))


def published(characters: int, correct: bool, max_len: int) -> float:
    """The code's own lines: wrong 0 to -0.5, and correct 0.5 to 1, called minimum and maximum."""
    cosine = math.cos(characters / max_len * math.pi)
    if correct:
        min_value, max_value = 0.5, 1.0
    else:
        min_value, max_value = -0.5, 0.0  # swapped: the settings are min 0, max -0.5
    return min_value + 0.5 * (max_value - min_value) * (1.0 + cosine)


@pytest.mark.parametrize("characters", [0, 1, 57, 80, 100, 160, 3584, 5000, 7168])
@pytest.mark.parametrize("max_len", [80, 3584])
def test_as_published(example: ModuleType, characters: int, max_len: int) -> None:
    for outcome in ("correct", "wrong", "no_answer"):
        made = example.reference_cosine(rollout(characters, outcome), PROBLEM, max_len)
        assert made == pytest.approx(published(characters, outcome == "correct", max_len))


def test_its_faults_by_hand(example: ModuleType) -> None:
    def reward(characters: int, outcome: str) -> float | None:
        made: float | None = example.reference_cosine(rollout(characters, outcome), PROBLEM)
        return made

    assert [reward(n, "correct") for n in (0, 1792, 3584, 7168)] == pytest.approx([1, 0.75, 0.5, 1])
    assert [reward(n, "wrong") for n in (0, 3584, 7168)] == pytest.approx([0, -0.5, 0])
    assert reward(50, "bad_gold") == 1.0
    assert reward(50, "timeout") is None
    assert example.reference_cosine(Rollout([1], [0.0], "x", "stop"), PROBLEM) is None


def test_the_recipe_has_the_cap_that_the_tiny_one_counts_with(example: ModuleType) -> None:
    from open_rs.recipe import load_recipe

    recipe = load_recipe(EXAMPLE.parents[1] / "recipes" / "insights" / "5_reference_cosine.toml")
    cap = recipe.rollout.max_completion_tokens
    for outcome in ("correct", "wrong"):
        made = example.tiny_reference_cosine(rollout(100, outcome), PROBLEM)
        assert made == example.reference_cosine(rollout(100, outcome), PROBLEM, cap)
