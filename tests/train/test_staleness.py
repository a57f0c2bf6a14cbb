"""Batches that are drawn ahead: by the native engine, and beside the update by servers."""

import math
import signal
import threading

import pytest
import torch
import torch.distributed as dist
from fake_vllm import FakeVLLM, serve_fake
from test_guard import CAP, SMALL, put_in_place, squeezed
from test_resume import Killed, kill_at, recipe_with, start, start_and_die, trace

from open_rs import interrupt
from open_rs.errors import GuardStop, InputError
from open_rs.interrupt import Interrupted
from open_rs.models import load_model, load_tokenizer
from open_rs.problems import Problem
from open_rs.recipe import recipe_from_dict
from open_rs.recipe.metrics import metric_names
from open_rs.rollout.build import training_params
from open_rs.rollout.native import NativeEngine
from open_rs.rollout.protocol import Prompt
from open_rs.rollout.vllm_api import VLLMServer
from open_rs.runs import RunFolder, open_run, read_log, read_metrics
from open_rs.train import loop, setup
from open_rs.train.checkpoint import checkpoint_steps
from open_rs.train.distributed import Ranks
from open_rs.train.journal import RolloutJournal, journal_path

STALE = {
    "data": {"validation": None},
    "rollout": {"prompts_per_step": 2, "max_completion_tokens": 32, "staleness": 1},
    "rewards": [{"type": "cosine"}],  # which differs wherever lengths do
    "train": {"num_steps": 5, "save_every": 1, "learning_rate": 1e-3, "warmup_ratio": 0.0},
}


def recipe_of(**sections):
    merged = {
        key: STALE.get(key, {}) | value if isinstance(value, dict) else value
        for key, value in sections.items()
    }
    return recipe_with(**STALE | merged)


def weights(run, step):
    """The model after `step` updates."""
    path = run.checkpoint(step) if step else "tiny"
    recipe = recipe_with()
    return load_model(recipe.model.at(str(path)))


def events(run, name):
    return [row for row in read_log(run.events) if row["event"] == name]


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """A run of five steps, a checkpoint after each."""
    return start(recipe_of(loss={"importance_cap": 1.02}), tmp_path_factory.mktemp("stale") / "run")


def test_completions_are_drawn_by_the_weights_of_two_steps_before(native):
    recipe, tokenizer = recipe_of(), load_tokenizer(recipe_of().model)
    for step in range(1, 6):
        rows, before = read_log(native.rollouts(step)), max(step - 2, 0)
        asked = {row["problem_id"]: row for row in rows}
        prompts = [
            Prompt(Problem(id, row["problem"], row["answer"]), row["prompt_ids"])
            for id, row in asked.items()
        ]
        found = {}
        for version in {before, step - 1}:
            groups = NativeEngine(weights(native, version), tokenizer).generate(
                prompts, group_size=4, params=training_params(recipe), seed=recipe.seed, step=step
            )
            found[version] = [
                (group.problem.id, one.sample, one.completion_ids, one.engine_logprobs)
                for group in groups
                for one in group.rollouts
            ]
        drawn = [
            (row["problem_id"], row["sample"], row["completion_ids"], row["engine_logprobs"])
            for row in rows
        ]
        assert drawn == found[before]
        assert step == 1 or drawn != found[step - 1]
        assert {row["weights_step"] for row in rows} == {before}
    assert [row["policy/staleness"] for row in read_metrics(native)] == [0, 1, 1, 1, 1]


