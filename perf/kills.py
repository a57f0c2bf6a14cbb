"""Runs that are killed, stopped, starved of disk and damaged, then resumed and compared: the trials
of `perf/reliability.py kills`.

A trial draws a recipe (`kill_recipes`), a way, how a start is met, and one to three starts that are
disturbed. Each start is the command `open-rs train --resume RUN` in a process of its own:

    phase   killed in a phase that the trial drew, which the process tells on a board
    clock   killed at any instant of its life by its CPU clock; it tells nothing but what it draws
    cold    the same for a new interpreter, imports included
"""

import gzip
import json
import os
import random
import resource
import shutil
import signal
import time
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kill_recipes import AHEAD, ROLL_BACK, recipe_named
from kill_starts import GIVE_UP_S, NAMES, Board, Child, start, start_cold

from open_rs.recipe import Recipe
from open_rs.runs import RunFolder, open_run, read_log
from open_rs.train.checkpoint import checkpoint_steps
from open_rs.train.decisions import held_decisions, roll_backs
from open_rs.train.journal import read_step
from open_rs.train.resume import changed_settings, is_free

WAYS = ("SIGKILL", "SIGTERM", "SIGINT", "disk", "torn", "flipped")
MEETINGS = {"phase": 0.38, "clock": 0.6, "cold": 0.02}  # and their shares
LIMITS = (0, 200, 5_000, 100_000, 2_000_000)  # bytes, where the disk is full
EARLY = ("between", "open", "move_away", "clock", "cold")  # where no handler may be set
TIMED = ("manifest.json", "metrics.jsonl")  # files of a checkpoint that hold times

Rollouts = set[tuple[int, str, int]]  # step, problem, sample


# --- what a run comes to ---


def final_state(run: RunFolder, kept: list[int]) -> dict[str, Any]:
    """All that must be equal: metrics without times, rollouts, roll-backs and what they put away,
    and the checkpoints `kept` by the run that nobody disturbed.
    """
    state: dict[str, Any] = {
        str(path.relative_to(run.path)): untimed(path)
        for path in [run.metrics, *run.path.glob("rolled_back/*/metrics.jsonl")]
    }
    state["roll-backs"] = roll_backs(held_decisions(run))
    files = [*run.path.glob("rollouts/*"), *run.path.glob("rolled_back/*/rollouts/*")]
    for step in kept:
        files += [one for one in run.checkpoint(step).rglob("*") if one.name not in TIMED]
    files = [path for path in files if path.is_file()]
    return state | {str(path.relative_to(run.path)): path.read_bytes() for path in files}


