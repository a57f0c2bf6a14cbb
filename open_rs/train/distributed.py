"""The processes of one job (torchrun, accelerate launch, srun): rank 0 leads, the others follow.

Rank 0 runs the loop as a single process does, and alone writes to the run folder. The others wait
for its orders and do their share of each, so that everything that is decided (schedules, refills,
alarms, saves, stops) is decided once. Orders, rollouts and failures are messages in the job's
key-value store, where nobody waits for somebody who is busy or gone; tensors go through
torch.distributed's collectives. Messages are pickled, as torch.distributed pickles its own: the
ranks of a job trust each other.
"""

import os
import pickle
import signal
import socket
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import torch.distributed as dist

from open_rs.errors import GuardStop, InputError
from open_rs.interrupt import SIGNALS, ask, poll
from open_rs.lock import Owner
from open_rs.models import pick_device
from open_rs.recipe import ModelRecipe
from open_rs.text import brief

LOOK_S = 0.2  # between two looks for an order that takes the place of the one in work
ALIVE_S = 30.0  # between two signs of life of a rank that works
SILENCE_S = 1800.0  # after which a rank counts as gone
END_S = 5.0  # for the others to leave before the leader
PAUSE_S, LONG_PAUSE_S = 0.005, 0.05  # between two looks for messages, at first and later

Message = tuple[str, Any]  # "part" of the work, "done" with the answer, "failed", "signal", "alive"


class Left(Exception):
    """The leader has given another order: the one in work counts no more."""


class RankFailed(RuntimeError):
    """Another rank raised; its traceback is in the text."""


