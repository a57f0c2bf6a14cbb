"""Rows that are one problem: the same text but for its spelling, or the same in other words.

Of the rows of one problem the best is kept: one that has a solution, then the longest solution,
then the first. Where their golds differ none is, unless the recipe says so.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from open_rs.curate.signatures import bands, feature_hashes, minhash, numbers_keys
from open_rs.curate.similarity import (
    Wording,
    answers_agree,
    cased_letters,
    likeness,
    same_answer,
    swapped,
    wording,
)
from open_rs.curate.stages import Drop, Fetch, Note, Verdict, short
from open_rs.normalise import normalised
from open_rs.problems import Problem
from open_rs.recipe import ExactDuplicatesFilter, NearDuplicatesFilter

NUM_BANDS, BAND_WIDTH = 32, 4  # 128 hashes: 95 % of pairs with a Jaccard index of 0.55 meet
TEXT_WORDS = 4  # the columns of `text_and_bands` that hold the 128 bits of the text
NEIGHBOURS = 16  # a row is compared with so many of those that share the key of a band
ROWS_AT_ONCE = 65536  # fetched together, for which every chunk may have to be read
WORDINGS_HELD = 16384
NOTED_SIMILARITY = 0.8  # rows so alike are noted where their golds differ
SHOWN_GOLDS = 5  # in a detail
CONFLICT = "duplicates with different answers"
LIKE = "like another row, with another answer"


def text_hashes(
    problems: Sequence[Problem], spec: ExactDuplicatesFilter
) -> NDArray[np.uint32]:  # [rows, TEXT_WORDS]
    """128 bits of each normalised text."""
    texts = (normalised(one.problem).encode() for one in problems)
    digests = b"".join(hashlib.blake2b(text, digest_size=16).digest() for text in texts)
    return np.frombuffer(digests, dtype="<u4").reshape(-1, TEXT_WORDS)


def exact_duplicates(
    hashes: NDArray[np.uint32], fetch: Fetch, spec: ExactDuplicatesFilter
) -> list[Verdict]:
    """Of the rows with the same normalised text keeps the best."""
    return decided(same_texts(hashes), np.empty((0, 2), np.int64), fetch, spec)


def text_and_bands(
    problems: Sequence[Problem], spec: NearDuplicatesFilter
) -> NDArray[np.uint32]:  # [rows, TEXT_WORDS + NUM_BANDS]
    """The text's hash, and band keys of its wording. Rows that differ in their numbers share no key
    but by chance: they are no duplicates, however alike their words.
    """
    if not problems:
        return np.empty((0, TEXT_WORDS + NUM_BANDS), np.uint32)
    wordings = [wording(one.problem) for one in problems]
    signatures = minhash(*feature_hashes(wordings), NUM_BANDS * BAND_WIDTH)
    numbers = numbers_keys(wordings)[:, None]
    keys = bands(signatures, BAND_WIDTH) ^ (numbers >> np.uint64(32)).astype(np.uint32)
    texts = text_hashes(problems, ExactDuplicatesFilter())
    return np.concatenate([texts, keys], axis=1)


def near_duplicates(
    features: NDArray[np.uint32], fetch: Fetch, spec: NearDuplicatesFilter
) -> list[Verdict]:
    """Of the rows that are one problem, in whatever words, keeps the best.

    Two rows are one problem where their numbers and their golds are the same (or a gold is not
    known) and their wordings at least `spec.similarity` alike; with other golds only from
    `spec.conflict_similarity` on, and with the same formulas. Two that swap an opposite or a letter
    ask for two things. Clusters are what such pairs connect.
    """
    texts = same_texts(features[:, :TEXT_WORDS])
    firsts = np.unique(texts)
    return decided(texts, firsts[candidate_pairs(features[firsts])], fetch, spec)


def same_texts(hashes: NDArray[np.uint32]) -> NDArray[np.int64]:  # [rows]
    """The first row with the text of each row."""
    _, first, text = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    return first[text.reshape(-1)]


def candidate_pairs(features: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Pairs [n, 2] of rows that share the key of a band, each once.

    Of more than NEIGHBOURS rows with one key each meets the next ones in an order of its text's
    hash, another in each band, so that the order of the rows says nothing.
    """
    count = len(features)
    found = [np.empty(0, np.int64)]
    texts = features[:, 0].astype(np.uint64)
    for band in range(NUM_BANDS):
        keys = features[:, TEXT_WORDS + band]
        shuffled = (texts * np.uint64(0x9E3779B97F4A7C15 + 2 * band)) >> np.uint64(20)
        order = np.lexsort((shuffled, keys))
        ordered = keys[order]
        for distance in range(1, NEIGHBOURS + 1):
            alike = np.flatnonzero(ordered[distance:] == ordered[:-distance])
            if not len(alike):
                break
            one, other = order[alike], order[alike + distance]
            found.append(np.minimum(one, other) * count + np.maximum(one, other))
    pairs = np.unique(np.concatenate(found))
    return np.stack(np.divmod(pairs, max(count, 1)), axis=1)


