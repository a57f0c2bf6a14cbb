"""Samples of other harnesses: lighteval's details in both layouts, lm-evaluation-harness's logs."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from evaluation_folders import evaluation

from open_rs.commands.compare import comparison_text
from open_rs.errors import InputError
from open_rs.evaluate.compare import DifferentHarness, compare
from open_rs.evaluate.importers import read_evaluation


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def detail(number: int, right: float, texts: int = 1) -> dict[str, Any]:
    """A row as lighteval 0.10 and later write it."""
    return {
        "doc": {
            "id": f"{number}",
            "query": f"question {number}",
            "choices": [f"{number}"],
            "gold_index": [0],
            "task_name": "aime24",
        },
        "metric": {"extractive_match": right, "extractive_match_stderr": 0.1},
        "model_response": {"text": ["so"] * texts, "output_tokens": [[1, 2, 3]] * texts},
    }


def old_detail(number: int, right: float) -> dict[str, Any]:
    """A row as earlier versions write it."""
    return {
        "example": f"question {number}",
        "full_prompt": f"prompt {number}",
        "predictions": ["so"],
        "gold": [f"{number}"],
        "cont_tokens": [[1, 2]],
        "metrics": {"extractive_match": right},
    }


def logged(number: int, right: float, **fields: Any) -> dict[str, Any]:
    """A row of samples_*.jsonl."""
    return {
        "doc_id": number,
        "doc": {"question": f"question {number}"},
        "target": f"{number}",
        "arguments": {
            "gen_args_0": {"arg_0": f"prompt {number}", "arg_1": {"temperature": 0.6, "until": []}}
        },
        "resps": [["so it is 4"]],
        "filtered_resps": ["4"],
        "filter": "strict-match",
        "metrics": ["exact_match"],
        "exact_match": right,
    } | fields


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_lighteval_details(tmp_path: Path) -> None:
    path = parquet(tmp_path / "details_aime24.parquet", [detail(i, i < 3) for i in range(10)])
    summary, rows = read_evaluation(path)
    assert (summary["num_problems"], summary["num_samples"]) == (10, 1)
    assert summary["scores"]["pass@1"]["value"] == pytest.approx(0.3)
    assert summary["mean_tokens"] == 3.0 and summary["name"] == "details_aime24"
    assert summary["fingerprint"]["harness"] == "lighteval"
    assert summary["fingerprint"]["metric"] == "extractive_match"
    assert [row["correct"] for row in rows] == [True] * 3 + [False] * 7
    old = parquet(tmp_path / "old.parquet", [old_detail(i, float(i < 3)) for i in range(10)])
    assert read_evaluation(old)[0]["scores"]["pass@1"]["value"] == pytest.approx(0.3)


def test_several_samples_of_a_problem_are_counted(tmp_path: Path) -> None:
    # .75 of 4 samples: three are right
    path = parquet(tmp_path / "d.parquet", [detail(0, 0.75, texts=4), detail(1, 0.0, texts=4)])
    summary, rows = read_evaluation(path)
    assert summary["num_samples"] == 4 and sum(row["correct"] for row in rows) == 3
    assert [row["sample"] for row in rows] == [0, 1, 2, 3] * 2
    bad = parquet(tmp_path / "bad.parquet", [detail(0, 0.6, texts=4)])
    with pytest.raises(InputError, match=r"score 0\.6 of 4 samples is not a number of correct"):
        read_evaluation(bad)
    uneven = parquet(tmp_path / "uneven.parquet", [detail(0, 1.0, texts=4), detail(1, 1.0)])
    with pytest.raises(InputError, match="1 samples where others have 4"):
        read_evaluation(uneven)


def test_lm_evaluation_harness_samples(tmp_path: Path) -> None:
    rows = [logged(i, float(i < 4)) for i in range(10)]
    rows += [
        logged(i, float(i < 6), filter="flexible-extract", filtered_resps=[["4"]])
        for i in range(10)
    ]
    path = jsonl(tmp_path / "samples_gsm8k.jsonl", rows)
    summary, records = read_evaluation(path)
    assert summary["scores"]["pass@1"]["value"] == pytest.approx(0.4)
    assert summary["fingerprint"]["filter"] == "strict-match"
    assert summary["fingerprint"]["sampling"] == {"temperature": 0.6, "until": []}
    assert records[0]["completion"] == "so it is 4" and records[0]["extracted"] == "4"
    flexible, _ = read_evaluation(path, "exact_match,flexible-extract")
    assert flexible["scores"]["pass@1"]["value"] == pytest.approx(0.6)
    with pytest.raises(InputError, match=r"no filter 'other'; .*strict-match, flexible-extract"):
        read_evaluation(path, "exact_match,other")
    with pytest.raises(InputError, match="no metric 'acc'; name one by --metric: exact_match"):
        read_evaluation(path, "acc")


def test_runs_of_one_harness_are_compared(tmp_path: Path) -> None:
    old = jsonl(tmp_path / "old.jsonl", [logged(i, 0.0) for i in range(30)])
    new = jsonl(tmp_path / "new.jsonl", [logged(i, float(i < 12)) for i in range(30)])
    found = compare(old, new)
    assert found["difference"]["value"] == pytest.approx(0.4) and found["verdict"] == "improved"
    arguments = {"gen_args_0": {"arg_0": "prompt", "arg_1": {"temperature": 0.0}}}
    cold = [logged(i, 1.0, arguments=arguments) for i in range(30)]
    with pytest.raises(DifferentHarness, match=r"prompt .*sampling"):
        compare(old, jsonl(tmp_path / "cold.jsonl", cold))
    folder = evaluation(tmp_path / "ours", {f"{i}": [True] for i in range(30)})
    with pytest.raises(DifferentHarness, match="harness"):
        compare(old, folder)


def test_what_is_no_file_of_samples(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text("{}")
    with pytest.raises(InputError, match=r"aggregates without samples .*--published"):
        read_evaluation(results)
    with pytest.raises(InputError, match="line 1: target, filtered_resps missing"):
        read_evaluation(jsonl(tmp_path / "x.jsonl", [{"doc_id": 1}]))
    half = tmp_path / "half.jsonl"
    half.write_text(json.dumps(logged(1, 1.0)) + '\n{"doc_id": 2, "tar')
    with pytest.raises(InputError, match="line 2: not valid JSON"):
        read_evaluation(half)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match="not a readable parquet file"):
        read_evaluation(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="columns a are not those of lighteval"):
        read_evaluation(parquet(tmp_path / "y.parquet", [{"a": 1}]))
    twice = jsonl(tmp_path / "twice.jsonl", [logged(1, 1.0), logged(1, 0.0)])
    with pytest.raises(InputError, match="1 problems occur twice"):
        read_evaluation(twice)
    nan = jsonl(tmp_path / "nan.jsonl", [logged(1, float("nan"))])
    with pytest.raises(InputError, match="score nan of 1 samples"):
        read_evaluation(nan)
    odd = parquet(tmp_path / "odd.parquet", [detail(0, 1.0) | {"doc": {"id": "0"}}])
    with pytest.raises(InputError, match=r"row 0: not as lighteval writes it .'query'"):
        read_evaluation(odd)
    silent = jsonl(tmp_path / "silent.jsonl", [logged(1, 1.0, filtered_resps=[])])
    with pytest.raises(InputError, match="row 0: not as lm-evaluation-harness writes it"):
        read_evaluation(silent)
    with pytest.raises(InputError, match="holds no samples"):
        read_evaluation(jsonl(tmp_path / "empty.jsonl", []))


def test_what_a_file_does_not_tell_is_told(tmp_path: Path) -> None:
    details = [
        parquet(tmp_path / f"{name}.parquet", [detail(i, float(i < right)) for i in range(30)])
        for name, right in (("old", 3), ("new", 13))
    ]
    found = compare(*details)
    assert found["verdict"] == "improved"
    assert found["untold"] == ["sampling settings", "model"]
    assert "taken on trust: the files tell no sampling settings and no model" in comparison_text(
        found
    )
    logs = [jsonl(tmp_path / f"{name}.jsonl", [logged(i, 1.0) for i in range(3)]) for name in "ab"]
    assert compare(*logs)["untold"] == ["model"]


@pytest.mark.parametrize("name", ["pass@4", "pass@k:k=16&n=16", "maj@8", "math_pass@8:8_samples"])
def test_a_metric_that_is_no_mean_over_samples_is_refused(tmp_path: Path, name: str) -> None:
    rows = [detail(i, 1.0, texts=4) | {"metric": {name: 1.0}} for i in range(3)]
    with pytest.raises(InputError, match="no mean over samples"):
        read_evaluation(parquet(tmp_path / "d.parquet", rows))


@pytest.mark.parametrize("name", ["pass@1:4_samples", "math_pass@1:16_samples", "pass@k:k=1&n=16"])
def test_pass_at_1_is_a_mean_over_samples(tmp_path: Path, name: str) -> None:
    rows = [detail(i, 1.0, texts=4) | {"metric": {name: 0.5}} for i in range(3)]
    summary, _ = read_evaluation(parquet(tmp_path / "d.parquet", rows))
    assert summary["scores"]["pass@1"]["value"] == 0.5
