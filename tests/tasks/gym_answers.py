"""Answers near a gold of reasoning-gym, and where the grader and the data set disagree on them."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from open_rs.grade import Grader
from open_rs.tasks.gym import KIND_OF, is_plain, open_data_set, spread_seed


@dataclass(frozen=True)
class Verdicts:
    """What one data set's golds and the answers near them were called.

    Attributes:
        golds: how many golds were asked, each right to `score_answer` itself.
        not_right: golds that the grader does not call right.
        near: how many near misses were asked.
        lenient: those that the grader alone calls right (gold, answer).
        strict: those that the data set alone calls right.
    """

    golds: int
    not_right: list[str]
    near: int
    lenient: list[tuple[str, str]]
    strict: list[tuple[str, str]]


def entries(name: str, count: int, seed: int) -> tuple[Any, list[dict[str, Any]]]:
    """The data set, and `count` of its items whose gold is plain."""
    made = open_data_set(name, {}, seed=spread_seed(name, seed))
    found: list[dict[str, Any]] = []
    item = 0
    while len(found) < count:
        entry = made[item]
        item += 1
        if is_plain(entry["answer"], KIND_OF[name]):
            found.append(entry)
    return made, found


def near_misses(gold: str, kind: str, others: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Golds of other problems, digits raised by one, the sign turned, letters in another order."""
    yield from others
    for place in [place for place, sign in enumerate(gold) if sign.isdigit()][:1] + [
        place for place, sign in enumerate(gold) if sign.isdigit()
    ][-1:]:
        yield gold[:place] + str((int(gold[place]) + 1) % 10) + gold[place + 1 :]
    if kind in ("number", "formula") and gold != "0":
        yield gold[1:] if gold.startswith("-") else f"-{gold}"
    if kind == "text":
        yield gold[::-1]
        yield "".join(rng.sample(gold, len(gold)))


def verdicts(name: str, grader: Grader, count: int, seed: int = 0) -> Verdicts:
    """Every gold and some answers near it, by the grader and by the data set's `score_answer`."""
    made, found = entries(name, count, seed)
    rng = random.Random(f"{name}/{seed}")
    golds = [entry["answer"] for entry in found]
    asked = [(gold, gold, entry) for gold, entry in zip(golds, found, strict=True)]
    for gold, entry in zip(golds, found, strict=True):
        near = near_misses(gold, KIND_OF[name], rng.sample(golds, min(3, count)), rng)
        asked += [(gold, one, entry) for one in dict.fromkeys(near) if one != gold]
    grades = grader.grade_many([(f"\\boxed{{{answer}}}", gold) for gold, answer, _ in asked])
    theirs = [made.score_answer(answer, entry) == 1.0 for _, answer, entry in asked]
    assert all(theirs[:count]), name
    near = list(zip(asked, grades, theirs, strict=True))[count:]
    return Verdicts(
        count,
        [gold for gold, grade in zip(golds, grades, strict=False) if not grade.correct],
        len(near),
        [(gold, one) for (gold, one, _), grade, right in near if grade.correct and not right],
        [(gold, one) for (gold, one, _), grade, right in near if right and not grade.correct],
    )
