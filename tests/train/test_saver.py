"""Saving beside training: one write at a time, errors that surface, what is kept."""

import threading
from contextlib import ExitStack
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_checkpoint import build, move
from tiny_models import byte_tokenizer

from open_rs.errors import InputError
from open_rs.recipe import recipe_from_dict
from open_rs.runs import RunFolder, append_jsonl, read_log, write_json
from open_rs.train import checkpoint, saver
from open_rs.train.checkpoint import TrainState, checkpoint_steps, damage, take_snapshot
from open_rs.train.decisions import write_decisions
from open_rs.train.saver import Saver, retire, wanted_by_roll_back


def settings(sentinel=None, **train):
    return recipe_from_dict({"train": train, "sentinel": sentinel or {}})


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


ROLLS_BACK = {"action": "roll_back"}


def snapshot(step, kind="full"):
    policy, optimizer = build(kind)
    move(policy, optimizer)
    return take_snapshot(policy, optimizer, TrainState(step=step))


def test_training_goes_on_while_a_checkpoint_is_written(run, monkeypatch):
    policy, optimizer = build("full")
    move(policy, optimizer)
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    go_on, real = threading.Event(), saver.write_snapshot

    def slow(*args):
        assert go_on.wait(60)
        return real(*args)

    monkeypatch.setattr(saver, "write_snapshot", slow)
    with Saver(run, settings(), byte_tokenizer()) as writer:
        writer.start(lambda: take_snapshot(policy, optimizer, TrainState(step=1)))
        writer.look()
        assert checkpoint_steps(run) == []
        move(policy, optimizer, 3)  # the copy does not move with it
        go_on.set()
        writer.wait()
    other, fresh = build("full")
    assert checkpoint.restore(run.checkpoint(1), other, fresh).step == 1
    assert all((other.state_dict()[name] == before[name]).all() for name in before)
    assert [event["event"] for event in read_log(run.events)] == ["save"]


def test_a_stop_leaves_room_for_the_save_under_way_and_one_more(run, monkeypatch):
    now, go_on = [100.0], threading.Event()
    monkeypatch.setattr(saver.time, "monotonic", lambda: now[0])
    one = snapshot(1)

    def slow(*args):
        assert go_on.wait(60)

    def take():
        now[0] += 2.0  # the copy counts, too
        return one

    monkeypatch.setattr(saver, "write_snapshot", slow)
    saving = Saver(run, settings(), byte_tokenizer(), 490_000_000)
    with saving as writer, ExitStack() as stack:
        stack.callback(go_on.set)
        assert writer.stop_seconds() == pytest.approx(1.5 * 10)  # 0.2 s + 490 MB at 50 MB/s
        writer.start(take)
        assert writer.stop_seconds() == pytest.approx(1.5 * 10 + 1.5 * 10 - 2)
        now[0] += 20  # later than was thought
        assert writer.stop_seconds() == pytest.approx(1.5 * 22 + 1.5 * 22 - 22)
        go_on.set()
        writer.wait()
        assert writer.seconds == 22.0 and writer.stop_seconds() == pytest.approx(1.5 * 22)


def test_one_save_is_complete_before_the_next_begins(run):
    with Saver(run, settings(), byte_tokenizer()) as writer:
        for step in (1, 2, 3):
            writer.start(partial(snapshot, step))
            assert checkpoint_steps(run)[-1:] in ([], [1])
            assert len(checkpoint_steps(run)) >= step - 1
        writer.wait()
        assert writer.seconds > 0
    assert checkpoint_steps(run) == [3, 2, 1]


def test_what_fails_in_the_thread_is_raised_at_the_next_wait(run, monkeypatch):
    monkeypatch.setattr(
        checkpoint, "_fsync_tree", lambda path: (_ for _ in ()).throw(OSError(28, "full"))
    )

    def new():
        return Saver(run, settings(), byte_tokenizer())

    with pytest.raises(InputError, match=r"could not be saved.*full"), new() as writer:
        writer.start(partial(snapshot, 1))
        writer.wait()
    with pytest.raises(InputError, match="could not be saved"), new() as writer:
        writer.start(partial(snapshot, 1))  # at the end at the latest
    assert checkpoint_steps(run) == []


def test_space_is_checked_before_anything_is_written(run, monkeypatch):
    one = snapshot(4)
    monkeypatch.setattr(checkpoint, "free_bytes", lambda path: one.bytes - 1)
    with Saver(run, settings(), byte_tokenizer()) as writer:
        with pytest.raises(InputError, match=r"step 4 needs 0\.03 GB and 0\.03 GB are free") as e:
            writer.start(lambda: one)
        assert str(run.checkpoints) in str(e.value) and "--resume" in str(e.value)
        assert not run.checkpoints.exists()
        monkeypatch.setattr(checkpoint, "free_bytes", lambda path: one.bytes)
        writer.start(lambda: one)
    assert damage(run.checkpoint(4)) is None


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_snapshot_knows_its_size(run, kind):
    one = snapshot(4, kind)
    folder = checkpoint.write_snapshot(run, one, byte_tokenizer())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size <= one.bytes <= size + checkpoint.BESIDE_TENSORS


