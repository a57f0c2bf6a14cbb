"""One decoding step of Llama-like models straight on their weights, without a module's Python.

On a small model most of a step is the overhead of transformers' forward. This is the same maths in
a third of the operations: q, k and v by one product, residuals added inside the products, and
attention with the query heads of a key-value head as its query rows, so that grouped keys and
values are never repeated.

n live rows, E hidden size, H key-value heads, A query heads of each, D head size, V vocabulary.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from open_rs.rollout.cache import SlotCache
from open_rs.rollout.weights import Weights


class Decoder:
    """Logits of the next token of every live row, given its last token and the slot cache."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.cosines = torch.cat((weights.cosines, weights.cosines), dim=1)  # [positions, D]

    def logits(self, token: Tensor, position: Tensor, mask: Tensor, cache: SlotCache) -> Tensor:
        """token, position: int64 [n]; mask: additive [n, 1, 1, L]. Returns [n, V]."""
        w, n = self.weights, len(token)
        half, rotated = w.head_size // 2, w.query_heads + w.kv_heads
        grouped = (n, w.kv_heads, w.query_heads // w.kv_heads, w.head_size)
        cos, sin = self.cosines[position][:, None], w.sines[position][:, None]
        hidden = F.embedding(token, w.embedding)  # [n, E]
        for layer, slots in zip(w.layers, cache.slot_layers, strict=True):
            qkv = layer.qkv(self.normed(hidden, layer.input_norm)).view(n, -1, w.head_size)
            qk = qkv[:, :rotated]
            if layer.query_norm is not None and layer.key_norm is not None:
                queries, keys = qk.split((w.query_heads, w.kv_heads), dim=1)
                both = self.normed(queries, layer.query_norm), self.normed(keys, layer.key_norm)
                qk = torch.cat(both, dim=1)
            turned = qk * cos
            turned[..., :half].addcmul_(qk[..., half:], sin, value=-1)
            turned[..., half:].addcmul_(qk[..., :half], sin)
            keys, values = slots.update(turned[:, w.query_heads :, None], qkv[:, rotated:, None])
            attended = F.scaled_dot_product_attention(
                turned[:, : w.query_heads].view(grouped), keys, values, mask, scale=w.scale
            ).reshape(n, -1)
            hidden = layer.output.add_to(hidden, attended)
            gate, up = layer.gate_up(self.normed(hidden, layer.mlp_norm)).chunk(2, dim=1)
            hidden = layer.down.add_to(hidden, F.silu(gate).mul_(up))
        return w.head(self.normed(hidden, w.norm))

    def normed(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(hidden, hidden.shape[-1:], weight, self.weights.eps)
