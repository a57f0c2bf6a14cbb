"""The engine of an endpoint against a real server: transformers' own, with the tiny model."""

import json

import pytest

from open_rs.errors import GuardStop
from open_rs.evaluate.run import evaluate_model
from open_rs.problems import load_problems
from open_rs.recipe import Source, recipe_from_dict
from open_rs.rollout.build import evaluation_params, open_sampler
from open_rs.rollout.protocol import SamplingParams

PROBLEMS = load_problems(Source(task="arithmetic", count=6, levels=(1, 2)))
GREEDY = SamplingParams(max_completion_tokens=48, temperature=0.0)
SAMPLED = SamplingParams(max_completion_tokens=32, temperature=1.0)


def recipe_of(server, **changes):
    engine = {"type": "openai", "base_url": server.base_url, "model": server.model}
    return recipe_from_dict(
        {
            "model": {"path": server.model},
            "rollout": {"max_completion_tokens": 32, "engine": {**engine, **changes}},
        }
    )


def draw(recipe, params, *, group_size=1, seed=0):
    with open_sampler(recipe) as sampler:
        prompts, too_long = sampler.prompter.encode_all(PROBLEMS)
        assert not too_long
        return sampler.sample(prompts, group_size=group_size, params=params, seed=seed)


def test_greedy_text_mode_equals_the_native_engine(tiny_server):
    """The same prompt, tokens, ends and grades as from the same weights in this process."""
    there = draw(recipe_of(tiny_server), GREEDY)
    here = draw(recipe_from_dict({"model": {"path": tiny_server.model}}), GREEDY)
    for far, near in zip(there, here, strict=True):
        assert far.prompt_ids == near.prompt_ids != []
        for one, other in zip(far.rollouts, near.rollouts, strict=True):
            assert one.completion == other.completion != ""
            assert (one.num_tokens, one.finish_reason) == (other.num_tokens, other.finish_reason)
            assert (one.grade.outcome, one.grade.extracted) == (
                other.grade.outcome,
                other.grade.extracted,
            )


def test_greedy_chat_mode_gives_the_same_answers(tiny_server):
    """The server renders the same template, and puts the thought apart: it is put together."""
    there = draw(recipe_of(tiny_server, mode="chat"), GREEDY)
    here = draw(recipe_from_dict({"model": {"path": tiny_server.model}}), GREEDY)
    for far, near in zip(there, here, strict=True):
        one, other = far.rollouts[0], near.rollouts[0]
        assert far.prompt_ids == []
        assert one.completion.startswith("<think>")
        assert (one.num_tokens, one.finish_reason) == (other.num_tokens, other.finish_reason)
        assert one.grade.extracted == other.grade.extracted


def test_seeds_reach_the_server(tiny_server):
    """One at a time, since this server has one generator for all requests."""
    recipe = recipe_of(tiny_server, max_concurrency=1)

    def texts(seed):
        groups = draw(recipe, SAMPLED, group_size=3, seed=seed)
        return [one.completion for group in groups for one in group.rollouts]

    first = texts(0)
    assert first == texts(0) != texts(1)
    assert len(set(first)) > len(PROBLEMS)  # the samples of a prompt differ


def test_an_evaluation_through_the_endpoint(tiny_server, tmp_path):
    recipe = recipe_of(tiny_server, mode="chat", max_concurrency=4)
    out = tmp_path / "test"

    def evaluate():
        with open_sampler(recipe) as sampler:
            return evaluate_model(
                sampler, PROBLEMS, params=evaluation_params(recipe), num_samples=2, seed=0,
                out=out, name="test", model=tiny_server.model,
            )  # fmt: skip

    summary = evaluate()
    fingerprint = summary["fingerprint"]
    assert (fingerprint["engine"], fingerprint["dtype"]) == ("openai", None)
    assert fingerprint["device"] == "endpoint"
    assert fingerprint["endpoint"]["mode"] == "chat"
    lines = (out / "records.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 12 and all(row["num_tokens"] > 0 for row in rows)
    assert summary["mean_tokens"] == sum(row["num_tokens"] for row in rows) / 12
    assert 0 <= summary["scores"]["pass@1"]["value"] <= 1
    assert evaluate() == summary  # read, not sampled again


def test_a_model_that_the_server_does_not_have(tiny_server):
    recipe = recipe_of(tiny_server, model="another/model", mode="chat")
    with pytest.raises(GuardStop, match="400: Server is pinned to"):
        draw(recipe, SAMPLED)
