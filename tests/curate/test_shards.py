"""Workers, chunks and shards change no byte of the output; what is refused on the way."""

import json
import shutil
import tracemalloc
from pathlib import Path

import pytest
from curation_stand_ins import ScriptedEngine, sampler_of

from open_rs.curate import curate, curate_shard, merge_shards
from open_rs.errors import GuardStop, InputError
from open_rs.problems import Problem
from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.runs import write_jsonl

FILES = ("problems.jsonl", "manifest.jsonl", "summary.json", "README.md", "inputs.json")
FILTERS = [
    {"type": "boxed"},
    {"type": "exact_duplicates"},
    {"type": "gold"},
    {"type": "pass_rate", "num_samples": 2, "above": -1},
    {"type": "near_duplicates"},
    {"type": "sample", "count": 25},
]


def make_recipe(tmp_path: Path, *filters: dict, **changes: object) -> Recipe:
    """90 rows, copies among them that lie in different chunks."""
    path = tmp_path / "rows.jsonl"
    if not path.exists():
        write_jsonl(
            path,
            (
                {
                    "problem": f"Ann has {n % 60} pears and buys {n % 60 + 2} more. How many?",
                    "answer": str(2 * (n % 60) + 2) if n % 13 else "",
                    "solution": "\\boxed{1}" if n % 9 else "",
                }
                for n in range(90)
            ),
        )
    return recipe_from_dict(
        {
            "model": {"path": "scripted/model"},
            "sources": [{"path": str(path)}],
            "filters": list(filters or FILTERS),
            **changes,
        }
    )


def solver() -> ScriptedEngine:
    def script(problem: Problem, sample: int) -> str:
        return f"\\boxed{{{problem.answer if len(problem.problem) % 3 + sample else 0}}}"

    return ScriptedEngine(script)


