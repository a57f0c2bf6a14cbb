"""`open-rs curate` as a person gives it: where sets go, shards, stories, comparisons, refusals."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from open_rs.cli import main
from open_rs.runs import write_jsonl

Command = Callable[..., tuple[int, str, str]]
RECIPE = """
name = "given"
[[sources]]
path = "rows.jsonl"
expect = 3
[[filters]]
type = "exact_duplicates"
expect = 2
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Command:
    """Runs `open-rs WORDS`: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    rows = [{"problem": text, "answer": "1"} for text in ("one", "two", "One")]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    (tmp_path / "recipe.toml").write_text(RECIPE)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["open-rs", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 0, captured.out, captured.err

    return run


def test_a_set_goes_into_the_run_or_where_out_says(command: Command) -> None:
    status, out, _ = command("curate", "recipe.toml")
    assert status == 0 and Path("runs/given/curated/problems.jsonl").exists()
    assert "2 problems in runs/given/curated" in out
    assert "rows.jsonl: 3 rows; expected 3: +0, +0.0%" in out
    assert "exact_duplicates   -1     2 left; expected 2: +0, +0.0%" in out
    status, out, _ = command("curate", "recipe.toml", "--out", "set", "--json", "--workers", "1")
    assert status == 0 and json.loads(out)["kept"] == 2 and Path("set/problems.jsonl").exists()
    assert json.loads(Path("set/ledger.jsonl").read_text())["phase"] == "curate"
    assert len(Path("set/manifest.jsonl").read_text().splitlines()) == 3


def test_a_folder_of_another_recipe_is_refused_with_what_differs(command: Command) -> None:
    command("curate", "recipe.toml", "--out", "set")
    status, _, err = command("curate", "recipe.toml", "--out", "set", "sources.0.count=2")
    assert status == 2 and "set curated from other inputs (different: sources)" in err


def test_shards_and_a_merge(command: Command) -> None:
    for number in (1, 2):
        status, out, _ = command("curate", "recipe.toml", "--out", "set", "--shard", f"{number}/2")
        assert status == 0 and "round 1 of 1: this shard's part is done" in out
    status, out, _ = command("curate", "recipe.toml", "--out", "set", "--merge")
    assert status == 0 and "2 problems in set" in out
    command("curate", "recipe.toml", "--out", "whole")
    assert Path("set/README.md").read_bytes() == Path("whole/README.md").read_bytes()


def test_a_story_and_a_comparison(command: Command) -> None:
    command("curate", "recipe.toml", "--out", "a")
    command("curate", "recipe.toml", "--out", "b", "sources.0.count=2")
    row = json.loads(Path("a/manifest.jsonl").read_text().splitlines()[2])
    status, out, _ = command("curate", "--explain", row["id"], "--out", "a")
    assert status == 0 and "rows.jsonl, line 3" in out and "dropped by exact_duplicates" in out
    status, out, _ = command("curate", "--diff", "a", "b", "--json")
    assert status == 0 and json.loads(out)["rows_only_left"] == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "name a recipe to curate by, or a set to look at by --explain or --diff"),
        (("recipe.toml", "--shard", "1/2"), "shards meet in a folder: name it by --out"),
        (("recipe.toml", "--merge"), "shards meet in a folder: name it by --out"),
        (("recipe.toml", "--out", "set", "--shard", "3/2"), "--shard 3/2: write it as K/N"),
        (("recipe.toml", "--out", "set", "--shard", "0/2"), "--shard 0/2: write it as K/N"),
        (("recipe.toml", "--out", "set", "--shard", "one"), "--shard one: write it as K/N"),
        (("recipe.toml", "--out", "set", "--merge"), "no shard has run; give --shard 1/N first"),
        (("--explain", "abc"), "--explain needs the folder of the set: name it by --out"),
        (("--diff", "a", "b"), "a: holds no curated set; give a folder that curate wrote"),
        (("recipe.toml", "--out", "set", "sources.0.path=no.csv"), "no.csv: no such file"),
    ],
)
def test_refusals_name_the_cure(words: tuple[str, ...], sentence: str, command: Command) -> None:
    status, _, err = command("curate", *words)
    assert status == 2 and sentence in err and "Traceback" not in err
