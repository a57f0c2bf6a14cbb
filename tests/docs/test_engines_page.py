"""docs/engines.md: its recipes load, and the words that it quotes are those of the code."""

import re
import tomllib
from pathlib import Path

import pytest

from open_rs.recipe import JudgeFilter, OpenAIEngineSpec, recipe_from_dict
from open_rs.recipe.schema import DEFAULT_IMPORTANCE_CAP
from open_rs.rollout.vllm_rules import SUPPORTED
from open_rs.rollout.vllm_worker import WORKER
from open_rs.train import handover

PAGE = (Path(__file__).parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("text", RECIPES)
def test_each_recipe_loads(text: str) -> None:
    assert len(RECIPES) == 5
    recipe_from_dict(tomllib.loads(text))


def test_the_judge_of_the_page_has_its_engine() -> None:
    judge = recipe_from_dict(tomllib.loads(RECIPES[4])).filters[1]
    assert isinstance(judge, JudgeFilter) and isinstance(judge.engine, OpenAIEngineSpec)
    assert judge.engine.max_usd == 20.0


def test_what_the_page_says_of_vllm_is_what_the_code_does() -> None:
    own, served = (recipe_from_dict(tomllib.loads(text)) for text in RECIPES[:2])
    assert (own.rollout.engine.type, served.rollout.engine.type) == ("vllm", "vllm_server")
    assert f"`--worker-extension-cls {WORKER}`" in PAGE
    words = " ".join(PAGE.split())
    assert str(SUPPORTED) == "<0.33,>=0.32" and "from 0.32 up to, and without, 0.33" in words
    assert (handover.TOLERANCE, handover.ROUGH_TOLERANCE) == ({"float32": 1e-4}, 0.1)
    assert "(1e-4 nats in float32, 0.1 in other dtypes)" in words
    assert (handover.NOTICEABLE, handover.ROUGHLY_NOTICEABLE) == ({"float32": 1e-5}, 0.02)
    assert "more than 1e-5 (0.02 in other dtypes)" in words
    assert f"{handover.PROBE_TOKENS} tokens at most" in words
    assert DEFAULT_IMPORTANCE_CAP == 2 and "`loss.importance_cap`, 2 by default" in words


def test_settings_that_the_page_names_exist() -> None:
    fields = OpenAIEngineSpec.model_fields.keys() | JudgeFilter.model_fields.keys()
    for name in re.findall(r"`(\w+) = ", PAGE):
        assert name in fields, name
    defaults = OpenAIEngineSpec(base_url="http://h", model="m")
    attempts = f"no answer within {defaults.timeout_s:g} s ({defaults.max_retries + 1} attempts)"
    assert attempts in PAGE
    assert defaults.max_undecided == JudgeFilter().max_undecided == 0.1  # "a tenth"