def curate_in_shards(recipe: Recipe, out: Path, shards: int, chunk_rows: int) -> list[dict]:
    """Shards and merges in turn until the set is there; what each merge said."""
    said: list[dict] = []
    while not said or not said[-1].get("finished", True):
        for number in range(shards, 0, -1):  # in any order
            sampler = sampler_of(solver())
            curate_shard(recipe, out, (number, shards), open_sampler=sampler, chunk_rows=chunk_rows)
        said.append(merge_shards(recipe, out, chunk_rows=chunk_rows))
    return said


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rows and, in `whole`, the set made at one go."""
    folder = tmp_path_factory.mktemp("whole")
    curate(make_recipe(folder), folder / "whole", open_sampler=sampler_of(solver()))
    return folder


def assert_same(out: Path, whole: Path) -> None:
    for name in (*FILES, "pass_rates.jsonl"):
        assert (out / name).read_bytes() == (whole / "whole" / name).read_bytes(), name


@pytest.mark.parametrize("chunk_rows", [7, 90])
def test_chunks_change_no_byte(chunk_rows: int, whole: Path, tmp_path: Path) -> None:
    sampler = sampler_of(solver())
    curate(make_recipe(whole), tmp_path, open_sampler=sampler, chunk_rows=chunk_rows)
    assert_same(tmp_path, whole)


def test_workers_change_no_byte(whole: Path, tmp_path: Path) -> None:
    sampler = sampler_of(solver())
    curate(make_recipe(whole), tmp_path, open_sampler=sampler, chunk_rows=20, workers=3)
    assert_same(tmp_path, whole)


@pytest.mark.parametrize(("shards", "chunk_rows"), [(1, 10), (3, 10), (20, 10), (4, 90)])
def test_shards_change_no_byte(shards: int, chunk_rows: int, whole: Path, tmp_path: Path) -> None:
    said = curate_in_shards(make_recipe(whole), tmp_path, shards, chunk_rows)
    assert_same(tmp_path, whole)
    # Rounds: boxed + exact_duplicates | gold + prompt_limit | pass_rate | near_duplicates | sample:
    # three of them end with a filter that needs all rows
    assert len(said) == 3
    assert [one["round"] for one in said[:-1]] == [2, 5]
    assert not (tmp_path / ".work").exists()
    again = curate_shard(make_recipe(whole), tmp_path, (1, shards))
    assert again["next"] == "the set is finished"


def test_shards_on_machines_of_their_own_meet_by_copying(whole: Path, tmp_path: Path) -> None:
    recipe = make_recipe(whole, {"type": "boxed"}, {"type": "exact_duplicates"}, {"type": "gold"})
    curate(recipe, tmp_path / "whole", chunk_rows=10)
    machines = [tmp_path / str(number) for number in (1, 2)]
    for _ in range(2):
        for number, machine in enumerate(machines, start=1):
            curate_shard(recipe, machine, (number, 2), chunk_rows=10)
            shutil.copytree(machine, tmp_path / "all", dirs_exist_ok=True)
        merge_shards(recipe, tmp_path / "all", chunk_rows=10)
        for machine in machines:
            shutil.copytree(tmp_path / "all", machine, dirs_exist_ok=True)
    for name in FILES:
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_merge_before_its_time_and_other_inputs_are_refused(whole: Path, tmp_path: Path) -> None:
    recipe = make_recipe(whole, {"type": "boxed"}, {"type": "exact_duplicates"})
    with pytest.raises(InputError, match=r"no shard has run; give --shard 1/N first"):
        merge_shards(recipe, tmp_path / "none")
    curate_shard(recipe, tmp_path, (1, 2), chunk_rows=30)
    with pytest.raises(InputError, match=r"round 1 of 1 is not done for 1 of 3 chunks .such as 1."):
        merge_shards(recipe, tmp_path, chunk_rows=30)
    with pytest.raises(InputError, match=r"other inputs here .different: inputs\.filters"):
        curate_shard(make_recipe(whole, {"type": "boxed"}), tmp_path, (2, 2), chunk_rows=30)
    with pytest.raises(InputError, match=r"other inputs here .different: chunk_rows"):
        curate_shard(recipe, tmp_path, (2, 2), chunk_rows=40)
    curate_shard(recipe, tmp_path, (2, 2), chunk_rows=30)
    assert "kept" in merge_shards(recipe, tmp_path, chunk_rows=30)


def test_unfinished_work_on_other_inputs_gives_way(whole: Path, tmp_path: Path) -> None:
    recipe = make_recipe(whole, {"type": "boxed"})
    curate_shard(recipe, tmp_path, (1, 2), chunk_rows=30)
    changed = make_recipe(whole, {"type": "boxed"}, {"type": "exact_duplicates"})
    assert curate(changed, tmp_path)["kept"] > 0


def test_work_that_is_done_is_not_done_again(whole: Path, tmp_path: Path, monkeypatch) -> None:
    """After a failure in the last filter the first one sees no row again."""
    monkeypatch.chdir(tmp_path)
    module = tmp_path / "counting_filter.py"
    module.write_text(
        "def first(problem):\n    with open('seen', 'a') as file:\n        file.write('x')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    custom = {"type": "custom", "function": "counting_filter:first"}
    recipe = make_recipe(whole, custom, {"type": "exact_duplicates"}, {"type": "gold"})
    curate_shard(recipe, tmp_path / "out", (1, 1), chunk_rows=30)
    assert (tmp_path / "seen").read_text() == "x" * 90
    curate(recipe, tmp_path / "out", chunk_rows=30)
    assert (tmp_path / "seen").read_text() == "x" * 90


def test_a_filter_that_fails_in_a_worker_is_named(whole: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "failing_filter.py").write_text(
        "import os\n"
        "def raises(problem):\n    raise KeyError('a')\n"
        "def dies(problem):\n    os.kill(os.getpid(), 9)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    raises = make_recipe(whole, {"type": "custom", "function": "failing_filter:raises"})
    with pytest.raises(InputError, match=r"failing_filter:raises: problem .* KeyError: 'a'"):
        curate(raises, tmp_path / "a", workers=2, chunk_rows=30)
    dies = make_recipe(whole, {"type": "custom", "function": "failing_filter:dies"})
    with pytest.raises(GuardStop, match=r"exit status -9\) in round 1, chunk .: killed"):
        curate(dies, tmp_path / "b", workers=2, chunk_rows=30)


def test_numbers_are_kept_as_the_sources_give_them(tmp_path: Path) -> None:
    """One row in several chunks and sources: the manifest has them all, in order."""
    for name in "ab":
        write_jsonl(tmp_path / f"{name}.jsonl", ({"problem": name, "answer": 1} for _ in range(3)))
    recipe = recipe_from_dict(
        {
            "sources": [{"path": str(tmp_path / f"{name}.jsonl"), "name": name} for name in "ab"],
            "filters": [{"type": "exact_duplicates"}],
        }
    )
    summary = curate(recipe, tmp_path / "out", chunk_rows=2)
    manifest = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in manifest]
    assert [row["source"] for row in rows] == ["a", "a", "a", "b", "b", "b"]
    assert [row["kept"] for row in rows] == [True, False, False, True, False, False]
    assert summary["sources"] == {"a": 3, "b": 3}


def test_half_of_a_decision_that_a_kill_left_does_not_count(whole: Path, tmp_path: Path) -> None:
    recipe = make_recipe(whole, {"type": "boxed"}, {"type": "exact_duplicates"})
    curate(recipe, tmp_path / "whole", chunk_rows=10)
    curate_shard(recipe, tmp_path / "out", (1, 1), chunk_rows=10)
    left = tmp_path / "out" / ".work" / "round-1" / "000002.closing.json"
    left.write_text('[[0, 1, "drop", "duplicate", ""]]')
    merge_shards(recipe, tmp_path / "out", chunk_rows=10)
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_shard_that_begins_beside_another_removes_nothing(whole: Path, tmp_path: Path) -> None:
    """Between the other's first chunk and its inputs.json there may be a moment."""
    recipe = make_recipe(whole, {"type": "boxed"}, {"type": "exact_duplicates"})
    curate_shard(recipe, tmp_path, (1, 2), chunk_rows=30)
    (tmp_path / ".work" / "inputs.json").unlink()
    curate_shard(recipe, tmp_path, (2, 2), chunk_rows=30)
    assert "kept" in merge_shards(recipe, tmp_path, chunk_rows=30)


def test_reading_and_writing_hold_a_chunk_at_a_time(tmp_path: Path) -> None:
    """600 rows of 10 kB are 6 MB; a chunk of 30 is 0.3 MB, and some copies of it."""
    peaks = []
    for name, count in (("few", 30), ("many", 600)):  # the first time libraries are loaded, too
        path = tmp_path / f"{name}.jsonl"
        write_jsonl(path, ({"problem": f"{n}" + "x" * 10_000, "answer": "1"} for n in range(count)))
        recipe = recipe_from_dict({"sources": [{"path": str(path)}]})
        curate(recipe, tmp_path / "warm" / name, chunk_rows=30)
        tracemalloc.start()
        try:
            assert curate(recipe, tmp_path / name, chunk_rows=30)["kept"] == count
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1e6
