"""The engine of vLLM's servers against a stand-in that speaks their routes on the loopback."""

import json
import threading

import pytest
import torch
from fake_vllm import TINY, FakeVLLM, serve_fake
from loopback import Reply

from open_rs.errors import EngineStop, InputError
from open_rs.models import add_lora, load_model, load_tokenizer
from open_rs.problems import Problem
from open_rs.recipe import LoraRecipe, VLLMServerEngineSpec
from open_rs.rollout.native import NativeEngine
from open_rs.rollout.protocol import Prompt, SamplingParams
from open_rs.rollout.vllm_server import VLLMServerEngine

pytest.importorskip("openai")
DRAW = "/inference/v1/generate"


@pytest.fixture
def fakes():
    made = [FakeVLLM(), FakeVLLM()]
    with serve_fake(made[0]), serve_fake(made[1]):
        yield made


def engine_of(fakes, *, training=True, **settings):
    spec = VLLMServerEngineSpec(
        urls=[fake.url for fake in fakes], **{"max_retries": 0, "timeout_s": 20.0} | settings
    )
    return VLLMServerEngine(spec, TINY, load_tokenizer(TINY), training=training)


def make_prompts(count):
    tokenizer = load_tokenizer(TINY)
    texts = [f"What is {i} + {2 * i + 1}?" for i in range(count)]
    return [
        Prompt(Problem(f"p{i}", text, "0"), tokenizer.encode(text, add_special_tokens=False))
        for i, text in enumerate(texts)
    ]


def draw(engine, prompts, *, temperature=1.0, group_size=1, **settings):
    params = SamplingParams(12, temperature=temperature)
    return engine.generate(prompts, group_size=group_size, params=params, seed=3, **settings)


def moved_model(lora=False):
    """The tiny model a little way off; with adapters, by them alone."""
    model = load_model(TINY)
    if lora:
        model = add_lora(model, LoraRecipe(rank=2, alpha=8))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not lora or "lora_" in name:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("lora", [False, True])
def test_every_server_samples_from_the_weights_that_were_handed_over(fakes, lora):
    engine, prompts, model = engine_of(fakes), make_prompts(6), moved_model(lora)
    before = draw(NativeEngine(load_model(TINY), engine.tokenizer), prompts, temperature=0.0)
    expected = draw(NativeEngine(model, engine.tokenizer), prompts, temperature=0.0)
    engine.load_weights(model)
    found = draw(engine, prompts, temperature=0.0)
    assert found == [  # greedy log-probs are not asked for
        type(group)(group.problem, group.prompt_ids, [no_logprobs(group.rollouts[0])])
        for group in expected
    ]
    assert [one.rollouts[0].completion_ids for one in before] != [
        one.rollouts[0].completion_ids for one in expected
    ]
    assert [fake.drawn for fake in fakes] == [3, 3]
    assert {fake.version for fake in fakes} == {engine.version}
    assert [fake.renewed for fake in fakes] == [1, 1]  # a tied head on a CPU
    first = engine.version
    engine.load_weights(model)
    assert {fake.version for fake in fakes} == {engine.version} != {first}


def no_logprobs(rollout):
    rollout.engine_logprobs = []
    return rollout


def test_log_probs_seeds_and_skips(fakes):
    engine, prompts = engine_of(fakes, max_concurrency=4), make_prompts(3)
    engine.load_weights(load_model(TINY))
    whole = draw(engine, prompts, temperature=0.7, group_size=3)
    seeds = {one.body["sampling_params"]["seed"] for fake in fakes for one in fake.requests
             if one.path == DRAW}  # fmt: skip
    assert len(seeds) == 9
    rollouts = [one for group in whole for one in group.rollouts]
    assert all(len(one.engine_logprobs) == len(one.completion_ids) > 0 for one in rollouts)
    assert draw(engine, prompts, temperature=0.7, group_size=3) == whole
    part = draw(engine, prompts, temperature=0.7, group_size=3, skip={("p0", 1), ("p2", 0)})
    kept = [[one.sample for one in group.rollouts] for group in part]
    assert kept == [[0, 2], [0, 1, 2], [1, 2]]
    assert part[1] == whole[1]
    assert engine.harness["engine"] == "vllm_server" and engine.stats.completion_tokens > 0


def test_outside_training_the_servers_load_the_model_that_is_named(fakes):
    fakes[0].logprobs_mode = "raw_logprobs"  # which only training minds
    engine = engine_of(fakes[:1], training=False)
    assert fakes[0].loads == [load_model(TINY).config._name_or_path]
    assert draw(engine, make_prompts(1))[0].rollouts[0].finish_reason in ("stop", "length")


# --- what is refused ---


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"release": "0.11.0"}, r"vLLM 0.11.0 is not supported; install a version from"),
        ({"name": "qwen", "root": "Qwen/Qwen3"}, 'has loaded "Qwen/Qwen3", not "tiny"; start it'),
        ({"logprobs_mode": "raw_logprobs"}, "--logprobs-mode processed_logprobs"),
        ({"fault": {"/server_info": Reply("{}", 404)}}, "VLLM_SERVER_DEV_MODE=1"),
        ({"fault": {"/version": Reply("<html>", 200)}}, "is no vLLM server"),
        ({"fault": {"/version": Reply("{}", 503)}}, "no vLLM server answers .*503"),
        ({"fault": {"/v1/models": Reply('{"data": []}')}}, "is no vLLM server"),
        ({"fault": {"/v1/models": Reply("{}", 401)}}, "VLLM_API_KEY is not set, and the server"),
    ],
)
def test_servers_that_are_not_what_is_needed(fakes, monkeypatch, change, match):
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    for key, value in change.items():
        setattr(fakes[1], key, value)
    with pytest.raises(InputError, match=match) as told:
        engine_of(fakes)
    assert fakes[1].url in str(told.value)


