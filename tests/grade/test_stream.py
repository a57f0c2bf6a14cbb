import json
from pathlib import Path

import pytest

from open_rs.errors import InputError
from open_rs.grade import OUTCOMES, POLICY_VERSION, Grade, audit_files, grade_file, stream


def write(path, *rows):
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def row(n, gold="3", completion=None):
    answer = rf"\boxed{{{n}}}" if completion is None else completion
    return {"id": f"r{n}", "gold": gold, "completion": answer, "note": "kept"}


def test_order_fields_and_summary(tmp_path):
    slow = row(9, r"\sqrt{6}", r"\boxed{\sqrt{2}\sqrt{3}}")  # by a worker, the rest at once
    source = write(tmp_path / "in.jsonl", slow, row(3), row(4), "", row(5, completion="5"))
    summary = grade_file(source, tmp_path / "out.jsonl")
    graded = read(tmp_path / "out.jsonl")
    assert [one["id"] for one in graded] == ["r9", "r3", "r4", "r5"]
    assert [one["outcome"] for one in graded] == ["correct", "correct", "wrong", "no_answer"]
    assert [one["extracted"] for one in graded] == [r"\sqrt{2}\sqrt{3}", "3", "4", None]
    assert all(one["note"] == "kept" and one["seconds"] >= 0 for one in graded)
    assert {one["policy_version"] for one in graded} == {POLICY_VERSION}
    assert summary.rows == 4 and summary.complete
    assert summary.outcomes == dict.fromkeys(OUTCOMES, 0) | {
        "correct": 2, "wrong": 1, "no_answer": 1,
    }  # fmt: skip
    assert summary.undecided_frac == 0.0
    assert json.loads(json.dumps(summary.as_dict()))["policy_version"] == POLICY_VERSION


def test_undecided_share(tmp_path):
    source = write(tmp_path / "in.jsonl", row(3), row(3, gold=" "), row(3), row(3))
    assert grade_file(source, tmp_path / "out.jsonl").undecided_frac == 0.25  # 1 bad gold of 4


def test_a_row_says_whether_its_template_opened_the_thought(tmp_path):
    source = write(tmp_path / "in.jsonl", row(3) | {"opens_think": True}, row(3))
    grade_file(source, tmp_path / "out.jsonl")
    assert [one["outcome"] for one in read(tmp_path / "out.jsonl")] == ["no_answer", "correct"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{not json", "line 3: not valid JSON"),
        ('["list"]', "line 3: a JSON object is needed"),
        ({"gold": "3"}, "line 3: field 'completion' is missing or not text"),
        ({"completion": "x", "gold": 3}, "line 3: field 'gold' is missing or not text"),
    ],
)
def test_a_malformed_row_is_named_and_the_rows_before_it_are_graded(tmp_path, bad, message):
    source = write(tmp_path / "in.jsonl", row(3), row(4), bad, row(3))
    with pytest.raises(InputError, match=message):
        grade_file(source, tmp_path / "out.jsonl")
    assert [one["outcome"] for one in read(tmp_path / "out.jsonl")] == ["correct", "wrong"]


def test_files_that_cannot_be_used(tmp_path):
    source = write(tmp_path / "in.jsonl", row(3))
    with pytest.raises(InputError, match="no such file"):
        grade_file(tmp_path / "absent.jsonl", tmp_path / "out.jsonl")
    with pytest.raises(InputError, match="holds no rows"):
        grade_file(write(tmp_path / "empty.jsonl"), tmp_path / "out.jsonl")
    with pytest.raises(InputError, match="cannot be written"):
        grade_file(source, tmp_path / "absent" / "out.jsonl")
    with pytest.raises(InputError, match="is the input too"):
        grade_file(source, source)
    assert read(source) == [row(3)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is not here")
def test_a_full_disk_is_named(tmp_path):
    source = write(tmp_path / "in.jsonl", row(3))
    with pytest.raises(InputError, match=r"/dev/full: cannot be written \(No space left"):
        grade_file(source, Path("/dev/full"))


def test_rows_under_way_are_bounded_by_their_text(monkeypatch):
    monkeypatch.setattr(stream, "IN_FLIGHT_CHARACTERS", 1_000)
    read_ahead = []

    def rows():
        for n in range(20):
            read_ahead.append(n)
            yield {"gold": "3", "completion": "x" * 300}

    class Slow:  # grades nothing until it is asked for the result
        def submit(self, *pair, opens_think):
            return Waiting()

    class Waiting:
        def done(self):
            return False

        def result(self):
            return Grade("no_answer", None, 0.0)

    graded = stream._graded(rows(), Slow(), False)
    next(graded)
    assert len(read_ahead) == 4  # 4 * 301 characters are the first to reach 1,000


def test_ctrl_c_leaves_whole_lines_and_says_so(tmp_path):
    source = write(tmp_path / "in.jsonl", *(row(n) for n in range(50)))
    seen = []

    def interrupt(count):
        seen.append(count)
        if len(seen) == 7:
            raise KeyboardInterrupt

    summary = grade_file(source, tmp_path / "out.jsonl", on_graded=interrupt)
    assert not summary.complete
    assert summary.rows == 7
    assert [one["id"] for one in read(tmp_path / "out.jsonl")] == [f"r{n}" for n in range(7)]


def test_text_that_is_no_unicode_survives(tmp_path):
    source = write(tmp_path / "in.jsonl", row(3) | {"note": "\ud800 7"})
    grade_file(source, tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl")[0]["note"] == "\ud800 7"


def graded(n, outcome, **more):
    return {"id": f"r{n}", "gold": "3", "outcome": outcome, "extracted": str(n)} | more


def test_audit_lists_where_two_gradings_differ(tmp_path):
    ours = write(tmp_path / "a", graded(1, "correct"), graded(2, "wrong"), graded(3, "wrong"))
    theirs = write(tmp_path / "b", graded(1, "correct"), graded(2, "correct"), graded(3, "error"))
    audit = audit_files(ours, theirs)
    assert audit.rows == 3
    assert audit.changes == {"wrong / correct": 1, "wrong / error": 1}
    assert [(one.row, one.id, one.ours, one.theirs) for one in audit.disagreements] == [
        (2, "r2", "wrong", "correct"),
        (3, "r3", "wrong", "error"),
    ]
    short = audit_files(ours, theirs, limit=1)
    assert (len(short.disagreements), short.left_out) == (1, 1)


def test_audit_of_files_that_do_not_match(tmp_path):
    ours = write(tmp_path / "a", graded(1, "correct"), graded(2, "wrong"))
    with pytest.raises(InputError, match="ends after 1 rows"):
        audit_files(ours, write(tmp_path / "b", graded(1, "correct")))
    with pytest.raises(InputError, match="row 2: id 'r7' is not 'r2'"):
        audit_files(ours, write(tmp_path / "c", graded(1, "correct"), graded(7, "wrong")))
    with pytest.raises(InputError, match="line 1: outcome 'good' is none of"):
        audit_files(ours, write(tmp_path / "d", graded(1, "good")))
