"""vLLM itself on the tiny model, against the native engine (make test-vllm)."""

import pytest

from open_rs.models import load_model, load_tokenizer
from open_rs.problems import Problem
from open_rs.recipe import ModelRecipe, VLLMEngineSpec
from open_rs.rollout.native import NativeEngine
from open_rs.rollout.protocol import Prompt, SamplingParams
from open_rs.rollout.vllm import VLLMEngine

pytestmark = pytest.mark.vllm
TINY = ModelRecipe(path="tiny", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def engine():
    pytest.importorskip("vllm")
    spec = VLLMEngineSpec(max_model_len=256, enforce_eager=True)
    return VLLMEngine(spec, TINY, load_tokenizer(TINY), max_slots=8)


@pytest.fixture(scope="module")
def prompts():
    tokenizer = load_tokenizer(TINY)
    texts = [f"What is {i} + {2 * i + 1}?" for i in range(24)]
    return [
        Prompt(Problem(f"p{i}", text, "0"), tokenizer.encode(text, add_special_tokens=False))
        for i, text in enumerate(texts)
    ]


def draw(engine, prompts, *, group_size=1, cap=32, seed=3, skip=(), keep=True, **settings):
    params = SamplingParams(max_completion_tokens=cap, **settings)
    return engine.generate(
        prompts, group_size=group_size, params=params, seed=seed, skip=skip, keep=keep
    )


def ids_of(groups):
    return {(g.problem.id, r.sample): r.completion_ids for g in groups for r in g.rollouts}


def test_greedy_tokens_text_and_reason_are_the_native_engines(engine, prompts):
    native = NativeEngine(load_model(TINY), load_tokenizer(TINY))
    assert engine.eos_token_ids == native.eos_token_ids
    ours, theirs = (draw(one, prompts, temperature=0.0) for one in (native, engine))
    for left, right in zip(ours, theirs, strict=True):
        a, b = left.rollouts[0], right.rollouts[0]
        assert a.completion_ids == b.completion_ids
        assert (a.completion, a.finish_reason) == (b.completion, b.finish_reason)


def test_logprobs_are_those_of_the_native_engine_at_temperature_1_alone(engine, prompts):
    native = NativeEngine(load_model(TINY), load_tokenizer(TINY))
    groups = draw(engine, prompts[:4], temperature=1.0, top_k=1)
    for group, other in zip(groups, draw(native, prompts[:4], top_k=1), strict=True):
        left, right = group.rollouts[0], other.rollouts[0]
        assert left.completion_ids == right.completion_ids
        assert left.engine_logprobs == pytest.approx(right.engine_logprobs, abs=1e-4)
    assert draw(engine, prompts[:1], temperature=0.7)[0].rollouts[0].engine_logprobs == []


def test_samples_follow_the_seed_and_differ_within_a_group(engine, prompts):
    first = ids_of(draw(engine, prompts[:6], group_size=4, seed=1))
    assert len(first) == 24
    assert first == ids_of(draw(engine, prompts[:6], group_size=4, seed=1))
    assert first != ids_of(draw(engine, prompts[:6], group_size=4, seed=2))
    assert len({tuple(first["p0", sample]) for sample in range(4)}) > 1


def test_skipped_samples_are_not_drawn_and_move_no_others(engine, prompts):
    whole = ids_of(draw(engine, prompts[:3], group_size=3))
    skip = {("p0", 1), ("p2", 0)}
    part = ids_of(draw(engine, prompts[:3], group_size=3, skip=skip))
    assert part == {key: ids for key, ids in whole.items() if key not in skip}
    assert all(not group.rollouts for group in draw(engine, prompts[:3], keep=False))


def test_cap_and_stop_string(engine, prompts):
    long = draw(engine, prompts[:1], temperature=0.0, cap=4)[0].rollouts[0]
    assert (long.finish_reason, long.num_tokens) == ("length", 4)
    end = draw(engine, prompts[:1], temperature=0.0, cap=32)[0].rollouts[0].completion[3:5]
    cut = draw(engine, prompts[:1], temperature=0.0, stop=(end,))[0].rollouts[0]
    assert cut.finish_reason == "stop" and cut.completion.endswith(end)