def test_tokens_are_weighed_by_what_the_older_weights_thought(native):
    """By torch's own log_softmax of the whole row, from the rollouts and checkpoints on disk."""
    metrics = {row["step"]: row for row in read_metrics(native)}
    for step in range(1, 6):
        model, weighed, distances = weights(native, step - 1), [], []
        for row in read_log(native.rollouts(step)):
            if row["advantage"] == 0:
                continue  # teaches nothing, and is left out
            ids, start_at = row["prompt_ids"] + row["completion_ids"], len(row["prompt_ids"])
            with torch.no_grad():
                logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            for place, theirs in enumerate(row["engine_logprobs"]):
                at = start_at + place
                move = logprobs[at - 1, ids[at]].item() - theirs
                weighed.append(min(math.exp(move), 1.02))
                distances.append(math.exp(move) - move - 1)
        mean = sum(weighed) / len(weighed)
        assert metrics[step]["policy/importance"] == pytest.approx(mean, rel=1e-5)
        kl = sum(distances) / len(distances)
        assert metrics[step]["policy/engine_kl"] == pytest.approx(kl, rel=1e-3, abs=1e-9)
        capped = sum(one == 1.02 for one in weighed) / len(weighed)
        assert metrics[step]["policy/importance_cap_frac"] == pytest.approx(capped)
        assert metrics[step]["policy/ratio"] == 1.0
    assert metrics[1]["policy/engine_kl"] < 1e-9 < 1e-4 < metrics[2]["policy/engine_kl"]
    assert metrics[2]["policy/importance_cap_frac"] > 0