def decided(
    texts: NDArray[np.int64],
    pairs: NDArray[np.int64],
    fetch: Fetch,
    spec: ExactDuplicatesFilter | NearDuplicatesFilter,
) -> list[Verdict]:
    """The verdicts on all rows. texts [rows]: the first row with the text of each; pairs [n, 2]:
    such first rows to be compared, in rising order.

    Each row is read once. Two rows that others have joined already are not compared, as nothing
    could part them: a cluster of n rows takes some n comparisons, not n^2.
    """
    verdicts: list[Verdict] = [None] * len(texts)
    for batch in _batches(components(texts, pairs)):
        rows = sorted(row for one in batch for row in one.texts)
        problems = dict(zip(rows, fetch(rows), strict=True))
        for one in batch:
            for row, verdict in _component_verdicts(one, problems, spec).items():
                verdicts[row] = verdict
    return verdicts


@dataclass(frozen=True)
class Component:
    """Rows that copies of a text and pairs to compare connect: every cluster is inside of one."""

    texts: dict[int, int]  # of each row, in rising order, the first row with its text
    pairs: list[list[int]]


def components(texts: NDArray[np.int64], pairs: NDArray[np.int64]) -> Iterator[Component]:
    """Those of two and more rows, from `texts` [rows] and `pairs` [n, 2] as in `decided`."""
    count = len(texts)
    edges = np.concatenate([np.stack([texts, np.arange(count)], axis=1), pairs])
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), (count, count))
    number, labels = connected_components(graph, directed=False)
    of_pairs = labels[pairs[:, 0]]
    rows, pairs = np.argsort(labels, kind="stable"), pairs[np.argsort(of_pairs, kind="stable")]
    sizes = np.bincount(labels, minlength=number)
    row_ends = np.cumsum(sizes)
    pair_ends = np.cumsum(np.bincount(of_pairs, minlength=number))
    for label in np.flatnonzero(sizes > 1).tolist():
        members = rows[row_ends[label] - sizes[label] : row_ends[label]]
        first_pair = pair_ends[label - 1] if label else 0
        yield Component(
            dict(zip(members.tolist(), texts[members].tolist(), strict=True)),
            pairs[first_pair : pair_ends[label]].tolist(),
        )


def _batches(found: Iterable[Component]) -> Iterator[list[Component]]:
    """Components of some ROWS_AT_ONCE rows together."""
    batch: list[Component] = []
    rows = 0
    for one in found:
        batch.append(one)
        rows += len(one.texts)
        if rows >= ROWS_AT_ONCE:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch


