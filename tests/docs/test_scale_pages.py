"""docs/experiments.md and docs/scale.md: the tables are what the script writes, commands exist."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (ROOT / name).read_text("utf-8") for name in ("docs/experiments.md", "docs/scale.md")
}
FAST = ("settings", "sizes", "network")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("plan_pages", ROOT / "tools" / "plan_pages.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["plan_pages"] = module  # where its dataclasses look for themselves
    spec.loader.exec_module(module)
    yield module
    del sys.modules["plan_pages"]


def blocks(script):
    """What stands between the marks, by name."""
    marks = [found for page in PAGES.values() for found in script.MARK.finditer(page)]
    return {one[2]: one[0].removeprefix(one[1]).removesuffix(one[3]) for one in marks}


def test_every_table_has_its_place(script):
    assert set(blocks(script)) == set(script.BLOCKS)


@pytest.mark.parametrize("name", FAST)
def test_a_table_is_as_it_is_written(script, name):
    assert blocks(script)[name] == script.BLOCKS[name]()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forecasts", "authors", "fixed", "growing"])
def test_a_forecast_is_as_it_is_written(script, name):
    assert blocks(script)[name] == script.BLOCKS[name]()


def test_a_plan_of_a_thousand_gpus_takes_seconds(script):
    row = script.scale_row("7B", 1024, script.SHARES, 1024)
    assert row.startswith("7B|1,024|a share each|8,192|")


def told_commands():
    """Lines of code blocks and `code` that call something of ours."""
    for page in PAGES.values():
        blocks = re.findall(r"^```\w*\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()]
        for text in [*lines, *re.findall(r"`([^`\n]+)`", page)]:
            text = re.split(r"\s{3,}", text.strip())[0]
            if re.match(r"(open-rs|python|sbatch|sky|torchrun) ", text):
                yield text


def options_of(command):
    from typer.main import get_command

    from open_rs.cli import app

    known = get_command(app).commands
    assert command in known, command
    return {option for one in known[command].params for option in one.opts}


@pytest.mark.parametrize("text", sorted(set(told_commands())))
def test_a_command_of_the_pages_exists(text):
    words = shlex.split(text)
    if words[0] == "torchrun":
        words = ["open-rs", *words[words.index("open_rs") + 1 :]]
        assert importlib.util.find_spec("open_rs.__main__")
    files = [word for word in words if "/" in word and not word.startswith("runs/")]
    assert all((ROOT / word).exists() for word in files)
    if words[0] == "open-rs":
        asked = {word for word in words if word.startswith("--")}
        assert asked <= options_of(words[1])


def test_links_lead_somewhere():
    for name, page in PAGES.items():
        for target in re.findall(r"\]\(([^)#]+)\)", page):
            assert (ROOT / name).parent.joinpath(target).exists(), target
