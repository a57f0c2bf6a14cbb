"""Exact and near duplicates: what counts as one problem, which row stays, what a conflict is."""

import itertools
import random

import numpy as np
import pytest
from curation_stand_ins import problem
from hypothesis import given, settings
from hypothesis import strategies as st

from open_rs.curate import duplicates
from open_rs.curate.duplicates import (
    candidate_pairs,
    exact_duplicates,
    near_duplicates,
    text_and_bands,
    text_hashes,
)
from open_rs.curate.similarity import answers_agree, likeness, similarity, swapped, wording
from open_rs.curate.stages import Drop, Note
from open_rs.errors import InputError
from open_rs.recipe import ExactDuplicatesFilter, NearDuplicatesFilter, recipe_from_dict


def exact(problems, **settings):
    spec = ExactDuplicatesFilter(**settings)
    return exact_duplicates(text_hashes(problems, spec), fetch_of(problems), spec)


def near(problems, **settings):
    spec = NearDuplicatesFilter(**settings)
    return near_duplicates(text_and_bands(problems, spec), fetch_of(problems), spec)


def fetch_of(problems):
    return lambda rows: [problems[row] for row in rows]


BUYS = "Janet buys 3 bags of apples for 4 dollars each. How much does she pay in total?"
PAYS = "Janet buys 3 sacks of apples for 4 dollars each. How much does she pay altogether?"


def test_exact_duplicates_keep_the_first_and_none_of_a_conflict():
    verdicts = exact(
        [
            problem("a", "Compute 1 + 1.", "2"),
            problem("b", "compute  1+1", "2.0"),  # the same gold
            problem("c", "Compute 2 + 2.", "4"),
            problem("d", "Compute 3 + 3.", "6"),
            problem("e", "COMPUTE 3 + 3.", "7"),
            problem("f", "Compute 3 + 3.", "6"),
        ]
    )
    conflict = Drop("duplicates with different answers", "'6' / '7'")
    assert verdicts == [None, Drop("duplicate", "of a"), None, conflict, conflict, conflict]


def test_golds_that_the_grader_calls_equal_are_no_conflict():
    verdicts = exact(
        [
            problem("a", "Compute 1 / 2.", r"\frac{1}{2}"),
            problem("b", "Compute 1 / 2.", "0.5"),
            problem("c", "How long is it?", "8 cm"),
            problem("d", "How long is it?", r"8\text{ centimeters}"),
            problem("e", "Solve it.", "see figure"),
            problem("f", "Solve it.", "See figure."),
        ]
    )
    copies = [None, Drop("duplicate", "of a"), None, Drop("duplicate", "of c")]
    assert verdicts == [*copies, None, Drop("duplicate", "of e")]


def test_a_missing_gold_is_no_conflict():
    rows = [problem("a", BUYS, ""), problem("b", BUYS, "12"), problem("c", PAYS, "")]
    assert exact(rows) == [None, Drop("duplicate", "of a"), None]
    assert [str(one) for one in near(rows)[1:]] == [
        "duplicate: of a",
        "near duplicate: of a, similarity 0.68",
    ]


@pytest.mark.parametrize("find", [exact, near])
def test_the_row_with_the_longest_solution_stays(find):
    rows = [
        problem("a", "Compute 1 + 1.", "2"),
        problem("b", "Compute 1 + 1.", "2", "It is 2."),
        problem("c", "Compute 1 + 1.", "2", "One and one make two."),
        problem("d", "Compute 1 + 1.", "2", "  "),
        problem("e", "Compute 1 + 1.", "2", "One and one make 2 ..."[:21]),  # as long: c is first
    ]
    copy = Drop("duplicate", "of c")
    assert find(rows) == [copy, copy, None, copy, copy]


@pytest.mark.parametrize("find", [exact, near])
def test_a_recipe_can_keep_the_best_of_a_conflict(find):
    rows = [problem("a", "Compute 1 + 1.", "2"), problem("b", "Compute 1 + 1.", "3")]
    conflict = Note("duplicates with different answers", "'2' / '3'")
    assert find(rows, conflicts="keep_best") == [conflict, Drop("duplicate", "of a")]
    assert all(one.reason == "duplicates with different answers" for one in find(rows))


def test_near_duplicates_are_named_with_their_similarity():
    alike = similarity(wording(BUYS), wording(PAYS))
    # 17 and 16 words, 16 and 15 pairs; all but "bags", "in total" and "sacks", "altogether" are
    # shared, 14 words and 12 pairs: 26 / (33 + 31 - 26) = 0.684
    assert alike == pytest.approx(26 / 38)
    rows = [problem("a", BUYS, "12"), problem("b", "Compute 7.", "7"), problem("c", PAYS, "12.0")]
    assert near(rows) == [None, None, Drop("near duplicate", "of a, similarity 0.68")]
    assert near(rows, similarity=0.69) == [None] * 3


