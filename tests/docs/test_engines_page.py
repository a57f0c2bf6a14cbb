"""docs/engines.md: its recipes load, and the words that it quotes are those of the code."""

import re
import tomllib
from pathlib import Path

import pytest

from open_rs.recipe import JudgeFilter, OpenAIEngineSpec, recipe_from_dict

PAGE = (Path(__file__).parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("text", RECIPES)
def test_each_recipe_loads(text: str) -> None:
    assert len(RECIPES) == 2
    recipe_from_dict(tomllib.loads(text))


def test_the_judge_of_the_page_has_its_engine() -> None:
    judge = recipe_from_dict(tomllib.loads(RECIPES[1])).filters[1]
    assert isinstance(judge, JudgeFilter) and isinstance(judge.engine, OpenAIEngineSpec)
    assert judge.engine.max_usd == 20.0


def test_settings_that_the_page_names_exist() -> None:
    fields = OpenAIEngineSpec.model_fields.keys() | JudgeFilter.model_fields.keys()
    for name in re.findall(r"`(\w+) = ", PAGE):
        assert name in fields, name
    defaults = OpenAIEngineSpec(base_url="http://h", model="m")
    attempts = f"no answer within {defaults.timeout_s:g} s ({defaults.max_retries + 1} attempts)"
    assert attempts in PAGE
    assert defaults.max_undecided == JudgeFilter().max_undecided == 0.1  # "a tenth"
