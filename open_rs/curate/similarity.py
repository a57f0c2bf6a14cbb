"""How alike the wordings of two problems are, with their numbers apart.

A wording is the `normalised` text as words and signs, in which every number reads alike. The
similarity of two is the Jaccard index of words and pairs of neighbouring words, each counted as
often as it occurs: |A and B| / |A or B|. Two problems with like wordings are one problem where
their numbers are the same too, else one template with other numbers.
"""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from open_rs.grade.exact import exact_verdict
from open_rs.normalise import normalised, normalised_answer

NUMBER = "0"  # how each number reads in a wording
_SMALL = "zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
# "one" is a pronoun as often as a number
NUMBER_WORDS = {word: str(n + (n > 0)) for n, word in enumerate(_SMALL.split())} | {
    word: str(10 * n) for n, word in enumerate(_TENS.split(), start=2)
}
TOKENS = re.compile(
    r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"  # numbers
    r"|\\?[^\W\d_]+|[-+*/=<>^%!]"  # words, commands, signs
)
RUN = 5  # tokens in a row by which a quotation is known
SHORTEST_QUOTED = 12  # a problem of fewer tokens stands in too many others by chance


@dataclass(frozen=True)
class Wording:
    """The tokens of a problem in order: as they are, and with each number alike."""

    tokens: tuple[str, ...]  # numbers by their value
    words: tuple[str, ...]  # numbers as NUMBER
    numbers: frozenset[str]  # the different values

    @cached_property
    def counts(self) -> Counter[Hashable]:
        """How often each word, and each pair of neighbours, occurs."""
        counts: Counter[Hashable] = Counter(self.words)
        counts.update(zip(self.words, self.words[1:], strict=False))
        return counts

    @cached_property
    def runs(self) -> frozenset[tuple[str, ...]]:
        """The runs of RUN tokens, numbers and all."""
        return frozenset(zip(*(self.tokens[start:] for start in range(RUN)), strict=False))


def wording(text: str) -> Wording:
    """The wording of a problem's text."""
    tokens: list[str] = []
    words: list[str] = []
    numbers: set[str] = set()
    for token in TOKENS.findall(normalised(text)):
        number = token if token[0].isdecimal() or token[0] == "." else NUMBER_WORDS.get(token)
        if number is None:
            tokens.append(token)
            words.append(token)
        else:
            value = _value(number)
            tokens.append(value)
            words.append(NUMBER)
            numbers.add(value)
    return Wording(tuple(tokens), tuple(words), frozenset(numbers))


def _value(number: str) -> str:
    """1,000.50 as 1000.5."""
    whole, _, decimals = number.replace(",", "").partition(".")
    decimals = decimals.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{decimals}" if decimals else "")


def similarity(one: Wording, other: Wording) -> float:
    """Jaccard index of words and pairs, 0 to 1; 1 for two empty wordings."""
    small, large = sorted((one.counts, other.counts), key=len)
    shared = sum(min(count, large[key]) for key, count in small.items() if key in large)
    either = one.counts.total() + other.counts.total() - shared
    return shared / either if either else 1.0


def quoted(part: Wording, whole: Wording) -> float:
    """The share of the runs of `part` that stand in `whole`, numbers and all; 0 where `part` is too
    short to tell.
    """
    if len(part.tokens) < SHORTEST_QUOTED:
        return 0.0
    return len(part.runs & whole.runs) / len(part.runs)


def same_answer(one: str, other: str) -> bool:
    """Equal in spelling, or to the grader at once, whichever of the two is the gold."""
    if normalised_answer(one) == normalised_answer(other):
        return True
    return "correct" in (exact_verdict(one, other), exact_verdict(other, one))


def answers_agree(one: str, other: str) -> bool:
    """No sign of two different answers: the same one, or one of them is not known."""
    return not one.strip() or not other.strip() or same_answer(one, other)


class _TokenHashes(dict[str, int]):
    """The 64-bit hash of a token, worked out once; the same in every process."""

    def __missing__(self, token: str) -> int:
        value = int.from_bytes(blake2b(token.encode(), digest_size=8).digest(), "little")
        self[token] = value
        return value


_TOKEN_HASHES = _TokenHashes()
_PAIR = np.uint64(0x9E3779B97F4A7C15)


def text_key(text: str) -> int:
    """64-bit hash of any text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def feature_hashes(wordings: Iterable[Wording]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(the hashes of the words and pairs of all wordings in a row, where each wording's begin).

    A wording of n tokens has 2 n - 1 features; an empty one has a single feature of its own.
    """
    lists = [one.words or ("",) for one in wordings]
    lengths = np.array([len(one) for one in lists], np.int64)
    words = np.array([_TOKEN_HASHES[word] for one in lists for word in one], np.uint64)
    ends = np.cumsum(lengths)
    pairs = words[:-1] * _PAIR + words[1:]
    within = np.ones(len(pairs), bool)
    within[ends[:-1] - 1] = False  # no pair across two wordings
    owner = np.repeat(np.arange(len(lists)), lengths)
    owners = np.concatenate([owner, owner[:-1][within]])
    order = np.argsort(owners, kind="stable")
    features = np.concatenate([words, pairs[within]])[order]
    starts = np.concatenate([[0], np.cumsum(2 * lengths - 1)[:-1]])
    return features, starts.astype(np.int64)


def minhash(
    features: NDArray[np.uint64], starts: NDArray[np.int64], num_hashes: int
) -> NDArray[np.uint32]:
    """Signatures [rows, num_hashes]: two of them agree at a place with the probability of the
    Jaccard index of the two sets of features (Broder 1997), by multiply-shift hashing.
    """
    drawn = np.random.Generator(np.random.Philox(key=0)).integers(
        0, 2**64, (num_hashes, 2), np.uint64
    )
    signatures = np.empty((len(starts), num_hashes), np.uint32)
    for place, (factor, shift) in enumerate(drawn):
        hashed = ((features * (factor | np.uint64(1)) + shift) >> np.uint64(32)).astype(np.uint32)
        signatures[:, place] = np.minimum.reduceat(hashed, starts)
    return signatures


def bands(signatures: NDArray[np.uint32], rows_per_band: int) -> NDArray[np.uint32]:
    """Keys [rows, bands]: two rows share the key of a band where they agree in its whole width."""
    cut = signatures.reshape(len(signatures), -1, rows_per_band).astype(np.uint64)
    keys = np.zeros(cut.shape[:2], np.uint64)
    for place in range(rows_per_band):
        keys = (keys ^ cut[:, :, place]) * _PAIR
        keys ^= keys >> np.uint64(29)
    return (keys >> np.uint64(32)).astype(np.uint32)


def numbers_keys(wordings: Sequence[Wording]) -> NDArray[np.uint64]:
    """A hash of the different numbers of each wording."""
    return np.array([text_key(" ".join(sorted(one.numbers))) for one in wordings], np.uint64)
