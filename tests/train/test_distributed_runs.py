"""Two ranks on gloo train as one process does: replicas and shards, saved and gone on from."""

import json
import sys
from pathlib import Path

import pytest
from fake_vllm import FakeVLLM, serve_fake
from ranks_job import free_port, launch, opened

from open_rs.runs import RunFolder, read_log
from open_rs.train import loop

sys.path.append(str(Path(__file__).parents[2] / "perf"))
from distributed import compare, taken_back

JOB = Path(__file__).with_name("ranks_job.py")
CLOSE = 1e-6  # relative, of weights and moments; sums over ranks have another order
# a gradient's norm, and a KL near 0, move so far where micro-batches are cut elsewhere
METRIC = 5e-5

SETTINGS = {
    "name": "ranks",
    "seed": 3,
    "threads": 1,
    "data": {
        "train": {"task": "arithmetic", "count": 24, "levels": [1, 2]},
        "validation": {"task": "arithmetic", "split": "validation", "count": 3, "levels": [1]},
    },
    "rollout": {"group_size": 4, "prompts_per_step": 3, "max_completion_tokens": 32},
    "train": {"num_steps": 4, "save_every": 2, "learning_rate": 1e-4, "micro_batch_tokens": 600},
    "evaluate": {"every": 4, "validation_samples": 2},
}


def settings_with(**sections: dict) -> dict:
    merged = {key: value | sections.get(key, {}) if isinstance(value, dict) else value
              for key, value in SETTINGS.items()}  # fmt: skip
    return merged | {key: value for key, value in sections.items() if key not in merged}


def train_on(count: int, jobs: list[tuple[dict, Path]], folder: Path) -> list[str]:
    """Train one after the other on so many ranks; returns what each rank printed."""
    plan = folder / f"plan{free_port()}.json"
    plan.write_text(json.dumps([(settings, str(path)) for settings, path in jobs]))
    ranks = launch(count, [str(JOB), str(plan)])
    printed = [rank.communicate(timeout=400)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * count, "\n".join(printed)
    return printed


def train_alone(settings: dict, path: Path) -> RunFolder:
    recipe, run = opened(settings, path)
    loop.train(recipe, run)
    return run


def assert_close(run: RunFolder, expected: RunFolder) -> None:
    """The same run, up to the order of sums."""
    found = compare(run, expected)
    assert found.rollouts is None
    assert found.metric[0] < METRIC, found.metric
    assert found.rounding < 1e-7
    assert found.weights < CLOSE and found.moments < CLOSE


NONE, FULL = {"sharding": "none"}, {"sharding": "full"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def alone(folder) -> RunFolder:
    return train_alone(settings_with(), folder / "alone")


@pytest.fixture(scope="module")
def together(folder) -> dict[str, RunFolder]:
    """One job that trains with replicas, then with shards, and two runs that have to go on."""
    jobs = {
        "none": settings_with(train=NONE),
        "full": settings_with(train=FULL),
    }
    train_on(2, [(settings, folder / name) for name, settings in jobs.items()], folder)
    return {name: RunFolder(folder / name) for name in jobs}


@pytest.mark.parametrize("sharding", ["none", "full"])
def test_two_ranks_train_as_one_process(sharding, alone, together):
    run = together[sharding]
    assert_close(run, alone)
    start = read_log(run.events)[0]
    assert (start["event"], start["ranks"], start["hosts"]) == ("start", 2, 1)
    assert "ranks" not in read_log(alone.events)[0]
    config = json.loads((run.checkpoint(4) / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]  # not FSDP's own class


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_ranks_and_another_layout(alone, together, folder):
    whole, shards = settings_with(), settings_with(train=FULL)
    onto_two = [
        (settings_with(train=NONE), taken_back(alone, 2, folder / "one_to_two").path),
        (shards, taken_back(alone, 2, folder / "one_to_shards").path),
        (shards, taken_back(together["full"], 2, folder / "shards_to_shards").path),
    ]
    train_on(2, onto_two, folder)
    train_on(3, [(shards, taken_back(together["full"], 2, folder / "two_to_three").path)], folder)
    for kind in ("none", "full"):
        train_alone(whole, taken_back(together[kind], 2, folder / f"{kind}_to_one").path)
    names = ("one_to_two", "one_to_shards", "shards_to_shards", "two_to_three")
    for name in (*names, "none_to_one", "full_to_one"):
        run = RunFolder(folder / name)
        assert [row["step"] for row in read_log(run.events) if row["event"] == "resume"] == [2]
        assert_close(run, alone)


VARIANTS = {
    "kl_two_updates": {
        "loss": {"kl_coef": 0.04},
        "train": {"updates_per_batch": 2},
    },
    "dapo": {
        "loss": {"clip_high": 0.28, "loss_norm": "token", "dynamic_sampling": True},
        "rewards": [{"type": "accuracy"}, {"type": "overlong"}],
    },
    "sequence_ratio": {"loss": {"ratio_level": "sequence"}},
    "selected": {
        "data": {"select": "history", "explore": 0.4},
        "rollout": {"screen_size": 2},
        "loss": {"dynamic_sampling": True, "oversample": True},
    },
    "checkpointing": {"train": {"gradient_checkpointing": True, "rehearse": True}},
    "few_rollouts": {"rollout": {"group_size": 2, "prompts_per_step": 1}},
}


@pytest.mark.slow
def test_shares_come_together_for_servers(folder):
    pytest.importorskip("openai")
    fake = FakeVLLM()
    with serve_fake(fake):
        engine = {"type": "vllm_server", "urls": [fake.url], "max_retries": 0}
        settings = settings_with(rollout={"engine": engine}, train=FULL | {"num_steps": 3})
        train_on(2, [(settings, folder / "served")], folder)
        assert len(fake.loads) == 4  # before the first step, and after each
        fake.start()
        alone = train_alone(settings, folder / "served_alone")
    run = RunFolder(folder / "served")
    handed = [row for row in read_log(run.events) if row["event"] == "hand_over"]
    assert [row["step"] for row in handed] == [0, 1, 2, 3]
    assert all(row["distance"] < 1e-5 for row in handed)
    assert all(row["moved"] > 1e-4 for row in handed[1:])
    assert_close(run, alone)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_what_a_recipe_asks_for_holds_over_ranks(ranks, folder):
    jobs = []
    for name, sections in VARIANTS.items():
        for kind in (NONE, FULL):
            settings = settings_with(
                **sections | {"train": sections.get("train", {}) | kind | {"num_steps": 2}},
                evaluate={"every": 2, "validation_samples": 1},
            )
            jobs.append((settings, folder / f"{name}_{kind['sharding']}_{ranks}"))
    lora = settings_with(model={"lora": {"rank": 4}}, train={"num_steps": 2})
    jobs.append((lora, folder / f"lora_{ranks}"))
    printed = train_on(ranks, jobs, folder)
    assert ("3 ranks and 2 completions a step: 1 of them" in printed[0]) == (ranks == 3)
    assert "step" in printed[0] and not any("step" in text for text in printed[1:])
    for settings, path in jobs:
        alone = train_alone(settings, path.with_name(f"{path.name}_alone"))
        assert_close(RunFolder(path), alone)
