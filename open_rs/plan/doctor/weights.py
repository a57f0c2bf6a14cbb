"""A model folder's weights by the headers of their files: nothing is loaded."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from open_rs.errors import InputError
from open_rs.runs import read_json

INDEX = "model.safetensors.index.json"


def shards(folder: Path) -> list[Path]:
    """The files that hold the weights. InputError where the index names one that is missing."""
    if not (folder / INDEX).is_file():
        return sorted(folder.glob("model*.safetensors"))
    named = sorted(set(read_json(folder / INDEX)["weight_map"].values()))
    missing = [name for name in named if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(named)} files of weights are missing, {missing[0]} "
            "among them; get the whole model"
        )
    return [folder / name for name in named]


def open_shards(folder: Path, framework: str = "numpy") -> Iterator[Any]:
    """Each file of weights, opened. InputError for one that is torn, or is a pointer to another."""
    from safetensors import SafetensorError, safe_open

    for file in shards(folder):
        if _start(file).startswith(b"version https://git"):
            raise InputError(
                f"{file}: a pointer of git-lfs, not the weights; git lfs pull, or get it anew"
            )
        try:
            with safe_open(file, framework=framework) as opened:
                yield opened
        except SafetensorError as error:
            raise InputError(f"{file}: is not whole ({error}); get it anew") from None


def parameters(folder: Path) -> int:
    """How many numbers the files hold."""
    return sum(
        prod(one.get_slice(name).get_shape())
        for one in open_shards(folder)
        for name in one.keys()  # noqa: SIM118  (not a dict)
    )


def num_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in shards(folder))


def _start(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(20)
