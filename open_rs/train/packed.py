"""A micro-batch as one stream of tokens: no padding goes through a weight, and every prompt once.

Letters: B rows, S tokens of the longest, N tokens of the stream, R sequences of a block. A head is
a prompt without its last token; a tail is that token and the completion without its own last one,
so that the states of the tails are those that predict the completions. The stream is all distinct
heads, then all tails, each token at the position that it has in its row. Attention alone minds
which tokens belong together: it lays sequences of like length side by side, in blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from open_rs.errors import InputError
from open_rs.rollout.fit import check_model

LIKE = 0.75  # sequences of a block have at least this share of the tokens of its longest
BLOCK_KEYS = 16_384  # keys of a block, unless one sequence has more
FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
TRIED: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # models, and whether they can be packed


@dataclass(frozen=True)
class Piece:
    """A head, or a tail with the head that it goes on from: places in the stream."""

    start: int
    count: int
    head_start: int = 0
    head_count: int = 0


@dataclass(frozen=True)
class Block:
    """R pieces, padded to T queries and K keys, those of the heads before those of their own."""

    first: int  # the queries are the stream's tokens from here
    last: int  # to here
    shape: tuple[int, int]  # R, T
    places: Tensor  # [last - first] of the queries in R x T
    keys: Tensor  # [R * K] in the stream; padding holds any
    heads: tuple[tuple[int, int], ...]  # R times first and last of the head in the stream
    mask: Tensor | None  # [R, 1, T, K], 0 or minus infinity; None: causal, and K = T

    def laid(self, queries: Tensor) -> Tensor:
        """Queries, or what goes with them, [last - first, heads, size] as [R, heads, T, size]."""
        rows, longest = self.shape
        padded = queries
        if len(queries) < rows * longest:
            padded = queries.new_zeros(rows * longest, *queries.shape[1:])
            padded = padded.index_copy(0, self.places, queries)
        return padded.unflatten(0, self.shape).transpose(1, 2)

    def laid_keys(self, keys: Tensor) -> Tensor:
        """Keys or values of the stream [N, heads, size] as [R, heads, K, size]."""
        rows, _ = self.shape
        return keys.index_select(0, self.keys).unflatten(0, (rows, -1)).transpose(1, 2)

    def flat(self, found: Tensor) -> Tensor:
        """What was found for the queries, [R, heads, T, size], as [last - first, heads, size]."""
        return found.transpose(1, 2).flatten(0, 1).index_select(0, self.places)


@dataclass(frozen=True)
class Packing:
    """The stream of a micro-batch."""

    ids: Tensor  # [1, N]
    positions: Tensor  # [1, N]
    states: Tensor  # [tokens of the tails], their places in the stream, row by row
    blocks: tuple[Block, ...]
    pieces: tuple[Piece, ...]  # heads and tails in the order of the stream


def pack(input_ids: Tensor, predicts: Tensor, dtype: torch.dtype) -> Packing:
    """The stream of right-padded rows [B, S]; `predicts` [B, S - 1] is True on their tails.

    `dtype` is that of the attention masks.
    """
    device = input_ids.device
    starts, counts = predicts.int().argmax(1).tolist(), predicts.sum(1).tolist()
    rows = input_ids.tolist()
    of_row = [tuple(row[:start]) for row, start in zip(rows, starts, strict=True)]
    ids: list[int] = []
    positions: list[int] = []
    heads: dict[tuple[int, ...], Piece] = {}
    for head in sorted(set(of_row), key=lambda one: (-len(one), one)):
        heads[head] = Piece(len(ids), len(head))
        ids += head
        positions += range(len(head))
    tails: dict[int, Piece] = {}
    for row in sorted(range(len(rows)), key=lambda row: (-counts[row], row)):
        start, before = starts[row], heads[of_row[row]]
        tails[row] = Piece(len(ids), counts[row], before.start, before.count)
        ids += rows[row][start : start + counts[row]]
        positions += range(start, start + counts[row])
    states = [
        torch.arange(tails[row].start, tails[row].start + counts[row]) for row in range(len(rows))
    ]
    pieces = [*(head for head in heads.values() if head.count), *tails.values()]
    return Packing(
        ids=torch.tensor([ids], device=device),
        positions=torch.tensor([positions], device=device),
        states=torch.cat(states).to(device),
        blocks=tuple(lay_out(group, dtype, device) for group in alike(pieces)),
        pieces=tuple(pieces),
    )


def alike(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Neighbours of like length, heads apart from tails; pieces stand longest first in each."""
    group: list[Piece] = []
    for piece in pieces:
        if group:
            first = group[0]
            keys = (len(group) + 1) * (first.count + max(one.head_count for one in [*group, piece]))
            same_kind = bool(piece.head_count) == bool(first.head_count)
            if not same_kind or piece.count < LIKE * first.count or keys > BLOCK_KEYS:
                yield group
                group = []
        group.append(piece)
    if group:
        yield group


