"""Reading problem files: columns, golds, folders, and errors that name the row and the cure."""

import gzip
import hashlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_rs.errors import InputError
from open_rs.overlap import refuse_overlap
from open_rs.problems import (
    Problem,
    last_boxed,
    load_problems,
    open_bytes,
    place_of,
    problem_id,
    problem_lines,
    read_jsonl,
)
from open_rs.recipe import Source


def write(path, *rows):
    """JSON Lines; a row that is text is written as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refusal(source, **settings):
    with pytest.raises(InputError) as caught:
        load_problems(source, **settings)
    return str(caught.value)


def test_a_row_as_it_is_and_the_defaults(tmp_path):
    full = {"id": "a", "problem": "p", "answer": "1", "solution": "s", "source": "book"}
    path = write(tmp_path / "set.jsonl", full, {"problem": "Compute 1 + 1.", "answer": 2})
    first, second = load_problems(Source(path=str(path)))
    assert first == Problem("a", "p", "1", "s", "book")
    # The id of a row without one: first 16 hex digits of sha256(problem NUL answer)
    id_ = hashlib.sha256(b"Compute 1 + 1.\x002").hexdigest()[:16]
    assert second == Problem(id_, "Compute 1 + 1.", "2", "", str(path))
    assert problem_id("Compute 1 + 1.", "2") == id_


def test_an_id_of_0_is_an_id(tmp_path):
    rows = [{"id": given, "problem": "p", "answer": "1"} for given in (0, "", None)]
    source = Source(path=str(write(tmp_path / "s.jsonl", *rows[:2])))
    assert [one.id for one in load_problems(source)] == ["0", problem_id("p", "1")]
    (one,) = load_problems(Source(path=str(write(tmp_path / "t.jsonl", rows[2]))))
    assert one.id == problem_id("p", "1")


def test_columns_rename(tmp_path):
    row = {"question": "q", "final": "3", "worked": "w", "key": 7, "set": "x", "problem": "not me"}
    path = write(tmp_path / "set.jsonl", row)
    columns = {
        "problem": "question",
        "answer": "final",
        "solution": "worked",
        "id": "key",
        "source": "set",
    }
    assert load_problems(Source(path=str(path), columns=columns)) == [
        Problem("7", "q", "3", "w", "x")
    ]


def test_answer_from_boxed_and_gsm8k(tmp_path):
    boxed = write(
        tmp_path / "boxed.jsonl", {"problem": "p", "solution": "\\boxed{1} so \\boxed{2}"}
    )
    (one,) = load_problems(Source(path=str(boxed), answer_from="boxed"))
    assert (one.answer, one.solution) == ("2", "\\boxed{1} so \\boxed{2}")

    rows = {"problem": "p", "answer": "He has 3 #### marks.\n#### 1,234"}
    gsm8k = write(tmp_path / "gsm8k.jsonl", rows)
    (one,) = load_problems(Source(path=str(gsm8k), answer_from="gsm8k"))
    assert (one.answer, one.solution) == ("1234", "He has 3 #### marks.")

    unmarked = write(tmp_path / "unmarked.jsonl", {"problem": "p", "answer": "He has 3 marks."})
    source = Source(path=str(unmarked), answer_from="gsm8k")
    (one,) = load_problems(source, raw=True)
    assert (one.answer, one.solution) == ("", "He has 3 marks.")
    assert "line 1: the answer is empty" in refusal(source)


def test_a_list_of_answers_is_one_text(tmp_path):
    row = {"problem": "p", "answer": ["$x=1$", "2"], "solution": ["first way", "second way"]}
    (one,) = load_problems(Source(path=str(write(tmp_path / "set.jsonl", row))))
    assert (one.answer, one.solution) == ("$x=1$, 2", "first way\n\nsecond way")


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("so \\boxed{3}", "3"),
        ("\\boxed {3}", "3"),
        ("\\boxed{\\frac{1}{2}} end", "\\frac{1}{2}"),
        ("\\boxed{1} then \\boxed{2", "1"),  # the last one is not closed
        ("\\boxed{a \\boxed{b}}", "b"),
        ("\\boxed{}", ""),
        ("boxed{3}", None),
        ("", None),
    ],
)
def test_last_boxed(text, content):
    assert last_boxed(text) == content


def test_gzip_folder_count_and_blank_lines(tmp_path):
    rows = [{"problem": f"p{i}", "answer": "1"} for i in range(4)]
    plain = write(tmp_path / "problems.jsonl", rows[0], "", "  ", *rows[1:])
    packed = tmp_path / "set.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    texts = ["p0", "p1", "p2", "p3"]
    for path in (plain, packed, tmp_path):  # a folder means its problems.jsonl
        assert [one.problem for one in load_problems(Source(path=str(path)))] == texts
    assert [one.problem for one in load_problems(Source(path=str(plain), count=2))] == texts[:2]
    assert [number for number, _ in read_jsonl(plain)] == [1, 4, 5, 6]
    assert open_bytes(packed).read() == open_bytes(plain).read()


@given(
    st.lists(
        st.builds(
            Problem,
            id=st.text(min_size=1),
            problem=st.text(min_size=1).filter(str.strip),
            answer=st.text(min_size=1).filter(str.strip),
            solution=st.text(),
            source=st.text(min_size=1),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda one: one.id,
    )
)
def test_what_is_written_is_read_back(tmp_path_factory, problems):
    path = tmp_path_factory.mktemp("round") / "set.jsonl"
    path.write_text(problem_lines(problems), encoding="utf-8")
    assert load_problems(Source(path=str(path))) == problems


GOOD = {"problem": "p", "answer": "1"}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"problem": "p", ', "line 2: not valid JSON"),
        ("[1, 2]", "line 2: a JSON object is needed, got list"),
        ('"text"', "line 2: a JSON object is needed, got str"),
        (
            {"question": "q", "answer": "1"},
            "line 2: column 'problem' is missing (columns: answer, question); "
            'name it in columns, as in columns = { problem = "..." }',
        ),
        ({"problem": "q"}, "line 2: column 'answer' is missing (columns: problem)"),
        ({"problem": "q", "answer": True}, "line 2: column 'answer' holds no text or number (True"),
        ('{"problem": "q", "answer": NaN}', "line 2: column 'answer' holds no text or number"),
        ('{"problem": "q", "answer": Infinity}', "line 2: column 'answer' holds no text or number"),
        ({"problem": None, "answer": "1"}, "line 2: column 'problem' holds no text or number"),
        ({"problem": "  ", "answer": "1"}, "line 2: the problem is empty; mend or remove the row"),
        ({"problem": "q", "answer": " "}, "line 2: the answer is empty; mend or remove the row"),
        ({}, "line 2: column 'problem' is missing (columns: none)"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, line, sentence):
    path = write(tmp_path / "set.jsonl", GOOD, line)
    assert refusal(Source(path=str(path))).startswith(f"{path}, {sentence}")


def test_a_renamed_column_that_is_missing_is_named_as_the_file_would(tmp_path):
    path = write(tmp_path / "set.jsonl", GOOD)
    source = Source(path=str(path), columns={"problem": "question"})
    assert "column 'question' is missing (columns: answer, problem)" in refusal(source)


def test_answer_from_boxed_needs_the_solution(tmp_path):
    path = write(tmp_path / "set.jsonl", {"problem": "p", "answer": "1"})
    assert "column 'solution' is missing" in refusal(Source(path=str(path), answer_from="boxed"))


def test_files_that_cannot_be_read(tmp_path):
    missing = tmp_path / "none.jsonl"
    assert refusal(Source(path=str(missing))) == (
        f"{missing}: no such file; check the path in the recipe or on the command line"
    )
    latin = tmp_path / "latin.jsonl"
    good = json.dumps(GOOD).encode()
    latin.write_bytes(b"\n".join([good, good, b'{"problem": "caf\xe9", "answer": "1"}', good]))
    assert refusal(Source(path=str(latin))) == (
        f"{latin}, line 3: not valid UTF-8; save the file as UTF-8"
    )
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes(gzip.compress((good + b"\n") * 100)[:-12])
    assert re.match(f"{re.escape(str(torn))}: cannot be read", refusal(Source(path=str(torn))))
    (tmp_path / "folder").mkdir()
    assert "holds no problems.jsonl and no other file that can be read" in refusal(
        Source(path=str(tmp_path / "folder"))
    )


def test_an_empty_set(tmp_path):
    path = write(tmp_path / "set.jsonl", "", "")
    assert refusal(Source(path=str(path))).startswith(f"{path}: holds no problems")
    assert refusal(Source(path=str(path)), raw=True).startswith(f"{path}: holds no problems")


def test_repeated_ids_and_empty_golds_are_for_curation_alone(tmp_path):
    path = write(
        tmp_path / "set.jsonl", {"id": "a", **GOOD}, {"id": "a", "problem": "q", "answer": ""}
    )
    assert [one.id for one in load_problems(Source(path=str(path)), raw=True)] == ["a", "a"]
    assert "line 2: the answer is empty" in refusal(Source(path=str(path)))
    path = write(tmp_path / "set.jsonl", GOOD, GOOD)
    assert "occurs more than once; ids must differ" in refusal(Source(path=str(path)))


def test_a_hub_set_that_is_a_folder_here(tmp_path):
    pytest.importorskip("datasets")
    write(
        tmp_path / "train.jsonl", {"question": "q", "answer": "1"}, {"question": "r", "answer": "2"}
    )
    source = Source(hub=str(tmp_path), columns={"problem": "question"}, split="train")
    assert [(one.problem, one.answer) for one in load_problems(source)] == [("q", "1"), ("r", "2")]


def test_a_hub_set_that_is_not_there_says_how_to_do_without_the_hub(tmp_path):
    sentence = refusal(Source(hub=str(tmp_path / "none")))
    assert "cannot be loaded" in sentence
    assert sentence.endswith(
        "download it where there is a network (hf download --repo-type dataset) and give its "
        "folder as hub, or its files as path"
    )


def test_a_hub_that_is_out_of_reach():  # HF_HUB_OFFLINE is set for all tests
    sentence = refusal(Source(hub="nobody/no-such-set", split="train"))
    assert sentence.startswith("data set nobody/no-such-set: cannot be loaded (")
    assert "give its folder as hub, or its files as path" in sentence


def test_portions_cut_a_source_without_overlap(tmp_path):
    path = tmp_path / "all.jsonl"
    rows = [{"problem": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(400)]
    rows += [{"problem": f"what is  {n} + {n}", "answer": str(2 * n)} for n in range(400)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    cuts = [(0.0, 0.8), (0.8, 0.9), (0.9, 1.0)]
    parts = [load_problems(Source(path=str(path), portion=cut)) for cut in cuts]
    sizes = [len(part) for part in parts]
    assert sum(sizes) == 800
    # 640 of 800 in pairs: a standard deviation of 2 * sqrt(400 * .8 * .2) = 16
    assert abs(sizes[0] - 640) < 64
    refuse_overlap(dict(zip("abc", parts, strict=True)))  # two spellings fall together
    first = load_problems(Source(path=str(path), portion=(0.0, 0.8), count=3))
    assert first == parts[0][:3]


def test_the_place_of_a_problem_by_hand():
    # printf 1+1 | sha256sum: 4a1b21d8..., and 0x4a1b21d8 / 2^32 = 0.28947650454
    assert place_of("1 + 1.") == pytest.approx(0.28947650454, abs=1e-9)


@pytest.mark.parametrize("portion", [(0.5, 0.5), (0.8, 0.2), (-0.1, 0.5), (0.5, 1.1)])
def test_a_portion_that_is_none(portion):
    with pytest.raises(ValueError, match="portion: two numbers"):
        Source(path="x.jsonl", portion=portion)
