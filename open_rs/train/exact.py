"""The forward pass of training by the kernels of sampling, and its gradient.

The value of every operation is that of `rollout.exact`, bit for bit; its gradient is the formula of
the operation in torch's own products, so it is that of the usual pass to the rounding of float32.

Letters: N tokens of the stream (see `packed`), E hidden size, F intermediate size, M outputs.
"""

from functools import partial
from math import inf
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from open_rs.models import unwrap
from open_rs.rollout.compiled import attend, gated, log_probs, normed
from open_rs.rollout.exact import exact_parts, refuse_inexact, side_by_side, spread_out
from open_rs.rollout.kernels import Kernels
from open_rs.rollout.weights import Layer, Product, packed_product
from open_rs.train.packed import BlockAttention, Packing, pack

EXACT: WeakSet[Any] = WeakSet()  # models whose log-probs are to be those of sampling


def make_exact(model: Any) -> None:
    """From now on the log-probs of `model` in training are those of sampling from it with `exact`.
    An InputError says why they cannot be.
    """
    refuse_inexact(model)
    EXACT.add(unwrap(model))


def is_exact(model: Any) -> bool:
    return unwrap(model) in EXACT


def exact_pass(causal_lm: Any, capacity: int) -> "ExactPass | None":
    """For a model that was made exact, and rows of up to `capacity` tokens."""
    return ExactPass(causal_lm, capacity) if causal_lm in EXACT else None


class ExactPass:
    """A forward pass over a micro-batch on the weights as they are now."""

    def __init__(self, causal_lm: Any, capacity: int) -> None:
        self.weights, self.kernels = exact_parts(causal_lm, capacity, LearntProduct)
        self.log_probs = partial(log_probs, self.kernels)
        self.padding = causal_lm.get_input_embeddings().padding_idx  # has no gradient
        self.recompute = causal_lm.is_gradient_checkpointing and causal_lm.training

    def states(self, input_ids: Tensor, predicts: Tensor) -> Tensor:
        """As `packed.packed_states`."""
        packing = pack(input_ids, predicts, torch.float32)
        hidden = F.embedding(packing.ids[0], self.weights.embedding, self.padding)  # [N, E]
        for layer in self.weights.layers:
            if self.recompute:
                hidden = checkpoint(self.block, hidden, layer, packing, use_reentrant=False)
            else:
                hidden = self.block(hidden, layer, packing)
        last: Tensor = Normed.apply(hidden, self.weights.norm, self.weights.eps, self.kernels)
        return last.index_select(0, packing.states)

    def block(self, hidden: Tensor, layer: Layer, packing: Packing) -> Tensor:
        """One layer, [N, E] to [N, E]."""
        eps, kernels = self.weights.eps, self.kernels
        qkv = layer.qkv(Normed.apply(hidden, layer.input_norm, eps, kernels))
        hidden = layer.output.add_to(hidden, self.attended(qkv, layer, packing))
        gate_up = layer.gate_up(Normed.apply(hidden, layer.mlp_norm, eps, kernels))
        return layer.down.add_to(hidden, Gated.apply(gate_up, kernels))

    def attended(self, qkv: Tensor, layer: Layer, packing: Packing) -> Tensor:
        """The value by the kernel; the gradient through rotated queries and keys."""
        w, positions = self.weights, packing.positions[0]
        size, rows = w.head_size, len(qkv)
        sums = torch.empty(rows, w.query_heads)
        known = self.by_kernel(qkv.detach(), layer, packing, sums)
        parts = qkv.view(rows, -1, size).split((w.query_heads, w.kv_heads, w.kv_heads), dim=1)
        query, key = (
            self.rotated(part, norm, positions)
            for part, norm in zip(parts, (layer.query_norm, layer.key_norm), strict=False)
        )
        found: Tensor = BlockAttention.apply(
            query, key, parts[2], packing.blocks, w.scale, (known.view(query.shape), sums)
        )
        return found.flatten(1)

    def by_kernel(self, qkv: Tensor, layer: Layer, packing: Packing, sums: Tensor) -> Tensor:
        pieces, size = packing.pieces, self.weights.head_size
        counts = [one.count for one in pieces]
        held = side_by_side(counts, 1, self.weights, self.kernels.lanes)
        places = {one.start: place for place, one in enumerate(pieces)}
        for place, one in enumerate(pieces):
            if one.head_count:
                first = 4 * size * int(held.offsets[places[one.head_start]])
                held.prompt_keys[0, place] = held.keys.data_ptr() + first
                held.prompt_values[0, place] = held.values.data_ptr() + first
                held.prompt_lengths[place] = one.head_count
                held.prompt_strides[place] = held.stride
        which, positions = spread_out(counts), packing.positions[0]
        return attend(self.kernels, self.weights, layer, qkv, which, positions, held, 0, sums)

    def rotated(self, heads: Tensor, norm: Tensor | None, positions: Tensor) -> Tensor:
        """The rotary embedding of queries or keys [N, heads, size], after their norm if any."""
        w = self.weights
        if norm is not None:
            heads = F.rms_norm(heads, heads.shape[-1:], norm, w.eps)
        cosines, sines = w.cosines[positions][:, None], w.sines[positions][:, None]
        first, second = heads.chunk(2, dim=-1)
        return torch.cat(
            (first * cosines - second * sines, second * cosines + first * sines), dim=-1
        )


class LearntProduct(Product):
    """A packed product through which a gradient flows to inputs, weight and bias."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, made: bool = False) -> None:
        super().__init__(weight, bias, pack_from=-inf, made=made)
        self.learnt = weight

    def __call__(self, inputs: Tensor) -> Tensor:
        found: Tensor = PackedProduct.apply(inputs, None, self.learnt, self.bias, self.packed)
        return found

    def add_to(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        found: Tensor = PackedProduct.apply(inputs, hidden, self.learnt, self.bias, self.packed)
        return found


class PackedProduct(torch.autograd.Function):
    """hidden [N, M] + inputs [N, E] @ weight.T [E, M] + bias [M]."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        hidden: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        packed: Any,
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return packed_product(inputs, packed, bias, hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        of_inputs, of_hidden, of_weight, of_bias, _ = ctx.needs_input_grad
        return (
            upstream @ weight if of_inputs else None,
            upstream if of_hidden else None,
            upstream.T @ inputs if of_weight else None,
            upstream.sum(0) if of_bias else None,
            None,
        )


class Normed(torch.autograd.Function):
    """y = x r w with r = 1 / sqrt(mean x^2 + eps), for x [N, E] and w [E]. With g = dL/dy:
    dL/dx = r (g w - x r mean(g w x r)) and dL/dw = sum over tokens of g x r.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, kernels: Kernels) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return normed(kernels, x, weight, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        factor = (x.square().mean(1, keepdim=True) + ctx.eps).rsqrt()
        unit, of_unit = x * factor, upstream * weight
        of_x = factor * (of_unit - unit * (of_unit * unit).mean(1, keepdim=True))
        of_weight = torch.linalg.vecdot(upstream, unit, dim=0) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None, None


class Gated(torch.autograd.Function):
    """silu(gate) * up [N, F] of gate and up side by side [N, 2 F]."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor, kernels: Kernels) -> Tensor:
        ctx.save_for_backward(gate_up)
        return gated(kernels, gate_up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        gate, up = ctx.saved_tensors[0].chunk(2, dim=1)
        chance = gate.sigmoid()
        of_gate = upstream * up * chance * (1 + gate * (1 - chance))
        return torch.cat((of_gate, upstream * gate * chance), dim=1), None
