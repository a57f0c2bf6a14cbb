"""Decoding on a CPU through `kernels.c`: the fastest of the ways in `forward`.

A row's keys and values are those of its prompt, which stay where they were prefilled and serve the
whole group, and its own: of its last prompt token and of its completion. Between the products of a
layer there are four calls, each of which touches its numbers once.

n tokens of a call, S slots, L layers, H key-value heads, A query heads of each, D head size, E
hidden size, W lanes of a vector.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.cache_utils import DynamicCache

from open_rs.rollout.kernels import Kernels, address, kernels_for
from open_rs.rollout.prefill import Located, ModuleRun
from open_rs.rollout.sampling import LogProbs
from open_rs.rollout.weights import Layer, Weights


@dataclass(frozen=True)
class Tiles:
    """Keys and values of a batch of B prompts, padded to P tokens, as the kernel reads them."""

    keys: Tensor  # [L, B, H, P / W, D, W]
    values: Tensor  # [L, B, H, P, D]

    @property
    def stride(self) -> int:
        """Tokens from head to head."""
        return self.values.shape[3]

    def addresses(self, row: int) -> tuple[Tensor, Tensor]:
        """Where the keys and the values of a prompt begin in each layer: int64 [L] each."""
        keys, values = (
            torch.arange(len(all_layers)) * all_layers.stride(0) + row * all_layers.stride(1)
            for all_layers in (self.keys, self.values)
        )
        return self.keys.data_ptr() + 4 * keys, self.values.data_ptr() + 4 * values


def tiles(prefilled: DynamicCache, lanes: int) -> Tiles:
    layers: list[Any] = prefilled.layers
    rows, heads, tokens, size = layers[0].keys.shape
    padded = -(-tokens // lanes) * lanes
    keys = torch.zeros(len(layers), rows, heads, padded // lanes, size, lanes)
    values = torch.zeros(len(layers), rows, heads, padded, size)
    for index, layer in enumerate(layers):
        values[index, :, :, :tokens] = layer.keys
        keys[index] = values[index].unflatten(2, (-1, lanes)).transpose(3, 4)
        values[index, :, :, :tokens] = layer.values
    return Tiles(keys, values)


@dataclass(frozen=True)
class Sequences:
    """Where the keys and values of S sequences lie, each of which may go on from a prompt's."""

    keys: Tensor  # [L, ...], tiles; a layer is `stride` tokens for each head, or for slot and head
    values: Tensor  # [L, ...]
    offsets: Tensor  # int64 [S]: tokens from the begin of a layer to a sequence
    stride: int  # tokens from head to head
    prompt_lengths: Tensor  # int64 [S]
    prompt_strides: Tensor  # int64 [S]: tokens from head to head
    prompt_keys: Tensor  # int64 [L, S], addresses
    prompt_values: Tensor

    @classmethod
    def of(cls, keys: Tensor, values: Tensor, offsets: Tensor, stride: int) -> "Sequences":
        """Sequences without prompts."""
        count, nowhere = len(offsets), torch.zeros(len(keys), len(offsets), dtype=torch.long)
        none = torch.zeros(count, dtype=torch.long)
        return cls(keys, values, offsets, stride, none, none.clone(), nowhere, nowhere.clone())


def attend(
    kernels: Kernels,
    weights: Weights,
    layer: Layer,
    qkv: Tensor,
    which: Tensor,
    position: Tensor,
    held: Sequences,
    index: int,
    logsumexps: Tensor | None = None,
) -> Tensor:
    """Attention [n, H * A * D] in layer `index` of tokens of the sequences `which`, int64 [n].

    Their keys and values are added to those `held`; `logsumexps` [n, H * A] takes the logarithm of
    each sum over e^score.
    """
    out = torch.empty(len(qkv), weights.query_heads * weights.head_size)
    kernels.attention(
        len(qkv),
        weights.kv_heads,
        address(qkv),
        address(weights.rotary),
        weights.scale,
        address(layer.query_norm),
        address(layer.key_norm),
        weights.eps,
        address(which),
        address(position),
        address(held.prompt_lengths),
        address(held.prompt_strides),
        address(held.prompt_keys[index]),
        address(held.prompt_values[index]),
        address(held.keys[index]),
        address(held.values[index]),
        address(held.offsets),
        held.stride,
        address(out),
        address(logsumexps),
    )
    return out


