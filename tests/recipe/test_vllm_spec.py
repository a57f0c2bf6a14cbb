"""The engine `vllm` without vLLM: its section and its refusals."""

import sys

import pytest

from open_rs.errors import InputError
from open_rs.evaluate.target import engine_changes
from open_rs.recipe import VLLMEngineSpec, recipe_from_dict
from open_rs.rollout.build import open_sampler

RECIPE = {"rollout": {"engine": {"type": "vllm", "enforce_eager": True}}}


def recipe():
    return recipe_from_dict({**RECIPE, "sources": [{"path": "x.jsonl"}]})


def test_the_section_and_its_share_of_the_fingerprint():
    engine = recipe().rollout.engine
    assert engine == VLLMEngineSpec(enforce_eager=True)
    assert engine.shaping() == {"type": "vllm"}
    assert engine_changes("vllm", "tiny") == ["rollout.engine.type=vllm"]


def test_training_and_a_missing_package_are_refused(monkeypatch):
    with (
        pytest.raises(InputError, match="vLLM cannot be trained with"),
        open_sampler(recipe(), model=object()),
    ):
        pass
    monkeypatch.setitem(sys.modules, "vllm", None)  # as where it is not installed
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    with pytest.raises(InputError, match=r"open-rs\[vllm\]"), open_sampler(recipe()):
        pass
