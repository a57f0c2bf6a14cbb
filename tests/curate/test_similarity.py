"""Wordings, their similarity, and signatures that estimate it."""

import random

import numpy as np
import pytest

from open_rs.curate.signatures import bands, feature_hashes, minhash
from open_rs.curate.similarity import (
    answers_agree,
    likeness,
    quotes,
    similarity,
    wording,
)


def test_a_wording_holds_words_and_the_values_of_numbers():
    read = wording("Tom has 1,000.50 kg and three bags; find $\\frac{1}{2}x^{2}$ (in kg).")
    assert read.tokens == (
        "tom", "has", "1000.5", "kg", "and", "3", "bags", "find", "\\frac", "1", "2", "x", "^", "2",
        "(", "in", "kg", ")",
    )  # fmt: skip
    assert read.words == (
        "tom", "has", "0", "kg", "and", "0", "bags", "find", "\\frac", "0", "0", "x", "^", "0",
        "in", "kg",
    )  # fmt: skip
    assert read.values == ("1000.5", "3", "1", "2", "2")
    assert read.numbers == {"1000.5", "3", "1", "2"}
    assert wording("one of them").numbers == set()  # a pronoun as often as a number
    assert wording("seven, .5 and 007").values == ("7", "0.5", "7")


def test_similarity_by_hand():
    # a b c d: 4 words, 3 pairs; a b x d: shares a, b, d and (a b): 4 / (7 + 7 - 4)
    assert similarity(wording("ab bc cd de"), wording("ab bc xx de")) == 4 / 10
    # as often as they occur: 2 of the 3 "ab", 1 of the 2 pairs: 3 / (5 + 3 - 3)
    assert similarity(wording("ab ab ab"), wording("ab ab")) == 3 / 5
    assert similarity(wording("ab 3"), wording("AB  17")) == 1
    assert similarity(wording("ab"), wording("cd")) == 0
    assert similarity(wording(""), wording("?")) == 1


def test_a_problem_of_few_words_is_its_formula():
    first = wording("Compute $3 + 4$.")
    assert similarity(first, wording("Compute $4 + 3$.")) == 1
    assert likeness(first, wording("Compute $4 + 3$.")) == 0
    assert likeness(wording("Compute $8 : (4 : 2)$"), wording("Compute $8 : 4 : 2$")) == 0
    assert likeness(first, wording("Evaluate $3 + 4$.")) == pytest.approx(
        5 / 9
    )  # (7 - 2) / (7 + 2)


LONG = "A train leaves the station at noon and travels 60 miles each hour for 3 hours."


def test_what_quotes_what():
    part, inside = wording(LONG), wording(f"Read this. {LONG} It stops. How far has it come?")
    assert quotes(inside, part)
    assert not quotes(part, inside)
    assert quotes(part, part)
    assert not quotes(wording(f"Read this. {LONG.replace('60', '70')} How far is it?"), part)
    assert not quotes(inside, wording("at noon and travels 60 miles"))  # too short to tell
    # 16 tokens and 12 runs; another last word takes one run: not whole, and not longer by a fifth
    assert not quotes(wording(LONG.replace("hours", "minutes")), part)


def test_answers():
    assert answers_agree("\\frac{1}{2}", "0.5")
    assert answers_agree("", "7") and answers_agree("7", " ")
    assert not answers_agree("7", "8")


def test_features_are_words_and_pairs_of_one_wording():
    alone, starts = feature_hashes([wording("ab cd ef")])
    assert len(alone) == 5 and starts.tolist() == [0]
    both, starts = feature_hashes([wording("ab cd ef"), wording(""), wording("ef gh")])
    assert starts.tolist() == [0, 5, 6]
    assert both[:5].tolist() == alone.tolist()
    assert set(both[6:].tolist()) & set(alone.tolist()) == {int(alone[2])}  # "ef" alone
    assert len(set(both.tolist())) == 8


def test_hashes_are_the_same_everywhere():
    features, starts = feature_hashes([wording("find the sum")])
    assert features[:2].tolist() == [0x1588B5FAD2E53263, 0x2E3A97906CABDA5E]
    assert bands(minhash(features, starts, 4), 2).tolist() == [[4070010576, 3608229013]]


def test_signatures_estimate_the_jaccard_index():
    rng = random.Random(1)
    words = [f"{a}{b}{c}" for a in "bcdfgh" for b in "aeiou" for c in "klmnp"]
    errors = []
    for _ in range(40):
        first = rng.sample(words, 60)
        second = [word if rng.random() < 0.7 else rng.choice(words) for word in first]
        read = [wording("a third"), wording(" ".join(first)), wording(" ".join(second))]
        one, other = (set(each.counts) for each in read[1:])
        signatures = minhash(*feature_hashes(read), 512)
        agree = float(np.mean(signatures[1] == signatures[2]))
        errors.append(agree - len(one & other) / len(one | other))
    # one estimate has a standard error of at most sqrt(.25 / 512) = 0.022
    assert max(map(abs, errors)) < 0.09
    assert abs(np.mean(errors)) < 0.022 * 4 / 40**0.5


def test_a_band_is_shared_where_its_whole_width_agrees():
    signatures = np.array([[1, 2, 3, 4], [1, 2, 3, 5], [9, 2, 3, 4]], np.uint32)
    keys = bands(signatures, 2)
    assert keys.shape == (3, 2)
    assert (keys[0] == keys[1]).tolist() == [True, False]
    assert (keys[0] == keys[2]).tolist() == [False, True]
