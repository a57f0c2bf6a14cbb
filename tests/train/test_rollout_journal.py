"""The rollouts of a step on disk: exact, intact or not there."""

import math
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_rs.errors import InputError
from open_rs.grade import Grade
from open_rs.problems import Problem
from open_rs.rollout.protocol import Prompt, Rollout
from open_rs.runs import RunFolder, write_jsonl
from open_rs.train import journal
from open_rs.train.journal import RolloutJournal, journal_line, journal_path, parse_line

PROMPTS = [Prompt(Problem(f"p{i}", f"What is {i}?", str(i)), [5, 6, 7 + i]) for i in range(3)]


def rollout(sample: int, text: str = "four", logprob: float = -0.1) -> Rollout:
    return Rollout(
        completion_ids=[11, 12, 1],
        engine_logprobs=[logprob, -2.39546275138855, -1e-30],
        completion=text,
        finish_reason="stop",
        sample=sample,
        grade=Grade("wrong", "4", 0.25),
    )


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


def filled(run, rollouts=4, step=2):
    book = RolloutJournal(run)
    for sample in range(rollouts):
        book.add(step, PROMPTS[sample % 2], rollout(sample, f"text {sample} \u2028 é"))
    book.close()
    return journal_path(run, step)


def test_what_was_added_comes_back_exactly(run):
    filled(run)
    held = RolloutJournal(run).held(2, PROMPTS)
    assert held == {(f"p{s % 2}", s): rollout(s, f"text {s} \u2028 é") for s in range(4)}
    assert RolloutJournal(run).held(3, PROMPTS) == {}


def test_a_rollout_of_another_prompt_is_not_taken(run):
    filled(run)
    other = [Prompt(PROMPTS[0].problem, [5, 6, 8]), PROMPTS[1]]
    assert set(RolloutJournal(run).held(2, other)) == {("p1", 1), ("p1", 3)}


def test_a_journal_torn_at_any_byte_keeps_every_line_before(run, capsys):
    path = filled(run, rollouts=3)
    content = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == 10]
    for size in range(len(content)):
        path.write_bytes(content[:size])
        whole = sum(end <= size for end in ends)
        assert len(RolloutJournal(run).held(2, PROMPTS)) == whole
    assert "damaged" not in capsys.readouterr().err  # a kill tears the last line: nothing to tell
    path.write_bytes(content[: ends[1] + 9])
    book = RolloutJournal(run)
    book.held(2, PROMPTS)
    book.add(2, PROMPTS[0], rollout(2, "again"))
    book.close()
    held = RolloutJournal(run).held(2, PROMPTS)
    assert len(held) == 3 and held["p0", 2].completion == "again"


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_costs_its_own_line_alone(run, bit, capsys):
    path = filled(run, rollouts=3)
    content = path.read_bytes()
    expected = RolloutJournal(run).held(2, PROMPTS)
    for place in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        held = RolloutJournal(run).held(2, PROMPTS)
        assert held.items() <= expected.items()
        assert len(held) >= 1  # a flipped newline joins two lines
    assert "are drawn again" in capsys.readouterr().err


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(allow_nan=False, width=32), max_size=5), st.text(max_size=20))
def test_a_line_holds_floats_and_text_exactly(logprobs, text):
    row = parse_line(journal_line({"logprobs": logprobs, "text": text})[:-1])
    assert row["text"] == text and len(row["logprobs"]) == len(logprobs)
    for back, value in zip(row["logprobs"], logprobs, strict=True):
        assert back == value and math.copysign(1, back) == math.copysign(1, value)


