"""A wall clock may be set back or forth: it only stamps rows here, and measures nothing."""

import ast
from pathlib import Path

import open_rs

WALL_CLOCK = {"time.time", "time.time_ns", "datetime.now", "datetime.datetime.now", "time.ctime"}


def misuses(source: str) -> list[int]:
    """Lines in which the wall clock is read for anything but a value in a row of JSON or a text."""
    tree = ast.parse(source)
    stamps = {value for one in ast.walk(tree) if isinstance(one, ast.Dict) for value in one.values}
    stamps |= {  # datetime.now(UTC).isoformat()
        one.func.value
        for one in ast.walk(tree)
        if isinstance(one, ast.Call)
        and isinstance(one.func, ast.Attribute)
        and one.func.attr in ("isoformat", "strftime")
    }
    return [
        one.lineno
        for one in ast.walk(tree)
        if isinstance(one, ast.Call) and ast.unparse(one.func) in WALL_CLOCK and one not in stamps
    ]


# Times of files are the wall clock's own, so these two hold them against it
FILE_TIMES = {"live.py", "plan/doctor/environment.py"}


def test_the_package_measures_nothing_by_the_wall_clock():
    root = Path(open_rs.__file__).parent
    found = [
        f"{file.relative_to(root)}:{line}"
        for file in sorted(root.rglob("*.py"))
        if str(file.relative_to(root)) not in FILE_TIMES
        for line in misuses(file.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_the_check_finds_a_misuse():
    assert misuses("started = time.time()\nlog({'time': time.time()})\nx = time.time() - t") == [
        1,
        3,
    ]
    assert misuses("datetime.now(UTC).isoformat()\ndatetime.now(UTC) - started") == [2]
