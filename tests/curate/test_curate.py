"""The driver: the funnel, the files it leaves, what it refuses; nothing half-made stays."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from curation_stand_ins import ScriptedEngine, sampler_of

from open_rs import runs
from open_rs.curate import CuratedFolder, curate
from open_rs.errors import InputError
from open_rs.problems import load_problems, problem_id
from open_rs.recipe import Source, recipe_from_dict
from open_rs.tasks.arithmetic import defect_counts

DEFECTS = [
    {"type": "boxed"},
    {"type": "gold"},
    {"type": "exact_duplicates"},
    {"type": "contamination", "against": ["test"]},
]


UNTOUCHED = {"filter": None, "reason": None, "detail": None, "note": None}


def arithmetic_recipe(*filters, seed=11, count=500, **changes):
    task = {"seed": seed, "levels": [1, 2, 3, 4]}
    return recipe_from_dict(
        {
            "sources": [{"task": "arithmetic_raw", "count": count, **task}],
            "filters": list(filters),
            "data": {"test": {"task": "arithmetic", "split": "test", "count": 80, **task}},
            **changes,
        }
    )


def file_recipe(path: Path, rows, *filters, **changes):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return recipe_from_dict({"sources": [{"path": str(path)}], "filters": list(filters), **changes})


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def files_in(folder: Path):
    return sorted(one.name for one in folder.iterdir()) if folder.exists() else []


def test_the_raw_arithmetic_set_loses_exactly_its_defects(tmp_path):
    def script(problem, sample):  # level 0 always, level 4 never, the others in turn
        level = int(problem.source[-1])
        solved = level == 0 or (level < 4 and sample % 2 == 0)
        return f"\\boxed{{{problem.answer}}}" if solved else "\\boxed{-1}"

    recipe = arithmetic_recipe(*DEFECTS, {"type": "pass_rate", "num_samples": 2})
    summary = curate(recipe, tmp_path, open_sampler=sampler_of(ScriptedEngine(script)))
    counts = defect_counts(500, 80)
    stages = {stage["filter"]: stage for stage in summary["funnel"]}
    assert list(stages) == [
        "boxed", "gold", "exact_duplicates", "contamination", "prompt_limit", "pass_rate",
    ]  # fmt: skip
    assert stages["boxed"]["reasons"] == {"no \\boxed{} in the solution": counts["no_box"]}
    assert stages["gold"]["reasons"] == {  # 30 bad golds, a third of each kind
        "gold cannot be read as an answer": 10,
        "no gold": 10,
        "gold cannot be parsed": 10,
    }
    assert stages["exact_duplicates"]["reasons"] == {"duplicate": counts["duplicate"]}
    assert stages["contamination"]["reasons"] == {"copy of a row of test": counts["held_out"]}
    assert stages["pass_rate"]["reasons"]["pass rate not below 1"] == counts["trivial"]
    for before, after in zip(summary["funnel"], summary["funnel"][1:], strict=False):
        assert before["kept"] == after["input"]
        assert before["input"] - before["dropped"] == before["kept"]
    assert summary["input"] == 500
    assert summary["kept"] == summary["funnel"][-1]["kept"]
    assert summary["sources"] == {"arithmetic_raw/train": 500}

    kept = load_problems(Source(path=str(tmp_path)))  # as training reads it
    assert len(kept) == summary["kept"]
    assert {one.source[-1] for one in kept} == {"1", "2", "3"}
    test_texts = {one.problem for one in load_problems(recipe.data.test)}
    assert not test_texts & {one.problem for one in kept}


def test_manifest_has_one_row_per_input_row_in_order(tmp_path):
    rows = [
        {"problem": "Compute 1 + 1.", "answer": "2", "solution": "\\boxed{2}", "source": "hand"},
        {"problem": "Compute 1 + 2.", "answer": "3"},
        {"problem": "compute 1 + 1", "answer": "2", "solution": "\\boxed{2}"},
    ]
    path = tmp_path / "rows.jsonl"
    recipe = file_recipe(path, rows, {"type": "boxed"}, {"type": "exact_duplicates"})
    summary = curate(recipe, tmp_path / "out")
    folder = CuratedFolder(tmp_path / "out")
    first, second, third = (problem_id(row["problem"], row["answer"]) for row in rows)
    assert rows_of(folder.manifest) == [
        {"id": first, "source": "hand", "where": f"{path}, line 1", "kept": True, **UNTOUCHED},
        {
            "id": second,
            "source": str(path),
            "where": f"{path}, line 2",
            "kept": False,
            "filter": "boxed",
            "reason": "no solution",
            "detail": "",
            "note": None,
        },
        {
            "id": third,
            "source": str(path),
            "where": f"{path}, line 3",
            "kept": False,
            "filter": "exact_duplicates",
            "reason": "duplicate",
            "detail": f"of {first}",
            "note": None,
        },
    ]
    assert rows_of(folder.problems) == [{"id": first, **rows[0]}]
    assert runs.read_json(folder.summary) == summary
    assert summary == {
        "input": 3,
        "kept": 1,
        "funnel": [
            {
                "filter": "boxed",
                "input": 3,
                "dropped": 1,
                "kept": 2,
                "reasons": {"no solution": 1},
                "noted": {},
                "expected": None,
            },
            {
                "filter": "exact_duplicates",
                "input": 2,
                "dropped": 1,
                "kept": 1,
                "reasons": {"duplicate": 1},
                "noted": {},
                "expected": None,
            },
        ],
        "sources": {str(path): 3},
        "too_long": 0,
        "expected": {"sources": {}, "kept": None},
    }


def test_filters_run_in_the_order_given(tmp_path):
    # The copy with another answer is without a box: first boxed, then no conflict is left
    rows = [
        {"problem": "Compute 1 + 1.", "answer": "2", "solution": "\\boxed{2}"},
        {"problem": "Compute 1 + 1.", "answer": "3", "solution": "three"},
        {"problem": "Compute 4 + 4.", "answer": "8", "solution": "\\boxed{8}"},
    ]
    path = tmp_path / "rows.jsonl"
    boxed, duplicates = {"type": "boxed"}, {"type": "exact_duplicates"}
    assert curate(file_recipe(path, rows, boxed, duplicates), tmp_path / "a")["kept"] == 2
    assert curate(file_recipe(path, rows, duplicates, boxed), tmp_path / "b")["kept"] == 1


def test_same_recipe_same_bytes(tmp_path):
    for name in ("a", "b"):
        curate(arithmetic_recipe(*DEFECTS[2:], count=100), tmp_path / name)
    for name in files_in(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_whole_output_is_reused_and_one_of_other_inputs_refused(tmp_path):
    path, out = tmp_path / "rows.jsonl", tmp_path / "out"
    rows = [{"problem": "Compute 1 + 1.", "answer": "2"}]
    recipe = file_recipe(path, rows, {"type": "gold"})
    first = curate(recipe, out)
    written = (out / "problems.jsonl").stat().st_mtime_ns
    assert curate(recipe, out) == first
    assert (out / "problems.jsonl").stat().st_mtime_ns == written

    with pytest.raises(InputError, match=r"other inputs .different: filters"):
        curate(file_recipe(path, rows, {"type": "gold"}, {"type": "exact_duplicates"}), out)
    with pytest.raises(InputError, match=r"other inputs .different: files\."):
        curate(file_recipe(path, [*rows, {"problem": "x", "answer": "1"}], {"type": "gold"}), out)
    assert (out / "problems.jsonl").stat().st_mtime_ns == written


def test_settings_that_curation_does_not_read_change_nothing(tmp_path):
    rows, path = [{"problem": "Compute 1 + 1.", "answer": "2"}], tmp_path / "rows.jsonl"
    first = curate(file_recipe(path, rows, {"type": "gold"}), tmp_path / "out")
    changed = file_recipe(path, rows, {"type": "gold"}, seed=5, train={"num_steps": 7})
    assert curate(changed, tmp_path / "out") == first


def test_problems_that_curate_did_not_write_are_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "problems.jsonl").write_text("mine\n")
    recipe = file_recipe(tmp_path / "rows.jsonl", [{"problem": "x", "answer": "1"}])
    with pytest.raises(InputError, match="curate did not write it; give another folder"):
        curate(recipe, tmp_path / "out")
    assert (tmp_path / "out" / "problems.jsonl").read_text() == "mine\n"


def test_an_empty_set_is_refused_with_the_funnel_and_leaves_nothing(tmp_path):
    rows = [{"problem": "x", "answer": ""}, {"problem": "y", "answer": "1"}]
    recipe = file_recipe(tmp_path / "rows.jsonl", rows, {"type": "gold"}, {"type": "boxed"})
    with pytest.raises(InputError) as caught:
        curate(recipe, tmp_path / "out")
    assert str(caught.value) == (
        "filters: no problem is left of 2 (dropped by gold 1, boxed 1); "
        "loosen these filters or add sources"
    )
    assert files_in(tmp_path / "out") == []


def test_no_model_is_opened_for_an_empty_set(tmp_path):
    def open_sampler(recipe):
        raise AssertionError("opened")

    filters = [{"type": "boxed"}, {"type": "pass_rate"}]
    recipe = file_recipe(tmp_path / "rows.jsonl", [{"problem": "x", "answer": "1"}], *filters)
    with pytest.raises(InputError, match="dropped by boxed 1"):
        curate(recipe, tmp_path / "out", open_sampler=open_sampler)


@pytest.mark.parametrize("failing", ["inputs.json", "manifest.jsonl", "problems.jsonl"])
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, failing):
    replace = os.replace

    def full(source, target):
        if Path(target).name == failing:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(runs.os, "replace", full)
    recipe = file_recipe(tmp_path / "rows.jsonl", [{"problem": "x", "answer": "1"}])
    with pytest.raises(InputError, match=f"{failing}: cannot be written .No space left"):
        curate(recipe, tmp_path / "out")
    assert set(files_in(tmp_path / "out")) <= {".work"}  # what a later run goes on from
    monkeypatch.undo()
    assert curate(recipe, tmp_path / "out")["kept"] == 1
    assert ".work" not in files_in(tmp_path / "out")


def test_what_a_kill_before_the_end_left_is_written_anew(tmp_path):
    recipe = file_recipe(tmp_path / "rows.jsonl", [{"problem": "x", "answer": "1"}])
    out = CuratedFolder(tmp_path / "out")
    out.path.mkdir()
    out.inputs.write_text("{}")
    out.manifest.write_text('{"torn')
    assert curate(recipe, out.path)["kept"] == 1
    assert len(rows_of(out.manifest)) == 1


def test_against_names_the_sets_of_the_recipe_or_a_path(tmp_path):
    held_out = tmp_path / "held.jsonl"
    held_out.write_text('{"id": "h7", "problem": "Compute 1 + 1.", "answer": "2"}\n')
    rows = [{"problem": text, "answer": "2"} for text in ("compute 1 + 1", "Compute 2 + 0.")]
    against_path = {"type": "contamination", "against": [str(held_out)]}
    curate(file_recipe(tmp_path / "rows.jsonl", rows, against_path), tmp_path / "a")
    manifest = rows_of(CuratedFolder(tmp_path / "a").manifest)
    assert manifest[0]["reason"] == f"copy of a row of {held_out}"
    assert manifest[0]["detail"] == "h7"

    data = {"validation": {"path": str(held_out)}}
    by_name = {"type": "contamination", "against": ["validation"]}
    curate(file_recipe(tmp_path / "rows.jsonl", rows, by_name, data=data), tmp_path / "b")
    manifest = rows_of(CuratedFolder(tmp_path / "b").manifest)
    assert manifest[0]["reason"] == "copy of a row of validation"

    with pytest.raises(InputError, match=r'against "test", but the recipe has no data\.test'):
        curate(
            file_recipe(tmp_path / "rows.jsonl", rows, {"type": "contamination"}, data=data),
            tmp_path / "c",
        )
    missing = {"type": "contamination", "against": ["no/such.jsonl"]}
    with pytest.raises(InputError, match=r"no/such\.jsonl: no such file"):
        curate(file_recipe(tmp_path / "rows.jsonl", rows, missing), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_sources_are_needed(tmp_path):
    with pytest.raises(InputError, match=r"sources is empty; add \[\[sources\]\]"):
        curate(recipe_from_dict({}), tmp_path)


def test_an_id_is_the_content_hash_whatever_the_source_gives(tmp_path):
    for name, text in (("a", "first"), ("b", "second")):
        rows = [{"id": "0", "problem": text, "answer": "1"}]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = recipe_from_dict({"sources": [{"path": str(tmp_path / f"{n}.jsonl")} for n in "ab"]})
    curate(recipe, tmp_path / "out")
    kept = load_problems(Source(path=str(tmp_path / "out")))
    assert [one.id for one in kept] == [problem_id("first", "1"), problem_id("second", "1")]


def test_repeated_rows_need_the_duplicates_filter(tmp_path):
    rows = [{"problem": "x", "answer": "1"}] * 2
    path = tmp_path / "rows.jsonl"
    with pytest.raises(InputError, match=r'add { type = "exact_duplicates" } to filters'):
        curate(file_recipe(path, rows), tmp_path / "out")
    assert files_in(tmp_path / "out") == []
    assert (
        curate(file_recipe(path, rows, {"type": "exact_duplicates"}), tmp_path / "out")["kept"] == 1
    )


def test_the_users_filter_and_a_change_of_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = tmp_path / "my_curation_filter.py"
    module.write_text(
        textwrap.dedent(
            """
            def keep(problem):
                return "has an x" if "x" in problem.problem else None
            """
        )
    )
    rows = [{"problem": "x", "answer": "1"}, {"problem": "y", "answer": "1"}]
    custom = {"type": "custom", "function": "my_curation_filter:keep"}
    recipe = file_recipe(tmp_path / "rows.jsonl", rows, custom)
    summary = curate(recipe, tmp_path / "out")
    assert summary["funnel"][0]["filter"] == "my_curation_filter:keep"
    assert summary["funnel"][0]["reasons"] == {"has an x": 1}
    module.write_text(module.read_text() + "\n# another version\n")
    with pytest.raises(InputError, match=r"different: files\.my_curation_filter:keep"):
        curate(recipe, tmp_path / "out")


def test_no_torch_without_a_model(tmp_path):
    code = """
    import sys
    from pathlib import Path
    from open_rs.curate import curate
    from open_rs.recipe import recipe_from_dict

    task = {"task": "arithmetic_raw", "count": 100}
    kinds = ("boxed", "gold", "exact_duplicates", "contamination")
    recipe = recipe_from_dict({
        "sources": [task],
        "filters": [{"type": kind} for kind in kinds],
        "data": {
            split: {"task": "arithmetic", "split": split, "count": 20}
            for split in ("validation", "test")
        },
    })
    curate(recipe, Path(sys.argv[1]))
    sys.exit(bool({"torch", "transformers"} & set(sys.modules)))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "out")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "problems.jsonl").exists()


