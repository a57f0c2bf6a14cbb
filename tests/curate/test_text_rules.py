"""Several parts, proofs, scripts and languages, length: what is dropped, and what only looks so."""

import pytest
from curation_stand_ins import problem

from open_rs.curate.stages import Drop, Setting
from open_rs.curate.text_rules import language, length, multi_part, open_language, proof
from open_rs.errors import InputError
from open_rs.problems import Problem, load_problems
from open_rs.recipe import (
    LanguageFilter,
    LengthFilter,
    MultiPartFilter,
    ProofFilter,
    Recipe,
    Source,
    recipe_from_dict,
)

SEVERAL_PARTS = [
    "Let $f(x)=x^2$. (a) Find $f(3)$. (b) Find all $x$ with $f(x)=4$.",
    "A ball is thrown upward at 20 m/s.\na) How high does it rise?\nb) How long is it in the air?",
    "1. Compute $1+1$.\n2. Compute $2+2$.",
    "Part A: What is the mean? Part B: What is the median?",
    "(1) Find the value of $a$; (2) If $a>0$, find the range of $x$.",
    "Given $ABC$ with $a=3$.\n(I) Find the angle $A$;\n(II) Find the area of the triangle.",
    "(i) Prove that $n^2+n$ is even. (ii) Determine its last digits.",
    "Let $S$ be a set. (a) Show that $S$ is finite. (b) What is $|S|$?",
    "Let $a_n$ be given. (1) Find the general term; (2) Let $b_n=2^{a_n}$, find its sum.",
    "Question 1: What is $2+2$? Question 2: What is $3+3$?",
    "(a) (5 points) Find $x$. (b) (7 points) Find $y$.",
    "$(a)$ Find $x$. $(b)$ Find $y$.",
    "**(a)** Find $x$.\n**(b)** Find $y$.",
]
SEVERAL_QUESTIONS = [
    "Tom has 3 apples. How many apples are left? How many pears are there?",
    "What is the area of the circle and what is its circumference?",
    "Find the sum of the roots and find the product of the roots.",
    "How much did she spend on apples, and how much on pears?",
]
ONE_QUESTION = [
    "Find all integers such that (a) $x$ is even, (b) $x>3$.",
    "What is the least number for which: a) divided by 2, it leaves 1. b) divided by 3, it leaves "
    "2.",
    "Suppose that (1) $f(1)=1$; (2) $f(2n)=f(n)$. Compute $f(8)$.",
    "Which of these is prime? (A) 4 (B) 5 (C) 6",
    "If $f(a)=2a$ and $g(b)=b^2$, what is $f(g(3))$?",
    "What is the probability that it is red? Express your answer as $\\frac{m}{n}$.",
    "How many ways are there? That is, how many pairs $(a,b)$ are there? I.e., how many in all?",
    'He asks, "How old are you? Where do you live?" and she says 5. How old is she?',
    "A zoo has 21 penguins and twice as many polar bears? How many animals are there?",
    "Trey wonders how many things he has to do and how long they take. He does 7. How many hours?",
    "Find $a$ and $b$.",
    "Subproblem 0: What is $1+1$? Solution: 2. Subproblem 1: What is $2+2$?",
    "",
]


def test_labelled_parts_that_ask():
    for text, verdict in zip(SEVERAL_PARTS, verdicts_of(multi_part, SEVERAL_PARTS), strict=True):
        assert verdict is not None and verdict.reason == "several labelled parts", text
    assert verdicts_of(multi_part, SEVERAL_PARTS[:1]) == [Drop("several labelled parts", "a, b")]


def test_questions_beside_each_other():
    for text, verdict in zip(
        SEVERAL_QUESTIONS, verdicts_of(multi_part, SEVERAL_QUESTIONS), strict=True
    ):
        assert verdict is not None and verdict.reason == "several questions", text
    assert str(verdicts_of(multi_part, SEVERAL_QUESTIONS[:1])[0]) == (
        "several questions: How many pears are there?"
    )


def test_conditions_choices_and_rephrasings_are_one_question():
    for text, verdict in zip(ONE_QUESTION, verdicts_of(multi_part, ONE_QUESTION), strict=True):
        assert verdict is None, text


