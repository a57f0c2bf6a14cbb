"""Training by servers of vLLM (stand-ins that sample by the native engine): weights, their check, a
server that is lost.
"""

import pytest
import torch
from fake_vllm import FakeVLLM, serve_fake
from loopback import Reply

from open_rs.errors import GuardStop, InputError
from open_rs.recipe import recipe_from_dict
from open_rs.runs import open_run, read_log, read_metrics
from open_rs.train import loop
from open_rs.train.handover import Probe, check_movement, references

pytest.importorskip("openai")
DRAW = "/inference/v1/generate"


@pytest.fixture
def fakes():
    made = [FakeVLLM(), FakeVLLM()]
    with serve_fake(made[0]), serve_fake(made[1]):
        yield made


def recipe_of(fakes, **sections):
    engine = {"type": "vllm_server", "urls": [fake.url for fake in fakes], "max_retries": 0}
    settings = {
        "name": "served",
        "seed": 3,
        "data": {"train": {"task": "arithmetic", "count": 12, "levels": [1, 2]}},
        "rollout": {"group_size": 4, "prompts_per_step": 2, "max_completion_tokens": 32,
                    "temperature": 0.8, "engine": engine},
        "rewards": [{"type": "cosine"}],  # which differs wherever lengths do
        "train": {"num_steps": 3, "save_every": 3, "learning_rate": 1e-3, "warmup_ratio": 0.0},
    }  # fmt: skip
    return recipe_from_dict(settings | sections)


def train(path, recipe):
    run = open_run(path, recipe)
    loop.train(recipe, run)
    return run


def events(run, name):
    return [row for row in read_log(run.events) if row["event"] == name]


def outcome(run):
    """Metrics without times, and the last weights."""
    rows = [
        {key: value for key, value in row.items() if not key.startswith(("time/", "cost/"))}
        for row in read_metrics(run)
    ]
    return rows, (run.checkpoint(3) / "model.safetensors").read_bytes()


def test_three_steps_by_servers(tmp_path, fakes):
    run = train(tmp_path / "run", recipe_of(fakes))
    rows = read_metrics(run)
    assert [row["step"] for row in rows] == [1, 2, 3]
    # the stand-in's log-probs are the trainer's up to rounding, at temperature 0.8
    assert all(row["policy/engine_kl"] < 1e-9 for row in rows)
    assert all(row["policy/importance"] == pytest.approx(1, abs=1e-4) for row in rows)
    handed = events(run, "hand_over")
    assert [row["step"] for row in handed] == [0, 1, 2, 3]
    assert handed[0]["moved"] is None and all(row["moved"] > 1e-4 for row in handed[1:])
    assert all(row["distance"] < 1e-5 for row in handed)
    assert all(len(fake.loads) == 4 and fake.drawn > 10 for fake in fakes)


def test_a_server_lost_in_mid_run_is_named_and_the_run_goes_on_to_the_same_end(tmp_path, fakes):
    whole = train(tmp_path / "whole", recipe_of(fakes))
    for fake in fakes:
        fake.start()
    fakes[1].dies_after = 8  # a probe, 4 completions, a probe, half of the second step's 4
    run = open_run(tmp_path / "lost", recipe_of(fakes))
    with pytest.raises(GuardStop, match=r"no connection .*; stopped after step 1, which") as told:
        loop.train(recipe_of(fakes), run)
    assert fakes[1].url in str(told.value) and str(run.path) in str(told.value)
    assert events(run, "stop")[0]["reason"] == "engine"
    assert run.checkpoint(1).is_dir()
    fakes[1].start()
    loop.train(recipe_of(fakes), run)
    assert outcome(run) == outcome(whole)


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ({"garbled": True}, r"does not sample from the weights of step 0: .*above 0.0001"),
        ({"stale": True}, r"does not sample from the weights of step 1"),
        ({"fault": {"/collective_rpc": Reply("{}", 500)}}, "does not take the weights"),
    ],
)
def test_weights_that_did_not_arrive_stop_the_run(tmp_path, fakes, fault, match):
    for key, value in fault.items():
        setattr(fakes[0], key, value)
    run = open_run(tmp_path / "run", recipe_of(fakes[:1]))
    with pytest.raises(GuardStop, match=match) as told:
        loop.train(recipe_of(fakes[:1]), run)
    assert fakes[0].url in str(told.value)


def test_an_engine_that_is_stale_within_the_tolerance_is_found_by_its_probe(tmp_path, fakes):
    fakes[0].stale = True
    train_settings = {"num_steps": 3, "save_every": 3, "learning_rate": 5e-7, "warmup_ratio": 0.0}
    recipe = recipe_of(fakes[:1], train=train_settings)
    run = open_run(tmp_path / "run", recipe)
    with pytest.raises(GuardStop, match="still samples from the weights before step 1"):
        loop.train(recipe, run)


def test_in_bfloat16_small_moves_add_up_until_a_stale_engine_is_found(tmp_path, fakes):
    fakes[0].dtype, fakes[0].stale = "bfloat16", True
    settings = {"num_steps": 9, "save_every": 9, "learning_rate": 2e-5, "warmup_ratio": 0.0}
    recipe = recipe_of(fakes[:1], train=settings)
    run = open_run(tmp_path / "run", recipe)
    with pytest.raises(GuardStop, match="still samples from the weights before step"):
        loop.train(recipe, run)
    moved = [row["moved"] for row in events(run, "hand_over")][1:]
    assert moved and max(moved) < 0.02


def probe(engine, trainer, ids=(5, 6)):
    return Probe([1, 2], list(ids), 1.0, torch.tensor(engine), torch.tensor(trainer))


def test_what_counts_as_stale():
    old, same = probe([-1.0, -2.0], [-1.0, -2.0]), probe([-1.0, -2.0], [-1.1, -2.0])
    with pytest.raises(GuardStop, match=r"moved by 0.1, its own by nothing"):
        check_movement([old], [same], [0.1], "float32", 4)
    check_movement([old], [same], [1e-6], "float32", 4)  # a step without signal
    check_movement([old], [same], [0.01], "bfloat16", 4)  # less than bfloat16 shows
    check_movement([old], [probe([-1.0, -2.0000002], [-1.1, -2.0])], [0.1], "float32", 4)
    check_movement([old], [probe([-1.0, -2.0], [-1.1, -2.0], (5, 7))], [0.1], "float32", 4)


def test_moves_are_measured_from_the_first_probe_that_was_repeated():
    first, same = probe([-1.0, -2.0], [-1.0, -2.0]), probe([-1.0, -2.0], [-1.1, -2.0])
    other = probe([-1.1, -2.0], [-1.1, -2.0])
    assert references([], [first]) == [first]
    # by place: the first server repeats itself, the second does not
    found = references([first, first], [same, other])
    assert found[0] is first and found[1] is other
    warmer = Probe(same.prompt_ids, same.ids, 0.9, same.engine, same.trainer)
    assert references([first], [warmer])[0] is warmer


def test_training_needs_the_log_probs_of_what_is_drawn(tmp_path, fakes):
    rollout = recipe_of(fakes).rollout.model_dump() | {"top_p": 0.9}
    recipe = recipe_of(fakes, rollout=rollout)
    with pytest.raises(InputError, match=r"top_p = 0.9, .* train with top_p = 1"):
        train(tmp_path / "run", recipe)
