"""The forecast by hand: counts from the recipe, seconds from a pace, and a real probe."""

from dataclasses import replace

import pytest

from open_rs.errors import InputError
from open_rs.plan import subject as subjects
from open_rs.plan.cluster import Cluster
from open_rs.plan.devices import DEVICES
from open_rs.plan.forecast import make_plan
from open_rs.plan.gather import Wish
from open_rs.plan.lengths import Lengths
from open_rs.plan.pace import Pace, device_pace, fit
from open_rs.plan.schedule import Group
from open_rs.plan.shapes import known_shape
from open_rs.plan.workload import Machine, calls_of, made_steps, sampling_seconds
from open_rs.recipe import recipe_from_dict
from open_rs.runs import open_run, read_json

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
SHAPE = known_shape("Qwen/Qwen2.5-1.5B")
# a second for each step of decoding, and for each micro-batch; half a second for AdamW
PACE = Pace(decode=(0, 1, 0, 0, 0, 0), update=(1, 0, 0), optimizer_s=0.5, reference=0.25, row_s=0.1)
TEN = Lengths((Group(5, (10,)),), 100, 100, "the probe")


def machine(**changes):
    settings = {"pace": PACE, "shape": SHAPE, "packed": True, "dead": 0.0}
    return Machine(**(settings | changes))