def normed(kernels: Kernels, hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """hidden [n, E] / root mean square * weight."""
    out = torch.empty_like(hidden)
    kernels.rms_norm(*hidden.shape, address(hidden), address(weight), eps, address(out))
    return out


def gated(kernels: Kernels, gate_up: Tensor) -> Tensor:
    """silu(gate) * up, [n, F], of gate and up side by side, [n, 2 * F]."""
    rows, size = len(gate_up), gate_up.shape[1] // 2
    out = torch.empty(rows, size)
    kernels.silu_product(rows, size, address(gate_up), address(out))
    return out


def log_probs(kernels: Kernels, scores: Tensor, chosen: Tensor) -> Tensor:
    """log softmax(scores)[chosen], [n], of scores [n, V] and ids int64 [n]."""
    out = torch.empty(len(scores))
    kernels.log_probs(*scores.shape, address(scores), address(chosen), address(out))
    return out


def last_states(
    kernels: Kernels,
    weights: Weights,
    token: Tensor,
    which: Tensor,
    position: Tensor,
    held: Sequences,
) -> Tensor:
    """The states [n, E] that the LM head reads, of tokens at their positions in their sequences."""
    w, k = weights, kernels
    hidden = F.embedding(token, w.embedding)  # [n, E]
    for index, layer in enumerate(w.layers):
        qkv = layer.qkv(normed(k, hidden, layer.input_norm, w.eps))
        attended = attend(k, w, layer, qkv, which, position, held, index)
        hidden = layer.output.add_to(hidden, attended)
        gate_up = layer.gate_up(normed(k, hidden, layer.mlp_norm, w.eps))
        hidden = layer.down.add_to(hidden, gated(k, gate_up))
    return normed(k, hidden, w.norm, w.eps)


class CompiledForward:
    """Logits of the next token of every live row; see `forward.Forward`."""

    log_probs: LogProbs | None = None

    def __init__(
        self, weights: Weights, kernels: Kernels, run: ModuleRun | None, *, slots: int, tokens: int
    ) -> None:
        """`run`: prompts through the module; `tokens`: of the longest completion."""
        self.weights, self.kernels, self.run = weights, kernels, run
        capacity = -(-tokens // kernels.lanes) * kernels.lanes
        shape = (len(weights.layers), slots, weights.kv_heads, capacity, weights.head_size)
        offsets = torch.arange(slots) * weights.kv_heads * capacity
        self.held = Sequences.of(torch.empty(shape), torch.empty(shape), offsets, capacity)
        # A row that moves to another slot leaves its keys and values where they are: row r's are
        # those of sequence places[r].
        self.places = torch.arange(slots)
        self.prompts: list[Any] = [None] * slots  # keeps alive what the sequences point to

    def prefill(self, heads: Sequence[Sequence[int]]) -> Any:
        assert self.run is not None
        return tiles(self.run(heads), self.kernels.lanes)

    def put(self, slots: Sequence[int], lengths: Sequence[int], located: Iterable[Located]) -> None:
        held = self.held
        held.prompt_lengths[self.places[list(slots)]] = 0
        for picks, batch, rows in located:
            for pick, row in zip(picks, rows, strict=True):
                place = int(self.places[slots[pick]])
                keys, values = batch.addresses(row)
                held.prompt_keys[:, place], held.prompt_values[:, place] = keys, values
                held.prompt_lengths[place] = lengths[pick]
                held.prompt_strides[place] = batch.stride
                self.prompts[place] = batch

    def move(self, source: Sequence[int], target: Sequence[int], length: int) -> None:
        froms, tos = list(source), list(target)
        self.places[froms + tos] = self.places[tos + froms]

    def keep(self, live: int) -> None:
        for place in self.places[live:].tolist():
            self.prompts[place] = None
            self.held.prompt_lengths[place] = 0

    def logits(self, token: Tensor, position: Tensor, longest: int) -> Tensor:
        which = self.places[: len(token)]
        return self.weights.head(
            last_states(self.kernels, self.weights, token, which, position, self.held)
        )


def kernels_of(weights: Weights) -> Kernels | None:
    """The kernels that decode on these weights, if there are any."""
    if weights.embedding.device.type != "cpu" or weights.embedding.dtype != torch.float32:
        return None
    return kernels_for(
        head_size=weights.head_size,
        queries=weights.query_heads // weights.kv_heads,
        sizes=(weights.embedding.shape[1], weights.intermediate),
    )