def untimed(metrics: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    timed = ("time/", "cost/")
    return [{key: row[key] for key in row if not key.startswith(timed)} for row in rows]


def held_rollouts(run: RunFolder, num_steps: int) -> tuple[int, Rollouts]:
    """(roll-backs so far, what the package's own reader finds in the run folder). A roll-back that
    is not done yet takes the steps after its place away.
    """
    done = roll_backs(held_decisions(run))
    last = num_steps if not done or done[-1].get("done", True) else done[-1]["to_step"]
    found = {
        (step, problem, sample)
        for step in range(1, last + 1)
        for problem, sample in read_step(run, step)
    }
    return len(done), found


@dataclass
class Whole:
    """The run of a recipe that nobody disturbed."""

    recipe: Recipe
    run: RunFolder
    seconds: float  # of its process, by the clock of the wall
    used: float  # and by that of the CPU
    entries: list[int]  # how often it entered each phase
    kept: list[int]  # its checkpoints
    expected: dict[str, Any]


# --- one trial ---


@dataclass
class Trial:
    """What is done to a run, and what comes of it."""

    recipe: str
    way: str
    meeting: str
    phases: list[str] = field(default_factory=list)  # where its starts were disturbed
    second: bool = False  # a second signal
    stop_seconds: list[float] = field(default_factory=list)
    damaged: set[tuple[str, bytes]] = field(default_factory=set)  # file names, and what is left
    damaged_names: list[str] = field(default_factory=list)
    cures: list[str] = field(default_factory=list)
    accept: bool = False  # changes: the last cure asked for it
    starts: int = 0
    kills: int = 0  # or stops, or full disks
    drawn: int = 0  # rollouts
    failure: str | None = None

    def row(self) -> dict[str, Any]:
        """All of it but the bytes."""
        return {**asdict(self), "damaged": []}


class Lab:
    """Undisturbed runs, made when the first trial needs them, and trials against them."""

    def __init__(self, work: Path) -> None:
        self.work, self.board = work, Board(work / "board")
        self.wholes: dict[str, Whole] = {}
        self.child: Child | None = None  # the last start
        self.cold_used: float | None = None  # CPU seconds that a new interpreter takes more
        self.cold_seconds = 0.0

    def whole(self, name: str) -> Whole:
        if name not in self.wholes:
            recipe = recipe_named(name)
            run = self.new_run(recipe, f"whole{len(self.wholes)}")
            began = time.monotonic()
            child = start(run, self.board, phases=True)
            assert child.wait() == 0, f"the undisturbed run of {name!r} failed: {child.said}"
            seconds, entries = time.monotonic() - began, map(self.board.entered, range(len(NAMES)))
            kept = checkpoint_steps(run)
            state = final_state(run, kept)
            assert state["roll-backs"] or name != ROLL_BACK, "nothing was rolled back"
            self.wholes[name] = Whole(recipe, run, seconds, child.used, list(entries), kept, state)
        return self.wholes[name]

    def new_run(self, recipe: Recipe, name: str) -> RunFolder:
        shutil.rmtree(self.work / name, ignore_errors=True)
        return open_run(self.work / name, recipe)

    def trial(self, draw: random.Random, names: list[str]) -> Trial:
        """Disturb a run one to three times, resume it to its end, and compare."""
        meeting = draw.choices(list(MEETINGS), list(MEETINGS.values()))[0]
        made = Trial(draw.choice(names), draw.choice(WAYS), meeting)
        whole = self.whole(made.recipe)
        run = self.new_run(whole.recipe, "killed")
        try:
            for _ in range(draw.choice((1, 2, 2, 3))):
                if self.disturb(whole, run, made, draw):
                    break
            self.finish(whole, run, made)
        except AssertionError as error:
            made.failure = str(error)
        if self.child is not None:
            self.child.destroy()
        return made

    def disturb(self, whole: Whole, run: RunFolder, made: Trial, draw: random.Random) -> bool:
        """One start that ends early. True if it ran to its end before that."""
        held = held_rollouts(run, whole.recipe.train.num_steps)
        made.starts += 1
        if made.meeting == "phase":
            child = self.met_in_phase(whole, run, made, draw)
        else:
            child = self.met_by_clock(whole, run, made, draw)
        if child.ended():
            self.refuse_drawn_twice(made, held)
            if child.status == 2:  # what the disturbance before left needs a cure
                self.cure(whole, run, made, child)
                return False
            assert child.status == 0, f"ended by itself with {child.status}: {child.sentence}"
            return True
        end(made, child, draw)
        self.refuse_drawn_twice(made, held)
        heedless = made.way in ("SIGTERM", "SIGINT") and (child.status or 0) < 0 and not made.second
        if heedless and self.board.drawn():  # after its last event, the handlers are gone again
            last = read_log(run.events)[-1]["event"]
            assert last == "finish", f"{made.way} in mid-run: exit {child.status}"
        if made.way in ("torn", "flipped"):
            damage_a_file(run, made, draw)
        return child.status == 0

    def met_in_phase(self, whole: Whole, run: RunFolder, made: Trial, draw: random.Random) -> Child:
        """A start that has come to its `wanted`th entry of a phase, and some way into it."""
        phase = draw.choice([n for n in range(len(NAMES)) if whole.entries[n]])
        wanted, delay = draw.randint(1, whole.entries[phase]), draw.expovariate(1 / 0.02)
        held = draw.random() < 0.5
        child = self.child = start(run, self.board, accept=made.accept, phases=True)
        if held:
            self.board.hold(phase, wanted)
        until = time.monotonic() + GIVE_UP_S
        while not child.ended() and self.board.entered(phase) < wanted:
            assert time.monotonic() < until, f"no end in sight, waiting for {NAMES[phase]}"
            time.sleep(0.0002)
        time.sleep(0.0 if held else delay)
        made.phases.append(self.board.current)
        return child

    def met_by_clock(self, whole: Whole, run: RunFolder, made: Trial, draw: random.Random) -> Child:
        """A start that has used as much of the CPU as was drawn, of what it would come to."""
        cold = made.meeting == "cold"
        wanted = draw.uniform(0, whole.used + (self.imports() if cold else 0.0))
        made.phases.append(made.meeting)
        begin = start_cold if cold else start
        child = self.child = begin(run, self.board, accept=made.accept)
        until = time.monotonic() + GIVE_UP_S
        while not child.ended() and child.cpu_seconds() < wanted:
            assert time.monotonic() < until, f"no end in sight, waiting for {wanted:.2f} CPU s"
            time.sleep(0.0002)
        time.sleep(draw.uniform(0, 0.02))  # its clock ticks every 0.01 s
        return child

    def imports(self) -> float:
        """What a new interpreter uses more of the CPU than a fork."""
        if self.cold_used is None:
            whole = self.whole("plain")
            began, run = time.monotonic(), self.new_run(whole.recipe, "cold")
            child = start_cold(run, self.board)
            assert child.wait() == 0, f"an undisturbed process failed: {child.said}"
            self.cold_seconds = time.monotonic() - began - whole.seconds
            self.cold_used = max(child.used - whole.used, 0.0)
        return self.cold_used

    def finish(self, whole: Whole, run: RunFolder, made: Trial) -> None:
        """Resume to the end, by the cure that a refusal names, and compare everything."""
        for _ in range(4):
            held = held_rollouts(run, whole.recipe.train.num_steps)
            made.starts += 1
            child = self.child = start(run, self.board, accept=made.accept)
            status = child.wait()
            self.refuse_drawn_twice(made, held)
            if status == 0:
                break
            assert status == 2, f"resume: exit {status}: {child.sentence}"
            self.cure(whole, run, made, child)
        assert status == 0, f"not resumed: {child.sentence}"
        if whole.recipe.train.keep_last:
            steps = checkpoint_steps(run)
            assert steps == whole.kept, f"checkpoints {steps}, and not {whole.kept}, are kept"
        found, expected, newest = final_state(run, whole.kept), whole.expected, whole.kept[0]
        other = [
            name
            for name in sorted(found.keys() | expected.keys())
            if found.get(name) != expected.get(name)
            and not is_left_damaged(name, found.get(name), expected.get(name), made, child, newest)
        ]
        assert not other, f"differs: {', '.join(other[:4])}"

    def refuse_drawn_twice(self, made: Trial, held: tuple[int, Rollouts]) -> None:
        """No start draws what was there when it began, unless a roll-back took it away or changes
        were accepted, of a damaged environment.json say: those are drawn anew, as it says.
        """
        drawn = self.board.drawn()
        made.drawn += len(drawn)
        if made.accept:
            return
        epoch, there = held
        twice = [one for one in drawn if one[0] == epoch and one[1:] in there]
        assert not twice, f"drawn though held: {twice[:3]}"
        assert len(set(drawn)) == len(drawn), "drawn twice within a start"

    def cure(self, whole: Whole, run: RunFolder, made: Trial, child: Child) -> None:
        """Do what the sentence asks for."""
        said = child.sentence
        made.cures.append(said)
        if "recipe.json" in said:
            shutil.copy(whole.run.recipe, run.recipe)
        elif ".owner.json" in said:  # a flipped bit has it on another host
            (run.path / ".owner.json").unlink()
        elif "evaluation" in said:
            for folder in run.evaluation("").glob("validation-*"):
                if folder.name in said:
                    shutil.rmtree(folder)
        else:
            assert "--accept-changes" in said, f"no cure in: {said}"
            made.accept = True


def end(made: Trial, child: Child, draw: random.Random) -> None:
    """End the process in the trial's way; its exit status has to fit."""
    made.kills += 1
    sent = time.monotonic()
    if made.way == "disk":
        size = draw.choice(LIMITS)
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (size, size))
        assert child.wait() in (0, 2), f"full disk: exit {child.status}: {child.sentence}"
        return
    if made.way not in ("SIGTERM", "SIGINT"):
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        return
    number = signal.Signals[made.way]
    os.kill(child.pid, number)
    if made.second or draw.random() < 0.2:
        made.second = True
        time.sleep(draw.uniform(0, 0.03))
        if not child.ended():
            os.kill(child.pid, number)
    status = child.wait()
    made.stop_seconds.append(time.monotonic() - sent)
    fits = (0, 128 + number, -number) if made.second else (0, 128 + number)
    # before the handler is set: the system's own way, or Python's for SIGINT
    early = made.phases[-1] in EARLY and status in (-number, 130)
    assert status in fits or early, f"{made.way}: exit {status}: {child.sentence}"