def recipe_with(**sections):
    settings = {key: dict(value) for key, value in RECIPE.items()}
    for section, values in sections.items():
        settings.setdefault(section, {}).update(values)
    return recipe_from_dict(settings)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A plan of the shipped model, and its run."""
    recipe = recipe_from_dict(RECIPE | {"model": {"path": "tiny"}})
    run = open_run(tmp_path_factory.mktemp("plan") / "run", recipe)
    return make_plan(recipe, run, Wish(probe_seconds=1.0)), run


def test_a_plan_of_the_shipped_model_is_written_and_trains_nothing(made):
    plan, run = made
    assert read_json(run.plan) == plan
    assert {one["key"] for one in plan["findings"]} >= {"budget.usd_per_hour"}
    assert not run.checkpoints.exists() and not run.metrics.exists()


def test_counts_by_hand(made):
    plan, _ = made
    # 20 steps / 2 updates = 10 batches of 8 prompts; 80 / 40 = 2 epochs; 80 * 4 completions
    assert (plan["prompts"], plan["epochs"], plan["completions"]) == (80, 2.0, 320)
    assert plan["steps_per_epoch"] == 10
    # scored at steps 0, 10, 20: 3 * 10 * 2, and the test split twice: 2 * 20 * 3
    assert plan["evaluation_completions"] == 180
    assert plan["checkpoints"] == [
        {"step": 10, "prompts": 40, "completions": 160},
        {"step": 20, "prompts": 80, "completions": 320},
    ]


def test_a_probe_tells_time_memory_and_lengths(made):
    plan, _ = made
    seconds, (low, high) = plan["seconds"], plan["seconds_range"]
    assert seconds["total"] == pytest.approx(
        sum(seconds[one] for one in ("rollout", "update", "evaluate", "save"))
    )
    assert 0 < low < seconds["total"] < high
    assert plan["memory_bytes"]["process"] > 50 * 2**20
    assert plan["memory_bytes"]["total"] <= plan["memory_at_cap"] < plan["device"]["memory_bytes"]
    assert 0 < plan["lengths"]["low"] < plan["lengths"]["mean"] <= 100
    assert plan["usd_per_hour"] is None and "usd_range" not in plan
    assert plan["probe"]["seconds"] < 30
    assert plan["probe"]["lengths"]["groups"] == []


def test_a_step_by_hand():
    # 32 rows in 64 slots: 10 steps; 32 rows of 0.1 s; two updates of one micro-batch and AdamW
    step = made_steps(recipe_with(), TEN, machine(), problems=40)
    assert step.rollout_s == pytest.approx(10 + 3.2)
    assert step.update_s == pytest.approx(2 * 1.5)
    assert (step.completions, step.tokens) == (32, 320)
    # heads of 4 tokens once for each of 8 prompts, 320 of completions
    assert (step.sizes.forwarded, step.sizes.scored) == (352, 320)
    assert (step.sizes.slots, step.sizes.positions) == (32, 15)


def test_fewer_slots_take_more_steps_and_fewer_problems_fewer_rows():
    slow = made_steps(recipe_with(rollout={"max_slots": 16}), TEN, machine(), problems=40)
    assert slow.rollout_s == pytest.approx(20 + 3.2)
    few = made_steps(recipe_with(), TEN, machine(), problems=2)
    assert few.completions == 8


def test_a_reference_goes_through_every_row():
    step = made_steps(recipe_with(loss={"kl_coef": 0.1}), TEN, machine(dead=1.0), problems=40)
    assert step.update_s == pytest.approx(2 * (1.25 + 0.5))
    dead = made_steps(recipe_with(), TEN, machine(dead=1.0), problems=40)
    assert dead.update_s == pytest.approx(2 * 0.5)  # skipped


def test_refills_and_screens_are_counted():
    import random

    refilled = recipe_with(loss={"dynamic_sampling": True, "max_refills": 2})
    calls, batch = calls_of(refilled, TEN, random.Random(0), 0.5, 8)
    assert len(calls) > 1 and len(calls[0]) == 8
    assert all(group.taught for group in batch)
    screened = recipe_with(rollout={"screen_size": 2})
    calls, batch = calls_of(screened, TEN, random.Random(0), 1.0, 8)
    assert [sum(len(group.lengths) for group in call) for call in calls] == [16]
    calls, batch = calls_of(screened, TEN, random.Random(0), 0.0, 8)
    assert [sum(len(group.lengths) for group in call) for call in calls] == [16, 16]
    assert sum(len(group.lengths) for group in batch) == 32


def test_an_evaluation_by_hand():
    # 20 problems x 3 samples of 10 tokens in 64 slots
    seconds = sampling_seconds(recipe_with(), TEN, machine(), problems=20, samples=3, cap=100)
    assert seconds == pytest.approx(10)
    assert sampling_seconds(recipe_with(), TEN, machine(), problems=20, samples=3, cap=4) == 4


def test_devices_share_the_batch():
    alone = made_steps(recipe_with(), TEN, machine(), problems=40)
    four = made_steps(recipe_with(), TEN, machine(cluster=Cluster(devices=4)), problems=40)
    # ten steps all the same, a quarter of the rows; one micro-batch each and AdamW, twice
    assert four.rollout_s == pytest.approx(10 + 0.8)
    assert four.update_s == alone.update_s == pytest.approx(2 * 1.5)
    assert (four.completions, four.waiting_s, alone.exchange_s) == (alone.completions, 0, 0)
    assert four.exchange_s > 0


def test_a_pace_is_found_again_from_its_pieces():
    import numpy as np

    work = np.array([[1.0, 4, 40], [1, 8, 200], [1, 16, 900], [1, 30, 4000]])
    seconds = work @ np.array([0.5, 0.1, 1e-3])
    assert fit(work, seconds, (0.5, 0.1, 1e-3)) == pytest.approx((0.5, 0.1, 1e-3), rel=1e-6)
    assert min(fit(work, seconds, (0, 0, 0))) >= 0


def test_a_larger_device_is_faster():
    slow, fast = (device_pace(DEVICES[name], SHAPE) for name in ("A40", "H100"))
    assert all(a >= b for a, b in zip(slow.decode, fast.decode, strict=True))
    assert slow.update[1] > fast.update[1]


# --- what is not here ---

ELSEWHERE = {
    "model": {"path": "Qwen/Qwen2.5-1.5B-Instruct"},
    "data": {"train": {"hub": "knoveleng/open-rs"}, "test": {"hub": "HuggingFaceH4/MATH-500"}},
    "train": {"num_steps": 500},
}


@pytest.fixture
def nothing_here(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)
    monkeypatch.setattr(subjects, "config_file", lambda model: None)


def test_a_model_that_is_not_here_is_planned_by_the_table(nothing_here, tmp_path):
    recipe = recipe_from_dict(ELSEWHERE)
    run = open_run(tmp_path / "run", recipe)
    plan = make_plan(recipe, run, Wish(device=DEVICES["A100"], gpus=4, mean_tokens=600))
    assert plan["problems"] == 7000 and plan["epochs"] == 4000 / 7000
    assert plan["usd_per_hour"] == pytest.approx(4 * 1.89)
    assert plan["memory_bytes"]["weights"] == 4 * 1_543_714_304  # float32 masters
    assert plan["usd_range"][0] < plan["usd_range"][1]
    assert {one["key"] for one in plan["findings"]} >= {"model.path", "data.train"}
    assert not run.plan.exists()  # it is not a plan of this machine


def test_without_a_device_what_is_known_is_told(nothing_here, tmp_path):
    recipe = recipe_from_dict(ELSEWHERE)
    plan = make_plan(recipe, open_run(tmp_path / "run", recipe))
    assert "seconds" not in plan and "memory_bytes" not in plan
    assert plan["completions"] == 500 * 8 * 8
    [missing] = [one for one in plan["findings"] if one["key"] == "model.path"]
    assert "so nothing was probed" in missing["sentence"]


def test_a_model_of_which_nothing_is_known(nothing_here, tmp_path):
    recipe = recipe_from_dict(ELSEWHERE | {"model": {"path": "somebody/else"}})
    plan = make_plan(recipe, open_run(tmp_path / "run", recipe), Wish(device=DEVICES["A40"]))
    [missing] = [one for one in plan["findings"] if one["key"] == "model.path"]
    assert "not in the table of known models" in missing["sentence"]
    assert "seconds" not in plan


def test_a_recipe_that_no_setting_makes_fit(nothing_here, tmp_path):
    recipe = recipe_from_dict(ELSEWHERE | {"model": {"path": "Qwen/Qwen3-8B"}})
    run = open_run(tmp_path / "run", recipe)
    plan = make_plan(recipe, run, Wish(device=DEVICES["L4"]))
    [error] = [one for one in plan["findings"] if one["severity"] == "error"]
    # 16 bytes a weight: 131 GB; by adapters 2 bytes, and 16 GB go into 24
    assert error["key"] == "model.lora" and "model.lora = { rank = 16 }" in error["cure"]
    huge = recipe_from_dict(
        ELSEWHERE | {"model": {"path": "Qwen/Qwen3-8B", "dtype": "float32", "lora": {"rank": 16}}}
    )
    plan = make_plan(huge, open_run(tmp_path / "huge", huge), Wish(device=DEVICES["L4"]))
    [error] = [one for one in plan["findings"] if one["severity"] == "error"]
    assert error["key"] == "model.path" and "smaller model" in error["cure"]


def test_on_several_devices_shares_are_told_before_adapters(nothing_here, tmp_path):
    large = ELSEWHERE | {"model": {"path": "Qwen/Qwen2.5-7B"}}
    wish = Wish(device=DEVICES["A100"], gpus=8)
    recipe = recipe_from_dict(large)
    plan = make_plan(recipe, open_run(tmp_path / "whole", recipe), wish)
    [error] = [one for one in plan["findings"] if one["severity"] == "error"]
    # 16 bytes a weight: 122 GB on each
    assert error["key"] == "train.sharding" and 'train.sharding = "full"' in error["cure"]
    recipe = recipe_from_dict(large | {"train": {"num_steps": 500, "sharding": "full"}})
    plan = make_plan(recipe, open_run(tmp_path / "shares", recipe), wish)
    assert not [one for one in plan["findings"] if one["severity"] == "error"]
    assert plan["memory_bytes"]["weights"] == pytest.approx(4 * 7_615_616_512 / 8, abs=1)
    assert plan["seconds"]["exchange"] > 0
    with pytest.raises(InputError, match="--rollout-gpus 8"):
        make_plan(recipe, open_run(tmp_path / "none", recipe), replace(wish, rollout_gpus=8))


def test_one_step_off_hides_the_shorter_part(nothing_here, tmp_path):
    recipe = recipe_from_dict(ELSEWHERE)
    wish = Wish(device=DEVICES["A100"], gpus=4, rollout_gpus=2)
    plans = [
        make_plan(recipe, open_run(tmp_path / str(one), recipe), replace(wish, overlapped=one))
        for one in (False, True)
    ]
    seconds = [plan["seconds"] for plan in plans]
    shorter = min(seconds[1]["rollout"], seconds[1]["update"])
    parts = sum(value for name, value in seconds[1].items() if name != "total")
    assert seconds[1]["total"] == pytest.approx(parts - shorter)
    assert plans[1]["step_seconds"] < plans[0]["step_seconds"]


def test_raw_rows_are_planned_before_they_are_curated(tmp_path):
    recipe = recipe_from_dict(
        {
            "sources": [{"task": "arithmetic_raw", "count": 30, "levels": [1]}],
            "filters": [{"type": "pass_rate", "num_samples": 2}],
            "rollout": {"group_size": 2, "prompts_per_step": 2, "max_completion_tokens": 16},
            "train": {"num_steps": 2},
        }
    )
    run = open_run(tmp_path / "run", recipe)
    plan = make_plan(recipe, run, Wish(probe_seconds=1.0))
    assert plan["seconds"]["curate"] > 0
    assert not run.curated.exists() and not run.plan.exists()
    [raw] = [one for one in plan["findings"] if one["key"] == "sources"]
    assert "nothing is curated yet" in raw["sentence"]
