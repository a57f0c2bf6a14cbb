"""Runs that are killed, damaged, starved and capped, and what is left of them.

    python perf/reliability.py kills --count 1000     any instant, any way; the end is bit-identical
    python perf/reliability.py budget --trials 20     where a capped run stops
    python perf/reliability.py save --model FOLDER    what saving costs a step

`kills` forks one child a start from a process that has everything imported, waits until the child
is in the phase that the trial drew, and there kills it (SIGKILL), asks it to stop (SIGTERM,
SIGINT), takes its disk away (a limit on file sizes), or kills it and then cuts short one of its
files or flips a bit of it. The run is then resumed until it is done and compared with one that
nobody disturbed. In one trial of fifty the starts that are disturbed are processes of their own,
`open-rs train --resume RUN`, ended at a random instant of their life, imports included.
"""

import argparse
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # children are forked

import torch

from open_rs.errors import GuardStop, InputError
from open_rs.interrupt import Interrupted
from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.runs import RunFolder, open_run, read_log, read_metrics
from open_rs.train import checkpoint, loop, saver, setup, update
from open_rs.train.journal import RolloutJournal, read_step
from open_rs.train.resume import recipe_to_resume

SETTINGS: dict[str, Any] = {
    "name": "killed",
    "seed": 3,
    "data": {
        "train": {"task": "arithmetic", "count": 12, "levels": [1, 2]},
        "validation": {"task": "arithmetic", "split": "validation", "count": 2, "levels": [1]},
    },
    "rollout": {"group_size": 3, "prompts_per_step": 2, "max_completion_tokens": 24},
    "train": {"num_steps": 4, "save_every": 2, "learning_rate": 1e-3, "warmup_ratio": 0.3},
    "evaluate": {"every": 3, "validation_samples": 2},
}
# Where a child can be, and the function of the package that is that phase.
PHASES: list[tuple[str, Any, str]] = [
    ("open", loop, "open_training"),
    ("resume", setup, "start_or_resume"),
    ("evaluate", loop, "evaluate_model"),
    ("rollout", loop, "scored_groups"),
    ("journal", RolloutJournal, "add"),
    ("reward", loop, "score"),
    ("record", loop, "write_rollouts"),
    ("batches", loop, "training_batches"),
    ("update", loop, "update"),
    ("optimizer", update, "step_optimizer"),
    ("metrics", loop, "append_jsonl"),
    ("snapshot", loop, "take_snapshot"),
    ("write", saver, "write_snapshot"),  # in the saver's thread
    ("weights", checkpoint, "_write_parts"),
    ("fsync", checkpoint, "_fsync_tree"),
    ("save_event", saver, "log_event"),
]
NAMES = [name for name, _, _ in PHASES]
WAYS = ("SIGKILL", "SIGTERM", "SIGINT", "disk", "torn", "flipped")
TIMED = ("manifest.json", "metrics.jsonl")  # files of a checkpoint that hold times
HOLD_S = 0.01
GIVE_UP_S = 300.0
REAL_SHARE = 0.02  # of the trials: processes of their own


class Board:
    """Shared with a child: how often it entered each phase, in which it is, and at which entry it
    shall hold on for HOLD_S, so that what takes microseconds is met as well.
    """

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 8 * (len(NAMES) + 3))

    def clear(self) -> None:
        self.memory[:] = bytes(len(self.memory))

    def hold(self, phase: int, entry: int) -> None:
        struct.pack_into("qq", self.memory, 8 * (len(NAMES) + 1), phase, entry)

    def holds(self, phase: int) -> bool:
        wanted = struct.unpack_from("qq", self.memory, 8 * (len(NAMES) + 1))
        return bool(wanted == (phase, self.entered(phase)))

    def entered(self, phase: int) -> int:
        return int(struct.unpack_from("q", self.memory, 8 * phase)[0])

    def enter(self, phase: int) -> None:
        struct.pack_into("q", self.memory, 8 * phase, self.entered(phase) + 1)
        self.now(phase + 1)

    def now(self, phase: int) -> None:
        struct.pack_into("q", self.memory, 8 * len(NAMES), phase)

    @property
    def current(self) -> str:
        place = int(struct.unpack_from("q", self.memory, 8 * len(NAMES))[0])
        return NAMES[place - 1] if place else "between"