# --- damage ---


def damage_a_file(run: RunFolder, made: Trial, draw: random.Random) -> None:
    """Cut one file short or flip one bit of it."""
    path = drawn_file(run, made, draw)
    whole = path.read_bytes()
    content = changed(whole, made.way, draw)
    while path == run.recipe and is_an_edit(content, made.recipe):
        content = changed(whole, made.way, draw)
    path.write_bytes(content)
    made.damaged.add((path.name, content))
    name = str(path.relative_to(run.path))
    made.damaged_names.append(name if path.parent.name != "rollouts" else f"*{path.suffix}")


def changed(whole: bytes, way: str, draw: random.Random) -> bytes:
    place = draw.randrange(len(whole))
    if way == "torn":
        return whole[:place]
    return whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :]


def drawn_file(run: RunFolder, made: Trial, draw: random.Random) -> Path:
    """Any file, rollouts more often than by their number; but for two that a run cannot do without
    and come to the same end: the checkpoint that a roll-back goes to, and rollouts drawn by weights
    that are gone.
    """
    files = sorted(p for p in run.path.rglob("*") if p.is_file() and p.stat().st_size)
    if made.recipe == ROLL_BACK:
        older = [run.checkpoint(step) for step in checkpoint_steps(run)[1:]]
        files = [path for path in files if not any(map(path.is_relative_to, older))]
    if made.recipe == AHEAD:
        files = [path for path in files if path.suffix != ".gz"]
    rollouts = [path for path in files if path.parent == run.rollouts(0).parent]
    return draw.choice(rollouts if rollouts and draw.random() < 0.3 else files)


def is_an_edit(content: bytes, recipe: str) -> bool:
    """Whether a damaged recipe.json reads as one in which a setting that may change was changed."""
    try:
        changed = changed_settings(json.loads(content), recipe_named(recipe))
    except ValueError:
        return False
    return bool(changed) and all(map(is_free, changed))


def is_left_damaged(
    name: str,
    found: bytes | None,
    expected: bytes | None,
    made: Trial,
    last: Child,
    newest: int,
) -> bool:
    """Whether a file is what damage left of it, as it may be where nothing reads it any more: in a
    checkpoint before the `newest`, and in a record behind that, which has to be named.
    """
    path = Path(name)
    if found is None or (path.name, found) not in made.damaged:
        return False
    if path.suffix != ".gz":
        return path.parts[0] == "checkpoints" and int(path.parts[1]) < newest
    if f"rollouts/{path.name} is damaged" in last.said:
        return True
    try:  # a bit of its header: the content is whole
        return expected is not None and gzip.decompress(found) == gzip.decompress(expected)
    except (OSError, EOFError, zlib.error):
        return name.startswith("rolled_back/")  # put away, with its damage