class Ranks:
    """All ranks of a job, seen from one of them; `Ranks()` is a process by itself."""

    def __init__(self, rank: int = 0, count: int = 1, store: Any = None) -> None:
        self.rank, self.count, self.store = rank, count, store
        self.leader: Owner | None = None  # as the others know it
        self.hosts = [socket.gethostname()] * count  # of each rank, once they have greeted
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0")) if count > 1 else 0
        self.number = 0  # of the order in work
        self.answers: dict[int, Any] = {}  # to it, by rank
        self.failed: Exception | None = None  # what ended another rank, once that is known
        self._counts: dict[int, int] = {}  # of messages to it, by rank
        self._heard: dict[int, float] = {}  # when, by rank
        self._look_at = self._sign_at = 0.0
        self._signal: int | None = None

    @property
    def several(self) -> bool:
        return self.count > 1

    @property
    def names(self) -> list[str]:
        """Of each rank, for messages."""
        return [f"rank {rank} on {host}" for rank, host in enumerate(self.hosts)]

    @property
    def facts(self) -> dict[str, Any]:
        """What the run's diary says of a start: nothing of a process by itself."""
        return {"ranks": self.count, "hosts": len(set(self.hosts))} if self.several else {}

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def placed(self, model: ModelRecipe) -> ModelRecipe:
        """The model's recipe with this rank's device in it."""
        if not self.several:
            return model
        kind = pick_device(model.model_copy(update={"device": model.device.partition(":")[0]})).type
        device = f"cuda:{self.local_rank}" if kind == "cuda" else kind
        return model.model_copy(update={"device": device})

    # --- what the leader does ---

    def order(self, name: str, *arguments: Any) -> None:
        """Have every other rank do something: `distributed_work.Follower` has a method `name`."""
        self.order_each(name, [arguments] * self.count)

    def order_each(self, name: str, arguments: Sequence[tuple[Any, ...]]) -> None:
        """An order with arguments of its own for each rank."""
        if not self.several:
            return
        self.number += 1
        self.answers, self._counts = {}, {}
        self._heard = dict.fromkeys(range(1, self.count), time.monotonic())
        for rank in range(1, self.count):
            self._put(f"order/{self.number}/{rank}", (name, arguments[rank]))

    def end(self) -> None:
        """The last order; the leader, who may hold the store, goes when all others have gone."""
        if not self.leads:
            self.store.set(f"gone/{self.rank}", b"")
            return
        self.order("end")
        until = time.monotonic() + END_S * (self.failed is None)
        others = [f"gone/{rank}" for rank in range(1, self.count)]
        while not self.store.check(others) and time.monotonic() < until:
            time.sleep(PAUSE_S)

    def parts(self) -> Iterator[Any]:
        """The parts of the work that have come in by now."""
        for rank in range(1, self.count):
            while rank not in self.answers and (message := self._message(rank)):
                kind, value = message
                self._heard[rank] = time.monotonic()
                if kind == "part":
                    yield value
                elif kind == "done":
                    self.answers[rank] = value
                elif kind == "signal":
                    ask(value)
                elif kind == "failed":
                    raise self._failure(rank, value)

    def all_parts(self) -> Iterator[Any]:
        """The parts of the work until every rank is done; `answers` are there then."""
        while True:
            yield from self.parts()
            if len(self.answers) == self.count - 1:
                return
            self._refuse_silence()
            poll()
            time.sleep(PAUSE_S)

    def wait(self) -> dict[int, Any]:
        """The answer of every other rank, once all are done."""
        for _ in self.all_parts():
            pass
        return self.answers

    def cause_of(self, error: BaseException) -> Exception | None:
        """What another rank did that made this one end by `error`; None where none did anything."""
        if not self.several or self.failed is not None or isinstance(error, GuardStop):
            return self.failed
        with suppress(RuntimeError, InputError):  # `failed` is noted, or the store is gone
            for _ in self.parts():
                pass
        if self.failed is None and is_loss(error):
            self.failed = GuardStop(
                f"train: another rank is gone ({first_line(error)}); what was complete is kept; go "
                "on by the same command with --resume RUN"
            )
        return self.failed

    def _message(self, rank: int) -> Message | None:
        key = f"message/{self.number}/{rank}/{self._counts.get(rank, 0)}"
        if not self.store.check([key]):
            return None
        self._counts[rank] = self._counts.get(rank, 0) + 1
        message: Message = self._take(key)
        return message

    def _refuse_silence(self) -> None:
        for rank in range(1, self.count):
            last = self._heard.get(rank, 0.0)
            if rank not in self.answers and time.monotonic() - last > SILENCE_S:
                raise GuardStop(
                    f"train: {self.names[rank]} has been silent for {SILENCE_S:.0f} s; look what "
                    "it does, and go on by the same command with --resume RUN"
                )

    def _failure(self, rank: int, told: tuple[bool, str]) -> Exception:
        is_input, text = told
        self.failed = (InputError if is_input else RankFailed)(f"{self.names[rank]}: {text}")
        return self.failed

    # --- what the others do ---

    def next_order(self) -> tuple[str, tuple[Any, ...]]:
        """The name and the arguments of the next order, waited for as long as the leader lives."""
        self.number += 1
        self._counts = {}
        key = f"order/{self.number}/{self.rank}"
        started = time.monotonic()
        while not self.store.check([key]):
            self._end_with_leader()
            waited = time.monotonic() - started
            time.sleep(min(PAUSE_S + waited / 100, LONG_PAUSE_S))
        order: tuple[str, tuple[Any, ...]] = self._take(key)
        return order

    def look(self, now: float) -> None:
        """Raise Left where the leader has gone on to another order; `now` is time.monotonic()."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        self._end_with_leader()
        if self._signal is not None:
            self.send("signal", self._signal)
            self._signal = None
        if now >= self._sign_at:
            self._sign_at = now + ALIVE_S
            self.send("alive")
        if self.store.check([f"order/{self.number + 1}/{self.rank}"]):
            raise Left

    def _end_with_leader(self) -> None:
        """End where the leader ran on this machine and is gone without a word."""
        leader = self.leader
        if leader is not None and leader.host == socket.gethostname() and not leader.is_alive:
            raise SystemExit(1)

    def send(self, kind: str, value: Any = None) -> None:
        """A message about the order in work."""
        place = self._counts.get(self.rank, 0)
        self._counts[self.rank] = place + 1
        self._put(f"message/{self.number}/{self.rank}/{place}", (kind, value))

    def send_failure(self, error: Exception) -> None:
        is_input = isinstance(error, InputError)
        self.send("failed", (is_input, str(error) if is_input else traceback.format_exc()))

    @contextmanager
    def passing_signals_on(self) -> Iterator[None]:
        """Inside, the first signal is told to the leader, which ends the job; a second one ends
        this rank.
        """

        def note(number: int, frame: FrameType | None) -> None:
            self._signal = number
            for one in SIGNALS:
                signal.signal(one, signal.SIG_DFL)

        before = {one: signal.signal(one, note) for one in SIGNALS}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _put(self, key: str, value: Any) -> None:
        self.store.set(key, pickle.dumps(value))

    def _take(self, key: str) -> Any:
        value = pickle.loads(self.store.get(key))
        self.store.delete_key(key)
        return value


ALONE = Ranks()


@contextmanager
def blaming(ranks: Ranks) -> Iterator[None]:
    """What another rank did is told in the place of what followed from it here."""
    try:
        yield
    except Exception as error:
        cause = ranks.cause_of(error)
        if cause is None or cause is error:
            raise
        raise cause from error


def is_loss(error: BaseException) -> bool:
    """Whether an error is that of a collective, or of the store, that lost a rank."""
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)


def first_line(error: BaseException) -> str:
    return brief((str(error).strip() or type(error).__name__).splitlines()[0])
