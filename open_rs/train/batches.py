"""From scored rollouts to micro-batches that fit a token budget, without changing the maths.

Letters: B rows of a micro-batch, S tokens of prompt + completion + padding, T completion tokens.
"""

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from open_rs.train.grpo import LossNorm, loss_denominators


@dataclass(frozen=True)
class Row:
    """One rollout to learn from: the token ids that were sampled, never text tokenised again."""

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    engine_logprobs: Sequence[float]  # one per completion id
    advantage: float

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True)
class Span:
    """What a row takes of a micro-batch, in tokens."""

    prompt: Hashable  # equal where the prompt is the same
    head: int  # the prompt without its last token
    completion: int

    @property
    def length(self) -> int:
        return self.head + 1 + self.completion


@dataclass(kw_only=True)
class LossTerms:
    """What the loss of log-probs [B, T] depends on."""

    loss_mask: Tensor  # [B, T] bool, True counts
    old_logprobs: Tensor  # [B, T], the engine's, until a trainer puts its own in their place
    advantages: Tensor  # [B]
    denominators: Tensor  # [B], of the whole step (`grpo.loss_denominators`)
    ref_logprobs: Tensor | None = None  # [B, T], filled in by the trainer when kl_coef is not 0
    importance: Tensor | None = None  # [B, T], by the trainer, of an engine with other log-probs

    def by_token(self) -> "LossTerms":
        """Every token that counts as a row of its own [N, 1], for losses that are sums over them.

        The tokens stand row by row; the sum over them is the loss of the rows.
        """
        mask, ref, lengths = self.loss_mask, self.ref_logprobs, self.loss_mask.sum(1)
        importance = self.importance
        return LossTerms(
            loss_mask=mask[mask][:, None],
            old_logprobs=self.old_logprobs[mask][:, None],
            advantages=self.advantages.repeat_interleave(lengths),
            denominators=self.denominators.repeat_interleave(lengths),
            ref_logprobs=None if ref is None else ref[mask][:, None],
            importance=None if importance is None else importance[mask][:, None],
        )

    def of(self, part: slice) -> "LossTerms":
        """The rows of a slice."""
        return LossTerms(
            loss_mask=self.loss_mask[part],
            old_logprobs=self.old_logprobs[part],
            advantages=self.advantages[part],
            denominators=self.denominators[part],
            ref_logprobs=None if self.ref_logprobs is None else self.ref_logprobs[part],
            importance=None if self.importance is None else self.importance[part],
        )


