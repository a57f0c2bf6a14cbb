"""Training with vLLM itself, in this process and by its server (make test-vllm)."""

from copy import deepcopy

import pytest
import torch
from real_vllm import free_port, kill, serve_vllm

from open_rs.errors import GuardStop
from open_rs.models import load_model, load_tokenizer
from open_rs.problems import Problem
from open_rs.recipe import ModelRecipe, VLLMEngineSpec, VLLMServerEngineSpec, recipe_from_dict
from open_rs.rollout.native import NativeEngine
from open_rs.rollout.protocol import Prompt, SamplingParams
from open_rs.rollout.vllm import VLLMEngine
from open_rs.rollout.vllm_api import VLLMServer
from open_rs.rollout.vllm_server import VLLMServerEngine
from open_rs.runs import open_run, read_log, read_metrics
from open_rs.train import loop
from open_rs.train.logprobs import completion_logprobs

pytestmark = pytest.mark.vllm
TINY = ModelRecipe(path="tiny", device="cpu", dtype="float32")
OWN = {"type": "vllm", "max_model_len": 256, "enforce_eager": True}
NEAR_TIE = 1e-3  # nats between the two likeliest tokens
ROUNDING = 1e-4  # nats, of one token's log-prob


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    pytest.importorskip("vllm")
    port = free_port()
    with serve_vllm(tmp_path_factory.mktemp("vllm"), port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def own():
    pytest.importorskip("vllm")
    settings = {"max_slots": 8, "logprobs_mode": "processed_logprobs", "training": True}
    return VLLMEngine(VLLMEngineSpec(**OWN), TINY, load_tokenizer(TINY), **settings)


@pytest.fixture(params=["own", "server"])
def engine(request):
    if request.param == "own":
        return request.getfixturevalue("own")
    spec = VLLMServerEngineSpec(urls=[request.getfixturevalue("url")])
    return VLLMServerEngine(spec, TINY, load_tokenizer(TINY), training=True)


@pytest.fixture(scope="module")
def prompts():
    tokenizer = load_tokenizer(TINY)
    texts = [f"What is {i} + {2 * i + 1}?" for i in range(24)]
    return [
        Prompt(Problem(f"p{i}", text, "0"), tokenizer.encode(text, add_special_tokens=False))
        for i, text in enumerate(texts)
    ]


def draw(engine, prompts, *, temperature, group_size=1):
    params = SamplingParams(48, temperature=temperature)
    return engine.generate(prompts, group_size=group_size, params=params, seed=3)


def trainer(model, prompt_ids, ids, temperature):
    row = torch.tensor([[*prompt_ids, *ids]])
    mask = torch.zeros_like(row, dtype=torch.bool)
    mask[:, len(prompt_ids) :] = True
    with torch.no_grad():
        found, _ = completion_logprobs(
            model, row, torch.ones_like(row), mask, temperature=temperature
        )
    return found[0]


def farthest(model, groups, temperature):
    return max(
        (trainer(model, group.prompt_ids, one.completion_ids, temperature)
         - torch.tensor(one.engine_logprobs)).abs().max().item()
        for group in groups for one in group.rollouts
    )  # fmt: skip


def test_greedy_tokens_are_the_native_engines_up_to_a_near_tie(engine, prompts):
    model = load_model(TINY)
    engine.load_weights(model)
    native = draw(NativeEngine(model, load_tokenizer(TINY)), prompts, temperature=0.0)
    for left, right in zip(native, draw(engine, prompts, temperature=0.0), strict=True):
        ours, theirs = (one.rollouts[0].completion_ids for one in (left, right))
        if ours != theirs:
            first = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
            with torch.no_grad():
                logits = model(torch.tensor([[*left.prompt_ids, *ours[:first]]])).logits[0, -1]
            best = logits.log_softmax(-1).topk(2).values
            assert best[0] - best[1] < NEAR_TIE


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_the_trainers_at_any_temperature(engine, prompts, temperature):
    model = load_model(TINY)
    engine.load_weights(model)
    groups = draw(engine, prompts, temperature=temperature, group_size=4)
    assert farthest(model, groups, temperature) < ROUNDING


def test_every_kind_of_tensor_arrives_and_is_a_copy(engine, prompts):
    model, seen = load_model(TINY), set()
    for name, _ in model.named_parameters():
        kind = name.split(".")[-2:]
        if tuple(kind) in seen:
            continue
        seen.add(tuple(kind))
        moved = deepcopy(model)
        with torch.no_grad():
            tensor = dict(moved.named_parameters())[name]
            generator = torch.Generator().manual_seed(1)
            tensor.add_(0.05 * torch.randn(tensor.shape, generator=generator))
        engine.load_weights(moved)
        groups = draw(engine, prompts[:4], temperature=1.0, group_size=2)
        assert farthest(moved, groups, 1.0) < ROUNDING, name
        assert farthest(model, groups, 1.0) > 100 * ROUNDING, name
        with torch.no_grad():
            tensor.zero_()  # the trainer goes on; the engine keeps what it was given
        assert draw(engine, prompts[:4], temperature=1.0, group_size=2) == groups
    assert len(seen) > 8


def recipe_of(engine):
    return recipe_from_dict({
        "name": "vllm",
        "seed": 3,
        "model": {"path": "tiny", "device": "cpu"},
        "data": {"train": {"task": "arithmetic", "count": 24, "levels": [1, 2, 3]}},
        "rollout": {"group_size": 8, "prompts_per_step": 4, "max_completion_tokens": 96,
                    "temperature": 0.8, "max_slots": 8, "engine": engine},
        "rewards": [{"type": "accuracy"}, {"type": "cosine"}],
        "train": {"num_steps": 3, "save_every": 3, "learning_rate": 2e-4, "warmup_ratio": 0.0},
    })  # fmt: skip


def check_three_steps(run):
    rows = read_metrics(run)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(row["policy/engine_kl"] < 1e-9 for row in rows)
    assert all(row["policy/importance"] == pytest.approx(1, abs=1e-4) for row in rows)
    handed = [row for row in read_log(run.events) if row["event"] == "hand_over"]
    assert all(row["distance"] < 1e-5 for row in handed)
    assert all(row["moved"] > 1e-3 for row in handed if row["moved"] is not None)
    assert sum(row["moved"] is not None for row in handed) >= 3


def test_three_steps_in_this_process(tmp_path):
    pytest.importorskip("vllm")
    run = open_run(tmp_path / "run", recipe_of(OWN))
    loop.train(recipe_of(OWN), run)
    check_three_steps(run)


def test_three_steps_by_a_server_that_is_killed_on_the_way(tmp_path, monkeypatch):
    pytest.importorskip("vllm")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    recipe = recipe_of({"type": "vllm_server", "urls": [url], "max_retries": 1})
    run = open_run(tmp_path / "run", recipe)
    real, drawn = VLLMServer.draw, []
    with serve_vllm(tmp_path, port) as process:

        def killing(self, *asked):
            drawn.append(asked)
            if len(drawn) == 50:  # in the second step
                kill(process)
            return real(self, *asked)

        monkeypatch.setattr(VLLMServer, "draw", killing)
        with pytest.raises(GuardStop, match=rf"{url}: no connection .* step 1 is saved"):
            loop.train(recipe, run)
    monkeypatch.setattr(VLLMServer, "draw", real)
    with serve_vllm(tmp_path, port):
        loop.train(recipe, run)
    check_three_steps(run)