@pytest.mark.parametrize(
    ("train", "kept"),
    [
        ({}, [12, 10, 8, 6, 4, 2]),
        ({"keep_last": 1}, [12, 4]),  # the newest, and the best by validation
        ({"keep_last": 2}, [12, 10, 4]),
        ({"keep_last": 2, "keep_every": 6}, [12, 10, 6, 4]),
        ({"keep_last": 9}, [12, 10, 8, 6, 4, 2]),
        ({"keep_every": 6}, [12, 10, 8, 6, 4, 2]),
        # an alarm at step 13 wants 8; 10 is to grow into its place
        ({"keep_last": 1, "sentinel": ROLLS_BACK | {"healthy_margin": 4}}, [12, 10, 8, 4]),
        ({"keep_last": 1, "sentinel": ROLLS_BACK | {"healthy_margin": 10}}, [12, 4, 2]),
        ({"keep_last": 1, "sentinel": ROLLS_BACK | {"healthy_margin": 0}}, [12, 4]),
        ({"keep_last": 1, "sentinel": {"actions": {"kl": "roll_back"}}}, [12, 4, 2]),
    ],
)
def test_what_is_kept(run, train, kept):
    for step in (2, 4, 6, 8, 10, 12):
        run.checkpoint(step).mkdir(parents=True)
    # the earliest of the equal 0.5 of steps 4 and 8; step 3 was no checkpoint
    for step, score in ((2, 0.1), (3, 0.9), (4, 0.5), (8, 0.5), (10, 0.2)):
        append_jsonl(run.metrics, {"step": step, "validation/pass@1": score})
    gone = retire(run, settings(num_steps=12, **train))
    assert checkpoint_steps(run) == kept
    assert sorted([*kept, *gone]) == [2, 4, 6, 8, 10, 12]
    assert not list(run.checkpoints.glob(".*"))


def test_what_a_stop_saved_is_kept_while_it_is_the_newest_and_takes_no_place(run):
    recipe = settings(ROLLS_BACK | {"healthy_margin": 2}, num_steps=12, save_every=4, keep_last=1)
    for step in (4, 8, 9, 10):  # stopped after steps 9 and 10
        (run.checkpoint(step) / "trainer").mkdir(parents=True)
        origin = {"recipe": recipe.model_dump(mode="json")}
        write_json(run.checkpoint(step) / "trainer" / "origin.json", origin)
    assert retire(run, recipe) == [9]
    assert checkpoint_steps(run) == [10, 8, 4]  # an alarm after 8 wants 4 until 8 is old enough


def test_the_place_of_the_last_roll_back_stays_while_an_alarm_would_go_there(run):
    recipe = settings(ROLLS_BACK | {"healthy_margin": 10}, keep_last=1, keep_every=5, save_every=1)
    write_decisions(run, [{"action": "roll_back", "to_step": step} for step in (11, 12)])
    for step in range(1, 13):
        run.checkpoint(step).mkdir(parents=True)
    kept = {}
    for step in range(13, 26):
        run.checkpoint(step).mkdir()
        retire(run, recipe)
        kept[step] = checkpoint_steps(run)
    assert kept[14] == [14, 12, 10, 5, 4]  # an alarm goes to 12; by keep_every 10 and 5
    assert kept[21] == [21, 20, 15, 12, 10, 5]
    assert kept[22] == [22, 20, 15, 12, 10, 5]  # old enough: the margin alone counts
    assert kept[25] == [25, 20, 15, 10, 5]


def test_a_run_keeps_what_it_was_told_to(run):
    with Saver(run, settings(keep_last=2, keep_every=4), byte_tokenizer()) as writer:
        for step in (2, 4, 6, 8, 10):
            writer.start(partial(snapshot, step))
    assert checkpoint_steps(run) == [10, 8, 4]
    retired = [event["steps"] for event in read_log(run.events) if event["event"] == "retire"]
    assert retired == [[2], [6]]


@given(every=st.integers(1, 25), margin=st.integers(0, 40), last=st.integers(1, 3))
def test_a_roll_back_finds_a_checkpoint_that_is_not_much_older_than_without_retention(
    every, margin, last
):
    recipe = settings(sentinel=ROLLS_BACK | {"healthy_margin": margin}).sentinel
    kept: list[int] = []
    for step in range(1, 200):
        # an alarm of this step comes before its save
        all_there = [one for one in range(every, step, every) if one <= step - margin]
        found = max((one for one in kept if one <= step - margin), default=None)
        assert (found is None) == (not all_there)
        if found is not None:
            assert all_there[-1] - found <= margin + every
        if step % every == 0:
            kept = sorted([*kept, step], reverse=True)
            kept = sorted({*kept[:last], *wanted_by_roll_back(kept, recipe)}, reverse=True)
    assert len(kept) <= last + 2