PROOFS = [
    "Prove that $\\sqrt2$ is irrational.",
    "Let $n$ be odd. Show that $8 \\mid n^2-1$.",
    "Given $a+b=1$, prove that $ab \\le 1/4$.",
    "If $x>0$, then show that $e^x > 1+x$.",
    "Prove or disprove: every group of order 4 is abelian.",
    "Show, without a calculator, that $e^\\pi>\\pi^e$.",
    "Let $ABC$ be a triangle. Prove: the medians meet in a point.",
    "Give a proof that there are infinitely many primes.",
    "Use induction to prove that $2^n>n$.",
    "Let $G$ be a graph; prove $G$ is connected.",
    "Show $x^2\\ge0$ for all real $x$.",
    "Verify that $f$ is continuous.",
]
ANSWERS = [
    "Find, with proof, the largest $n$.",
    "Find all $x$ and prove that there are no more.",
    "Determine the moment, or prove that there is none.",
    "Prove that there are finitely many of them. Find the largest.",
    "Prove that $x$ is finite and determine it.",
    "It can be shown that $x=2$. Find $y$.",
    "In what year will the census show that the number of wrens is less than 10?",
    "Ten dice show the number 3. Determine the odds.",
    "Her results show that the size doubled. Compute the size.",
    "Bob has to show that he is fast. How fast is he?",
    "How many arrangements of the letters of PROOF are there?",
]


def test_proofs_and_answers():
    for text, verdict in zip(PROOFS, verdicts_of(proof, PROOFS), strict=True):
        assert verdict is not None and verdict.reason == "asks for a proof", text
    for text, verdict in zip(ANSWERS, verdicts_of(proof, ANSWERS), strict=True):
        assert verdict is None, text


def verdicts_of(judge, texts):
    spec = MultiPartFilter() if judge is multi_part else ProofFilter()
    return judge([problem("p", text or " ") for text in texts], spec)


def test_no_rule_speaks_on_sets_that_were_cleaned_of_parts_and_proofs(data_dir):
    files = sorted((data_dir / "benchmarks").glob("*.jsonl"))
    files += sorted((data_dir / "train").glob("*.jsonl.gz"))
    for file in files:
        rows = load_problems(Source(path=str(file), count=1500), raw=True)
        assert not any(multi_part(rows, MultiPartFilter())), file
        assert not any(proof(rows, ProofFilter())), file


def test_rules_stay_quick_on_a_hostile_row():
    texts = ["$$" * 50_000, "(a) " * 50_000, "what and how many " * 50_000, "“" * 100_000]
    assert len(verdicts_of(multi_part, texts) + verdicts_of(proof, texts)) == 8


def test_scripts():
    rows = [
        problem("a", "Find the sum of the angles $\\alpha + \\beta$."),
        problem("b", "求下列各数之和。"),
        problem("c", "Find the sum 和."),  # 1 of 11 letters
    ]
    verdicts = language(rows, LanguageFilter(), None)
    assert verdicts == [
        None,
        Drop("letters outside the expected scripts", "100 % of them"),
        Drop("letters outside the expected scripts", "9 % of them"),
    ]
    assert language(rows, LanguageFilter(max_outside=0.1), None)[2] is None
    assert language(rows, LanguageFilter(scripts=("latin", "han")), None) == [None] * 3


def test_languages(tmp_path):
    rows = [
        problem("a", "Find the number of positive integers below $100$ that are not prime."),
        problem("b", "Soit $f$ la fonction définie par $f(x)=x^2$. Calculer la valeur de $f(3)$."),
        problem("c", "Bestimme alle reellen Zahlen $x$ mit $x^2=4$."),
        problem("d", "Resuelve $x+1=2$."),  # too few words to tell
    ]
    setting = Setting(Recipe(), tmp_path)
    for languages, expected in (
        (("en",), [None, "fr", "de", None]),
        (("en", "fr"), [None, None, "de", None]),
        ((), [None] * 4),
    ):
        spec = LanguageFilter(languages=languages)
        with open_language(spec, setting) as language_of:
            verdicts = language(rows, spec, language_of)
        assert [verdict and verdict.detail for verdict in verdicts] == expected
    with (
        pytest.raises(InputError, match=r"'english' is no known language; known: .*\ben\b"),
        open_language(LanguageFilter(languages=("english",)), setting),
    ):
        pass


def test_length():
    rows = [Problem("a", "one two three", "42", "so 42"), Problem("b", "one", "", "")]
    assert length(rows, LengthFilter(min=2, unit="words")) == [
        None,
        Drop("problem shorter than 2 words", "1 words"),
    ]
    assert length(rows, LengthFilter(max=12)) == [
        Drop("problem longer than 12 characters", "13 characters"),
        None,
    ]
    assert length(rows, LengthFilter(max=13)) == [None, None]
    assert length(rows, LengthFilter(of="solution", min=1))[1] == Drop(
        "solution shorter than 1 characters", "0 characters"
    )
    assert length(rows, LengthFilter(of="answer", min=2, max=2)) == [
        None,
        Drop("answer shorter than 2 characters", "0 characters"),
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs min or max"),
        ({"min": 5, "max": 4}, "min must not be larger than max"),
        ({"min": -1}, "greater than or equal to 0"),
    ],
)
def test_lengths_that_leave_nothing(settings, message):
    with pytest.raises(InputError, match=message):
        recipe_from_dict({"filters": [{"type": "length", **settings}]})