def test_other_numbers_make_another_problem():
    other = BUYS.replace("3", "5")
    rows = [problem("a", BUYS, "12"), problem("b", other, "20"), problem("c", other, "12")]
    assert similarity(wording(BUYS), wording(other)) == 1
    conflict = Drop("duplicates with different answers", "'20' / '12'")
    assert near(rows) == [None, conflict, conflict]  # b and c are one text


def test_numbers_in_words_are_numbers():
    spelled = BUYS.replace("3", "three").replace("4", "four")
    assert near([problem("a", BUYS, "12"), problem("b", spelled, "12")]) == [
        None,
        Drop("near duplicate", "of a, similarity 1.00"),
    ]


def test_like_rows_with_other_answers_are_two_questions_and_noted():
    first = "In triangle $ABC$ with $AB = 13$, $BC = 14$ and $CA = 15$, find the length of $AD$."
    other = first.replace("AD", "BD")  # 1 - 2 * 2 / (...) alike, but asked for something else
    alike = similarity(wording(first), wording(other))
    assert 0.8 < alike < 0.95
    rows = [problem("a", first, "12"), problem("b", other, "5")]
    reason = "like another row, with another answer"
    assert near(rows) == [
        Note(reason, f"b, similarity {alike:.2f}"),
        Note(reason, f"a, similarity {alike:.2f}"),
    ]
    conflict = Drop("duplicates with different answers", "'12' / '5'")
    assert near(rows, conflict_similarity=0.8) == [conflict, conflict]


FIGURE = "In triangle $ABC$ with $AB = 13$, $BC = 14$ and $CA = 15$ the foot of a height is $D$. "


BALLS = "In how many ways are 5 balls put in 3 boxes if the balls are "


@pytest.mark.parametrize(
    ("start", "one", "other"),
    [
        (FIGURE, r"Find $\sin DAC$.", r"Find $\sin DAB$."),
        (FIGURE, r"Find $\sin DAC$.", r"Find $\cos DAC$."),
        (FIGURE, "Find $BD$.", "Find $AD$."),
        (FIGURE, "Find the area of $ABD$.", "Find the area of $ACD$."),
        (FIGURE, "Find its area.", "Find its perimeter."),
        ("Solve $2x + 3y = 5$ in terms of it ", "for $x$.", "for $y$."),
        ("Of the multiples of 3 over 7 find the ", "smallest.", "largest."),
        ("Of the roots of $x^2-4x+4=0$ find the ", "sum.", "product."),
        ("Which of all the real numbers are ", "$x < 4$?", "$x > 4$?"),
        ("If $x = -3$, then what is the value of ", "$|x|$?", "$x$?"),
        ("If $f(x) = x^3$, then what is the value of ", "$f'(2)$?", "$f''(2)$?"),
        (BALLS, "not distinguishable but the boxes are?", "distinguishable but the boxes are not?"),
        ("$R$ and $r$ are radii of $ABC$ with sides 3, 4, 5. Find ", "$R$.", "$r$."),
    ],
)
def test_two_questions_on_one_figure_both_stay(start, one, other):
    first, second = near([problem("a", start + one, "12"), problem("b", start + other, "5")])
    assert not isinstance(first, Drop) and not isinstance(second, Drop)
    first, second = near([problem("a", start + one, "12"), problem("b", start + other, "12")])
    known = not any(sign in one for sign in ("|", "'", "balls", "boxes", "R$"))
    assert (first, second is None) == (None, known)  # of others with one answer one goes


def test_what_is_swapped():
    def asks_otherwise(one, other):
        return swapped(wording(one), wording(other))

    assert asks_otherwise("the least value of x", "the greatest value of x")
    assert not asks_otherwise("the least value of x", "the smallest value of x")  # one side
    assert not asks_otherwise("the least value of x", "the value of x")  # left out
    assert asks_otherwise("point $P$ on $AB$, find $AP$", "point $P$ on $AB$, find $BP$")
    assert not asks_otherwise("point $P$ on $AB$, find $AP$", "POINT P ON AB, FIND AP")
    assert not asks_otherwise("find $x$ if $x + 1 = 3$", "find $y$ if $y + 1 = 3$")  # a new name
    assert not asks_otherwise("a man has a dog, find $x y$", "the man has dogs, find $x y$")


