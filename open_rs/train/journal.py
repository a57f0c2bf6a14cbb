"""Rollouts on disk as they are graded, so that a run killed in mid-step draws none of them again.

    rollouts/000050.journal     one line a graded rollout: CRC-32 of the rest, a space, JSON

A line goes to the operating system in one write when its grade is known: killing the process loses
nothing that was graded. A thread forces it to the disk within FSYNC_SECONDS, whether others follow
or not: a power cut loses at most that much. A line that is torn or damaged does not count, and its
rollout is drawn again. When the step's rollouts/000050.jsonl.gz is there, with rewards and
advantages, the journal is removed.
"""

import json
import os
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from open_rs.console import say
from open_rs.errors import InputError
from open_rs.grade import Grade
from open_rs.rollout.protocol import Prompt, Rollout, RolloutGroup
from open_rs.runs import RunFolder, fsync_path, read_log

FSYNC_SECONDS = 5.0

Key = tuple[str, int]  # problem id, sample
Held = dict[Key, tuple[int, Rollout]]  # with the checksum of the prompt that it answers


class RolloutJournal:
    """What is held of a run's steps: whole steps in rollouts/, the step in flight in a journal."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._step = 0
        self._held: Held = {}
        self._file: BinaryIO | None = None
        self._syncing: threading.Timer | None = None
        self._failed: OSError | None = None  # what a sync met
        self._lock = threading.Lock()
        self._forcing = threading.Lock()  # one at a time: an error is told to one fsync alone

    def held(self, step: int, prompts: Sequence[Prompt]) -> dict[Key, Rollout]:
        """The rollouts of `step` that are there already and answer one of these very prompts."""
        if step != self._step:
            self.close()
            self._step, self._held = step, read_step(self.run, step)
        prompt_of = {prompt.problem.id: checksum(prompt.prompt_ids) for prompt in prompts}
        return {
            key: rollout
            for key, (prompt, rollout) in self._held.items()
            if prompt_of.get(key[0]) == prompt
        }

    def add(self, step: int, prompt: Prompt, rollout: Rollout) -> None:
        """One more rollout of `step`, graded."""
        row = {
            "problem_id": prompt.problem.id,
            "prompt": checksum(prompt.prompt_ids),
            **asdict(rollout),
        }
        path = journal_path(self.run, step)
        try:
            if self._file is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                cut_torn_line(path)
                self._file = path.open("ab", buffering=0)
            line = journal_line(row)
            if self._file.write(line) != len(line):
                raise OSError(28, "No space left on device")
            self._sync_soon()
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); free space, then resume"
            ) from error

    def forget(self) -> None:
        """What the disk holds of the steps is another now, and is read anew."""
        self.close()
        self._step, self._held = 0, {}

    def finish(self, step: int) -> None:
        """The whole step is in rollouts/: its journal goes."""
        self._close()
        journal_path(self.run, step).unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the step that is in work; what was added of it is on the disk, or it is said that
        the disk did not take it.
        """
        if self._file is not None:
            self._sync()
            if self._failed is not None:
                say(
                    f"{self._file.name}: cannot be forced to the disk ({self._failed.strerror}); "
                    "what a power cut takes of it is drawn again"
                )
        self._close()

    def _close(self) -> None:
        with self._lock:
            if self._syncing is not None:
                self._syncing.cancel()
                self._syncing = None
            if self._file is not None:
                self._file.close()
                self._file = None

    def _sync_soon(self) -> None:
        with self._lock:
            if self._failed is not None:
                raise self._failed
            if self._syncing is None:
                self._syncing = threading.Timer(FSYNC_SECONDS, self._sync)
                self._syncing.daemon = True
                self._syncing.start()

    def _sync(self) -> None:
        """Force to the disk what was added by now, and the name of the file."""
        with self._forcing:
            with self._lock:
                if self._syncing is not None:
                    self._syncing.cancel()  # where it was not the time for it
                    self._syncing = None
                if self._file is None:
                    return
                descriptor = os.dup(self._file.fileno())  # it may be closed meanwhile
            try:
                os.fsync(descriptor)
                fsync_path(self.run.rollouts(0).parent)
            except OSError as error:
                self._failed = error
            finally:
                os.close(descriptor)


def put_back(groups: Sequence[RolloutGroup], held: Mapping[Key, Rollout], group_size: int) -> None:
    """Held rollouts in their places among those that were drawn."""
    for group in groups:
        keys = [(group.problem.id, sample) for sample in range(group_size)]
        group.rollouts += [held[key] for key in keys if key in held]
        group.rollouts.sort(key=lambda rollout: rollout.sample)


def rollouts_by_key(groups: Iterable[RolloutGroup]) -> dict[Key, Rollout]:
    return {
        (group.problem.id, rollout.sample): rollout
        for group in groups
        for rollout in group.rollouts
    }


def journal_path(run: RunFolder, step: int) -> Path:
    return run.rollouts(step).with_name(f"{step:06d}.journal")


def checksum(prompt_ids: Sequence[int]) -> int:
    return zlib.crc32(json.dumps(list(prompt_ids)).encode())


def journal_line(row: dict[str, Any]) -> bytes:
    content = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return b"%08x %s\n" % (zlib.crc32(content), content)


def cut_torn_line(path: Path) -> None:
    """End the file at its last newline, so that the next line begins at a line's begin."""
    if path.exists():
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)


def read_step(run: RunFolder, step: int) -> Held:
    """All that is held of a step: its finished file, else its journal."""
    if run.rollouts(step).exists():
        try:
            return dict(map(from_record, read_log(run.rollouts(step))))
        except (InputError, KeyError, TypeError) as error:
            say(f"step {step} is sampled again: its rollouts cannot be used ({error})")
    return read_journal(journal_path(run, step))


def read_journal(path: Path) -> Held:
    """The intact lines of a journal; a damaged one is said, the torn last one is not."""
    held: Held = {}
    if not path.exists():
        return held
    lines = path.read_bytes().split(b"\n")[:-1]
    damaged = 0
    for line in lines:
        try:
            row = parse_line(line)
            grade, prompt = row.pop("grade"), row.pop("prompt")
            key = row.pop("problem_id"), row["sample"]
            held[key] = prompt, Rollout(**row, grade=Grade(**grade))
        except (ValueError, KeyError, TypeError):
            damaged += 1
    if damaged:
        say(f"{path.name}: {damaged} of {len(lines)} rollouts are damaged and are drawn again")
    return held


def parse_line(line: bytes) -> dict[str, Any]:
    """The row of a line; ValueError where its checksum is not that of its content."""
    stated, _, content = line.partition(b" ")
    if int(stated, 16) != zlib.crc32(content):
        raise ValueError("damaged")
    row: dict[str, Any] = json.loads(content)
    return row


def from_record(row: dict[str, Any]) -> tuple[Key, tuple[int, Rollout]]:
    """A row of rollouts/STEP.jsonl.gz: scored already, so its rewards are taken as they are."""
    rollout = Rollout(
        completion_ids=row["completion_ids"],
        engine_logprobs=row["engine_logprobs"],
        completion=row["completion"],
        finish_reason=row["finish_reason"],
        sample=row["sample"],
        grade=Grade(row["outcome"], row["extracted"], 0.0),
        reward=row["reward"],
        reward_breakdown=row["reward_breakdown"],
        weights_step=row.get("weights_step"),
    )
    return (row["problem_id"], row["sample"]), (checksum(row["prompt_ids"]), rollout)