def test_gsm8k_r1zero_holds_the_whole_gsm8k_test_set(tmp_path, data_dir):
    test_set = data_dir / "benchmarks" / "gsm8k_test.jsonl"
    recipe = recipe_from_dict(
        {
            "sources": [{"path": str(data_dir / "train" / "gsm8k_r1zero.jsonl.gz")}],
            "filters": [{"type": "contamination", "against": [str(test_set)]}],
        }
    )
    summary = curate(recipe, tmp_path)
    assert (summary["input"], summary["kept"]) == (8792, 7473)
    assert summary["funnel"][0]["reasons"] == {f"copy of a row of {test_set}": 1319}
    named = {row["detail"] for row in rows_of(tmp_path / "manifest.jsonl") if not row["kept"]}
    assert named == {f"gsm8k/{number}" for number in range(1319)}


def test_what_deepscaler_aime_shares_with_math500(tmp_path, data_dir):
    math500 = str(data_dir / "benchmarks" / "math500.jsonl")
    recipe = recipe_from_dict(
        {
            "sources": [{"path": str(data_dir / "train" / "deepscaler_aime.jsonl.gz")}],
            "filters": [
                {
                    "type": "contamination",
                    "against": [math500],
                }
            ],
        }
    )
    # five but for case, spaces and delimiters, one that writes \cdots for \dots; two in other words
    # and one that asks for a + b in place of z were looked at
    reasons = curate(recipe, tmp_path)["funnel"][0]["reasons"]
    assert {reason.removesuffix(math500): count for reason, count in reasons.items()} == {
        "copy of a row of ": 6,
        "copy in other words of a row of ": 2,
        "quotes a row of ": 1,
    }
