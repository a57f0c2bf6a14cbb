"""Decoding on a CPU through `kernels.c`: the fastest of the ways in `forward`.

A row's keys and values are those of its prompt, which stay where they were prefilled and serve the
whole group, and its own: of its last prompt token and of its completion. Between the products of a
layer there are four calls, each of which touches its numbers once.

n live rows, S slots, L layers, H key-value heads, D head size, E hidden size, W lanes of a vector.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.cache_utils import DynamicCache

from open_rs.rollout.kernels import Kernels, address, kernels_for
from open_rs.rollout.prefill import Located
from open_rs.rollout.weights import Weights


@dataclass(frozen=True)
class Tiles:
    """Keys and values of a batch of B prompts, padded to P tokens, as the kernel reads them."""

    keys: Tensor  # [L, B, H, P / W, D, W]
    values: Tensor  # [L, B, H, P, D]

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


class CompiledForward:
    """Logits of the next token of every live row; see `forward.Forward`."""

    def __init__(self, weights: Weights, kernels: Kernels, *, slots: int, tokens: int) -> None:
        """`tokens`: of the longest completion."""
        self.weights, self.kernels = weights, kernels
        self.capacity = -(-tokens // kernels.lanes) * kernels.lanes
        layers, size = len(weights.layers), weights.head_size
        shape = (layers, slots, weights.kv_heads, self.capacity, size)
        self.keys, self.values = torch.empty(shape), torch.empty(shape)  # keys in tiles, as Tiles'
        self.rotary = torch.cat((weights.cosines, weights.sines), dim=1)  # [positions, D]
        # A row that moves to another slot leaves its keys and values where they are: row r's are
        # in place places[r]. What follows is by place.
        self.places = torch.arange(slots)
        self.prompt_lengths = torch.zeros(slots, dtype=torch.long)
        self.prompt_strides = torch.zeros(slots, dtype=torch.long)  # tokens from head to head
        self.prompt_keys = torch.zeros(layers, slots, dtype=torch.long)  # addresses
        self.prompt_values = torch.zeros(layers, slots, dtype=torch.long)
        self.prompts: list[Tiles | None] = [None] * slots  # keeps alive what they point to
        hidden = weights.embedding.shape[1]
        self.normed = torch.empty(slots, hidden)
        self.attended = torch.empty(slots, weights.query_heads * size)
        self.gated = torch.empty(slots, weights.intermediate)

    def store(self, prefilled: DynamicCache) -> Tiles:
        return tiles(prefilled, self.kernels.lanes)

    def put(self, slots: Sequence[int], lengths: Sequence[int], located: Iterable[Located]) -> None:
        self.prompt_lengths[self.places[list(slots)]] = 0
        for picks, batch, rows in located:
            for pick, row in zip(picks, rows, strict=True):
                place = int(self.places[slots[pick]])
                keys, values = batch.addresses(row)
                self.prompt_keys[:, place], self.prompt_values[:, place] = keys, values
                self.prompt_lengths[place] = lengths[pick]
                self.prompt_strides[place] = batch.values.shape[3]
                self.prompts[place] = batch

    def move(self, source: Sequence[int], target: Sequence[int], length: int) -> None:
        froms, tos = list(source), list(target)
        self.places[froms + tos] = self.places[tos + froms]

    def keep(self, live: int) -> None:
        for place in self.places[live:].tolist():
            self.prompts[place] = None
            self.prompt_lengths[place] = 0

    def logits(self, token: Tensor, position: Tensor, longest: int) -> Tensor:
        w, k, n = self.weights, self.kernels, len(token)
        normed, attended, gated = self.normed[:n], self.attended[:n], self.gated[:n]
        size = normed.shape[1]
        hidden = F.embedding(token, w.embedding)  # [n, E]
        for index, layer in enumerate(w.layers):
            k.rms_norm(n, size, address(hidden), address(layer.input_norm), w.eps, address(normed))
            qkv = layer.qkv(normed)
            k.attention(
                n,
                w.kv_heads,
                address(qkv),
                address(self.rotary),
                w.scale,
                address(layer.query_norm),
                address(layer.key_norm),
                w.eps,
                address(self.places),
                address(position),
                address(self.prompt_lengths),
                address(self.prompt_strides),
                address(self.prompt_keys[index]),
                address(self.prompt_values[index]),
                address(self.keys[index]),
                address(self.values[index]),
                self.capacity,
                address(attended),
            )
            hidden = layer.output.add_to(hidden, attended)
            k.rms_norm(n, size, address(hidden), address(layer.mlp_norm), w.eps, address(normed))
            gate_up = layer.gate_up(normed)  # has to live as long as its address is used
            k.silu_product(n, w.intermediate, address(gate_up), address(gated))
            hidden = layer.down.add_to(hidden, gated)
        k.rms_norm(n, size, address(hidden), address(w.norm), w.eps, address(normed))
        return w.head(normed)


def kernels_of(weights: Weights) -> Kernels | None:
    """The kernels that decode on these weights, if there are any."""
    if weights.embedding.device.type != "cpu" or weights.embedding.dtype != torch.float32:
        return None
    return kernels_for(
        head_size=weights.head_size,
        queries=weights.query_heads // weights.kv_heads,
        sizes=(weights.embedding.shape[1], weights.intermediate),
    )