def lay_out(group: list[Piece], dtype: torch.dtype, device: torch.device) -> Block:
    """The block of neighbouring pieces."""
    start, count, head_start, head_count = torch.tensor(
        [[one.start, one.count, one.head_start, one.head_count] for one in group]
    ).T[..., None]  # [R, 1] each
    own, shared = torch.arange(int(count.max())), torch.arange(int(head_count.max()))  # [T], [P]
    filled, inside = own < count, shared < head_count  # [R, T], [R, P]
    keys = torch.cat([(head_start + shared).where(inside, 0), (start + own).where(filled, 0)], 1)
    mask = None
    if len(shared):
        rows, queries = filled.shape
        seen = torch.cat(
            [
                inside[:, None].expand(rows, queries, -1),
                (own[:, None] >= own).expand(rows, queries, -1),
            ],
            dim=2,
        )  # [R, T, K]
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, -torch.inf)[:, None]
    return Block(
        first=group[0].start,
        last=group[-1].start + group[-1].count,
        shape=(len(group), len(own)),
        places=filled.flatten().nonzero().squeeze(1).to(device),
        keys=keys.flatten().to(device),
        heads=tuple((one.head_start, one.head_start + one.head_count) for one in group),
        mask=None if mask is None else mask.to(device),
    )


def packed_states(causal_lm: Any, input_ids: Tensor, predicts: Tensor) -> Tensor:
    """Last hidden states [tokens of all tails, H], row by row, of right-padded rows [B, S]."""
    packing = pack(input_ids, predicts, causal_lm.dtype)
    output = causal_lm.base_model(
        input_ids=packing.ids,
        position_ids=packing.positions,
        attention_mask=packing.ids.new_ones(1, 1, 1, 1),  # of four dimensions: taken as it is
        use_cache=False,
        packing=packing,
    )
    return output.last_hidden_state[0].index_select(0, packing.states)


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Packing | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """transformers' own `sdpa`, but for a stream, whose blocks attend one by one.

    What a block lays out is laid out again in the backward pass: what is kept is the stream's,
    however many rows a prompt's keys went to.
    """
    if packing is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    scale, dropout = settings["scaling"], settings.get("dropout", 0.0)
    flat = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]  # [N, heads, size]
    if query.is_cpu and not dropout:
        return BlockAttention.apply(*flat, packing.blocks, scale)[None], None
    done = [
        checkpoint(attend, *flat, block, scale, dropout, use_reentrant=False)
        for block in packing.blocks
    ]
    return torch.cat(done)[None], None


