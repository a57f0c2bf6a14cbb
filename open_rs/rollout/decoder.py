"""One decoding step of Llama-like models straight on their weights, without a module's Python.

On a small model and a CPU, most of a step is the overhead of transformers' forward. This is the
same maths in a third of the operations: q, k and v by one product, residuals added inside the
products, and attention with the query heads of a key-value head as its query rows, so that
grouped keys and values are never repeated. What it does not know stays with the module's own
forward. The weights are read at each call of `decoder_of`: q, k and v are copied, and on a CPU
large matrices are packed.

n live rows, E hidden size, H key-value heads, A query heads of each, D head size, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_rs.rollout.cache import SlotCache

PACKED_FROM = 2**16  # weights of a matrix; below, packing does not pay
PACKED_TOKENS = 32  # a completion may have; below, packing costs more than it saves
FAMILY = ("LlamaForCausalLM", "Qwen2ForCausalLM")
STATIC_ROPE = ("default", "linear", "llama3", "yarn")  # frequencies do not depend on the length


@dataclass(frozen=True)
class Layer:
    """The weights of one transformer block."""

    input_norm: Tensor  # [E]
    qkv: "Product"  # to (H * A + 2 * H) * D
    output: "Product"
    mlp_norm: Tensor  # [E]
    gate: "Product"
    up: "Product"
    down: "Product"


class Product:
    """inputs @ weight.T + bias, by oneDNN's packed weights where they are faster.

    With few rows a product is bound by reading the weights, and the order in which oneDNN lays them
    out is read 1.3 to 2 times as fast as rows. The packed copy lives as long as this object.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, packed: bool) -> None:
        """weight [M, N], bias [M]. `packed`: for a matrix that is large enough."""
        self.weight, self.bias, self.packed = weight, bias, None
        if packed and weight.numel() >= PACKED_FROM:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())

    def __call__(self, inputs: Tensor) -> Tensor:
        """inputs [n, N] to [n, M]."""
        if self.packed is None:
            return F.linear(inputs, self.weight, self.bias)
        operation = torch.ops.mkldnn._linear_pointwise
        return operation(inputs, self.packed, self.bias, "none", [], "")

    def add_to(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        """hidden [n, M] + product, the sum inside the product."""
        if self.packed is not None:
            operation = torch.ops.mkldnn._linear_pointwise.binary
            return operation(inputs, hidden, self.packed, self.bias, "add")
        if self.bias is not None:
            hidden = hidden + self.bias
        return torch.addmm(hidden, inputs, self.weight.t())


class Decoder:
    """Logits of the next token of every live row, given its last token and the slot cache."""

    def __init__(self, model: Any, capacity: int, *, packed: bool) -> None:
        """`capacity`: positions for which the rotary table is made. Weights are read as they are
        now; see `decoder_of`.
        """
        config, base = model.config, model.model
        self.eps = config.rms_norm_eps
        attention = base.layers[0].self_attn
        self.head_size = attention.head_dim
        self.scale = attention.scaling
        self.kv_heads = config.num_key_value_heads
        self.query_heads = config.num_attention_heads
        self.embedding, self.norm = base.embed_tokens.weight, base.norm.weight
        self.head = Product(model.lm_head.weight, model.lm_head.bias, packed=packed)
        self.layers = [layer_weights(block, packed) for block in base.layers]
        places = torch.arange(capacity, device=self.embedding.device)[None]
        cos, sin = base.rotary_emb(self.embedding, places)  # [1, capacity, D]
        half = self.head_size // 2
        self.cos, self.sin = cos[0], sin[0, :, :half].contiguous()

    def logits(self, token: Tensor, position: Tensor, mask: Tensor, cache: SlotCache) -> Tensor:
        """token, position: int64 [n]; mask: additive [n, 1, 1, L]. Returns [n, V]."""
        n, half = len(token), self.head_size // 2
        heads, rotated = self.kv_heads, self.query_heads + self.kv_heads
        grouped = (n, heads, self.query_heads // heads, self.head_size)
        cos, sin = self.cos[position][:, None], self.sin[position][:, None]
        hidden = F.embedding(token, self.embedding)  # [n, E]
        for layer, slots in zip(self.layers, cache.slot_layers, strict=True):
            normed = F.rms_norm(hidden, hidden.shape[-1:], layer.input_norm, self.eps)
            qkv = layer.qkv(normed).view(n, -1, self.head_size)
            qk = qkv[:, :rotated]
            turned = qk * cos
            turned[..., :half].addcmul_(qk[..., half:], sin, value=-1)
            turned[..., half:].addcmul_(qk[..., :half], sin)
            keys, values = slots.update(turned[:, self.query_heads :, None], qkv[:, rotated:, None])
            attended = F.scaled_dot_product_attention(
                turned[:, : self.query_heads].view(grouped), keys, values, mask, scale=self.scale
            ).reshape(n, -1)
            hidden = layer.output.add_to(hidden, attended)
            normed = F.rms_norm(hidden, hidden.shape[-1:], layer.mlp_norm, self.eps)
            gated = F.silu(layer.gate(normed), inplace=True).mul_(layer.up(normed))
            hidden = layer.down.add_to(hidden, gated)
        normed = F.rms_norm(hidden, hidden.shape[-1:], self.norm, self.eps)
        return self.head(normed)


def layer_weights(block: Any, packed: bool) -> Layer:
    attention, mlp = block.self_attn, block.mlp
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    biases = [projection.bias for projection in projections]

    def product(linear: Any) -> Product:
        return Product(linear.weight, linear.bias, packed=packed)

    return Layer(
        input_norm=block.input_layernorm.weight,
        qkv=Product(
            torch.cat([projection.weight for projection in projections]),
            None if biases[0] is None else torch.cat(biases),
            packed=packed,
        ),
        output=product(attention.o_proj),
        mlp_norm=block.post_attention_layernorm.weight,
        gate=product(mlp.gate_proj),
        up=product(mlp.up_proj),
        down=product(mlp.down_proj),
    )


def can_pack(model: Any) -> bool:
    """Whether torch has oneDNN's packed products for such a model."""
    available = torch.backends.mkldnn.is_available() and hasattr(
        torch.ops.mkldnn, "_linear_pointwise"
    )
    return available and model.device.type == "cpu" and model.dtype == torch.float32


def decoder_of(
    model: Any, windows: dict[str, int | None], capacity: int, tokens: int
) -> Decoder | None:
    """A decoder for exactly the models that it was written for, None for all others.

    `capacity`: positions of the longest row; `tokens`: of its completion.
    """
    config = model.config
    if torch.is_autocast_enabled(model.device.type):
        return None  # its sums inside products would round where the module's do not
    if type(model).__name__ not in FAMILY or type(model).__module__.split(".")[0] != "transformers":
        return None
    rope = getattr(config, "rope_parameters", None) or {}
    linear = [module for name, module in model.named_modules() if name.endswith(("_proj", "head"))]
    plain = all(type(module) is nn.Linear for module in linear)  # not quantized, no adapter
    known = config.hidden_act == "silu" and rope.get("rope_type", "default") in STATIC_ROPE
    if not plain or not known or len(windows) > 1:
        return None
    return Decoder(model, capacity, packed=tokens >= PACKED_TOKENS and can_pack(model))
