"""Multiple choice: hand-made rows of GPQA's and MMLU's kind."""

import json

import pytest

from open_rs.choices import ASK, lettered
from open_rs.errors import InputError
from open_rs.grade import Grader
from open_rs.problems import load_problems
from open_rs.recipe import ListedChoices, NamedChoices, Source
from open_rs.rows import BadRow

GPQA = {
    "Question": "What keeps the planets in their orbits?",
    "Correct Answer": "gravity\n",
    "Incorrect Answer 1": "friction",
    "Incorrect Answer 2": "magnetism",
    "Incorrect Answer 3": "sound",
}
MMLU = {
    "question": GPQA["Question"],
    "choices": ["sound", "friction", "gravity", "magnetism"],
    "answer": 2,
}


def read(tmp_path, row, **settings):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (one,) = load_problems(Source(path=str(file), **settings))
    return one


def choices_of(text):
    lines = [line.split(") ", 1) for line in text.splitlines() if line[1:3] == ") "]
    return dict(lines)


def test_both_kinds_make_the_same_problem(tmp_path):
    first = read(tmp_path, GPQA, columns={"problem": "Question"}, choices={"type": "gpqa"})
    second = read(tmp_path, MMLU, columns={"problem": "question"}, choices={"type": "mmlu"})
    third = read(
        tmp_path,
        {"question": GPQA["Question"], "A": "friction", "B": "gravity", "C": "sound"}
        | {"D": "magnetism", "right": "b"},
        columns={"problem": "question"},
        choices={"type": "mmlu", "choices": ["A", "B", "C", "D"], "answer": "right"},
    )
    assert (first.problem, first.answer, first.id) == (second.problem, second.answer, second.id)
    assert (first.problem, first.answer) == (third.problem, third.answer)
    lines = first.problem.split("\n")
    assert lines[0] == GPQA["Question"] and lines[1] == lines[6] == "" and lines[7] == ASK
    found = choices_of(first.problem)
    assert list(found) == ["A", "B", "C", "D"]
    assert set(found.values()) == {"gravity", "friction", "magnetism", "sound"}
    assert found[first.answer] == "gravity"


def test_the_order_is_the_hash_of_question_and_choice():
    # sha256("what keeps the planets in their orbits?\0friction") etc., as first bytes:
    import hashlib

    texts = ["gravity", "friction", "magnetism", "sound"]
    question = "what keeps the planets in their orbits?"
    expected = sorted(texts, key=lambda one: hashlib.sha256(f"{question}\0{one}".encode()).digest())
    text, _ = lettered(GPQA, NamedChoices(), "Question")
    assert list(choices_of(text).values()) == expected


def test_every_letter_is_right_as_often():
    found = [
        lettered(GPQA | {"Question": f"Question {n}?"}, NamedChoices(), "Question")[1]
        for n in range(400)
    ]
    # 100 each; the standard deviation is sqrt(400 * 1/4 * 3/4) = 8.7
    assert all(65 < found.count(letter) < 135 for letter in "ABCD")


def test_what_stands_for_the_others_stays_at_the_end():
    for n in range(8):
        row = MMLU | {"question": f"Which, {n}?", "choices": ["a1", "b1", "All of the above", "c1"]}
        text, gold = lettered(row, ListedChoices(), "question")
        assert gold == "D" and choices_of(text)["D"] == "All of the above"


def test_choices_by_letter_keep_the_files_order():
    row = MMLU | {"choices": ["x", "y", "both A and B", "z"]}
    text, gold = lettered(row, ListedChoices(), "question")
    assert list(choices_of(text).values()) == row["choices"] and gold == "C"
    bad = lettered(GPQA | {"Correct Answer": "both A and B"}, NamedChoices(), "Question")
    assert isinstance(bad, BadRow) and "gives no order" in bad.reason


def test_an_empty_wrong_answer_is_no_choice():
    text, _ = lettered(GPQA | {"Incorrect Answer 3": " "}, NamedChoices(), "Question")
    assert set(choices_of(text).values()) == {"gravity", "friction", "magnetism"}


@pytest.mark.parametrize(
    ("row", "choices", "reason"),
    [
        (GPQA | {"Question": None}, NamedChoices(), "'Question' holds no question"),
        (GPQA | {"Correct Answer": ""}, NamedChoices(), "holds no right answer"),
        (GPQA | {"Incorrect Answer 1": "Gravity."}, NamedChoices(), "two choices are the same"),
        (GPQA, NamedChoices(incorrect=("wrong",)), "no wrong answer"),
        (MMLU | {"choices": "a, b"}, ListedChoices(), "'choices' holds no list"),
        (MMLU | {"choices": ["a"]}, ListedChoices(), "2 to 26 choices"),
        (MMLU | {"choices": ["a", None]}, ListedChoices(), "2 to 26 choices"),
        (MMLU | {"answer": 4}, ListedChoices(), "'answer' names none of the choices"),
        (MMLU | {"answer": "E"}, ListedChoices(), "'answer' names none of the choices"),
        (MMLU | {"answer": True}, ListedChoices(), "'answer' names none of the choices"),
        (MMLU | {"answer": -1}, ListedChoices(), "'answer' names none of the choices"),
    ],
)
def test_rows_that_cannot_be_read(row, choices, reason):
    column = "Question" if "Question" in row else "question"
    found = lettered(row, choices, column)
    assert isinstance(found, BadRow) and reason in found.reason


def test_a_bad_row_is_refused_with_its_line(tmp_path):
    with pytest.raises(InputError, match=r"rows.jsonl, line 1: column 'answer' names none .*7"):
        read(tmp_path, MMLU | {"answer": 7}, columns={"problem": "question"}, choices=MMLU_TYPE)


MMLU_TYPE = {"type": "mmlu"}


def test_settings():
    with pytest.raises(ValueError, match="the gold is a letter; remove answer_from"):
        Source(path="a", choices=MMLU_TYPE, answer_from="boxed")
    with pytest.raises(ValueError, match="'gpqa', 'mmlu'"):
        Source(path="a", choices={"type": "arc"})


def test_the_grader_judges_letters():
    right = ["C", "(C)", "C) gravity", "C.", r"\text{C}", r"\textbf{(C)}"]
    wrong = ["D", "A", "AC", "c", "gravity"]
    with Grader() as grader:
        pairs = [(f"\\boxed{{{answer}}}", "C") for answer in right + wrong]
        found = [one.correct for one in grader.grade_many(pairs)]
    assert found == [True] * len(right) + [False] * len(wrong)
