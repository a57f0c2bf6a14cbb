"""How the ranks of a job find each other, and what has to be the same on all of them."""

import hashlib
import json
import os
import pickle
import platform
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from open_rs.errors import InputError
from open_rs.lock import ourselves
from open_rs.machine import PACKAGES, package_version
from open_rs.models import load_tokenizer, pick_device, unwrap
from open_rs.recipe import ModelRecipe, Recipe
from open_rs.runs import different_keys
from open_rs.train.distributed import Left, Ranks, first_line

JOIN_S = 600.0  # until every rank has come
GRADE_BY = ("tokenizers", "sympy", "latex2sympy2_extended")  # on every rank, beside PACKAGES
UNHEEDED = {  # what accelerate launch asks of a program by its environment, and where it is asked
    "ACCELERATE_USE_DEEPSPEED": 'train.sharding = "full"',
    "ACCELERATE_USE_FSDP": 'train.sharding = "full"',
    "ACCELERATE_USE_MEGATRON_LM": 'train.sharding = "full"',
    "ACCELERATE_MIXED_PRECISION": "model.dtype",
}
COLLECTIVE_TIMEOUT = timedelta(minutes=30)


@contextmanager
def join(load: Callable[[], Recipe | None], settings: Sequence[str]) -> Iterator[Ranks]:
    """The ranks of this job, once all have come and are found to be of one mind.

    `load` reads the recipe that this rank was given; None: the leader's counts. `settings` were
    given on the command line. InputError, on the leader, where a rank has another recipe, other
    settings, other versions, or no device.
    """
    ranks = Ranks(*meet())
    try:
        device = agree(ranks, load, settings)
        if device == "cuda":
            torch.cuda.set_device(ranks.local_rank)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
            store=dist.PrefixStore("collectives", ranks.store),
            rank=ranks.rank,
            world_size=ranks.count,
            timeout=COLLECTIVE_TIMEOUT,
        )
        yield ranks
    except dist.DistError:
        if ranks.leads:
            raise
        raise SystemExit(1) from None  # the leader is gone, with the store, and has said why
    finally:
        with suppress(dist.DistError):  # of a store that is gone
            ranks.end()
        if dist.is_initialized():
            dist.destroy_process_group()


def agree(ranks: Ranks, load: Callable[[], Recipe | None], settings: Sequence[str]) -> str:
    """Greet and be greeted; returns the kind of device that all use."""
    if ranks.leads:
        recipe = load()
        try:
            refuse_unheeded()
            device = check_greetings(ranks, greeting(recipe, settings), recipe)
        except InputError:
            ranks.store.set("welcome", pickle.dumps((None, None)))
            raise
        ranks.store.set("welcome", pickle.dumps((device, ourselves())))
        return device
    ranks.store.set(f"greeting/{ranks.rank}", pickle.dumps(greeting_of(load, settings)))
    ranks.store.wait(["welcome"], timedelta(days=1))
    device, ranks.leader = pickle.loads(ranks.store.get("welcome"))
    if device is None:
        raise SystemExit(1)
    return str(device)


def meet() -> tuple[int, int, Any]:
    """(rank, number of ranks, store) as the launcher says in the environment."""
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
    return rank, count, dist.PrefixStore("open_rs", store)


def greeting(recipe: Recipe | None, settings: Sequence[str]) -> dict[str, Any]:
    """What has to be the same on every rank, and where this one is."""
    return {
        "recipe": None if recipe is None else recipe.model_dump(mode="json"),
        "settings": list(settings),
        "versions": {"python": platform.python_version()}
        | {name: package_version(name) for name in (*PACKAGES, *GRADE_BY)}
        | {"open-rs code": code_hash()},
        "host": socket.gethostname(),
        "local_rank": int(os.environ.get("LOCAL_RANK", "0")),
        "devices": torch.cuda.device_count() if torch.cuda.is_available() else 0,
    }


def code_hash() -> str:
    """Of this package's sources: two checkouts may bear one version."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def refuse_unheeded() -> None:
    """Refuse what the launcher was told and nothing here would follow."""
    for name, key in UNHEEDED.items():
        value = os.environ.get(name, "")
        if value.lower() not in ("", "no", "false"):
            option = name.removeprefix("ACCELERATE_").lower()
            raise InputError(
                f"{name} = {value}: open-rs does not train by accelerate's settings; leave "
                f"--{option} out of accelerate launch and its config, and set {key} in the recipe"
            )


def agree_on_model(ranks: Ranks, policy: Any, recipe: ModelRecipe) -> None:
    """Refuse, on the leader, a rank that finds another model or tokenizer under the same path.
    Weights are not compared: those of rank 0 are given to all.
    """
    if not ranks.several:
        return
    held: list[Any] = [None] * ranks.count
    dist.all_gather_object(held, model_facts(policy, recipe))
    for name, one in zip(ranks.names, held, strict=True):
        if found := sorted(different_keys(held[0], one)):
            if not ranks.leads:
                raise Left  # the leader says so, and ends the job
            raise InputError(
                f"{name}: model.path {recipe.path} is another model there, it differs from rank 0 "
                f"in {', '.join(found[:5])}; give every rank the same"
            )


def model_facts(policy: Any, recipe: ModelRecipe) -> dict[str, Any]:
    """What decides a model's completions beside its weights, and their text."""
    model, tokenizer = unwrap(policy), load_tokenizer(recipe)
    own = {"_name_or_path", "transformers_version"}
    vocabulary = getattr(tokenizer, "backend_tokenizer", None)
    read = [
        tokenizer.get_vocab() if vocabulary is None else vocabulary.to_str(),
        tokenizer.chat_template,
        {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
    ]
    return {
        name: {key: value for key, value in held.to_dict().items() if key not in own}
        for name, held in (("config", model.config), ("generation", model.generation_config))
    } | {"tokenizer": hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()}


def greeting_of(load: Callable[[], Recipe | None], settings: Sequence[str]) -> dict[str, Any]:
    """This rank's greeting; what is wrong with its recipe is for the leader to say."""
    try:
        return greeting(load(), settings)
    except InputError as error:
        return greeting(None, settings) | {"error": str(error)}


def check_greetings(ranks: Ranks, own: dict[str, Any], recipe: Recipe | None) -> str:
    """The kind of device that all use, once all have come and agree."""
    greetings = [own]
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
        ranks.hosts[rank] = greetings[-1]["host"]
    device = "cuda" if own["devices"] else "cpu"
    if recipe is not None:
        device = pick_device(recipe.model).type
    for name, one in zip(ranks.names, greetings, strict=True):
        refuse_other(name, own, one)
        if device == "cuda" and one["local_rank"] >= one["devices"]:
            raise InputError(
                f"{name}: is number {one['local_rank'] + 1} there, and torch sees "
                f"{one['devices']} CUDA devices; start as many ranks as there are devices, or set "
                'model.device = "cpu"'
            )
    return device


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
