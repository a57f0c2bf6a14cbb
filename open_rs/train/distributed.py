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
import platform
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from open_rs.errors import GuardStop, InputError
from open_rs.interrupt import SIGNALS, ask, poll
from open_rs.models import pick_device
from open_rs.recipe import ModelRecipe, Recipe
from open_rs.runs import PACKAGES, different_keys, package_version

JOIN_S = 600.0  # until every rank has come
COLLECTIVE_TIMEOUT = timedelta(minutes=30)
WAIT = timedelta(seconds=10)  # for an order, between two looks at the signals
LOOK_S = 0.2  # between two looks for an order that takes the place of the one in work
PAUSE_S = 0.005  # between two looks for messages
LINGER_S = 30.0  # a rank that failed stays as long, so that the leader can say why

Message = tuple[str, Any]  # "part" of the work, "done" with the answer, or "failed"


class Left(Exception):
    """The leader has given another order: the one in work counts no more."""


class RankFailed(RuntimeError):
    """Another rank raised; its traceback is in the text."""


class Ranks:
    """All ranks of a job, seen from one of them; `Ranks()` is a process by itself."""

    def __init__(
        self, rank: int = 0, count: int = 1, store: Any = None, names: Sequence[str] = ()
    ) -> None:
        self.rank, self.count, self.store, self.names = rank, count, store, list(names)
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0")) if count > 1 else 0
        self.number = 0  # of the order in work
        self.answers: dict[int, Any] = {}  # to it, by rank
        self.failed: Exception | None = None  # what ended another rank, once that is known
        self._counts: dict[int, int] = {}  # of messages to it, by rank
        self._look_at = 0.0
        self._signal: int | None = None

    @property
    def several(self) -> bool:
        return self.count > 1

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
        for rank in range(1, self.count):
            self._put(f"order/{self.number}/{rank}", (name, arguments[rank]))

    def parts(self) -> Iterator[Any]:
        """The parts of the work that have come in by now."""
        for rank in range(1, self.count):
            while rank not in self.answers and (message := self._message(rank)):
                kind, value = message
                if kind == "failed":
                    raise self._failure(rank, value)
                if kind == "signal":
                    ask(value)
                elif kind == "done":
                    self.answers[rank] = value
                else:
                    yield value

    def all_parts(self) -> Iterator[Any]:
        """The parts of the work until every rank is done; `answers` are there then."""
        while True:
            yield from self.parts()
            if len(self.answers) == self.count - 1:
                return
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
        while True:
            with suppress(dist.DistStoreError):  # nothing yet
                self.store.wait([key], WAIT)
                order: tuple[str, tuple[Any, ...]] = self._take(key)
                return order

    def look(self, now: float) -> None:
        """Raise Left where the leader has gone on to another order; `now` is time.monotonic()."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        if self._signal is not None:
            self.send("signal", self._signal)
            self._signal = None
        if self.store.check([f"order/{self.number + 1}/{self.rank}"]):
            raise Left

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
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


# --- coming together ---


@contextmanager
def join(load: Callable[[], Recipe | None], settings: Sequence[str]) -> Iterator[Ranks]:
    """The ranks of this job, once all have come and are found to be of one mind.

    `load` reads the recipe that this rank was given; None: the leader's counts. `settings` were
    given on the command line. InputError, on the leader, where a rank has another recipe, other
    settings, other versions, or no device.
    """
    store, rank, count = meet()
    ranks = Ranks(rank, count, store)
    if ranks.leads:
        recipe = load()
        own = greeting(recipe, settings)
        ranks.names, device = check_greetings(ranks, own, recipe)
        store.set("welcome", device)
    else:
        store.set(f"greeting/{rank}", pickle.dumps(greeting_of(load, settings)))
        store.wait(["welcome"], timedelta(days=1))
        device = store.get("welcome").decode()
    if device == "cuda":
        torch.cuda.set_device(ranks.local_rank)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
        store=dist.PrefixStore("collectives", store),
        rank=rank,
        world_size=count,
        timeout=COLLECTIVE_TIMEOUT,
    )
    try:
        yield ranks
    finally:
        if ranks.leads:
            with suppress(RuntimeError):  # of a store that went with a rank that was killed
                ranks.order("end")
        dist.destroy_process_group()


def meet() -> tuple[Any, int, int]:
    """(store, rank, number of ranks) as the launcher says in the environment."""
    try:
        store, rank, count = next(dist.rendezvous("env://", timeout=timedelta(seconds=JOIN_S)))
    except ValueError as error:
        raise InputError(
            f"WORLD_SIZE = {os.environ['WORLD_SIZE']}: the rest of what a launcher sets is missing "
            f"({first_line(error)}); start by torchrun or accelerate launch"
        ) from None
    except dist.DistError as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        if "EADDRINUSE" in str(error):
            raise InputError(
                f"MASTER_PORT: {place} is in use by another process; give another port"
            ) from None
        raise InputError(
            f"{place}: rank 0 does not answer there ({first_line(error)}); check MASTER_ADDR and "
            "MASTER_PORT, and that it was started"
        ) from None
    return dist.PrefixStore("open_rs", store), rank, count


def greeting(recipe: Recipe | None, settings: Sequence[str]) -> dict[str, Any]:
    """What has to be the same on every rank, and where this one is."""
    return {
        "recipe": None if recipe is None else recipe.model_dump(mode="json"),
        "settings": list(settings),
        "versions": {"python": platform.python_version()}
        | {name: package_version(name) for name in PACKAGES},
        "host": socket.gethostname(),
        "local_rank": int(os.environ.get("LOCAL_RANK", "0")),
        "devices": torch.cuda.device_count() if torch.cuda.is_available() else 0,
    }


def greeting_of(load: Callable[[], Recipe | None], settings: Sequence[str]) -> dict[str, Any]:
    """This rank's greeting; what is wrong with its recipe is for the leader to say."""
    try:
        return greeting(load(), settings)
    except InputError as error:
        return greeting(None, settings) | {"error": str(error)}


