"""The folder: loads as it is, says where it is from, explains its rows, compares with another."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from open_rs.curate import curate
from open_rs.curate.inspect import diff, diff_text, explain, story
from open_rs.errors import InputError
from open_rs.problems import problem_id
from open_rs.recipe import recipe_from_dict
from open_rs.runs import append_jsonl, write_jsonl

ROWS = [
    {"problem": "Compute 1 + 1.", "answer": "2", "solution": "\\boxed{2}"},
    {"problem": "Compute 1 + 2.", "answer": "3"},
    {"problem": "compute 1 + 1", "answer": "2", "solution": "\\boxed{2}"},
    {"problem": "Compute 9 + 1.", "answer": "10", "solution": "\\boxed{10} | a\nb"},
]
DUPLICATES, BOXED = {"type": "exact_duplicates", "expect": 4}, {"type": "boxed"}


def make(folder: Path, *filters: dict, rows: list[dict] | None = None, **source: object) -> dict:
    """Curate ROWS in `folder`/NAME, where NAME names the filters."""
    write_jsonl(folder / "rows.jsonl", ROWS if rows is None else rows)
    path = {"path": str(folder / "rows.jsonl"), "name": "hand", "licence": "MIT", **source}
    recipe = recipe_from_dict(
        {"name": "made", "sources": [path], "filters": list(filters), "curate": {"expect": 5}}
    )
    out = folder / "-".join(one["type"] for one in filters)
    return curate(recipe, out)


def test_datasets_loads_the_folder_as_it_is(tmp_path: Path) -> None:
    make(tmp_path, DUPLICATES)
    out = tmp_path / "exact_duplicates"
    append_jsonl(out / "pass_rates.jsonl", {"problem_id": "x"})  # another file of rows beside it
    code = (
        "import json, sys, datasets\n"
        "made = datasets.load_dataset(sys.argv[1], cache_dir=sys.argv[2])\n"
        "print(json.dumps({name: list(split) for name, split in made.items()}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(out), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {
        "train": [
            {"id": problem_id(row["problem"], row["answer"]), "solution": "", "source": "hand"}
            | {key: row.get(key, "") for key in ("problem", "answer", "solution")}
            for row in (ROWS[0], ROWS[1], ROWS[3])
        ]
    }


def test_the_card_names_sources_licences_counts_and_what_was_expected(tmp_path: Path) -> None:
    summary = make(tmp_path, DUPLICATES, expect=8)
    card = (tmp_path / "exact_duplicates" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nconfigs:\n- config_name: default\n")
    assert "| hand | " in card and " | MIT | 4; expected 8: -4, -50.0% | 0 | " in card
    assert "| exact_duplicates | 4 | 1 | 3; expected 4: -1, -25.0% | 1 duplicate |  |" in card
    assert "3 problems of 4 rows, curated by open-rs; expected 5: -2, -40.0%" in card
    assert summary["expected"] == {"sources": {"hand": 8}, "kept": 5}
    assert summary["funnel"][0]["expected"] == 4


def test_the_story_of_a_row(tmp_path: Path) -> None:
    make(tmp_path, DUPLICATES, BOXED)
    out = tmp_path / "exact_duplicates-boxed"
    first, second, third, _ = (problem_id(row["problem"], row["answer"]) for row in ROWS)
    append_jsonl(out / "pass_rates.jsonl", {"problem_id": first, "correct": 3})
    (row,) = explain(out, first[:10])
    text = story(row)
    assert f"{first} (hand), {tmp_path}/rows.jsonl, line 1\n" in text
    assert "passed exact_duplicates\n  passed boxed\n  kept" in text
    assert 'pass_rates.jsonl: {"correct": 3}' in text and "problem: Compute 1 + 1." in text
    (row,) = explain(out, second)
    assert "passed exact_duplicates\n  dropped by boxed: no solution" in story(row)
    (row,) = explain(out, third)
    assert f"  dropped by exact_duplicates: duplicate (of {first}" in story(row)
    with pytest.raises(InputError, match="holds no row with id 'zz'"):
        explain(out, "zz")
    with pytest.raises(InputError, match="4 ids begin with ''; give more"):
        explain(out, "")
    with pytest.raises(InputError, match="holds no curated set; give a folder"):
        explain(tmp_path / "nowhere", first)


def test_what_differs_between_two_sets(tmp_path: Path) -> None:
    make(tmp_path, DUPLICATES)
    (tmp_path / "b").mkdir()
    other = [ROWS[0], ROWS[1], ROWS[2], {"problem": "new", "answer": "1", "solution": "\\boxed{1}"}]
    make(tmp_path / "b", DUPLICATES, BOXED, rows=other)
    made = diff(tmp_path / "exact_duplicates", tmp_path / "b" / "exact_duplicates-boxed")
    second = problem_id(ROWS[1]["problem"], ROWS[1]["answer"])
    assert made["shared_rows"] == 3 and made["kept_in_both"] == 1
    assert made["rows_only_left"] == made["rows_only_right"] == 1
    assert made["kept_only_left"] == [
        {"filter": "boxed", "reason": "no solution", "rows": 1, "ids": [second]}
    ]
    assert made["kept_only_right"] == []
    text = diff_text(made)
    assert f"1 kept left, dropped right by boxed: no solution (such as {second})" in text


def test_expectations_decide_nothing(tmp_path: Path) -> None:
    first = make(tmp_path, DUPLICATES)
    assert make(tmp_path, {"type": "exact_duplicates", "expect": 99}) == first  # reused


def test_bad_rows_are_refused_or_dropped_with_their_reason(tmp_path: Path) -> None:
    rows = [ROWS[0], {"problem": "x", "answer": True}, {"problem": " ", "answer": "1"}, ROWS[3]]
    with pytest.raises(InputError, match=r'line 2: column .answer.* or set bad_rows = "drop"'):
        make(tmp_path, BOXED, rows=rows)
    summary = make(tmp_path, BOXED, rows=rows, bad_rows="drop")
    assert summary["funnel"][0] == {
        "filter": "read",
        "input": 4,
        "dropped": 2,
        "kept": 2,
        "reasons": {"column 'answer' holds no text or number": 1, "the problem is empty": 1},
        "noted": {},
        "expected": None,
    }
    manifest = (tmp_path / "boxed" / "manifest.jsonl").read_text().splitlines()
    row = json.loads(manifest[1])
    assert (row["filter"], row["kept"], row["detail"]) == (
        "read",
        False,
        "True",
    )
    with pytest.raises(InputError, match=r"hand: no row can be read \(.*line 1: the problem is em"):
        make(tmp_path, DUPLICATES, rows=rows[2:3], bad_rows="drop")
    with pytest.raises(InputError, match="hand: holds no rows; check the source"):
        make(tmp_path, {"type": "gold"}, rows=[])
