"""The engines of vLLM without vLLM: their sections, words and refusals."""

import sys
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from open_rs.errors import InputError
from open_rs.evaluate.target import engine_changes
from open_rs.recipe import VLLMEngineSpec, VLLMServerEngineSpec, recipe_from_dict
from open_rs.rollout.build import open_sampler
from open_rs.rollout.protocol import SamplingParams
from open_rs.rollout.vllm_rules import check_version, logprobs_mode, tells_logprobs

RECIPE = {"rollout": {"engine": {"type": "vllm", "enforce_eager": True}}}


def recipe(**rollout):
    settings = {"rollout": RECIPE["rollout"] | rollout, "sources": [{"path": "x.jsonl"}]}
    return recipe_from_dict(settings)


def test_the_section_and_its_share_of_the_fingerprint():
    engine = recipe().rollout.engine
    assert engine == VLLMEngineSpec(enforce_eager=True)
    assert engine.shaping() == {"type": "vllm"}
    assert engine_changes("vllm", "tiny") == ["rollout.engine.type=vllm"]


def refused(match, made, **given):
    with pytest.raises(InputError, match=match), open_sampler(made, **given):
        pass


def test_what_cannot_be_trained_with_and_a_missing_package_are_refused(monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    refused("MULTIPROCESSING = 1: in training vLLM works in this process", recipe(), model=object())
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    refused("top_p = 0.9, rollout.top_k = 0: vLLM", recipe(top_p=0.9), model=object())
    split = recipe(engine={"type": "vllm", "tensor_parallel_size": 2})
    refused("tensor_parallel_size = 2: in training", split, model=object())
    monkeypatch.setitem(sys.modules, "vllm", None)  # as where it is not installed
    refused(r"open-rs\[vllm\]", recipe())
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(__version__="0.11.2"))
    refused(
        "vLLM 0.11.2 is not supported; install a version from 0.32 up to, and without, 0.33;?",
        recipe(),
    )


def test_a_vllm_that_is_too_old_or_broken_to_import_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)  # its import fails
    monkeypatch.setattr("open_rs.rollout.vllm.installed_version", lambda: "0.11.2")
    refused("vLLM 0.11.2 is not supported", recipe())
    monkeypatch.setattr("open_rs.rollout.vllm.installed_version", lambda: "0.32.0")
    refused(r"vLLM 0.32.0 is installed and cannot be imported \(.*; mend it", recipe())


@pytest.mark.parametrize("version", ["0.31.9", "0.33.0", "1.0", "dev", ""])
def test_versions_that_were_not_tried(version):
    with pytest.raises(InputError, match=f"there: vLLM {version} is not supported"):
        check_version(version, "there")
    for known in ("0.32.0", "0.32.1+cpu"):
        check_version(known, "there")


def test_where_vllm_tells_the_log_probs_that_are_meant():
    def told(**settings):
        params = SamplingParams(max_completion_tokens=1, **settings)
        return [tells_logprobs(mode, params) for mode in ("raw_logprobs", "processed_logprobs")]

    assert told() == [True, True]
    assert told(temperature=0.7) == [False, True]  # raw: before the temperature
    assert told(top_p=0.9) == told(top_k=5) == [True, False]  # processed: after top-k and top-p
    assert told(temperature=0.7, top_p=0.9) == told(temperature=0.0) == [False, False]
    assert logprobs_mode(SamplingParams(1, temperature=0.7)) == "processed_logprobs"
    assert logprobs_mode(SamplingParams(1, top_p=0.9)) == "raw_logprobs"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"urls": []}, "at least 1"),
        ({"urls": ["localhost:8000"]}, "urls should start with http"),
        ({"urls": ["http://me:secret@host"]}, "urls should hold no user"),
        ({"urls": ["http://a:1", "http://a:1/"]}, "urls names a server twice"),
        ({"urls": ["http://a"], "api_key_env": "sk-123"}, "name of an environment variable"),
    ],
)
def test_servers_that_cannot_be_meant(settings, match):
    with pytest.raises(ValidationError, match=match) as told:
        VLLMServerEngineSpec(**settings)
    shown = "".join(one["msg"] for one in told.value.errors())
    assert "secret" not in shown and "sk-123" not in shown