def check_greetings(
    ranks: Ranks, own: dict[str, Any], recipe: Recipe | None
) -> tuple[list[str], str]:
    """(a name for each rank, the kind of device that all use)."""
    greetings, names = [own], [f"rank 0 on {own['host']}"]
    for rank in range(1, ranks.count):
        key = f"greeting/{rank}"
        try:
            ranks.store.wait([key], timedelta(seconds=JOIN_S))
        except dist.DistStoreError:
            raise InputError(
                f"rank {rank} of {ranks.count} did not come within {JOIN_S:.0f} s; look at what it "
                "printed, and start all again"
            ) from None
        greetings.append(pickle.loads(ranks.store.get(key)))
        names.append(f"rank {rank} on {greetings[-1]['host']}")
    device = "cuda" if own["devices"] else "cpu"
    if recipe is not None:
        device = pick_device(recipe.model).type
    for name, one in zip(names, greetings, strict=True):
        refuse_other(name, own, one)
        if device == "cuda" and one["local_rank"] >= one["devices"]:
            raise InputError(
                f"{name}: is number {one['local_rank'] + 1} there, and torch sees "
                f"{one['devices']} CUDA devices; start as many ranks as there are devices, or set "
                'model.device = "cpu"'
            )
    return names, device


def refuse_other(name: str, own: dict[str, Any], other: dict[str, Any]) -> None:
    """Refuse a rank that is not of one mind with rank 0."""
    if "error" in other:
        raise InputError(f"{name}: {other['error']}")
    for key, cure in (
        ("versions", "install the same everywhere"),
        ("settings", "give every rank the same command"),
        ("recipe", "give every rank the same file"),
    ):
        found = sorted(different_keys({key: own[key]}, {key: other[key]}))
        if found and other[key] is not None:
            raise InputError(f"{name}: differs from rank 0 in {', '.join(found[:5])}; {cure}")
