"""Small features of many wordings at once: hashes of words and pairs, MinHash signatures, keys.

In numpy over some thousand rows at a time; the same in every process and on every machine.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from open_rs.curate.similarity import Wording


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