def watch_phases(board: Board) -> None:
    """In a child: every phase tells the board when it begins and ends."""
    for number, (_, owner, name) in enumerate(PHASES):
        setattr(owner, name, told(board, number, getattr(owner, name)))


def told(board: Board, number: int, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before = struct.unpack_from("q", board.memory, 8 * len(NAMES))[0]
        board.enter(number)
        if board.holds(number):
            time.sleep(HOLD_S)
        try:
            return function(*args, **kwargs)
        finally:
            board.now(before)

    return wrapped


@dataclass
class Child:
    """One start of a run, in a process of its own."""

    pid: int
    pipe: int
    status: int | None = None
    said: str = ""

    def ended(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                self.said = os.read(self.pipe, 1 << 16).decode(errors="replace")
                os.close(self.pipe)
        return self.status is not None

    def wait(self) -> int:
        until = time.monotonic() + GIVE_UP_S
        while not self.ended():
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"a child did not end within {GIVE_UP_S} s")
            time.sleep(0.002)
        assert self.status is not None
        return self.status

    @property
    def sentence(self) -> str:
        """The last line that it said."""
        lines = self.said.strip().splitlines()
        return lines[-1] if lines else ""


def start(run: RunFolder, board: Board, drawn: Path, *, accept: bool = False) -> Child:
    """Fork a child that trains. It notes each rollout that it draws in `drawn`, and its exit status
    and sentence are those of `open-rs train`.
    """
    board.clear()
    sys.stdout.flush()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return Child(pid, reader)
    status = 1
    try:
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        note_drawn(drawn)
        watch_phases(board)
        status = train(run, accept)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(status)


def start_process(run: RunFolder, *, accept: bool = False) -> Child:
    """`open-rs train --resume RUN`, as anybody starts it."""
    reader, writer = os.pipe()
    words = ["train", "--resume", str(run.path), *(["--accept-changes"] if accept else [])]
    code = "from open_rs.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=writer, stderr=writer)
    os.close(writer)
    process.returncode = 0  # `Child` waits for it, Popen need not
    return Child(process.pid, reader)


def train(run: RunFolder, accept: bool) -> int:
    """The exit status of `open-rs train --resume` on this run."""
    try:
        loop.train(recipe_to_resume(run), run, accept_changes=accept)
    except InputError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    except GuardStop as error:
        print(f"guard: {error}", file=sys.stderr)
        return 3
    except Interrupted as stop:
        return 128 + stop.number
    return 0


def note_drawn(path: Path) -> None:
    """Each rollout that the engine drew, as it goes to the journal."""
    real = RolloutJournal.add
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def add(self: RolloutJournal, step: int, prompt: Any, rollout: Any) -> None:
        os.write(file, f"{step} {prompt.problem.id} {rollout.sample}\n".encode())
        real(self, step, prompt, rollout)

    RolloutJournal.add = add  # type: ignore[method-assign]


# --- what a run comes to ---


def final_state(run: RunFolder, num_steps: int) -> dict[str, bytes | list[Any]]:
    """All that must be equal: metrics without times, rollouts, the last checkpoint."""
    timed = ("time/", "cost/")
    state: dict[str, Any] = {
        "metrics.jsonl": [
            {key: value for key, value in row.items() if not key.startswith(timed)}
            for row in read_metrics(run)
        ]
    }
    folder = run.checkpoint(num_steps)
    for path in [*run.rollouts(0).parent.glob("*"), *folder.rglob("*")]:
        if path.is_file() and not (path.is_relative_to(folder) and path.name in TIMED):
            state[str(path.relative_to(run.path))] = path.read_bytes()
    return state


def held_rollouts(run: RunFolder, num_steps: int) -> set[tuple[int, str, int]]:
    """(step, problem, sample) of what the package's own reader finds in the run folder."""
    return {
        (step, problem, sample)
        for step in range(1, num_steps + 1)
        for problem, sample in read_step(run, step)
    }


# --- one trial ---


@dataclass
class Trial:
    """What was done to a run, and what came of it."""

    way: str
    phase: str = "between"
    real: bool = False  # starts of their own processes
    second: bool = False
    stop_seconds: float | None = None
    damaged: str | None = None
    cures: list[str] = field(default_factory=list)
    starts: int = 0
    kills: int = 0  # or stops, or full disks
    failure: str | None = None


class Lab:
    """The undisturbed run, and trials against it."""

    def __init__(self, work: Path) -> None:
        self.work, self.board = work, Board()
        self.recipe = recipe_from_dict(SETTINGS)
        self.drawn = work / "drawn"
        loop.train(self.recipe, self.new_run("warm"))  # imports what is imported late, for all
        self.whole = self.new_run("whole")
        began = time.monotonic()
        child = start(self.whole, self.board, self.drawn)
        if child.wait() != 0:
            raise SystemExit(f"the undisturbed run failed: {child.said}")
        self.seconds = time.monotonic() - began
        self.real_seconds: float | None = None  # of an undisturbed process of its own
        self.entries = [self.board.entered(number) for number in range(len(NAMES))]
        self.expected = final_state(self.whole, self.recipe.train.num_steps)

    def new_run(self, name: str) -> RunFolder:
        shutil.rmtree(self.work / name, ignore_errors=True)
        self.drawn.unlink(missing_ok=True)
        return open_run(self.work / name, self.recipe)

    def trial(self, draw: random.Random) -> Trial:
        """Disturb a run one to three times, resume it to its end, and compare."""
        made, self.accept = Trial(draw.choice(WAYS), real=draw.random() < REAL_SHARE), False
        run = self.new_run("killed")
        spared: set[str] = set()
        try:
            for _ in range(draw.choice((1, 1, 2, 3))):
                if self.disturb(run, made, draw, spared):
                    break
            self.finish(run, made, spared)
        except (AssertionError, TimeoutError) as error:
            made.failure = str(error)
        return made

    def disturb(self, run: RunFolder, made: Trial, draw: random.Random, spared: set[str]) -> bool:
        """One start that ends early. True if it ran to its end before that."""
        if made.real:
            return self.disturb_process(run, made, draw, spared)
        phase = draw.choice([n for n in range(len(NAMES)) if self.entries[n]])
        wanted, delay = draw.randint(1, self.entries[phase]), draw.expovariate(1 / 0.02)
        held = draw.random() < 0.5
        child = self.resumed(run, made)
        if held:
            self.board.hold(phase, wanted)
            delay = 0.0
        until = time.monotonic() + GIVE_UP_S
        while not child.ended() and self.board.entered(phase) < wanted:
            assert time.monotonic() < until, f"no end in sight, waiting for {NAMES[phase]}"
            time.sleep(0.0002)
        time.sleep(delay)
        made.phase = self.board.current
        return self.end(run, made, draw, child, spared)

    def disturb_process(
        self, run: RunFolder, made: Trial, draw: random.Random, spared: set[str]
    ) -> bool:
        """The same with a process of its own, at an instant between its start and its end."""
        if self.real_seconds is None:
            began, whole = time.monotonic(), self.new_run("real")
            assert start_process(whole).wait() == 0, "an undisturbed process failed"
            self.real_seconds = time.monotonic() - began
        made.starts += 1
        child, made.phase = start_process(run, accept=self.accept), "process"
        time.sleep(draw.uniform(0, self.real_seconds))
        return self.end(run, made, draw, child, spared)

    def end(
        self, run: RunFolder, made: Trial, draw: random.Random, child: Child, spared: set[str]
    ) -> bool:
        """End the child, unless it has ended by itself. True if it came to the end of its run."""
        if child.ended():
            if child.status == 2:  # what the disturbance before left needs a cure
                self.accept = self.cure(run, made, child) or self.accept
                return False
            assert child.status == 0, f"ended by itself with {child.status}: {child.sentence}"
            return True
        self.do(made, child, draw)
        if made.way in ("torn", "flipped"):
            spared |= damage_a_file(run, made, draw)
        return child.status == 0

    def do(self, made: Trial, child: Child, draw: random.Random) -> None:
        """End the child in the trial's way; its exit status has to fit."""
        made.kills += 1
        sent = time.monotonic()
        if made.way == "disk":
            size = draw.choice((0, 200, 5_000, 100_000, 2_000_000))
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
        made.stop_seconds = time.monotonic() - sent
        fits = (0, 128 + number, -number) if made.second else (0, 128 + number)
        # before the handler is set: the system's own way, or Python's for SIGINT
        early = made.phase in ("between", "open", "process") and status in (-number, 130)
        assert status in fits or early, f"{made.way}: exit {status}: {child.sentence}"

    def resumed(self, run: RunFolder, made: Trial) -> Child:
        made.starts += 1
        return start(run, self.board, self.drawn, accept=self.accept)

    def finish(self, run: RunFolder, made: Trial, spared: set[str]) -> None:
        """Resume to the end, by the cure that a refusal names, and compare everything."""
        num_steps = self.recipe.train.num_steps
        for _ in range(4):
            held = held_rollouts(run, num_steps)
            self.drawn.unlink(missing_ok=True)
            child = self.resumed(run, made)
            status = child.wait()
            # changes that were accepted, of a damaged environment.json say: drawn anew, as it says
            twice = set() if self.accept else held & self.newly_drawn()
            assert not twice, f"drawn twice: {sorted(twice)[:3]}"
            if status == 0:
                break
            assert status == 2, f"resume: exit {status}: {child.sentence}"
            self.accept = self.cure(run, made, child) or self.accept
        assert status == 0, f"not resumed: {child.sentence}"
        found = final_state(run, num_steps)
        names = found.keys() | self.expected.keys()
        other = sorted(n for n in names if found.get(n) != self.expected.get(n))
        other = [name for name in other if name not in spared]
        assert not other, f"differs: {', '.join(other[:4])}"

    def cure(self, run: RunFolder, made: Trial, child: Child) -> bool:
        """Do what the sentence asks for; True where that is --accept-changes."""
        said = child.sentence
        made.cures.append(said)
        if "recipe.json" in said:
            shutil.copy(self.whole.recipe, run.recipe)
        elif "evaluation" in said:
            for folder in run.evaluation("").glob("validation-*"):
                if folder.name in said:
                    shutil.rmtree(folder)
        else:
            assert "--accept-changes" in said, f"no cure in: {said}"
            return True
        return False

    def newly_drawn(self) -> set[tuple[int, str, int]]:
        if not self.drawn.exists():
            return set()
        rows = [line.split(" ") for line in self.drawn.read_text().splitlines()]
        return {(int(step), problem, int(sample)) for step, problem, sample in rows}


def damage_a_file(run: RunFolder, made: Trial, draw: random.Random) -> set[str]:
    """Cut one file short or flip one bit of it. Returns what cannot be made again: the record of a
    step behind the newest checkpoint, which a resumed run names and leaves.
    """
    files = sorted(p for p in run.path.rglob("*") if p.is_file() and p.stat().st_size)
    path = draw.choice(files)
    content = bytearray(path.read_bytes())
    place = draw.randrange(len(content))
    if made.way == "torn":
        del content[place:]
    else:
        content[place] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    name = str(path.relative_to(run.path))
    made.damaged = name if path.parent.name != "rollouts" else f"rollouts/*{path.suffix}"
    return {name} if path.suffix == ".gz" else set()


def kills(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        lab = Lab(Path(folder))
        entries = dict(zip(NAMES, lab.entries, strict=True))
        print(f"undisturbed run: {lab.seconds:.2f} s, phases {entries}")
        began, trials = time.monotonic(), list[Trial]()
        for number in range(args.first, args.first + args.count):
            trials.append(lab.trial(random.Random(f"{args.seed}/{number}")))
            if trials[-1].failure:
                print(f"trial {number} {trials[-1].way}: {trials[-1].failure}", flush=True)
            if args.until and time.time() > args.until:
                break
            if len(trials) % 50 == 0:
                bad = sum(one.failure is not None for one in trials)
                print(f"{len(trials)} trials, {bad} failed, {time.monotonic() - began:.0f} s",
                      flush=True)  # fmt: skip
        tell(trials, time.monotonic() - began)
    if any(one.failure for one in trials):
        raise SystemExit(1)


def tell(trials: list[Trial], seconds: float) -> None:
    """The tables: by way, by phase, what was damaged, how long a stop took."""
    good = [one for one in trials if one.failure is None]
    kills, starts = sum(one.kills for one in trials), sum(one.starts for one in trials)
    print(f"\n{len(good)} of {len(trials)} runs resumed to a bit-identical end "
          f"({kills} kills, {starts} starts, {seconds:.0f} s)")  # fmt: skip
    own = [one for one in trials if one.real]
    print(f"{len(own)} of them with processes of their own")
    print("\n| way | runs | bit-identical |\n|---|---|---|")
    for way in WAYS:
        of = [one for one in trials if one.way == way]
        print(f"| {way} | {len(of)} | {sum(one.failure is None for one in of)} |")
    phases = Counter(one.phase for one in trials)
    print("\n| phase | runs last disturbed there |\n|---|---|")
    for name in ["between", *NAMES, "process"]:
        print(f"| {name} | {phases[name]} |")
    stops = sorted(one.stop_seconds for one in trials if one.stop_seconds is not None)
    if stops:
        print(f"\nstop after SIGTERM or SIGINT: median {median(stops):.3f} s, "
              f"longest {stops[-1]:.3f} s of {len(stops)}")  # fmt: skip
    damaged = Counter(one.damaged for one in trials if one.damaged)
    print("damaged: " + ", ".join(f"{name} {count}" for name, count in damaged.most_common()))
    cures = Counter(cure.partition(":")[0] for one in trials for cure in one.cures)
    print(f"refused, and resumed by the cure that the sentence names: {sum(cures.values())}")


# --- budget ---


def budget(args: argparse.Namespace) -> None:
    """Runs of different step times, each with a cap in hours: where do they stop?"""
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        work, board = Path(folder), Board()
        loop.train(recipe_from_dict(SETTINGS), open_run(work / "warm", recipe_from_dict(SETTINGS)))
        for number in range(args.first, args.first + args.trials):
            draw = random.Random(f"{args.seed}/{number}")
            recipe = capped_recipe(draw, args.seconds)
            run = open_run(work / f"capped{number}", recipe)
            child = start(run, board, work / "drawn")
            status = child.wait()
            spent = sum(row["seconds"] for row in read_log(run.ledger))
            steps = [row["time/step_s"] for row in read_metrics(run) if "time/step_s" in row]
            stop = read_log(run.events)[-1]
            intact = checkpoint.newest_valid(run) == (len(steps), []) if steps else False
            rows.append((status, spent / args.seconds, len(steps), sum(steps) / len(steps), intact))
            print(f"| {number} | {rows[-1][3]:.2f} | {len(steps)} | {status} | {rows[-1][1]:.1%} | "
                  f"{stop['reason']} | {'yes' if intact else 'NO'} |", flush=True)  # fmt: skip
            shutil.rmtree(run.path)
    shares = [row[1] for row in rows]
    good = sum(0.95 <= share <= 1 and status == 3 and ok for status, share, _, _, ok in rows)
    print(f"{good} of {len(rows)} stopped at 95-100 % of the cap with an intact checkpoint of "
          f"their last step ({min(shares):.1%} to {max(shares):.1%})")  # fmt: skip


def capped_recipe(draw: random.Random, seconds: float) -> Recipe:
    """An endless run whose steps take as long as the draw will have it."""
    settings = {key: dict(value) if isinstance(value, dict) else value
                for key, value in SETTINGS.items()}  # fmt: skip
    settings["data"].pop("validation")
    settings["rollout"] = {
        "group_size": draw.choice((2, 4, 8)),
        "prompts_per_step": draw.choice((1, 2, 4, 8)),
        "max_completion_tokens": draw.choice((8, 24, 64)),
    }
    settings["train"] = {"num_steps": 100_000, "save_every": 100_000, "micro_batch_tokens": 512}
    settings["evaluate"] = {"every": 100_000}
    return recipe_from_dict(settings | {"budget": {"hours": seconds / 3600}})


# --- saving ---


def save(args: argparse.Namespace) -> None:
    """CPU seconds of a step and of a save, with one thread: shares that other work on the machine
    does not move.
    """
    torch.set_num_threads(1)
    recipe = recipe_from_dict(
        SETTINGS
        | {
            "model": {"path": args.model},
            "data": {"train": {"task": "arithmetic", "count": 12, "levels": [1, 2]}},
            "rollout": {"group_size": 8, "prompts_per_step": 2, "max_completion_tokens": 128},
            "train": {"num_steps": args.steps, "learning_rate": 1e-6},
            "rewards": [{"type": "format"}, {"type": "repetition"}],
        }
    )
    times: dict[str, list[float]] = {"step": [], "snapshot": [], "write": []}
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        run = open_run(Path(folder) / "run", recipe)
        with setup.open_training(recipe, run) as training:
            for _ in range(args.steps):
                with timed(times["step"]):
                    groups, _ = loop.roll_out(training, training.state.step + 1)
                    loop.learn(
                        training, loop.training_batches(training, groups), first_of_batch=True
                    )
            for _ in range(args.steps):
                with timed(times["snapshot"]):
                    snapshot = checkpoint.take_snapshot(
                        training.policy, training.optimizer, training.state
                    )
                with timed(times["write"]):
                    checkpoint.write_snapshot(run, snapshot, training.tokenizer)
    for name, values in times.items():
        print(f"{name}: median {median(values):.2f} CPU s ({min(values):.2f}-{max(values):.2f})")
    every = recipe.train.save_every
    whole = every * median(times["step"])
    print(f"a checkpoint of {snapshot.bytes / 1e9:.2f} GB every {every} steps: training waits "
          f"{median(times['snapshot']) / whole:.2%} of the steps' time, "
          f"{(median(times['snapshot']) + median(times['write'])) / whole:.2%} with the writing "
          "that runs beside it")  # fmt: skip


@contextmanager
def timed(values: list[float]) -> Iterator[None]:
    began = time.process_time()
    yield
    values.append(time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("kills")
    one.add_argument("--count", type=int, default=1000)
    one.add_argument("--first", type=int, default=0)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--until", type=float, default=0.0, help="stop at this time (seconds)")
    one.add_argument("--work", type=Path, default=None, help="where runs are made")
    one.set_defaults(run=kills)
    one = commands.add_parser("budget")
    one.add_argument("--trials", type=int, default=20)
    one.add_argument("--first", type=int, default=0)
    one.add_argument("--seconds", type=float, default=40.0, help="the cap of each trial")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--work", type=Path, default=None)
    one.set_defaults(run=budget)
    one = commands.add_parser("save")
    one.add_argument("--model", default="models/smollm2-135m")
    one.add_argument("--steps", type=int, default=3)
    one.add_argument("--work", type=Path, default=None)
    one.set_defaults(run=save)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