def test_clusters_are_what_pairs_connect():
    words = [letter + "ox" for letter in "bcdfghjklmnpqrstv"]
    texts = [" ".join(words[start : start + 13]) for start in (0, 2, 4)]
    ends = similarity(wording(texts[0]), wording(texts[2]))
    steps = [similarity(wording(texts[i]), wording(texts[i + 1])) for i in (0, 1)]
    assert ends < 0.6 < min(steps)  # the middle one alone joins the ends
    verdicts = near([problem(str(i), text) for i, text in enumerate(texts)], similarity=0.6)
    assert verdicts[0] is None
    assert [one.detail.split(",")[0] for one in verdicts[1:]] == ["of 0", "of 0"]


@settings(deadline=None)
@given(st.permutations(range(7)))
def test_the_order_of_the_rows_decides_between_equally_good_ones_alone(order):
    rows = [
        problem("a", BUYS, "12"),
        problem("b", PAYS, "12", "3 times 4 is 12"),
        problem("c", "Compute 3 + 3.", "6"),
        problem("d", "Compute 3 + 3.", "7"),
        problem("e", "Find $x$ if $x + 1 = 5$.", "4"),
        problem("f", "find $x$ if $x+1=5$", "4"),
        problem("g", BUYS.replace("4", "9"), "27"),
    ]
    shuffled = [rows[place] for place in order]
    kept = {
        one.id for one, verdict in zip(shuffled, near(shuffled), strict=True) if verdict is None
    }
    first = "e" if order.index(4) < order.index(5) else "f"
    assert kept == {"b", "g", first}


TRIANGLE = "In triangle ABC with AB = 13 find the length of the side AD"
WORDS = ["the", "sum", "product", "of", "numbers", "angle", "side", "circle", "ratio", "price"]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(WORDS), min_size=4, max_size=30),
    st.integers(0, 999),
    st.randoms(use_true_random=False),
)
def test_another_spelling_is_always_an_exact_duplicate(words, number, rng):
    text = " ".join(words) + f" $\\frac{{1}}{{2}} x^{{2}} = {number}$."
    changed = text.replace("$", "\\(", 1).replace("$", "\\)")
    changed = changed.replace("\\frac{1}{2}", rng.choice(["\\dfrac12", "\\tfrac{1}{2}"]))
    changed = changed.replace("x^{2}", rng.choice(["x^2", "x ^ {2}"])).rstrip(".")
    changed = rng.choice([str.upper, str.lower, str])(changed).replace("\\DFRAC", "\\dfrac")
    changed = changed.replace("\\TFRAC", "\\tfrac").replace(" ", rng.choice([" ", "  ", "\n"]))
    verdicts = near([problem("a", text), problem("b", changed)])
    assert verdicts == [None, Drop("duplicate", "of a")]


def test_features_do_not_depend_on_the_rows_beside():
    rows = [problem(str(i), f"{word} {i} of {WORDS[i]}") for i, word in enumerate(WORDS)]
    spec = NearDuplicatesFilter()
    together = text_and_bands(rows, spec)
    apart = np.concatenate([text_and_bands([one], spec) for one in rows])
    assert np.array_equal(together, apart)


def test_many_copies_of_one_problem_meet_in_one_cluster():
    rng = random.Random(0)
    filler = ["".join(pair) for pair in itertools.product("bcdfghjklm", "aeiou", "nprst")]
    rows = []
    for number in range(200):  # more than a row is compared with in a band
        words = BUYS.split()
        words[rng.choice((1, 3, 5, 8, 13))] = rng.choice(filler)
        rows.append(problem(str(number), " ".join(words), "12"))
    assert sum(verdict is None for verdict in near(rows)) == 1


