"""docs/search.md: its tables name what the code has, and their places are those of the driver."""

import re
import sys
from pathlib import Path

from open_rs.evaluate.search import WAYS
from open_rs.recipe import BeamSearch

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")


def cells(head):
    """The first two cells of each row of the table under `head`."""
    lines = PAGE.partition(head)[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.split("|")[1:3]] for line in lines if "`" in line]


def test_every_way_is_in_the_table():
    assert {first.strip("`") for first, _ in cells("| way |")} == {*WAYS, "beam"}


def test_the_defaults_of_the_search():
    told = {first.strip("`"): second for first, second in cells("| key of `evaluate.search` |")}
    held = BeamSearch().model_dump()
    assert {"type", *told} == set(held)
    assert {key: told[key] for key in ("width", "branch", "step_tokens")} == {
        key: str(held[key]) for key in ("width", "branch", "step_tokens")
    }
    assert (told["step_end"], held["step_end"]) == ("a line break", "\n")


def test_the_driver_puts_its_tables_in_their_places(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "perf"))
    sys.modules.pop("search", None)
    import search

    for name, subject in search.SUBJECTS.items():
        page = search.written(PAGE, name, "| new |\n|---|")
        behind = page.partition(search.CAPTION.format(name))[2]
        assert behind.startswith("\n| new |\n|---|\n") and not behind[14:].startswith("|")
        section = re.split(r"\n### ", page.partition(search.CAPTION.format(name))[0])[-1]
        assert f"{subject.samples} samples" in section
        assert f"or {subject.step_tokens}" in " ".join(section.split())
        assert f"up to {subject.max_tokens} tokens" in section
        assert f"temperature {subject.temperature:g}" in section
        assert str(subject.source.count) in section