def test_nothing_listens():
    spec = VLLMServerEngineSpec(urls=["http://127.0.0.1:9"], max_retries=0)
    with pytest.raises(InputError, match=r"127.0.0.1:9: no vLLM server answers .no connection"):
        VLLMServerEngine(spec, TINY, load_tokenizer(TINY), training=True)


def test_a_name_of_its_own_is_allowed_by_served_as(fakes):
    fakes[0].name = fakes[0].root = "policy"
    assert engine_of(fakes[:1], served_as="policy").served[0].model == "policy"


def test_a_folder_for_weights_that_is_not_there(fakes, tmp_path):
    with pytest.raises(InputError, match=r"weights_folder = .*no such folder"):
        engine_of(fakes, weights_folder=str(tmp_path / "none"))
    engine = engine_of(fakes, weights_folder=str(tmp_path))
    engine.load_weights(load_model(TINY))
    assert fakes[0].loads[-1].startswith(str(tmp_path))


# --- what breaks ---


def test_a_server_that_stumbles_is_asked_again(fakes):
    engine = engine_of(fakes[:1], max_retries=1)
    fakes[0].fault = {"/collective_rpc": [Reply("{}", 500)], DRAW: [Reply(cut=True)]}
    engine.load_weights(load_model(TINY))
    assert len(draw(engine, make_prompts(2))) == 2


@pytest.mark.parametrize(
    ("reply", "settings", "match"),
    [
        (Reply(cut=True), {}, r"no connection \(1 attempts\)"),
        (Reply("{}", 500), {}, "the server answers 500"),
        (Reply(hang=True), {"timeout_s": 2, "max_retries": 1}, r"within 2 s \(2 attempts\)"),
        (Reply("{}"), {}, "its answer cannot be read"),
        (Reply("[1"), {}, "its answer cannot be read"),
    ],
)
def test_a_server_that_is_gone_ends_it_by_name(fakes, reply, settings, match):
    engine = engine_of(fakes, **settings)
    fakes[1].fault = {DRAW: reply}
    engine.load_weights(load_model(TINY))
    with pytest.raises(EngineStop, match=match) as told:
        draw(engine, make_prompts(4))
    assert fakes[1].url in str(told.value)


def altered(**changes):
    choice = {
        "token_ids": [5, 6],
        "finish_reason": "stop",
        "logprobs": {"content": [{"token_id": 5, "logprob": -1}, {"token_id": 6, "logprob": -1}]},
        "weight_versions": [],
    } | changes
    return Reply(json.dumps({"choices": [choice]}))


@pytest.mark.parametrize(
    ("reply", "match"),
    [
        (altered(logprobs=None), "0 log-probs for 2 tokens"),
        (altered(finish_reason="abort"), "ended by 'abort'"),
        (altered(token_ids=[5] * 13, logprobs={"content": [{"token_id": 5, "logprob": 0}] * 13}),
         "13 tokens, over the limit of 12"),
        (altered(weight_versions=[{"version": "default"}]), "other weights .default. than those"),
    ],
)  # fmt: skip
def test_completions_that_are_not_what_was_asked(fakes, reply, match):
    engine = engine_of(fakes[:1])
    engine.load_weights(load_model(TINY))
    fakes[0].fault = {DRAW: reply}
    with pytest.raises(EngineStop, match=match):
        draw(engine, make_prompts(1))


def test_a_server_that_was_started_anew_is_found_out(fakes):
    engine = engine_of(fakes)
    engine.load_weights(load_model(TINY))
    fakes[1].start()
    with pytest.raises(EngineStop, match="it was started anew"):
        draw(engine, make_prompts(2))


@pytest.mark.parametrize(
    ("path", "reply", "match"),
    [
        ("/collective_rpc", Reply('{"error": {"message": "no such file"}}', 500), "no such file"),
        ("/reset_prefix_cache", Reply('{"success": false}'), "kept keys and values"),
    ],
)
def test_weights_that_are_not_taken(fakes, path, reply, match):
    engine = engine_of(fakes)
    fakes[1].fault = {path: reply}
    with pytest.raises(EngineStop, match=f"does not take the weights .*{match}") as told:
        engine.load_weights(load_model(TINY))
    assert fakes[1].url in str(told.value)


def test_scale_out_routes_that_are_off(fakes):
    off = '{"error": {"message": "Scale-out endpoints are disabled.", "code": 403}}'
    engine = engine_of(fakes[:1])
    engine.load_weights(load_model(TINY))
    fakes[0].fault = {DRAW: Reply(off, 403)}
    with pytest.raises(InputError, match="start it with --enable-scale-out"):
        draw(engine, make_prompts(1))


def test_requests_are_bounded_at_each_server(fakes):
    """None answers before both have two to answer: completions of one prompt go to both."""
    engine = engine_of(fakes, max_concurrency=2)
    engine.load_weights(load_model(TINY))
    all_busy = threading.Barrier(4)
    for fake in fakes:
        fake.before_draw = lambda: all_busy.wait(5)
    draw(engine, make_prompts(1), group_size=8)
    assert [(fake.most_at_once(), fake.drawn) for fake in fakes] == [(2, 4), (2, 4)]
