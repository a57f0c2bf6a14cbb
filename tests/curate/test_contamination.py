"""Held-out problems in training rows: each class by hand, real copies altered, bad names."""

import random
from dataclasses import replace

import pytest
from altered_copies import REWORDINGS, SPELLINGS
from curation_stand_ins import problem

from open_rs.benchmarks import BENCHMARKS
from open_rs.curate.contamination import HeldOut, contamination, load_held_out
from open_rs.curate.stages import Drop, Note
from open_rs.errors import InputError
from open_rs.problems import load_problems
from open_rs.recipe import ContaminationFilter, Recipe, Source, recipe_from_dict

TRAIN = (
    "A freight train leaves the city of Metropolis at 6 in the morning and travels at 40 miles per "
    "hour. How many miles has it travelled by noon?"
)
SETS = {
    "test": [problem("t1", "Compute 7 + 5.", "12"), problem("t2", TRAIN, "240")],
    "aime": [problem("a1", "Find $x$.", "3")],
}


def judged(*rows, **settings):
    return contamination(list(rows), ContaminationFilter(**settings), HeldOut(SETS))


def test_a_copy_names_the_set_and_the_row():
    verdicts = judged(
        problem("p", "compute 7+5"), problem("q", "Compute 7 - 5."), problem("r", "Find \\(x\\).")
    )
    assert verdicts == [
        Drop("copy of a row of test", "t1"),
        None,
        Drop("copy of a row of aime", "a1"),
    ]
    assert str(verdicts[0]) == "copy of a row of test: t1"


REWORDED = TRAIN.replace("freight", "goods").replace("travelled", "gone").replace("noon", "12")


def test_a_copy_in_other_words_needs_the_same_numbers():
    other = TRAIN.replace("freight", "goods").replace("travelled", "gone")
    # 27 words: two of them and four pairs differ, (53 - 6) / (53 + 6)
    row = problem("p", other, "240")
    assert judged(row) == [Drop("copy in other words of a row of test", "t2, similarity 0.80")]
    assert judged(replace(row, answer="")) == judged(row)  # not known to differ
    assert judged(row, similarity=0.81) == [
        Note("same template as a row of test, other words and answer", "t2, similarity 0.80")
    ]
    numbers = problem("p", other.replace("40", "55"), "330")
    assert judged(numbers) == [
        Note("same template as a row of test, other numbers", "t2, similarity 0.80")
    ]
    assert judged(numbers, template_similarity=0.81) == [None]


def test_the_same_template_is_kept_or_dropped():
    row = problem("p", TRAIN.replace("40", "55"), "330")
    reason = "same template as a row of test, other numbers"
    assert judged(row) == [Note(reason, "t2, similarity 1.00")]
    assert judged(row, same_template="drop") == [Drop(reason, "t2, similarity 1.00")]


def test_the_same_words_and_numbers_with_another_answer_go():
    row = problem("p", TRAIN.replace("A freight", "The freight"), "200")
    # 27 words: the first one and its pair differ, (53 - 2) / (53 + 2)
    assert judged(row) == [
        Drop("same words and numbers as a row of test, other answer", "t2, similarity 0.93")
    ]


def test_problems_inside_each_other():
    longer = problem("p", f"Bob reads this in a book. {TRAIN} He then has a cup of tea with Eve.")
    assert judged(longer)[0].reason == "quotes a row of test"
    assert judged(longer)[0].detail.startswith("t2, similarity 0.")
    sets = {"test": [problem("t", longer.problem, "7")]}
    verdict = contamination([problem("p", TRAIN)], ContaminationFilter(), HeldOut(sets))[0]
    assert verdict.reason == "quoted by a row of test"


