"""Rows that are a problem of a held-out set: as it is, in other words, inside it or around it.

The held-out problems are indexed by their words and pairs of words, and every row is compared with
those that share enough of them: a product of sparse matrices, which unlike MinHash misses none.
Each row is judged by itself, so nothing depends on the rows beside it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from open_rs.benchmarks import load_benchmark
from open_rs.curate.inputs import held_out_source
from open_rs.curate.signatures import feature_hashes, numbers_keys
from open_rs.curate.similarity import Wording, answers_agree, likeness, quotes, wording
from open_rs.curate.stages import Drop, Note, Row, Setting, Verdict
from open_rs.problems import Problem, load_problems, problem_lines
from open_rs.recipe import ContaminationFilter, Recipe

COMMON = 0.03  # words and pairs in a larger share of the held-out problems tell nothing
FEWEST = 12  # but the rarest so many of each problem are indexed in any case
SHARED = 0.35  # of a problem's indexed words and pairs that a candidate has to share
MOST_CANDIDATES = 8  # held-out problems that a row is compared with
SAME_NUMBERS = 0.25  # so much likelier is one with the same numbers: of a template the right one
SURE = 0.9  # so alike and with the same numbers, a row goes even where the golds differ


class HeldOut:
    """The problems of held-out sets, by name, and what a row is compared with."""

    def __init__(self, sets: Mapping[str, Sequence[Problem]]) -> None:
        self.names = [name for name, problems in sets.items() for _ in problems]
        self.problems = [one for problems in sets.values() for one in problems]
        self.wordings = [wording(one.problem) for one in self.problems]
        self.numbers = numbers_keys(self.wordings)
        self.by_text: dict[str, int] = {}
        for number, one in enumerate(self.wordings):
            self.by_text.setdefault(one.text, number)
        self._build_index()

    def _build_index(self) -> None:
        """vocabulary [V], sorted; index [V, held-out problems], 1 where a problem is indexed by a
        feature; sizes [held-out problems], how many those are.
        """
        owners, features = _owned_features(self.wordings)
        self.vocabulary, feature, held_by = np.unique(
            features, return_inverse=True, return_counts=True
        )
        limit = max(COMMON * len(self.problems), FEWEST)
        self.common = held_by > limit  # [V]
        frequency = held_by[feature]
        order = np.lexsort((frequency, owners))  # each problem's features, the rarest first
        starts = np.searchsorted(owners[order], np.arange(len(self.problems)))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - starts[owners[order]]
        indexed = ~self.common[feature] | (rank < FEWEST)
        shape = (len(self.vocabulary), len(self.problems))
        ones = np.ones(int(indexed.sum()), np.int32)
        self.index = csr_array((ones, (feature[indexed], owners[indexed])), shape)
        self.sizes = np.bincount(owners[indexed], minlength=len(self.problems))

    def candidates(self, wordings: Sequence[Wording]) -> list[list[int]]:
        """Of each wording the held-out problems to compare it with, the likeliest first."""
        found: list[list[int]] = [[] for _ in wordings]
        owners, features = _owned_features(wordings)
        place = np.minimum(np.searchsorted(self.vocabulary, features), len(self.vocabulary) - 1)
        known = self.vocabulary[place] == features
        telling = ~(known & self.common[place])
        telling_of_row = np.bincount(owners[telling], minlength=len(wordings))  # unknown ones too
        rows = csr_array(
            (np.ones(int(known.sum()), np.int32), (owners[known], place[known])),
            (len(wordings), len(self.vocabulary)),
        )
        shared = (rows @ self.index).tocoo()
        row, problem = shared.coords
        of_problem = shared.data / self.sizes[problem]
        of_row = shared.data / np.maximum(telling_of_row[row], FEWEST)
        near = np.flatnonzero((of_problem >= SHARED) | (of_row >= SHARED))
        either = self.sizes[problem[near]] + telling_of_row[row[near]] - shared.data[near]
        likely = shared.data[near] / np.maximum(either, 1)
        numbers = numbers_keys(wordings)
        likely += SAME_NUMBERS * (numbers[row[near]] == self.numbers[problem[near]])
        for at in near[np.lexsort((problem[near], -likely, row[near]))]:
            if len(found[row[at]]) < MOST_CANDIDATES:
                found[row[at]].append(int(problem[at]))
        return found


def _owned_features(
    wordings: Sequence[Wording],
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """(wording, feature) of each different word and pair of each wording."""
    features, starts = feature_hashes(wordings)
    lengths = np.diff(starts, append=len(features))
    owners = np.repeat(np.arange(len(starts)), lengths)
    order = np.lexsort((features, owners))
    owners, features = owners[order], features[order]
    repeated = (np.diff(owners, prepend=-1) == 0) & (features == np.roll(features, 1))
    return owners[~repeated], features[~repeated]


def contamination(
    problems: Sequence[Problem], spec: ContaminationFilter, held_out: HeldOut
) -> list[Verdict]:
    """Drops rows that are a held-out problem; notes (or drops) those of one template with it."""
    wordings = [wording(one.problem) for one in problems]
    return [
        _verdict(problem, words, near, spec, held_out)
        for problem, words, near in zip(
            problems, wordings, held_out.candidates(wordings), strict=True
        )
    ]


def _verdict(
    problem: Problem,
    words: Wording,
    candidates: list[int],
    spec: ContaminationFilter,
    held_out: HeldOut,
) -> Verdict:
    same = held_out.by_text.get(words.text)
    if same is not None:
        return Drop(f"copy of a row of {held_out.names[same]}", held_out.problems[same].id)
    judged = [
        (KINDS.index(kind), -alike, number)
        for number in candidates
        for kind, alike in [_kind(problem, words, held_out, number, spec)]
        if kind is not None
    ]
    if not judged:
        return None
    kind, unlike, number = min(judged)
    reason = KINDS[kind].format(held_out.names[number])
    detail = f"{held_out.problems[number].id}, similarity {-unlike:.2f}"
    kept = KINDS[kind] in TEMPLATES and spec.same_template == "keep"
    return Note(reason, detail) if kept else Drop(reason, detail)


REWORDED = "copy in other words of a row of {}"
QUOTES = "quotes a row of {}"
QUOTED_BY = "quoted by a row of {}"
OTHER_ANSWER = "same words and numbers as a row of {}, other answer"
OTHER_NUMBERS = "same template as a row of {}, other numbers"
OTHER_WORDS = "same template as a row of {}, other words and answer"
TEMPLATES = (OTHER_NUMBERS, OTHER_WORDS)
KINDS = (REWORDED, QUOTES, QUOTED_BY, OTHER_ANSWER, *TEMPLATES)  # the gravest first


def _kind(
    problem: Problem, words: Wording, held_out: HeldOut, number: int, spec: ContaminationFilter
) -> tuple[str | None, float]:
    """(what a row is to a held-out problem, how alike they are); None where it is another one."""
    other = held_out.wordings[number]
    alike = likeness(words, other)
    same_numbers = words.numbers == other.numbers
    if same_numbers and alike >= spec.similarity:
        if answers_agree(problem.answer, held_out.problems[number].answer):
            return REWORDED, alike
        if alike >= SURE:
            return OTHER_ANSWER, alike
    if quotes(words, other):
        return QUOTES, alike
    if quotes(other, words):
        return QUOTED_BY, alike
    if alike >= spec.template_similarity:
        return (OTHER_WORDS if same_numbers else OTHER_NUMBERS), alike
    return None, alike


@contextmanager
def open_held_out(spec: ContaminationFilter, setting: Setting) -> Iterator[HeldOut]:
    yield HeldOut({name: load_held_out(setting.recipe, name) for name in spec.against})


def load_held_out(recipe: Recipe, name: str) -> list[Problem]:
    """The set that a contamination filter names: of the recipe's `data`, a file or folder, else a
    benchmark.
    """
    if name in ("validation", "test") or Path(name).exists():
        return load_problems(held_out_source(recipe, name), raw=True)
    return load_benchmark(name)


def held_out_inputs(spec: ContaminationFilter, recipe: Recipe) -> Row:
    """The rows that are compared with, by the name of their set."""
    return {
        "held_out": {
            name: hashlib.sha256(problem_lines(load_held_out(recipe, name)).encode()).hexdigest()
            for name in spec.against
        }
    }
