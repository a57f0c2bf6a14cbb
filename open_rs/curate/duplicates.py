"""Rows that are one problem: the same text but for its spelling, or the same in other words.

Of the rows of one problem the best is kept: one that has a solution, then the longest solution,
then the first. Where their golds differ none is, unless the recipe says so.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from open_rs.curate.signatures import bands, feature_hashes, minhash, numbers_keys
from open_rs.curate.similarity import Wording, answers_agree, likeness, same_answer, wording
from open_rs.curate.stages import Drop, Fetch, Note, Verdict
from open_rs.normalise import normalised
from open_rs.problems import Problem
from open_rs.recipe import ExactDuplicatesFilter, NearDuplicatesFilter

NUM_BANDS, BAND_WIDTH = 32, 4  # 128 hashes: 95 % of pairs with a Jaccard index of 0.55 meet
TEXT_WORDS = 4  # the columns of `text_and_bands` that hold the 128 bits of the text
NEIGHBOURS = 16  # a row is compared with so many of those that share the key of a band
ROWS_AT_ONCE = 4096  # fetched together
PAIRS_AT_ONCE = 16384
NOTED_SIMILARITY = 0.8  # rows so alike are noted where their golds differ


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
    same, _ = same_texts(hashes)
    return verdicts_of(len(hashes), clusters(len(hashes), same), fetch, spec)


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
    `spec.conflict_similarity` on. Clusters are what such pairs connect.
    """
    count = len(features)
    same, firsts = same_texts(features[:, :TEXT_WORDS])
    candidates = firsts[candidate_pairs(features[firsts])]
    like = list(compared(candidates, fetch, spec))
    one_problem = np.array([one.rows for one in like if one.one_problem], np.int64).reshape(-1, 2)
    edges = np.concatenate([same, one_problem])
    verdicts = verdicts_of(count, clusters(count, edges), fetch, spec)
    for pair in like:
        for row, note in zip(pair.rows, pair.notes, strict=True):
            if not pair.one_problem and verdicts[row] is None:
                verdicts[row] = note
    return verdicts


def same_texts(hashes: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(pairs [n, 2] of the first row with a text and another one, the first row of each text)."""
    _, first, text = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    first_of_row = first[text.reshape(-1)]
    others = np.flatnonzero(first_of_row != np.arange(len(hashes)))
    return np.stack([first_of_row[others], others], axis=1), np.sort(first)


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


@dataclass(frozen=True)
class Likeness:
    """Two rows with the same numbers and like wordings; `notes` for each if they are two problems
    whose golds differ.
    """

    rows: tuple[int, int]
    one_problem: bool
    notes: tuple[Note | None, Note | None] = (None, None)


def compared(
    pairs: NDArray[np.int64], fetch: Fetch, spec: NearDuplicatesFilter
) -> Iterator[Likeness]:
    """The pairs of rows that are alike, by their texts."""
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        chunk = pairs[start : start + PAIRS_AT_ONCE]
        read: dict[int, tuple[Problem, Wording]] = {}
        needed = np.unique(chunk)
        for rows in (
            needed[at : at + ROWS_AT_ONCE].tolist() for at in range(0, len(needed), ROWS_AT_ONCE)
        ):
            read |= {
                row: (problem, wording(problem.problem))
                for row, problem in zip(rows, fetch(rows), strict=True)
            }
        for one, other in chunk.tolist():
            likeness = _likeness((one, other), read[one], read[other], spec)
            if likeness is not None:
                yield likeness


def _likeness(
    rows: tuple[int, int],
    one: tuple[Problem, Wording],
    other: tuple[Problem, Wording],
    spec: NearDuplicatesFilter,
) -> Likeness | None:
    (problem, words), (second, second_words) = one, other
    if words.numbers != second_words.numbers:
        return None
    alike = likeness(words, second_words)
    if alike < spec.similarity:
        return None
    if answers_agree(problem.answer, second.answer):
        return Likeness(rows, True)
    if alike >= spec.conflict_similarity and words.values == second_words.values:
        return Likeness(rows, True)
    if alike < NOTED_SIMILARITY:
        return None
    reason = "like another row, with another answer"
    return Likeness(
        rows,
        False,
        (
            Note(reason, f"{second.id}, similarity {alike:.2f}"),
            Note(reason, f"{problem.id}, similarity {alike:.2f}"),
        ),
    )


def clusters(count: int, edges: NDArray[np.int64]) -> list[list[int]]:
    """The sets of two and more of `count` rows that `edges` [n, 2] connect, each in row order."""
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), (count, count))
    _, labels = connected_components(graph, directed=False)
    members = np.unique(edges)  # all others stand alone
    order = members[np.argsort(labels[members], kind="stable")]
    cuts = np.flatnonzero(np.diff(labels[order])) + 1
    return [one.tolist() for one in np.split(order, cuts) if len(one)]


def verdicts_of(
    count: int,
    found: list[list[int]],
    fetch: Fetch,
    spec: ExactDuplicatesFilter | NearDuplicatesFilter,
) -> list[Verdict]:
    """The verdicts on all rows, where each of the clusters `found` is one problem."""
    verdicts: list[Verdict] = [None] * count
    for batch in _batches(found):
        rows = sorted(row for cluster in batch for row in cluster)
        problems = dict(zip(rows, fetch(rows), strict=True))
        for cluster in batch:
            members = [problems[row] for row in cluster]
            for row, verdict in zip(cluster, _cluster_verdicts(members, spec), strict=True):
                verdicts[row] = verdict
    return verdicts


def _batches(found: list[list[int]]) -> Iterator[list[list[int]]]:
    """Clusters of some ROWS_AT_ONCE rows together."""
    batch: list[list[int]] = []
    for cluster in found:
        batch.append(cluster)
        if sum(map(len, batch)) >= ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _cluster_verdicts(
    members: list[Problem], spec: ExactDuplicatesFilter | NearDuplicatesFilter
) -> list[Verdict]:
    golds = different_golds(one.answer for one in members)
    if len(golds) > 1 and spec.conflicts == "drop":
        return [Drop("duplicates with different answers", " / ".join(map(repr, golds)))] * len(
            members
        )
    best = max(members, key=lambda one: (bool(one.solution.strip()), len(one.solution)))
    words = wording(best.problem)
    return [None if one is best else Drop(*_copy_of(best, words, one)) for one in members]


def _copy_of(best: Problem, words: Wording, copy: Problem) -> tuple[str, str]:
    """Reason and detail of a copy of `best`, whose wording is `words`."""
    its_words = wording(copy.problem)
    if its_words.text == words.text:
        return "duplicate", f"of {best.id}"
    alike = likeness(words, its_words)
    return "near duplicate", f"of {best.id}, similarity {alike:.2f}"


def different_golds(golds: Iterable[str]) -> list[str]:
    """The golds that differ, each as it is first written; a missing one differs from none."""
    known: list[str] = []
    for gold in golds:
        if gold.strip() and not any(same_answer(one, gold) for one in known):
            known.append(gold)
    return known
