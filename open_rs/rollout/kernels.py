"""`kernels.c` as functions: compiled for one model by the C compiler of this machine, in a second.

Nothing of torch is compiled against: the kernels take addresses, and use the threads of the OpenMP
that torch has loaded. Without a compiler there are no kernels, which is said once; everything that
uses them has another way.
"""

import ctypes
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_rs.console import say
from open_rs.errors import InputError

SOURCE = Path(__file__).with_name("kernels.c")
LANES = {"AVX512": 16, "AVX2": 8}  # floats of the widest vector; elsewhere 4
TIMEOUT_S = 60
COMPILED_BYTES = 1 << 18  # more than the object and the library take
# Without OpenMP the kernels use one thread; without the processor's name, its oldest instructions.
OPTIONS = (("-march=native", "-fopenmp"), ("-march=native",), ())
ADDRESS, COUNT, NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


@dataclass(frozen=True)
class Kernels:
    """Functions of `kernels.c`; `address` says what they take for a tensor."""

    lanes: int
    attention: Callable[..., None]
    rms_norm: Callable[..., None]
    silu_product: Callable[..., None]
    log_probs: Callable[..., None]


def address(tensor: Tensor | None) -> int | None:
    """Of a contiguous tensor of a type that the kernel expects; None is none."""
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    return tensor.data_ptr()


def kernels_for(*, head_size: int, queries: int, sizes: tuple[int, ...]) -> Kernels | None:
    """Kernels for heads of this size, so many query heads to a key-value head, and rows of these
    sizes; None where they do not fit or nothing compiles them.
    """
    widest = LANES.get(torch.backends.cpu.get_cpu_capability(), 4)
    lanes = math.gcd(widest, head_size, *sizes)
    return compiled(head_size, queries, lanes) if lanes >= 4 else None


@cache
def compiled(head_size: int, queries: int, lanes: int) -> Kernels | None:
    compiler = next(filter(None, map(shutil.which, [os.environ.get("CC", ""), "cc", "gcc"])), None)
    if compiler is None:
        say_without("there is no C compiler (cc); install one")
        return None
    wanted = [f"-DHEAD={head_size}", f"-DQUERIES={queries}", f"-DLANES={lanes}"]
    error = ""
    for options in OPTIONS:
        with room_to_compile() as folder:
            made, library = Path(folder) / "kernels.o", Path(folder) / "kernels.so"
            compile_it = [compiler, "-O3", "-fPIC", *options, *wanted, "-c", str(SOURCE)]
            compile_it += ["-o", str(made)]
            link_it = [compiler, "-shared", str(made), "-o", str(library)]  # OpenMP is torch's own
            try:
                for command in (compile_it, link_it):
                    subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S)
                return loaded(ctypes.CDLL(str(library)), lanes)
            except subprocess.CalledProcessError as failed:
                error = failed.stderr.decode(errors="replace").strip()
            except (OSError, subprocess.TimeoutExpired) as failed:
                error = str(failed)
    say_without(f"{compiler} does not compile kernels.c ({' '.join(error.splitlines()[:1])})")
    return None


@contextmanager
def room_to_compile() -> Iterator[str]:
    """A temporary folder with space in it. A full disk is refused: to go on without kernels would
    draw other samples where two tokens are all but equally far from the uniform.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="open-rs-") as folder:
            (Path(folder) / "space").write_bytes(bytes(COMPILED_BYTES))
            yield folder
    except OSError as error:
        raise InputError(
            f"rollout: no temporary folder can be written to, which the kernels are compiled in "
            f"({error}); free space, or name a folder by TMPDIR"
        ) from None


def loaded(library: Any, lanes: int) -> Kernels:
    arguments: dict[str, list[Any]] = {
        "attention": [
            *[COUNT] * 2, *[ADDRESS] * 2, NUMBER, *[ADDRESS] * 2, NUMBER, *[ADDRESS] * 9, COUNT,
            ADDRESS, ADDRESS,
        ],
        "rms_norm": [COUNT, COUNT, ADDRESS, ADDRESS, NUMBER, ADDRESS],
        "silu_product": [COUNT, COUNT, ADDRESS, ADDRESS],
        "log_probs": [COUNT, COUNT, ADDRESS, ADDRESS, ADDRESS],
    }  # fmt: skip
    functions = {}
    for name, types in arguments.items():
        functions[name] = getattr(library, name)
        functions[name].argtypes, functions[name].restype = types, None
    return Kernels(lanes, **functions)


def say_without(reason: str) -> None:
    say(f"rollout: decoding without compiled kernels, at about half the speed: {reason}")
