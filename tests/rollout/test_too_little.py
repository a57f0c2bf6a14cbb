"""Too little memory or too few cores for what a recipe asks of the embedded engine."""

import pytest
import torch
from tiny_models import build_model, byte_tokenizer, make_prompts

from open_rs.errors import InputError
from open_rs.machine import cpus
from open_rs.recipe import recipe_from_dict
from open_rs.rollout import native
from open_rs.rollout.build import native_engine
from open_rs.rollout.protocol import SamplingParams


@pytest.mark.parametrize(
    ("slots", "said"),
    [
        (6, r"rollout.max_slots = 6: keys and values of 6 rows of up to 29 tokens .*lower it to 3"),
        (1, r"rollout.max_completion_tokens = 20: .*a row of 29 tokens .*lower it to 10, or use a"),
    ],
)
def test_rows_that_memory_does_not_hold(slots, said, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("injected")

    monkeypatch.setattr(native, "open_forward", full)
    engine = native.NativeEngine(build_model("llama"), byte_tokenizer(), max_slots=slots)
    with pytest.raises(InputError, match=said):
        engine.generate(make_prompts([9, 5]), group_size=3, params=SamplingParams(20), seed=0)


def test_other_failures_are_told_as_they_are(monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("mat1 and mat2")

    monkeypatch.setattr(native, "open_forward", fails)
    engine = native.NativeEngine(build_model("llama"), byte_tokenizer())
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        engine.generate(make_prompts([9]), group_size=2, params=SamplingParams(4), seed=0)


@pytest.mark.parametrize("more", [0, 3])
def test_threads_above_cores_are_told(more, monkeypatch, capsys):
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    recipe = recipe_from_dict({"threads": cpus() + more})
    native_engine(recipe, recipe.model, build_model("llama"), byte_tokenizer())
    told = f"threads = {cpus() + more}: this process may use {cpus()} cores"
    assert (told in capsys.readouterr().err) == bool(more)
