"""docs/evaluation.md: its table is the one of the code, its commands parse."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from open_rs.benchmarks import BENCHMARKS
from open_rs.cli import app

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


def test_the_table_of_benchmarks_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| (\w+) \| (\S+/\S+) \| (\w+) \| (\d+) \| (\w+)s \|$", PAGE, re.MULTILINE)
    assert rows == [
        (one.name, one.source.hub, one.source.split, str(one.num_problems), one.answer_kind)
        for one in BENCHMARKS.values()
    ]


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_parses(line: str) -> None:
    program, name, *words = shlex.split(line)
    assert program == "open-rs"
    group = typer.main.get_command(app)
    command = group.commands[name]  # type: ignore[attr-defined]
    command.make_context(name, words)
