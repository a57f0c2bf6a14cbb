"""Procedural sources of problems: rows made by code, from a seed, without a download."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from open_rs.errors import InputError
from open_rs.plugins import load_function
from open_rs.recipe import Source

Row = dict[str, Any]
GYM = "reasoning_gym:"


def task_rows(source: Source) -> Iterable[Row]:
    """The rows of a procedural `source`; the same settings give the same rows.

    `arithmetic`: clean problems of one split. `arithmetic_raw`: defective training rows, as
    `_arithmetic_raw` says. `reasoning_gym:NAME`: a data set of reasoning-gym. `module:function`:
    the user's own, `def rows(source: Source) -> Iterable[dict]`, which may read `split`, `count`,
    `seed`, `levels` and `options`.
    """
    name = source.task or ""
    if name in TASKS:
        return TASKS[name](source)
    if name.startswith(GYM):
        from open_rs.tasks.gym import gym_rows

        return gym_rows(source)
    if ":" in name:
        return _checked(load_function(name)(source), name)
    near = difflib.get_close_matches(name, TASKS, n=1)
    known = f"known: {', '.join(TASKS)}, {GYM}NAME, module:function"
    hint = f"did you mean {near[0]!r}?" if near else known
    raise InputError(f"task {name!r} unknown; {hint}")


def _arithmetic(source: Source) -> Iterable[Row]:
    from open_rs.tasks.arithmetic import arithmetic_problems

    problems = arithmetic_problems(
        source.split,  # type: ignore[arg-type]  # an unknown one is refused there by name
        _count(source),
        seed=source.seed,
        levels=source.levels,
    )
    return [asdict(one) for one in problems]


def _arithmetic_raw(source: Source) -> Iterable[Row]:
    """Raw training rows with a stated share of each defect that curation has to catch.

    The leaked rows are copies of the first problems of the test set with the same seed and levels,
    so the held-out set that they contaminate is
    `{ task = "arithmetic", split = "test", seed = <same>, levels = <same>, count = <enough> }`.
    """
    from open_rs.tasks.arithmetic import arithmetic_problems, defect_counts, raw_arithmetic_rows

    if source.split != "train":
        raise InputError(
            f"task arithmetic_raw holds training rows only; remove split = {source.split!r}"
        )
    count = _count(source)
    leaked = defect_counts(count, count)["held_out"]
    held_out = (
        arithmetic_problems("test", leaked, seed=source.seed, levels=source.levels)
        if leaked
        else []
    )
    return raw_arithmetic_rows(count, seed=source.seed, levels=source.levels, held_out=held_out)


TASKS: dict[str, Callable[[Source], Iterable[Row]]] = {
    "arithmetic": _arithmetic,
    "arithmetic_raw": _arithmetic_raw,
}


def _count(source: Source) -> int:
    assert source.count is not None  # the recipe refuses a task without it
    return source.count


def _checked(rows: Any, name: str) -> Iterable[Row]:
    if not isinstance(rows, Iterable):
        raise InputError(f"task {name}: must return rows, got {type(rows).__name__}; return a list")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputError(
                f"task {name}, row {number}: a dict with problem and answer is needed, "
                f"got {type(row).__name__}"
            )
        yield row