def _component_verdicts(
    component: Component,
    problems: Mapping[int, Problem],
    spec: ExactDuplicatesFilter | NearDuplicatesFilter,
) -> dict[int, Verdict]:
    """The verdict on each row: a copy of the best of its cluster, or, if it stays, what is noted of
    the first row of another cluster that is like it.
    """
    words = lru_cache(WORDINGS_HELD)(lambda row: wording(problems[row].problem))
    joined = Joined(_one_problem(component.texts, problems))
    like: list[tuple[int, int, float]] = []
    for one, other in component.pairs:
        assert isinstance(spec, NearDuplicatesFilter)
        if joined.root(one) == joined.root(other) or words(one).numbers != words(other).numbers:
            continue
        alike = likeness(words(one), words(other))
        if alike < spec.similarity:
            continue
        if answers_agree(problems[one].answer, problems[other].answer):
            if not swapped(words(one), words(other)):
                joined.join(one, other)
        elif alike >= spec.conflict_similarity and words(one).formula == words(other).formula:
            joined.join(one, other)
        elif alike >= NOTED_SIMILARITY:
            like.append((one, other, alike))
    verdicts: dict[int, Verdict] = {}
    for cluster in joined.sets():
        verdicts |= _cluster_verdicts(cluster, component.texts, problems, words, spec)
    for one, other, alike in like:
        for row, second in ((one, other), (other, one)):
            if verdicts[row] is None:  # so the other row is of another cluster
                verdicts[row] = Note(LIKE, f"{problems[second].id}, similarity {alike:.2f}")
    return verdicts


def _one_problem(texts: Mapping[int, int], problems: Mapping[int, Problem]) -> dict[int, int]:
    """Of each row the first one that is the same problem by its text. Where the golds of a text
    differ, single letters have to be the same too, capitals and all: Find $R$ is not Find $r$.
    """
    rows_of: dict[int, list[int]] = {}
    for row, first in texts.items():
        rows_of.setdefault(first, []).append(row)
    same = dict(texts)
    for rows in rows_of.values():
        if len(rows) > 1 and len(different_golds(problems[row].answer for row in rows)) > 1:
            firsts: dict[tuple[str, ...], int] = {}
            for row in rows:
                same[row] = firsts.setdefault(cased_letters(problems[row].problem), row)
    return same


class Joined:
    """Disjoint sets of rows, each with its smallest row as its root."""

    def __init__(self, parents: Mapping[int, int]) -> None:
        """Of each row one of its set that is not larger, or itself."""
        self._parents = dict(parents)

    def root(self, row: int) -> int:
        parents = self._parents
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    def join(self, one: int, other: int) -> None:
        smaller, larger = sorted((self.root(one), self.root(other)))
        self._parents[larger] = smaller

    def sets(self) -> list[list[int]]:
        """Each in the order of the rows."""
        sets: dict[int, list[int]] = {}
        for row in self._parents:
            sets.setdefault(self.root(row), []).append(row)
        return list(sets.values())


def _cluster_verdicts(
    cluster: list[int],
    texts: Mapping[int, int],
    problems: Mapping[int, Problem],
    words: Callable[[int], Wording],
    spec: ExactDuplicatesFilter | NearDuplicatesFilter,
) -> dict[int, Verdict]:
    golds = different_golds(problems[row].answer for row in cluster)
    detail = " / ".join(repr(short(gold)) for gold in golds[:SHOWN_GOLDS])
    detail += " / ..." if len(golds) > SHOWN_GOLDS else ""
    if len(golds) > 1 and spec.conflicts == "drop":
        return dict.fromkeys(cluster, Drop(CONFLICT, detail))
    best = max(cluster, key=lambda row: _worth(problems[row]))
    verdicts: dict[int, Verdict] = {}
    for row in cluster:
        if row == best:
            verdicts[row] = Note(CONFLICT, detail) if len(golds) > 1 else None
        elif texts[row] == texts[best]:
            verdicts[row] = Drop("duplicate", f"of {problems[best].id}")
        else:
            alike = likeness(words(texts[best]), words(texts[row]))
            detail_of_copy = f"of {problems[best].id}, similarity {alike:.2f}"
            verdicts[row] = Drop("near duplicate", detail_of_copy)
    return verdicts


def _worth(problem: Problem) -> tuple[bool, int]:
    return bool(problem.solution.strip()), len(problem.solution)


def different_golds(golds: Iterable[str]) -> list[str]:
    """The golds that differ, each as it is first written, up to one more than are shown; a missing
    one differs from none.
    """
    known: list[str] = []
    for gold in dict.fromkeys(golds):
        if len(known) > SHOWN_GOLDS:
            break
        if gold.strip() and not any(same_answer(one, gold) for one in known):
            known.append(gold)
    return known
