"""docs/tasks.md: its recipes are read, its tables name what the code takes and refuses."""

import re
import tomllib
from pathlib import Path

import pytest

from open_rs.choices import lettered
from open_rs.problems import load_problems
from open_rs.recipe import NamedChoices, recipe_from_dict
from open_rs.tasks.gym import KIND_OF, REFUSED

PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```toml ?\S*\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_the_recipes_are_valid():
    chain, choice = (recipe_from_dict(tomllib.loads(text), where="docs") for text in BLOCKS)
    assert [one.task for one in chain.sources] == [
        "reasoning_gym:chain_sum",
        "reasoning_gym:zebra_puzzles",
    ]
    assert [one.choices.type for one in choice.sources] == ["gpqa", "mmlu"]


def test_the_first_recipe_makes_its_problems():
    pytest.importorskip("reasoning_gym", reason="the extra `tasks` is not installed")
    recipe = recipe_from_dict(tomllib.loads(BLOCKS[0]), where="docs")
    sets = [recipe.sources[0], *recipe.data.held_out.values()]
    texts = [{row.problem for row in load_problems(one)} for one in sets]
    assert [len(one) for one in texts] == [400, 100, 100]
    assert len(set.union(*texts)) == 600


def test_the_tables_are_those_of_the_code():
    rows = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in rows]
    taken = {row[0]: row[1] for row in cells if len(row) == 6 and row[0] in KIND_OF}
    assert taken == KIND_OF
    refused = {row[0]: row[1].split(", ") for row in cells if len(row) == 2 and row[0] in REFUSED}
    assert refused == {reason: sorted(names) for reason, names in REFUSED.items()}
    measured = [row for row in cells if len(row) == 6 and row[0] in KIND_OF]
    assert all(row[2] == "100 of 100" and row[4] == "0" for row in measured)


def test_the_problem_that_the_page_shows():
    shown = re.search(r"(    What keeps.*?right choice\.)", PAGE, flags=re.DOTALL)[1]
    text = "\n".join(line.removeprefix("    ") for line in shown.splitlines())
    row = {"Question": "What keeps the planets in their orbits?", "Correct Answer": "gravity"}
    wrong = ("friction", "magnetism", "sound")
    row |= {f"Incorrect Answer {n}": one for n, one in enumerate(wrong, start=1)}
    made, gold = lettered(row, NamedChoices(), "Question")
    assert made == text, made
    assert gold == next(line[0] for line in text.splitlines() if line.endswith("gravity"))
