"""Accuracy against tokens: what n samples of a problem are worth under each way to choose among
them, and what a beam search is, at equal tokens. From the files of finished evaluations.

No way to choose looks at the gold. Answers are taken for equal where the grader calls one right
against the other, each as the other's gold, not where both are right. `any` does look: it is the
bound that no choice among these samples can pass.

The k samples of a problem are cut into k // n blocks of n; a way's score on a problem is the mean
over its blocks, so that a score of few samples is not one draw of them. Tokens are those of all
samples of a block; of a search, of every candidate that it drew.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open_rs.errors import InputError
from open_rs.evaluate.compare import harness_differences
from open_rs.evaluate.majority import majority
from open_rs.evaluate.paired import paired_differences
from open_rs.evaluate.records import drawn_tokens, read_records, read_summary
from open_rs.evaluate.scores import score_row
from open_rs.grade import Grader
from open_rs.grade.normalise import normalise

Row = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """One judged answer: the number of its group of equal answers (None without an answer), whether
    it is right, its mean log-prob per token, and what it cost.
    """

    group: int | None
    correct: bool
    logprob: float
    tokens: int


def single(samples: Sequence[Sample]) -> float:
    """The first sample."""
    return float(samples[0].correct) if samples else 0.0


def voted(samples: Sequence[Sample], weight: Callable[[Sample], float]) -> float:
    """The group of the largest sum of weights; of tied ones the share that is right."""
    sums: dict[int, float] = {}
    right: dict[int, bool] = {}
    for one in samples:
        if one.group is not None:
            sums[one.group] = sums.get(one.group, 0.0) + weight(one)
            right.setdefault(one.group, one.correct)
    return majority(np.array(list(sums.values())), np.array(list(right.values()), dtype=bool))


def majority_vote(samples: Sequence[Sample]) -> float:
    """One vote a sample (self-consistency, arXiv 2203.11171)."""
    return voted(samples, lambda one: 1.0)


def likeliest(samples: Sequence[Sample]) -> float:
    """The answer of the sample with the highest mean log-prob: best-of-n by the model itself."""
    answered = [one for one in samples if one.group is not None]
    return single(sorted(answered, key=lambda one: -one.logprob))


def weighted_vote(samples: Sequence[Sample]) -> float:
    """Each sample votes with exp(mean log-prob), its geometric mean probability per token."""
    return voted(samples, lambda one: math.exp(one.logprob))


def any_right(samples: Sequence[Sample]) -> float:
    """Is any sample right? It looks at the gold."""
    return float(any(one.correct for one in samples))


WAYS: Mapping[str, Callable[[Sequence[Sample]], float]] = {
    "single": single,
    "majority": majority_vote,
    "likeliest": likeliest,
    "weighted": weighted_vote,
    "any": any_right,
}


@dataclass(frozen=True)
class Scored:
    """One way with its budget: scores [n] and tokens [n] by problem, from `blocks` tries of each;
    `spread` [n] is the variance of a problem's score over its tries, None where there is but one;
    `read_tokens` is the mean of what the rounds of a search read again.
    """

    way: str
    budget: str
    scores: NDArray[np.float64]
    tokens: NDArray[np.float64]
    blocks: int
    spread: NDArray[np.float64] | None
    read_tokens: float = 0.0


def scored(way: str, budget: str, tries: Sequence[Sequence[tuple[float, int]]]) -> Scored:
    """From (score, tokens) of each try of each problem."""
    values = np.array([[score for score, _ in one] for one in tries])  # [n, blocks]
    tokens = np.array([[cost for _, cost in one] for one in tries], dtype=np.float64)
    blocks = values.shape[1]
    spread = np.var(values, axis=1, ddof=1) / blocks if blocks > 1 else None
    return Scored(way, budget, values.mean(axis=1), tokens.mean(axis=1), blocks, spread)


def sampled(way: str, samples: Sequence[Sequence[Sample]], n: int) -> Scored:
    """A way to choose among n samples; `samples` holds the k of each problem, in their order."""
    choose, blocks = WAYS[way], len(samples[0]) // n
    tries = [
        [
            (choose(part), sum(one.tokens for one in part))
            for part in (one[n * block : n * (block + 1)] for block in range(blocks))
        ]
        for one in samples
    ]
    return scored(way, str(n), tries)


def answer_groups(
    answers: Sequence[str | None], same: Mapping[tuple[str, str], bool]
) -> list[int | None]:
    """The number of each answer's group, None for no answer: those of one spelling, and those that
    `same` says are equal, with all that they are equal to.
    """
    forms = [None if one is None else normalise(one) for one in answers]
    group: dict[str, int] = {}
    for form in forms:
        if form is None or form in group:
            continue
        equal = {group[one] for one in group if same.get((one, form), False)}
        number = min(equal, default=len(group))
        group = {one: number if old in equal else old for one, old in group.items()}
        group[form] = number
    return [None if form is None else group[form] for form in forms]


def equal_pairs(by_problem: Iterable[Sequence[str | None]]) -> dict[tuple[str, str], bool]:
    """Which two spellings, the earlier first, the grader takes for equal, each as the other's gold.

    Only pairs that meet in one problem are asked.
    """
    pairs: dict[tuple[str, str], bool] = {}
    for answers in by_problem:
        forms = list(dict.fromkeys(normalise(one) for one in answers if one is not None))
        pairs |= {(a, b): False for place, a in enumerate(forms) for b in forms[place + 1 :]}
    with Grader() as grader:
        asked = list(pairs)
        ways = [grader.grade_many([(f"\\boxed{{{b}}}", a) for a, b in asked])]
        ways.append(grader.grade_many([(f"\\boxed{{{a}}}", b) for a, b in asked]))
    return {
        pair: one.correct and other.correct for pair, one, other in zip(asked, *ways, strict=True)
    }


def samples_of(rows: Iterable[Row], path: Path) -> dict[str, list[Sample]]:
    """The samples of each problem. One that the grader could not judge gives no answer."""
    by_problem: dict[str, list[Row]] = {}
    for row in rows:
        if "mean_logprob" not in row:
            raise InputError(
                f"{path}: sample {row['sample']} of problem {row['problem_id']!r} has no "
                "mean_logprob (an older evaluation, or an endpoint without log-probs); evaluate "
                "again"
            )
        by_problem.setdefault(row["problem_id"], []).append(row)
    answers = {
        problem: [None if row["correct"] is None else row["extracted"] for row in several]
        for problem, several in by_problem.items()
    }
    same = equal_pairs(answers.values())
    found = {}
    for problem, several in by_problem.items():
        groups = answer_groups(answers[problem], same)
        found[problem] = [
            Sample(group, bool(row["correct"]), row["mean_logprob"], drawn_tokens(row))
            for group, row in zip(groups, several, strict=True)
        ]
    return found


def frontier(
    base: Path, searches: Sequence[Path], confidence: float = 0.95, against: str = "majority"
) -> Row:
    """Accuracy against tokens of every way: rows with score and interval, and the paired difference
    to the way `against` of as many tokens.

    `base` is an evaluation with several samples of each problem; `searches` are evaluations of the
    same model on the same problems by `evaluate.search`.
    """
    if against not in WAYS:
        raise InputError(f"--against {against}: unknown; use one of {', '.join(WAYS)}")
    summary = read_summary(base)
    if "search" in summary["fingerprint"]:
        raise InputError(f"{base}: is a search; the first folder is one of plain samples")
    held = samples_of(read_records(base, summary), base)
    problems = sorted(held)
    samples = [held[one] for one in problems]
    k = summary["num_samples"]
    counts = [1 << power for power in range(k.bit_length()) if 1 << power <= k]
    rows = [
        told(one, sampled(against, samples, n), confidence)
        for n in sorted({*counts, k})
        for one in (sampled(way, samples, n) for way in WAYS if (way == "single") == (n == 1))
    ]
    per_sample = float(np.mean([one.tokens for several in samples for one in several]))
    for path in searches:
        one = searched(path, summary, problems)
        n = min(max(round(float(np.mean(one.tokens)) / per_sample), 1), k)
        rows.append(told(one, sampled(against, samples, n), confidence))
    return {
        "name": summary["name"],
        "model": summary["model"],
        "num_problems": len(problems),
        "num_samples": k,
        "confidence": confidence,
        "against": against,
        "rows": rows,
    }


def searched(path: Path, base: Row, problems: Sequence[str]) -> Scored:
    """The score of a search, each of its samples a try."""
    summary = read_summary(path)
    spec = summary["fingerprint"].get("search")
    if spec is None:
        raise InputError(f"{path}: is no search; give one that evaluate.search has made")
    if summary.get("model_sha256") != base.get("model_sha256"):
        raise InputError(f"{path}: is of another model; search and samples are of one")
    differing = [
        one
        for one in harness_differences(base["fingerprint"], summary["fingerprint"])
        if not one.startswith(("search", "sampling.temperature", "sampling.top_"))
    ]
    if differing:
        raise InputError(f"{path}: was not measured as the samples were: {', '.join(differing)}")
    by_problem: dict[str, list[tuple[float, int]]] = {one: [] for one in problems}
    read = []
    for row in read_records(path, summary):
        if row["problem_id"] not in by_problem:
            raise InputError(f"{path}: problem {row['problem_id']!r} is not among the samples")
        by_problem[row["problem_id"]].append((float(row["correct"] is True), drawn_tokens(row)))
        read.append(row["search"]["read_tokens"])
    budget = f"{spec['width']} x {spec['branch']}"
    found = scored(spec["type"], budget, [by_problem[one] for one in problems])
    return replace(found, read_tokens=float(np.mean(read)))


def told(one: Scored, baseline: Scored, confidence: float) -> Row:
    """One row of the table."""
    score = score_row(
        one.scores,
        one.spread,
        num_samples=one.blocks,
        trials=len(one.scores) * one.blocks,
        confidence=confidence,
    )
    tries = min(one.blocks, baseline.blocks)
    found = paired_differences(one.scores - baseline.scores, tries, confidence)
    return {
        "way": one.way,
        "budget": one.budget,
        "tokens": float(np.mean(one.tokens)),
        "read_tokens": one.read_tokens,
        "score": score,
        "baseline": {"budget": baseline.budget, "tokens": float(np.mean(baseline.tokens))},
        "difference": {
            "value": float(found.value),
            "low": float(found.low),
            "high": float(found.high),
            "p_value": float(found.p_value),
        },
    }
