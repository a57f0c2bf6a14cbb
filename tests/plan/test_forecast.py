"""The forecast by hand: counts from the recipe, seconds from the probe, bytes from the shape."""

import inspect

import pytest

from open_rs.plan.forecast import forecast, make_plan
from open_rs.plan.memory import CHUNK_TOKENS, ModelShape, memory_bytes
from open_rs.plan.probe import Probe, run_probe
from open_rs.problems import Problem
from open_rs.recipe import recipe_from_dict
from open_rs.rollout.protocol import EngineStats, Prompt, Rollout, RolloutGroup
from open_rs.runs import open_run, read_json
from open_rs.train.logprobs import completion_logprobs

RECIPE = {
    "data": {
        "train": {"task": "arithmetic", "count": 40, "levels": [1]},
        "validation": {"task": "arithmetic", "count": 10, "split": "validation"},
        "test": {"task": "arithmetic", "count": 20, "split": "test"},
    },
    "rollout": {"group_size": 4, "prompts_per_step": 8, "max_completion_tokens": 100},
    "train": {"num_steps": 20, "updates_per_batch": 2, "save_every": 10},
    "evaluate": {"every": 10, "num_samples": 3, "validation_samples": 2},
}
PROBE = Probe(
    rollout_tokens_per_s=1000.0,
    update_tokens_per_s=500.0,
    mean_prompt_tokens=10.0,
    mean_completion_tokens=40.0,
    ended_frac=1.0,
    seconds=1.0,
)


def test_counts_and_seconds_by_hand():
    plan = forecast(
        recipe_from_dict(RECIPE), PROBE, num_problems=40, held_out={"validation": 10, "test": 20}
    )
    # 20 steps / 2 updates = 10 batches of 8 prompts; 80 / 40 = 2 epochs; 80 * 4 completions
    assert (plan["prompts"], plan["epochs"], plan["completions"]) == (80, 2.0, 320)
    # scored at steps 0, 10, 20: 3 * 10 * 2, and the test split twice: 2 * 20 * 3
    assert plan["evaluation_completions"] == 180
    assert plan["completion_tokens"] == (320 + 180) * 40
    # 320 * 40 / 1000; 2 updates * 320 * (10 + 40) / 500; 180 * 40 / 1000
    expected = {"rollout": 12.8, "update": 64.0, "evaluate": 7.2, "total": 84.0}
    assert plan["seconds"] == pytest.approx(expected, rel=1e-12)


def test_completions_that_outlast_the_probe_make_the_forecast_a_bound():
    probe = Probe(**{**vars(PROBE), "mean_completion_tokens": 55.0, "ended_frac": 0.75})
    recipe = recipe_from_dict(RECIPE)
    plan = forecast(recipe, probe, num_problems=40, held_out={"validation": 0, "test": 0})
    assert plan["completion_tokens_are"] == "at most"
    assert plan["completion_tokens"] == 320 * 55


class ScriptedEngine:
    """Two completions of 10 tokens that end, two that the probe's cap of 64 cuts off."""

    name, stats = "scripted", None

    def generate(self, prompts, *, group_size, params, seed, step=0, **_):
        lengths = [10, 10, params.max_completion_tokens, params.max_completion_tokens]
        rollouts = [
            Rollout([5] * n, [0.0] * n, "", "stop" if n == 10 else "length") for n in lengths
        ]
        self.stats = EngineStats(prompt_tokens=0, completion_tokens=sum(lengths), seconds=2.0)
        return [RolloutGroup(prompt.problem, prompt.prompt_ids, rollouts) for prompt in prompts]


def test_what_the_probe_cuts_off_counts_as_the_cap(monkeypatch):
    monkeypatch.setattr("open_rs.plan.probe.update_rate", lambda model, groups: 1.0)
    prompts = [Prompt(Problem("a", "?", "!"), [1, 2, 3])]
    probe = run_probe(recipe_from_dict(RECIPE), ScriptedEngine(), None, prompts)
    assert probe.mean_completion_tokens == (10 + 10 + 100 + 100) / 4
    assert probe.ended_frac == 0.5
    assert probe.rollout_tokens_per_s == (10 + 10 + 64 + 64) / 2


def test_chunks_of_logits_are_as_large_as_the_trainer_makes_them():
    chunk = inspect.signature(completion_logprobs).parameters["chunk_tokens"].default
    assert chunk == CHUNK_TOKENS


def test_memory_by_hand():
    shape = ModelShape(
        parameters=1000,
        trained_parameters=100,
        hidden_size=8,
        intermediate_size=16,
        layers=2,
        vocab_size=50,
        kv_width=4,
        bytes_per_weight=4,
    )
    settings = {"micro_batch_tokens": 64, "slots": 3, "row_tokens": 20, "with_reference": True}
    parts = memory_bytes(shape, **settings, gradient_checkpointing=False)
    assert parts["weights"] == parts["reference"] == 4000
    assert (parts["gradients"], parts["optimizer"]) == (400, 800)
    assert parts["kv_cache"] == 2 * 3 * 20 * 2 * 4 * 4  # keys and values, slots, tokens, L, width
    assert parts["activations"] == 64 * (8 * 8 + 4 * 16) * 2 * 4
    assert parts["logits"] == 3 * 64 * 50 * 4
    turns = max(parts["kv_cache"], parts["activations"] + parts["logits"])
    assert parts["total"] == 4000 + 4000 + 400 + 800 + turns
    less = memory_bytes(shape, **settings, gradient_checkpointing=True)
    # one layer in full and the input of each of the two
    assert less["activations"] == 64 * 128 * 4 + 64 * 8 * 2 * 4


def test_a_plan_of_the_shipped_model_is_written_and_trains_nothing(tmp_path):
    recipe = recipe_from_dict(RECIPE | {"model": {"path": "tiny"}})
    run = open_run(tmp_path / "run", recipe)
    plan = make_plan(recipe, run)
    assert read_json(run.plan) == plan
    assert plan["problems"] == 40 and plan["seconds"]["total"] > 0
    assert {one["key"] for one in plan["findings"]} >= {"data.validation", "budget.usd_per_hour"}
    assert not run.checkpoints.exists() and not run.metrics.exists()
