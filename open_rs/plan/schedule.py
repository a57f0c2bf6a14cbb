"""What the engine and the trainer will do with completions of given lengths, counted.

The engine decodes at most `slots` rows side by side, gives a freed slot to the next row at once and
attends over as many positions as the longest live row has. The trainer packs rows, longest first,
into micro-batches under a token budget. Seconds and bytes are proportional to these counts.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # torch
    from open_rs.train.batches import Span

Floats = NDArray[np.float64]
# what a call of the engine costs by: calls, steps, rows x steps, rows x positions, prompt tokens
# prefilled, rows
DECODE_TERMS = 6


@dataclass(frozen=True)
class Group:
    """A prompt and its completions, in tokens. `taught`: its rewards differ."""

    prompt: int
    lengths: tuple[int, ...]
    taught: bool = True


@dataclass(frozen=True)
class Decoding:
    """One call of the engine, row by row in the order of the groups.

    `ends` [rows]: the step, from 1, at which each row ends. `work` [steps + 1, DECODE_TERMS]: what
    is done from the start of the call up to the end of each step.
    """

    ends: NDArray[np.int64]
    work: Floats
    longest: int  # positions of the longest row

    @property
    def total(self) -> Floats:
        return np.asarray(self.work[-1])


def decoding(groups: Sequence[Group], slots: int) -> Decoding:
    """The call for these groups; a prompt is prefilled when the first of its rows starts."""
    rows = [
        (group.prompt, length, place == 0)
        for group in groups
        for place, length in enumerate(group.lengths)
    ]
    free, spans = [0] * min(slots, len(rows)), []
    for _, length, _ in rows:
        start = heapq.heappop(free)
        spans.append((start, start + length))
        heapq.heappush(free, start + length)
    steps = max(end for _, end in spans)
    changes, ahead = np.zeros(steps + 2), np.zeros(steps + 1)
    ended, prefilled = np.zeros(steps + 1), np.zeros(steps + 1)
    for (prompt, _, first), (start, end) in zip(rows, spans, strict=True):
        changes[start + 1] += 1
        changes[end + 1] -= 1
        part = ahead[start + 1 : end + 1]  # by how much positions are ahead of the step, + steps
        np.maximum(part, prompt - start + steps, out=part)
        ended[end] += 1
        prefilled[min(start + 1, steps)] += prompt * first
    live, step = np.cumsum(changes)[:-1], np.arange(steps + 1.0)
    positions = np.where(live > 0, ahead - steps + step, 0.0)
    work = np.stack(
        [
            np.ones(steps + 1),
            step,
            np.cumsum(live),
            np.cumsum(live * positions),
            np.cumsum(prefilled),
            np.cumsum(ended),
        ],
        axis=1,
    )
    return Decoding(np.array([end for _, end in spans]), work, int(positions.max()))


@dataclass(frozen=True)
class Pass:
    """One micro-batch: tokens that go through the blocks, those whose log-probs are taken, and
    pairs of a query and a key that it sees.
    """

    forwarded: int
    scored: int
    pairs: float


def passes(groups: Sequence[Group], budget: int, *, packed: bool, all_rows: bool) -> list[Pass]:
    """The micro-batches of one update, as `train.batches` makes them.

    `packed`: a prompt goes through once and no padding does; `all_rows`: with KL, groups without
    signal are not skipped.
    """
    from open_rs.train.batches import Span, by_length, by_prompt

    spans = [
        Span(number, group.prompt - 1, length)
        for number, group in enumerate(groups)
        if group.taught or all_rows
        for length in group.lengths
        if length
    ]
    split = by_prompt if packed else by_length
    batches = split(range(len(spans)), spans, budget)
    return [counted([spans[place] for place in places], packed=packed) for places in batches]


def counted(batch: "Sequence[Span]", *, packed: bool) -> Pass:
    """The counts of the rows of one micro-batch."""
    scored = sum(row.completion for row in batch)
    if not packed:
        longest = max(row.length for row in batch)
        return Pass(len(batch) * longest, scored, len(batch) * longest**2 / 2)
    heads = {row.prompt: row.head for row in batch}
    pairs = sum(head**2 / 2 for head in heads.values())
    pairs += sum(row.completion * (row.head + row.completion / 2) for row in batch)
    return Pass(scored + sum(heads.values()), scored, pairs)
