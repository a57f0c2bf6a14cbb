"""The engines of a recipe: kinds, their checks, and that no message repeats a secret."""

import pytest

from open_rs.errors import InputError
from open_rs.recipe import NativeEngineSpec, OpenAIEngineSpec, recipe_from_dict

SERVER = {"type": "openai", "base_url": "http://localhost:8000/v1", "model": "some/model"}
CANARY = "sk-canary-5f2e"


def engine_of(**changes):
    return recipe_from_dict({"rollout": {"engine": {**SERVER, **changes}}}).rollout.engine


def refusal(**changes):
    with pytest.raises(InputError) as caught:
        engine_of(**changes)
    assert CANARY not in str(caught.value)
    return str(caught.value)


def test_the_engine_is_native_unless_the_recipe_names_another():
    assert recipe_from_dict({}).rollout.engine == NativeEngineSpec()
    engine = engine_of(max_concurrency=3)
    assert isinstance(engine, OpenAIEngineSpec)
    assert (engine.api_key_env, engine.mode, engine.max_concurrency) == (
        "OPENAI_API_KEY",
        "auto",
        3,
    )


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(InputError, match=r'engine: type "opnai" unknown; did you mean "op'):
        recipe_from_dict({"rollout": {"engine": {"type": "opnai"}}})
    with pytest.raises(InputError, match=r"engine: needs a type; known: native, openai"):
        recipe_from_dict({"rollout": {"engine": {"base_url": "http://localhost:8000/v1"}}})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_url": "localhost:8000"}, "base_url should start with http:// or https://"),
        ({"base_url": f"http://me:{CANARY}@host/v1"}, "base_url should hold no user"),
        ({"base_url": f"http://host/v1?key={CANARY}"}, "base_url should hold no user"),
        ({"api_key_env": CANARY}, "api_key_env should be the name of an environment variable"),
        ({"api_key": CANARY}, "unknown key rollout.engine.api_key; did you mean api_key_env?"),
        ({"max_usd": 1.0}, "max_usd needs usd_per_million_prompt_tokens"),
        ({"max_usd": 1.0, "usd_per_million_prompt_tokens": 1.0}, "max_usd needs"),
        ({"model": ""}, "rollout.engine.model = ''"),
        ({"max_concurrency": 0}, "rollout.engine.max_concurrency = 0"),
        ({"max_concurency": 2}, "did you mean max_concurrency?"),
    ],
)
def test_wrong_settings_are_one_sentence(changes, words):
    assert words in refusal(**changes)


def test_what_shapes_a_completion_is_apart_from_where_and_how_fast():
    same = engine_of(
        base_url="http://elsewhere:1/v1", max_concurrency=1, timeout_s=1, max_retries=0
    )
    assert engine_of().shaping() == same.shaping()
    for changes in ({"model": "b"}, {"mode": "chat"}, {"extra_body": {"top_k": 1}}):
        assert engine_of(**changes).shaping() != engine_of().shaping()
