"""Sampling noise as a pure function of (seed, step, problem id, sample index, position).

Philox-4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011) turns a 64-bit
key and a 128-bit counter into four random 32-bit words. There is no state, so the uniform that
picks a token does not depend on the slot or the batch in which its row sits, nor on what was drawn
before, nor on a restart.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and sqrt(3) - 1, added to the key at each round
WORD = 0xFFFFFFFF
CHUNK = 2**16  # uniforms made at a time by NoiseAhead


def philox4x32(counter: Tensor, key: Tensor) -> Tensor:
    """Ten rounds of Philox-4x32. counter: int64 [4, N], key: int64 [2, N]; returns int64 [4, N].

    Every entry is one 32-bit word. A product of two words wraps around in int64, which leaves its
    64 bits right: the low word is masked off, the high one is shifted down and then masked.
    """
    multipliers = torch.tensor([[m] for m in MULTIPLIERS], device=counter.device)
    weyl = torch.tensor([[w] for w in WEYL], device=counter.device)
    even, odd = counter[0::2], counter[1::2]  # words 0 and 2 are multiplied, 1 and 3 mixed in
    for _ in range(ROUNDS):
        product = (even * multipliers).flip(0)
        even = ((product >> 32) & WORD) ^ odd ^ key
        odd = product & WORD
        key = (key + weyl) & WORD
    return torch.stack((even[0], odd[0], even[1], odd[1]))


def stream_key(seed: int, step: int, problem_id: str) -> tuple[int, int]:
    """The two key words of a problem's stream at a step: the first 64 bits of a SHA-256."""
    digest = hashlib.sha256(f"{seed}\0{step}\0{problem_id}".encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def uniforms(key: Tensor, sample: Tensor, position: Tensor) -> Tensor:
    """One uniform per row, strictly inside (0, 1), 32 random bits each.

    key: int64 [2, N]; sample, position: int64 [N]; returns float64 [N]. The counter is
    (position, sample, 0, 0), and the first output word is used.
    """
    zero = torch.zeros_like(sample)
    word = philox4x32(torch.stack((position, sample, zero, zero)), key)[0]
    return (word.double() + 0.5) * 2.0**-32


class NoiseAhead:
    """The uniforms of a call's rows, handed out in the order of the rows.

    One Philox call costs some eighty small operations however few numbers it makes, so they are
    made for every position of many rows at once.
    """

    def __init__(
        self,
        keys: Sequence[tuple[int, int]],
        samples: Sequence[int],
        length: int,
        device: torch.device,
    ) -> None:
        """`keys`, `samples`: of all rows; `length`: positions wanted of each."""
        self.keys, self.samples = keys, samples
        self.positions = torch.arange(length, device=device)
        self.ready = torch.empty(0, length, dtype=torch.float64, device=device)
        self.made = 0

    def take(self, count: int) -> Tensor:
        """float64 [count, length] for the next `count` rows."""
        while len(self.ready) < count:
            chunk = max(CHUNK // len(self.positions), 1)
            keys = self.keys[self.made : self.made + chunk]
            if not keys:
                raise IndexError("more rows of noise were asked for than were announced")
            self.ready = torch.cat((self.ready, self._make(keys)))
            self.made += len(keys)
        taken, self.ready = self.ready[:count], self.ready[count:]
        return taken

    def _make(self, keys: Sequence[tuple[int, int]]) -> Tensor:
        """float64 [len(keys), length]."""
        device, length = self.positions.device, len(self.positions)
        samples = self.samples[self.made : self.made + len(keys)]
        key = torch.tensor(keys, device=device).T.repeat_interleave(length, dim=1)
        sample = torch.tensor(samples, device=device).repeat_interleave(length)
        return uniforms(key, sample, self.positions.repeat(len(keys))).view(-1, length)