def plain_near(problems, spec):
    """near_duplicates with every candidate pair compared, one after the other."""
    features = text_and_bands(problems, spec)
    words = [wording(one.problem) for one in problems]
    count = range(len(problems))
    same = [pair for pair in itertools.combinations(count, 2) if same_text(words, pair)]
    firsts = [row for row in count if not any(other == row for _, other in same)]
    edges, like = list(same), []
    for first, second in candidate_pairs(features[firsts]):
        one, other = firsts[first], firsts[second]
        alike = likeness(words[one], words[other])
        if words[one].numbers != words[other].numbers or alike < spec.similarity:
            continue
        if answers_agree(problems[one].answer, problems[other].answer):
            edges += [(one, other)] * (not swapped(words[one], words[other]))
        elif alike >= spec.conflict_similarity and words[one].formula == words[other].formula:
            edges.append((one, other))
        elif alike >= 0.8:
            like.append((one, other, alike))
    label = list(count)
    for _ in count:  # spreads the smallest row of a cluster over it
        for one, other in edges:
            label[one] = label[other] = min(label[one], label[other])
    fates = [None] * len(problems)
    for root in set(label):
        cluster = [row for row in count if label[row] == root]
        golds = {problems[row].answer for row in cluster} - {""}
        best = max(cluster, key=lambda row: len(problems[row].solution))
        for row in cluster:
            if len(golds) > 1 and spec.conflicts == "drop":
                fates[row] = "conflict"
            elif row != best:
                fates[row] = f"of {problems[best].id}"
            elif len(golds) > 1:
                fates[row] = "noted conflict"
    for one, other, alike in like:
        for row, second in ((one, other), (other, one)):
            if label[one] != label[other] and fates[row] is None:
                fates[row] = f"{problems[second].id}, similarity {alike:.2f}"
    return fates


def same_text(words, pair):
    return words[pair[0]].text == words[pair[1]].text


def fate(verdict):
    if verdict is None:
        return None
    if verdict.reason == "duplicates with different answers":
        return "conflict" if isinstance(verdict, Drop) else "noted conflict"
    return verdict.detail.split(",")[0] if isinstance(verdict, Drop) else verdict.detail


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(["drop", "keep_best"]))
def test_the_clusters_are_those_of_all_pairs_compared(seed, conflicts):
    rng = random.Random(seed)
    stems = [
        BUYS.split(),
        [
            "In",
            "triangle",
            "ABC",
            "with",
            "AB",
            "=",
            "13",
            "find",
            "the",
            "length",
            "of",
            "the",
            "side",
            "AD",
        ],
    ]
    rows = []
    for number in range(40):
        words = list(rng.choice(stems))
        for _ in range(rng.choice((0, 1, 1, 2, 3, 4))):
            words[rng.choice((0, 1, 6, 8, 10, 12))] = rng.choice(WORDS)
        words += rng.sample(WORDS, rng.choice((0, 0, 1)))
        answer = rng.choice(["12", "12", "12", "7", "", "x + 1"])
        rows.append(problem(str(number), " ".join(words), answer, "s" * rng.randrange(3)))
    spec = NearDuplicatesFilter(
        conflicts=conflicts,
        similarity=rng.choice((0.55, 0.7)),
        conflict_similarity=rng.choice((0.8, 1.0)),
    )
    assert [fate(one) for one in near(rows, **vars(spec))] == plain_near(rows, spec)


def test_a_large_cluster_costs_a_comparison_a_row_and_each_row_is_read_once(monkeypatch):
    compared, read = [], []
    plain = duplicates.likeness
    monkeypatch.setattr(
        duplicates, "likeness", lambda one, other: compared.append(one) or plain(one, other)
    )
    filler = ["".join(pair) for pair in itertools.product("bcdfghjklm", "aeiou", "nprst")]
    rows = [problem(word, BUYS.replace("Janet", word), "12") for word in filler]  # 250
    spec = NearDuplicatesFilter()
    features = text_and_bands(rows, spec)
    verdicts = near_duplicates(features, lambda n: read.extend(n) or [rows[i] for i in n], spec)
    assert sum(one is None for one in verdicts) == 1
    assert len(candidate_pairs(features)) > 6000
    assert len(compared) == 249 + 249  # a join each, and the similarity to the best in the detail
    assert read == list(range(250))


def test_a_cluster_of_many_golds_names_some():
    rows = [problem(str(number), BUYS, f"{number}") for number in range(1, 100)]
    detail = "'1' / '2' / '3' / '4' / '5' / ..."
    assert exact(rows) == [Drop("duplicates with different answers", detail)] * 99


def test_a_template_with_many_numbers_gives_no_pairs_to_compare():
    rows = [problem(str(number), BUYS.replace("3", str(number))) for number in range(5, 205)]
    assert len(candidate_pairs(text_and_bands(rows, NearDuplicatesFilter()))) == 0


def test_no_rows_and_empty_texts():
    assert near([]) == []
    assert exact([]) == []
    assert near([problem("a", "?!", "1"), problem("b", "...", "2")]) == [None, None]
    assert len(candidate_pairs(text_and_bands([problem("a")], NearDuplicatesFilter()))) == 0


def test_settings_that_contradict():
    with pytest.raises(InputError, match="conflict_similarity must be at least similarity"):
        recipe_from_dict(
            {
                "filters": [
                    {"type": "near_duplicates", "similarity": 0.9, "conflict_similarity": 0.8}
                ]
            }
        )