@dataclass(kw_only=True)
class MicroBatch(LossTerms):
    """Rows that go through the model together: prompt, completion, padding on the right."""

    rows: list[int]  # their places in the list given to `make_batches`
    input_ids: Tensor  # [B, S]
    attention_mask: Tensor  # [B, S], 1 on tokens, 0 on padding
    completion_mask: Tensor  # [B, S] bool, True on completion tokens
    packed: bool = False  # they go through it as one stream (`packed`), not padded

    @property
    def tokens(self) -> int:
        """How many tokens go through the model."""
        if not self.packed:
            return self.input_ids.numel()
        starts = self.completion_mask.int().argmax(1).tolist()
        ids = self.input_ids.tolist()
        heads = {tuple(row[: start - 1]) for row, start in zip(ids, starts, strict=True)}
        return sum(map(len, heads)) + int(self.completion_mask.sum())

    def to(self, device: torch.device | str) -> "MicroBatch":
        """The same batch with its tensors on `device`."""
        tensors: dict[str, Any] = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **tensors)

    def halves(self) -> "list[MicroBatch]":
        """The same rows in two batches; denominators are the step's, so the maths stays."""
        middle = -(-len(self.rows) // 2)
        return [self.part(0, middle), self.part(middle, len(self.rows))]

    def part(self, first: int, last: int) -> "MicroBatch":
        """Rows `first` to `last` - 1, padded to their own longest."""
        attention, loss = self.attention_mask[first:last], self.loss_mask[first:last]
        tokens, completion = int(attention.sum(1).max()), int(loss.sum(1).max())
        ref, importance = self.ref_logprobs, self.importance
        return MicroBatch(
            rows=self.rows[first:last],
            packed=self.packed,
            input_ids=self.input_ids[first:last, :tokens],
            attention_mask=attention[:, :tokens],
            completion_mask=self.completion_mask[first:last, :tokens],
            loss_mask=loss[:, :completion],
            old_logprobs=self.old_logprobs[first:last, :completion],
            advantages=self.advantages[first:last],
            denominators=self.denominators[first:last],
            ref_logprobs=None if ref is None else ref[first:last, :completion],
            importance=None if importance is None else importance[first:last, :completion],
        )


def make_batches(
    rows: Sequence[Row],
    *,
    micro_batch_tokens: int,
    loss_norm: LossNorm,
    max_completion_tokens: int,
    kl_coef: float = 0.0,
    pad_id: int = 0,
    packed: bool = False,
) -> list[MicroBatch]:
    """The rows of one step in micro-batches with at most `micro_batch_tokens` in the model.

    `packed` says how the model takes them (`packed.can_pack`): as a stream, where rows of one
    prompt stay together and it counts once, or padded, where rows of like length do and each counts
    as the longest. A row above the budget makes a batch of its own. The longest come first so that
    a step that does not fit in memory fails at its start. Denominators are those of all `rows`;
    with `kl_coef` 0, rows with zero advantage have zero gradient and are then skipped, which
    changes nothing but the time. Rollouts that shall not count (undecided, or truncated ones under
    truncation masking) are not passed at all. A row without completion tokens is left out. Rows of
    equal length keep their order.
    """
    check_rows(rows, max_completion_tokens)
    lengths = torch.tensor([len(row.completion_ids) for row in rows], dtype=torch.long)
    denominators = loss_denominators(
        lengths, loss_norm=loss_norm, max_completion_tokens=max_completion_tokens
    )
    teaching = [i for i, row in enumerate(rows) if teaches(row, kl_coef)]
    spans = [
        Span(tuple(row.prompt_ids), len(row.prompt_ids) - 1, len(row.completion_ids))
        for row in rows
    ]
    split = by_prompt if packed else by_length
    return [
        collate(rows, places, denominators, pad_id, packed)
        for places in split(teaching, spans, micro_batch_tokens)
    ]


def teaches(row: Row, kl_coef: float) -> bool:
    """Whether anything of a row's gradient can be other than 0."""
    return bool(row.completion_ids) and bool(row.advantage or kl_coef)


def check_rows(rows: Sequence[Row], max_completion_tokens: int) -> None:
    """Refuse a row whose parts do not belong together."""
    for place, row in enumerate(rows):
        if not row.prompt_ids:
            raise ValueError(f"row {place} has no prompt; its first token could not be scored")
        if len(row.engine_logprobs) != len(row.completion_ids):
            raise ValueError(
                f"row {place}: {len(row.engine_logprobs)} log-probs for "
                f"{len(row.completion_ids)} completion tokens"
            )
        if len(row.completion_ids) > max_completion_tokens:
            raise ValueError(
                f"row {place}: {len(row.completion_ids)} completion tokens, above "
                f"max_completion_tokens = {max_completion_tokens}"
            )
        if not math.isfinite(row.advantage):
            raise ValueError(
                f"row {place}: its advantage is {row.advantage}; undecided rollouts have 0"
            )


def by_length(places: Sequence[int], spans: Sequence[Span], budget: int) -> Iterator[list[int]]:
    """Groups of `places`, longest row first, each with count x longest <= budget or one row."""
    group: list[int] = []
    for place in sorted(places, key=lambda i: (-spans[i].length, i)):
        if group and (len(group) + 1) * spans[group[0]].length > budget:
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def by_prompt(places: Sequence[int], spans: Sequence[Span], budget: int) -> Iterator[list[int]]:
    """Groups of `places`, each within the budget or one row, where a prompt's head counts once in a
    group; prompts by their longest row, and their rows, longest first. The rows of a prompt are
    parted only where the budget does not hold them all.
    """
    of_prompt: dict[Hashable, list[int]] = {}
    for place in sorted(places, key=lambda i: (-spans[i].length, i)):
        of_prompt.setdefault(spans[place].prompt, []).append(place)
    group: list[int] = []
    tokens = 0
    for members in of_prompt.values():
        head = spans[members[0]].head
        whole = head + sum(spans[place].completion for place in members)
        if group and tokens + whole > budget >= whole:
            yield group
            group, tokens = [], 0
        for place in members:
            more = spans[place].completion
            if group and tokens + head + more > budget:
                yield group
                group, tokens, head = [], 0, spans[place].head
            group.append(place)
            tokens, head = tokens + head + more, 0
    if group:
        yield group


def collate(
    rows: Sequence[Row], places: list[int], denominators: Tensor, pad_id: int, packed: bool
) -> MicroBatch:
    """The rows at `places` as tensors."""
    chosen = [rows[place] for place in places]
    prompts = torch.tensor([[len(row.prompt_ids)] for row in chosen])  # [B, 1]
    totals = torch.tensor([[row.length] for row in chosen])
    position = torch.arange(int(totals.max()))  # [S]
    longest = max(len(row.completion_ids) for row in chosen)  # T
    return MicroBatch(
        rows=places,
        packed=packed,
        input_ids=pad_right(
            [[*row.prompt_ids, *row.completion_ids] for row in chosen], pad_id, torch.long
        ),
        attention_mask=(position < totals).long(),
        completion_mask=(position >= prompts) & (position < totals),
        loss_mask=torch.arange(longest) < totals - prompts,
        old_logprobs=pad_right([row.engine_logprobs for row in chosen], 0.0, torch.float32),
        advantages=torch.tensor([row.advantage for row in chosen], dtype=torch.float32),
        denominators=denominators[places],
    )


def pad_right(
    rows: Sequence[Sequence[float]], value: float, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Ragged rows as one tensor [B, longest], filled up with `value` on the right."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], dtype=dtype)