def attend(
    query: Tensor, key: Tensor, value: Tensor, block: Block, scale: float, dropout: float
) -> Tensor:
    """The attention output [last - first, heads, size] of the queries of one block."""
    q = block.laid(query[block.first : block.last])
    k, v = block.laid_keys(key), block.laid_keys(value)
    if not q.is_cpu:  # where kernels that take a mask take no shared keys
        k, v = (one.repeat_interleave(q.shape[1] // one.shape[1], 1) for one in (k, v))
    found = scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=block.mask,
        is_causal=block.mask is None,
        scale=scale,
        dropout_p=dropout,
        enable_gqa=True,
    )
    return block.flat(found)


class BlockAttention(torch.autograd.Function):
    """`attend` for all blocks on a CPU, by torch's kernels for both directions: what they need of
    the forward pass is the output and a number for each query, so nothing is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        blocks: Sequence[Block],
        scale: float,
        known: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """`known`: the output [N, heads, size] and the logarithms of the sums [N, heads] where
        other kernels have found them.
        """
        ctx.blocks, ctx.scale = blocks, scale
        if known is not None:
            output, sums = known
            laid = [one.laid(sums[one.first : one.last, :, None]).squeeze(3) for one in blocks]
            ctx.save_for_backward(query, key, value, output, *laid)
            return output
        outputs, logsumexps = [], []
        for block in blocks:
            found, logsumexp = FORWARD(
                block.laid(query[block.first : block.last]),
                block.laid_keys(key),
                block.laid_keys(value),
                0.0,
                block.mask is None,
                attn_mask=block.mask,
                scale=scale,
            )
            outputs.append(block.flat(found))
            logsumexps.append(logsumexp)
        output = torch.cat(outputs)
        ctx.save_for_backward(query, key, value, output, *logsumexps)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, *logsumexps = ctx.saved_tensors
        ahead, of_key, of_value = [], torch.empty_like(key), torch.empty_like(value)
        for block, logsumexp in zip(ctx.blocks, logsumexps, strict=True):
            own = slice(block.first, block.last)
            of_query, *of_laid = BACKWARD(
                block.laid(upstream[own]),
                block.laid(query[own]),
                block.laid_keys(key),
                block.laid_keys(value),
                block.laid(output[own]),
                logsumexp,
                0.0,
                block.mask is None,
                attn_mask=block.mask,
                scale=ctx.scale,
            )
            ahead.append(block.flat(of_query))
            for total, laid in zip((of_key, of_value), of_laid, strict=True):
                before = laid.shape[2] - block.shape[1]  # keys of heads
                total[own] = block.flat(laid[:, :, before:])
                for row, (first, last) in enumerate(block.heads):
                    total[first:last] += laid[row, :, : last - first].transpose(0, 1)
        return torch.cat(ahead), of_key, of_value, None, None, None


def can_pack(causal_lm: Any) -> bool:
    """Whether attention alone mixes tokens, in a way that `attention` reproduces: over everything
    before, through transformers' interface, with nothing added to the scores. It is tried once.
    """
    if causal_lm not in TRIED:
        TRIED[causal_lm] = may_pack(causal_lm) and packs(causal_lm)
    return TRIED[causal_lm]


def may_pack(causal_lm: Any) -> bool:
    """What the configuration says."""
    config = causal_lm.config.get_text_config()
    if getattr(config, "_attn_implementation", None) != "sdpa":
        return False
    try:
        return check_model(causal_lm).windows == {"full_attention": None}
    except InputError:  # the native engine needs the same, and says what is missing
        return False


@torch.no_grad()
def packs(causal_lm: Any) -> bool:
    """Whether the states of two packed rows with one prompt are those of the rows alone."""
    device = causal_lm.get_input_embeddings().weight.device
    rows = torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 7, 0]], device=device)  # 4 + 2, 4 + 1
    predicts = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 1, 0]], device=device).bool()
    was_training = causal_lm.training
    causal_lm.eval()
    try:
        packed = packed_states(causal_lm, rows, predicts)
    except (RuntimeError, TypeError):  # `packing` is not handed through, or heads of other shapes
        return False
    else:
        alone = [
            causal_lm.base_model(input_ids=row[None, :5], use_cache=False).last_hidden_state[0]
            for row in rows
        ]
        expected = torch.cat(
            [states[3:][kept[3:]] for states, kept in zip(alone, predicts, strict=True)]
        )
        rounding = 1e-4 if packed.dtype in (torch.float32, torch.float64) else 3e-2
        error = (packed - expected).abs().max()
        return bool(error <= rounding * expected.abs().max().clamp(min=1.0))
    finally:
        causal_lm.train(was_training)


AttentionInterface.register("sdpa", attention)