def test_a_finished_step_is_read_from_its_rollouts_with_their_rewards(run):
    path = filled(run)
    one = rollout(0)
    record = {
        "problem_id": "p0",
        "prompt_ids": PROMPTS[0].prompt_ids,
        "sample": 0,
        "completion_ids": one.completion_ids,
        "engine_logprobs": one.engine_logprobs,
        "completion": one.completion,
        "finish_reason": "stop",
        "outcome": "wrong",
        "extracted": "4",
        "reward": 0.5,
        "reward_breakdown": {"accuracy": 0.0, "judge": 0.5},
    }
    write_jsonl(run.rollouts(2), [record])
    held = RolloutJournal(run).held(2, PROMPTS)
    assert list(held) == [("p0", 0)]  # the journal beside it counts no more
    assert held["p0", 0].reward == 0.5
    assert held["p0", 0].reward_breakdown == {"accuracy": 0.0, "judge": 0.5}
    RolloutJournal(run).finish(2)
    assert not path.exists()


def test_a_damaged_record_is_told_and_the_step_drawn_again(run, capsys):
    write_jsonl(run.rollouts(2), [{"problem_id": "p0"}])
    assert RolloutJournal(run).held(2, PROMPTS) == {}
    run.rollouts(2).write_bytes(b"no gzip")
    assert RolloutJournal(run).held(2, PROMPTS) == {}
    assert capsys.readouterr().err.count("step 2 is sampled again") == 2


def test_a_full_disk_is_one_sentence(run, monkeypatch):
    book = RolloutJournal(run)
    book.add(2, PROMPTS[0], rollout(0))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal.os, "fsync", full)
    book._sync()  # as its thread does
    with pytest.raises(InputError, match=r"000002.journal: cannot be written \(No space left"):
        book.add(2, PROMPTS[0], rollout(1))
    book.close()


def test_what_the_disk_did_not_take_in_the_end_is_said(run, monkeypatch, capsys):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    book = RolloutJournal(run)
    book.add(2, PROMPTS[0], rollout(0))
    monkeypatch.setattr(journal.os, "fsync", full)
    book.close()
    assert "000002.journal: cannot be forced to the disk (No space" in capsys.readouterr().err


def test_a_close_waits_for_the_sync_that_is_under_way(run, monkeypatch, capsys):
    """And tells what that one met, though the next finds nothing wrong."""
    begun, go_on, calls = threading.Event(), threading.Event(), []

    def fsync(descriptor):
        calls.append(threading.current_thread())
        if len(calls) == 1:
            begun.set()
            assert go_on.wait(60)
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(journal.os, "fsync", fsync)
    monkeypatch.setattr(journal, "FSYNC_SECONDS", 0.0)
    book = RolloutJournal(run)
    book.add(2, PROMPTS[0], rollout(0))
    assert begun.wait(60)
    closing = threading.Thread(target=book.close)
    closing.start()
    closing.join(0.2)
    waited = closing.is_alive()
    go_on.set()
    closing.join(60)
    assert waited and calls[-1] is closing
    assert "cannot be forced to the disk (Input/output error)" in capsys.readouterr().err


def test_the_last_rollout_is_on_the_disk_whether_another_follows_or_not(run, monkeypatch):
    synced, done, real = [], threading.Event(), os.fsync

    def fsync(descriptor):
        synced.append(os.fstat(descriptor).st_size)
        real(descriptor)
        if len(synced) == 2:  # the file, and the folder that names it
            done.set()

    monkeypatch.setattr(journal.os, "fsync", fsync)
    monkeypatch.setattr(journal, "FSYNC_SECONDS", 0.0)
    book = RolloutJournal(run)
    book.add(2, PROMPTS[0], rollout(0))
    assert done.wait(60)
    size = journal_path(run, 2).stat().st_size
    assert synced[0] == size > 0
    monkeypatch.setattr(journal, "FSYNC_SECONDS", 1e6)
    book.add(2, PROMPTS[0], rollout(1))
    assert len(synced) == 2  # its time has not come
    book.close()  # a stop, say
    assert synced[2] == journal_path(run, 2).stat().st_size > size
    book.close()
    assert len(synced) == 4
    book.add(2, PROMPTS[0], rollout(2))
    book.finish(2)  # what is in rollouts/ needs no journal
    assert len(synced) == 4
