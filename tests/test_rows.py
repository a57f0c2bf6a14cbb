"""Rows of every format, of patterns and folders; what is broken in one row is that row's matter."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from open_rs.errors import InputError
from open_rs.problems import MAX_CHARACTERS, last_number, load_problems, read_source
from open_rs.recipe import Source, recipe_from_dict
from open_rs.rows import BadRow, files_of, source_rows

ROWS = [{"problem": f'{n} pears, "half" of them,\nläid by', "answer": str(n)} for n in range(1200)]
TEXT = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def csv_text(delimiter: str = ",") -> bytes:
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, ["problem", "answer"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode("utf-8-sig")


def write_all(folder: Path) -> list[Path]:
    """ROWS in every format."""
    table = pa.Table.from_pylist(ROWS)
    plain = {
        "a.jsonl": TEXT,
        "a.jsonl.gz": gzip.compress(TEXT),
        "a.jsonl.zst": pa.Codec("zstd").compress(TEXT, asbytes=True),
        "a.csv": csv_text(),
        "a.csv.gz": gzip.compress(csv_text()),
        "a.tsv": csv_text("\t"),
    }
    for name, content in plain.items():
        (folder / name).write_bytes(content)
    pq.write_table(table, folder / "a.parquet", row_group_size=700)
    with pa.ipc.new_file(folder / "file.arrow", table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_stream(folder / "stream.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=900)
    return sorted(folder.iterdir())


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    files = write_all(tmp_path)
    assert len(files) == 9
    for file in files:
        problems = [problem for _, problem in read_source(Source(path=str(file)))]
        assert [(one.problem, one.answer) for one in problems] == [
            (row["problem"], row["answer"]) for row in ROWS
        ], file


def test_a_second_zstd_frame_is_read_too(tmp_path: Path) -> None:
    codec = pa.Codec("zstd")
    file = tmp_path / "a.jsonl.zst"
    file.write_bytes(codec.compress(TEXT, asbytes=True) + codec.compress(TEXT, asbytes=True))
    assert len(list(read_source(Source(path=str(file))))) == 2 * len(ROWS)


def test_a_row_says_where_it_stands(tmp_path: Path) -> None:
    write_all(tmp_path)
    found = {
        name: next(iter(source_rows(Source(path=str(tmp_path / name)))))[0].rpartition(", ")[2]
        for name in ("a.jsonl", "a.csv", "a.parquet", "stream.arrow")
    }
    # The first row of the csv file stands on lines 2 and 3, after the head
    assert found == {
        "a.jsonl": "line 1", "a.csv": "line 3", "a.parquet": "row 1", "stream.arrow": "row 1"
    }  # fmt: skip


def test_a_pattern_and_a_folder_are_files_by_name(tmp_path: Path) -> None:
    for name in ("b/2.jsonl", "b/1.parquet", "b/deep/3.csv", "b/notes.txt", "b/.hidden.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("")
    names = [one.name for one in files_of(str(tmp_path / "b"))]
    assert names == ["1.parquet", "2.jsonl", "3.csv"]
    assert [one.name for one in files_of(str(tmp_path / "b" / "*.jsonl"))] == ["2.jsonl"]
    assert len(files_of(str(tmp_path / "b" / "**" / "*"))) == 3
    (tmp_path / "b" / "problems.jsonl").write_text("")
    assert [one.name for one in files_of(str(tmp_path / "b"))] == ["problems.jsonl"]
    with pytest.raises(InputError, match=r"\*\.csv: holds no problems\.jsonl and no other file"):
        files_of(str(tmp_path / "*.csv"))
    with pytest.raises(InputError, match=r"none\.jsonl: no such file; check the path"):
        files_of(str(tmp_path / "none.jsonl"))


def reasons(path: Path, **settings: object) -> list[str | None]:
    found = read_source(Source(path=str(path), **settings))  # type: ignore[arg-type]
    return [row.reason if isinstance(row, BadRow) else None for _, row in found]


def test_what_is_broken_in_one_line_is_not_met_in_another(tmp_path: Path) -> None:
    good = b'{"problem": "p", "answer": "1"}'
    lines = [
        good,
        b'{"problem": "caf\xe9", "answer": "1"}',
        b'{"problem": ',
        b"[1]",
        b"[" * 100_000,
        b'{"problem": "\\ud800", "answer": "1"}',
        json.dumps({"problem": "x" * (MAX_CHARACTERS + 1), "answer": "1"}).encode(),
        b'{"problem": {"text": "p"}, "answer": "1"}',
        good,
    ]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    assert reasons(path) == [
        None,
        "not valid UTF-8",
        "not valid JSON",
        "a JSON object is needed, got list",
        "not valid JSON",
        "not valid Unicode",
        "more than 1,000,000 characters",
        "column 'problem' holds no text or number",
        None,
    ]


def test_broken_lines_of_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"problem,answer\np,1\ncaf\xe9,1\np,1,2\np\nq,2\n")
    assert reasons(path) == [
        None,
        "not valid UTF-8",
        "more fields than columns",
        "column 'answer' holds no text or number",
        None,
    ]


def test_a_row_of_ten_megabytes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    row = {"problem": "p", "answer": "1", "transcript": "x" * 10_000_000}
    path.write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    assert reasons(path) == [None, None]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (3, "3"),
        (2.5, "2.5"),
        (["1", "2"], "1, 2"),
        ([1, 2.5], "1, 2.5"),
        (True, None),
        (float("nan"), None),
        ([], None),
        ([["1"]], None),
        (["1", True], None),
        ({"value": 1}, None),
        (None, None),
    ],
)
def test_answers_that_are_no_text(tmp_path: Path, answer: object, text: str | None) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"problem": "p", "answer": answer}) + "\n")
    ((_, row),) = read_source(Source(path=str(path)))
    assert (None if isinstance(row, BadRow) else row.answer) == text


def test_mixed_types_in_one_column(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [{"problem": "p", "answer": value} for value in ("1", 2, [3], None, 4.0)]
    path.write_text("".join(json.dumps(row) + "\n" for row in lines))
    assert reasons(path) == [None, None, None, "column 'answer' holds no text or number", None]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("He has 3 and then 4.", "4"),
        ("That is $1,234.50.", "1234.50"),
        ("x = -7", "-7"),
        ("+7", "7"),
        ("so 3/4 of it", "3/4"),
        ("about .5", ".5"),
        ("none", ""),
        ("", ""),
    ],
)
def test_last_number(text: str, number: str) -> None:
    assert last_number(text) == number


def test_answers_by_the_users_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_answers.py").write_text(
        "def answer(row):\n    return row['final'].upper() if row['final'] else None\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "a.jsonl"
    path.write_text('{"problem": "p", "final": "b"}\n{"problem": "q", "final": ""}\n')
    source = Source(path=str(path), answer_from="my_answers:answer", count=1)
    assert [one.answer for one in load_problems(source)] == ["B"]
    whole = source.model_copy(update={"count": None})
    with pytest.raises(InputError, match=r"line 2: my_answers:answer gave no text"):
        load_problems(whole)


def test_answer_from_is_checked_in_the_recipe() -> None:
    with pytest.raises(InputError, match="answer_from 'box' unknown; known: column, boxed, gsm8k"):
        recipe_from_dict({"sources": [{"path": "a.jsonl", "answer_from": "box"}]})


def test_a_name_stands_for_the_rows_own_source(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"problem": "p", "answer": "1", "source": "book"}\n')
    assert load_problems(Source(path=str(path)))[0].source == "book"
    assert load_problems(Source(path=str(path), name="mine"))[0].source == "mine"


def test_column_files_that_are_broken(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.arrow"):
        (tmp_path / name).write_bytes(b"no such thing")
        with pytest.raises(InputError, match=f"{name}.*: cannot be read"):
            load_problems(Source(path=str(tmp_path / name)))
    broken = pa.Codec("zstd").compress(TEXT, asbytes=True)[:-20]
    (tmp_path / "a.jsonl.zst").write_bytes(broken)
    with pytest.raises(InputError, match=r"a\.jsonl\.zst.*cannot be read"):
        load_problems(Source(path=str(tmp_path / "a.jsonl.zst")))