def test_the_gravest_and_nearest_row_is_named():
    sets = {
        "one": [problem("template", TRAIN.replace("40", "50"), "300")],
        "two": [problem("far", TRAIN.replace("freight", "goods").replace("noon", "then"), "240")],
        "three": [problem("near", TRAIN.replace("freight", "goods"), "240")],
    }
    row = problem("p", TRAIN, "240")
    verdict = contamination([row], ContaminationFilter(), HeldOut(sets))[0]
    assert verdict.reason == "copy in other words of a row of three"
    assert verdict.detail.startswith("near, ")


def test_of_a_template_all_of_whose_words_are_common_the_right_row_is_found():
    held_out = HeldOut(
        {
            "test": [
                problem(f"t{n}", TRAIN.replace("40", str(n)), str(6 * n)) for n in range(50, 350)
            ]
        }
    )
    row = problem("p", TRAIN.replace("40", "77").replace("freight", "goods"), "462")
    verdict = contamination([row], ContaminationFilter(), held_out)[0]
    assert verdict == Drop("copy in other words of a row of test", "t77, similarity 0.90")


def test_a_row_is_judged_by_itself():
    rows = [problem(str(i), text) for i, text in enumerate([TRAIN, REWORDED, "Find $y$.", "?", ""])]
    held_out = HeldOut(SETS)
    together = contamination(rows, ContaminationFilter(), held_out)
    apart = [contamination([row], ContaminationFilter(), held_out)[0] for row in rows]
    assert together == apart
    assert contamination([], ContaminationFilter(), held_out) == []


def test_names_of_held_out_sets(tmp_path):
    with pytest.raises(InputError, match=r"benchmark 'math50' unknown; did you mean math500\?"):
        load_held_out(Recipe(), "math50")
    with pytest.raises(InputError, match=rf"known: {', '.join(BENCHMARKS)}"):
        load_held_out(Recipe(), "nothing_like_it")
    with pytest.raises(InputError, match=r"the recipe has no data\.test"):
        load_held_out(Recipe(), "test")
    file = tmp_path / "mine.jsonl"
    file.write_text('{"problem": "Find $x$.", "answer": "3"}\n')  # an id is not needed
    assert load_held_out(Recipe(), str(file))[0].problem == "Find $x$."
    recipe = recipe_from_dict({"data": {"test": {"path": str(file)}}})
    assert load_held_out(recipe, "test") == load_held_out(recipe, str(file))


@pytest.fixture
def real(data_dir):
    """The benchmarks by name, as few as a quick test can bear."""
    names = ("aime24", "amc23", "math500")
    return {
        name: load_problems(Source(path=str(data_dir / "benchmarks" / f"{name}.jsonl")), raw=True)
        for name in names
    }


@pytest.mark.parametrize("change", SPELLINGS, ids=lambda change: change.__name__)
def test_another_spelling_of_a_real_problem_is_found(real, change):
    assert caught(real, change) >= 0.99


@pytest.mark.parametrize("change", REWORDINGS, ids=lambda change: change.__name__)
def test_other_words_for_a_real_problem_are_found(real, change):
    assert caught(real, change) >= 0.9


def caught(sets, change):
    """The share of held-out problems that are dropped after `change`, the row itself named."""
    rng = random.Random(0)
    members = [one for problems in sets.values() for one in problems]
    altered = [replace(one, id="row", problem=change(one.problem, rng)) for one in members]
    verdicts = contamination(altered, ContaminationFilter(), HeldOut(sets))
    named = [
        isinstance(verdict, Drop) and verdict.detail.split(",")[0] == one.id
        for one, verdict in zip(members, verdicts, strict=True)
    ]
    return sum(named) / len(named)


def test_other_real_problems_are_not_flagged(real, data_dir):
    path = data_dir / "train" / "gsm8k_r1zero.jsonl.gz"
    rows = load_problems(Source(path=str(path), count=2000), raw=True)
    verdicts = contamination(rows, ContaminationFilter(), HeldOut(real))
    assert sum(verdict is not None for verdict in verdicts) <= 0.001 * len(rows)
