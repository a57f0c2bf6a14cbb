"""The table of benchmarks, and files in their place."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from open_rs.benchmarks import ANSWER_KINDS, BENCHMARKS, gradable, load_benchmark
from open_rs.errors import InputError
from open_rs.problems import Problem
from open_rs.prompts import USER_PROMPTS

NUMBERS = {  # as the papers of the sets state them
    "aime24": 30,
    "aime25": 30,
    "math500": 500,
    "amc23": 40,
    "minerva": 272,
    "olympiadbench": 675,
    "gsm8k": 1319,
}
HERE = sorted(set(NUMBERS) - {"aime25"})


@pytest.fixture
def benchmarks(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPEN_RS_BENCHMARKS", str(data_dir / "benchmarks"))
    return data_dir / "benchmarks"


def rows(count: int = 30, **changes: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"aime24/{n}", "problem": f"What is {n} + 1?", "answer": str(n + 1)} | changes
        for n in range(count)
    ]


def write(path: Path, given: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return path


def test_the_table_is_whole() -> None:
    assert {name: one.num_problems for name, one in BENCHMARKS.items()} == NUMBERS
    for name, one in BENCHMARKS.items():
        assert one.name == name and one.source.hub and one.version >= 1
        assert one.answer_kind in ANSWER_KINDS and one.prompt in USER_PROMPTS


@pytest.mark.parametrize("name", HERE)
def test_real_files_agree_with_the_table(name: str, benchmarks: Path) -> None:
    problems = load_benchmark(name)
    assert len(problems) == NUMBERS[name]
    assert all(one.id.startswith(f"{name}/") for one in problems)
    kept, left_out = gradable(name, problems)
    assert set(left_out) <= set(BENCHMARKS[name].bad_golds)
    assert len(kept) + len(left_out) == len(problems)


@pytest.mark.parametrize("name", HERE)
def test_the_hub_rows_give_the_problems_of_the_files(
    name: str, benchmarks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set with the hub's columns, read by the hub's library, has the same ids and golds."""
    files = load_benchmark(name)[:12]
    hub = []
    for number, one in enumerate(files):
        row = {"problem": one.problem, "answer": one.answer, "solution": one.solution}
        if name in ("aime24", "amc23", "olympiadbench"):
            row["id"] = one.id.partition("/")[2]
        elif name == "math500":
            row["unique_id"] = one.id.partition("/")[2]
        elif name == "minerva":
            row |= {"idx": number + 5}
        if name in ("olympiadbench", "gsm8k"):
            row["question"] = row.pop("problem")
        if name == "gsm8k":
            row["answer"] = row.pop("solution")
        hub.append(row)
    table = BENCHMARKS[name]
    folder = tmp_path / "hub"
    folder.mkdir()
    write(folder / f"{table.source.split}.jsonl", hub)
    monkeypatch.delenv("OPEN_RS_BENCHMARKS")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    local = table.source.model_copy(update={"hub": str(folder), "config": None})
    monkeypatch.setitem(
        BENCHMARKS,
        name,
        type(table)(**{**vars(table), "source": local, "num_problems": len(hub)}),
    )
    found = load_benchmark(name)
    assert [(one.id, one.problem, one.answer) for one in found] == [
        (one.id, one.problem, one.answer) for one in files
    ]


def test_without_a_hub_the_folder_is_named_as_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPEN_RS_BENCHMARKS", str(tmp_path))
    table = BENCHMARKS["aime25"]
    gone = table.source.model_copy(update={"hub": str(tmp_path / "gone")})
    monkeypatch.setitem(BENCHMARKS, "aime25", type(table)(**{**vars(table), "source": gone}))
    with pytest.raises(InputError, match=r"cannot be loaded .*put aime25\.jsonl .*OPEN_RS_BENCHM"):
        load_benchmark("aime25")


def test_a_file_stands_for_a_benchmark(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.jsonl", rows(3))
    assert [one.id for one in load_benchmark(str(file))] == ["aime24/0", "aime24/1", "aime24/2"]
    write(tmp_path / "problems.jsonl", rows(2))
    assert len(load_benchmark(str(tmp_path))) == 2
    table = tmp_path / "mine.csv"
    table.write_text("id,problem,answer\nmine/1,What is 1 + 1?,2\n,What is 2 + 2?,4\n")
    with pytest.raises(InputError, match=r"mine\.csv, (row|line) \d: id is missing"):
        load_benchmark(str(table))
    table.write_text("id,problem,answer\nmine/1,What is 1 + 1?,2\n")
    assert load_benchmark(str(table))[0].answer == "2"


def test_the_folder_wins_over_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPEN_RS_BENCHMARKS", str(tmp_path))
    write(tmp_path / "aime24.jsonl", rows())
    assert load_benchmark("aime24")[29] == Problem(
        "aime24/29", "What is 29 + 1?", "30", source=str(tmp_path / "aime24.jsonl")
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (rows(29), r"holds 29 problems and aime24 has 30; get the whole set"),
        (rows(31), r"holds 31 problems and aime24 has 30"),
        (rows(29) + rows(1), r"id 'aime24/0' occurs more than once"),
        ([*rows(29), {"problem": "?", "answer": "1"}], r"aime24.jsonl, line 30: id is missing"),
        ([*rows(29), rows(1)[0] | {"id": ""}], r"aime24.jsonl, line 30: id is missing"),
        (rows(answer="1/2"), r"answer of aime24/0 is '1/2', and those of aime24 are integers"),
        (rows(answer=""), r"line 1: the answer is empty"),
    ],
)
def test_a_file_that_is_not_the_benchmark_is_refused(
    given: list[dict[str, Any]], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPEN_RS_BENCHMARKS", str(tmp_path))
    write(tmp_path / "aime24.jsonl", given)
    with pytest.raises(InputError, match=told):
        load_benchmark("aime24")


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'aime2' unknown; did you mean aime25\? known: aime24, "):
        load_benchmark("aime2")
    with pytest.raises(InputError, match=r"or give the path of a file with id"):
        load_benchmark("humaneval")
    with pytest.raises(InputError, match=r"no/such/file\.jsonl: no such file"):
        load_benchmark("no/such/file.jsonl")


def test_a_gold_that_does_not_grade_itself_is_named() -> None:
    good, bad = Problem("mine/1", "?", "1/2"), Problem("mine/2", "?", "np.arcsin(10/13)")
    with pytest.raises(InputError, match=r"answer of mine/2, 'np.arcsin\(10/13\)', does not grade"):
        gradable("mine.jsonl", [good, bad])
    published = Problem("minerva/5", "?", "np.arcsin(10/13)")
    assert gradable("minerva", [good, published]) == ([good], ["minerva/5"])


def test_benchmarks_need_no_torch() -> None:
    code = "import sys, open_rs.benchmarks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