VARIANTS = {
    "plain": {"train": {"save_every": 2}},
    "two_updates": {
        "loss": {"kl_coef": 0.04},
        "train": {"updates_per_batch": 2, "num_steps": 8, "save_every": 4},
        "evaluate": {"every": 4},
    },
    "selected": {
        "data": {"select": "history", "explore": 0.4},
        "rollout": {"screen_size": 2},
        "loss": {"dynamic_sampling": True, "oversample": True},
    },
    "triggered": {
        "schedules": [
            {"key": CAP, "to": 8, "when": {"metric": "reward/std", "above": -1, "steps": 2}}
        ],
    },
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    made = {}

    def of(variant):
        if variant not in made:
            recipe = recipe_of(**VARIANTS[variant])
            run = start(recipe, tmp_path_factory.mktemp(variant) / "run")
            made[variant] = run, trace(run, recipe.train.num_steps)
        return made[variant]

    return of


KILLS = [
    ("plain", "write_rollouts", 5, True),  # ahead of its step, and nothing learnt since
    ("plain", "update", 3, True),  # weights moved, metrics not yet written
    ("two_updates", "update", 5, True),
    ("selected", "drawn_groups", 7, True),
    ("triggered", "write_rollouts", 5, True),
]
MORE_KILLS = [
    ("plain", "roll_out", 2, False),  # the second batch, by the weights of the first
    ("plain", "drawn_groups", 4, True),  # in the journal, and the record not written
    ("plain", "save", 2, False),
    ("plain", "save", 2, True),
    ("two_updates", "update", 3, True),  # between two updates of a batch
    ("triggered", "pull_triggers", 2, True),
]


@pytest.mark.parametrize(
    ("variant", "name", "call", "after"),
    [*KILLS, *[pytest.param(*one, marks=pytest.mark.slow) for one in MORE_KILLS]],
)
def test_a_killed_run_goes_on_to_the_same_end(
    variant, name, call, after, whole, monkeypatch, tmp_path
):
    recipe = recipe_of(**VARIANTS[variant])
    start_and_die(monkeypatch, recipe, tmp_path / "run", name, call, after=after)
    run = start(recipe, tmp_path / "run")
    assert trace(run, recipe.train.num_steps) == whole(variant)[1]


@pytest.mark.parametrize("call", [9, 20, pytest.param(34, marks=pytest.mark.slow)])  # of 8 a batch
def test_a_run_killed_while_it_draws_goes_on_to_the_same_end(call, whole, monkeypatch, tmp_path):
    recipe, real, calls = recipe_of(**VARIANTS["plain"]), RolloutJournal.add, [0]

    def dying(self, *args):
        calls[0] += 1
        if calls[0] == call:
            raise Killed
        real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(RolloutJournal, "add", dying)
        with pytest.raises(Killed):
            start(recipe, tmp_path / "run")
    run = start(recipe, tmp_path / "run")
    assert trace(run, 5) == whole("plain")[1]


def test_what_a_trigger_changes_counts_for_batches_that_are_not_drawn_yet(whole):
    run, _ = whole("triggered")
    longest = {row["step"]: row["completion/max_tokens"] for row in read_metrics(run)}
    # it fires after step 2, when the third batch is there
    assert all(longest[step] > 8 for step in (1, 2, 3)) and longest[4] == longest[5] == 8


def test_completions_that_are_gone_are_drawn_by_the_checkpoint_and_said_to_be(
    tmp_path, monkeypatch
):
    recipe = recipe_of()
    with monkeypatch.context() as patch:
        kill_at(patch, "update", 3, after=False)
        with pytest.raises(Killed):
            start(recipe, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert {row["weights_step"] for row in read_log(run.rollouts(4))} == {2}
    run.rollouts(3).unlink()
    loop.train(recipe, run)
    assert {row["weights_step"] for row in read_log(run.rollouts(3))} == {2}
    assert [row["policy/staleness"] for row in read_metrics(run)] == [0, 1, 0, 1, 1]


def test_after_a_roll_back_the_first_batch_is_drawn_by_the_weights_gone_back_to(
    tmp_path, monkeypatch
):
    put_in_place(monkeypatch)
    wider = {"action": "roll_back", "changes": [{"key": CAP, "to": 24}]}
    plain = squeezed(**wider)
    stale = plain.rollout.model_copy(update={"staleness": 1})
    run = start(plain.model_copy(update={"rollout": stale}), tmp_path / "run")
    back = events(run, "roll_back")[0]["step"]
    staleness = {row["step"]: row["policy/staleness"] for row in read_metrics(run)}
    assert [step for step, one in staleness.items() if one == 0] == [1, back + 1]
    assert {row["weights_step"] for row in read_log(run.rollouts(back + 1))} == {back}
    assert max(len(row["completion_ids"]) for row in read_log(run.rollouts(back + 1))) > 4


# --- servers ---


@pytest.fixture
def fake():
    pytest.importorskip("openai")
    made = FakeVLLM()
    with serve_fake(made):
        yield made


def served(fake, *, at_once=4, **sections):
    engine = {"type": "vllm_server", "urls": [fake.url], "max_retries": 0}
    engine["max_concurrency"] = at_once
    rollout = SMALL["rollout"] | {"staleness": 1, "temperature": 0.8, "engine": engine}
    return recipe_of(rollout=rollout, **sections)


def beside_which_it_draws(fake, monkeypatch):
    """Every update but the last waits inside itself until a completion of the next step is asked
    for; returns the steps whose update was met so.
    """
    real, asked, met = loop.update, threading.Event(), []
    draw = VLLMServer.draw

    def noting(self, *args):
        if threading.current_thread() is not threading.main_thread():
            asked.set()
        return draw(self, *args)

    def waiting(*args):
        asked.clear()
        if args[5] is not None and asked.wait(60):
            met.append(args[3].seed)
        return real(*args)

    monkeypatch.setattr(VLLMServer, "draw", noting)
    monkeypatch.setattr(loop, "update", waiting)
    return met


def test_servers_draw_the_next_batch_while_this_one_is_learnt(fake, tmp_path, monkeypatch):
    met = beside_which_it_draws(fake, monkeypatch)
    recipe = served(fake)
    run = start(recipe, tmp_path / "run")
    assert [seed - recipe.seed for seed in met] == [1, 2, 3, 4]
    rows = read_metrics(run)
    assert all(0 < row["time/overlap_s"] < row["time/step_s"] for row in rows[:4])
    assert "time/overlap_s" not in rows[4]
    assert {key for row in rows for key in row} <= {"step", *metric_names(recipe)}
    assert [row["policy/staleness"] for row in rows] == [0, 1, 1, 1, 1]
    # time is entered once, though two things happened in it
    ledger = read_log(run.ledger)
    assert [row["step"] for row in ledger if row["phase"] == "rollout"] == [1, 2, 3, 4, 5]
    assert all(row["tokens"] > 0 for row in ledger if row["phase"] == "rollout")
    assert [row["step"] for row in events(run, "hand_over")] == [0, 1, 2, 3, 4, 5]


def test_servers_and_the_native_engine_are_stale_alike(fake, tmp_path):
    """By the stand-in, which draws by noise of its own: versions, not completions."""
    run = start(served(fake), tmp_path / "run")
    for step in range(1, 6):
        rows = read_log(run.rollouts(step))
        assert {row["weights_step"] for row in rows} == {max(step - 2, 0)}
        row = rows[0]
        ids, prompt = row["prompt_ids"] + row["completion_ids"], len(row["prompt_ids"])
        with torch.no_grad():
            logits = weights(run, max(step - 2, 0))(torch.tensor([ids])).logits[0] / 0.8
        found = logits.log_softmax(-1)[range(prompt - 1, len(ids) - 1), ids[prompt:]]
        torch.testing.assert_close(
            found, torch.tensor(row["engine_logprobs"]), atol=1e-4, rtol=1e-4
        )


def lose(fake):
    fake.dies_after = fake.drawn


def stop(fake):
    interrupt.ask(signal.SIGTERM)


def deadline(fake):
    interrupt.set_deadline(0.0)


@pytest.mark.parametrize(
    ("happens", "error", "match"),
    [
        (lose, GuardStop, r"no connection .*: mend it and go on"),
        (stop, Interrupted, "SIGTERM"),
        (deadline, GuardStop, "budget"),
    ],
)
def test_what_ends_the_drawing_ends_the_run_which_goes_on_to_the_same_end(
    happens, error, match, fake, tmp_path, monkeypatch
):
    # one at a time: the stand-in looks at the note itself
    recipe = served(fake, at_once=1, budget={"hours": 1.0}, train={"save_every": 5})
    whole = trace(start(recipe, tmp_path / "whole"), 5)
    fake.start()
    real, drawn = VLLMServer.draw, []

    def drawing(self, *args):
        drawn.append(real(self, *args))
        if len(drawn) == 4 * 9 + 4:  # four batches and probes, and half of the fifth
            happens(fake)
        return drawn[-1]

    run = open_run(tmp_path / "run", recipe)
    with monkeypatch.context() as patch:
        patch.setattr(VLLMServer, "draw", drawing)
        with pytest.raises(error, match=match):
            loop.train(recipe, run)
    assert not any(thread.name == "beside" for thread in threading.enumerate())
    assert checkpoint_steps(run) == [3]
    assert run.rollouts(4).exists() and not run.rollouts(5).exists()
    assert 0 < len(journal_path(run, 5).read_bytes().splitlines()) < 8
    fake.start()
    loop.train(recipe, run)
    assert trace(run, 5) == whole


def test_an_error_beside_the_drawing_waits_for_no_answer(fake, tmp_path, monkeypatch):
    asked, never, real, drawn = threading.Event(), threading.Event(), VLLMServer.draw, []

    def hanging(self, *args):
        drawn.append(args)
        if len(drawn) > 9:  # past a probe and the first batch
            asked.set()
            never.wait(60)
        return real(self, *args)

    def failing(*args):
        assert asked.wait(60)
        raise InputError("the trainer's own")

    recipe = served(fake)
    run = open_run(tmp_path / "run", recipe)
    monkeypatch.setattr(VLLMServer, "draw", hanging)
    monkeypatch.setattr(loop, "update", failing)
    try:
        with pytest.raises(InputError, match="the trainer's own"):
            loop.train(recipe, run)
        assert not never.is_set()
        assert not any(thread.name == "beside" for thread in threading.enumerate())
    finally:
        never.set()


# --- what is refused ---


def test_staleness_is_one_at_most_and_corrected():
    assert recipe_of().corrected_loss.importance_cap == 2.0
    assert recipe_with().corrected_loss.importance_cap == 0.0
    with pytest.raises(InputError, match=r"rollout.staleness = 2: input should be less than or eq"):
        recipe_of(rollout={"staleness": 2})
    with pytest.raises(InputError, match=r"importance_cap = 0: .*leave it out"):
        recipe_of(loss={"importance_cap": 0.0})
    with pytest.raises(InputError, match=r"exact = true: older weights .*staleness = 0"):
        recipe_of(rollout={"exact": True})


def test_several_ranks_draw_nothing_ahead():
    recipe = recipe_from_dict({"rollout": {"staleness": 1}})
    with pytest.raises(InputError, match=r"staleness = 1: .*set it to 0, or train with one rank"):
        setup.refuse_with_ranks(recipe, Ranks(0, 2, dist.HashStore()))
    setup.refuse_with_ranks(recipe, Ranks())
