"""The weights of Llama-like models, laid out for decoding.

q, k and v are one matrix, gate and up another; adapters of LoRA are added to the weights that they
change; on a CPU large matrices are packed. All of this is a copy that is made when a call of
`generate` begins and gone when it ends, so the module's own parameters are neither changed nor
stale. Models that are not exactly of the family have no `Weights`, and are decoded by their module.

E hidden size, F intermediate size, H key-value heads, A query heads of each, D head size, V
vocabulary.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_rs.models import unwrap

FAMILY = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
STATIC_ROPE = ("default", "linear", "llama3", "yarn")  # frequencies do not depend on the length
PACKED_FROM = 2**16  # weights of a matrix; below, packing does not pay
FEWEST_ROWS = 4  # of a packed product
PACKED_TOKENS = 32  # a completion may have; below, packing costs more than it saves


class Product:
    """inputs @ weight.T + bias, by oneDNN's packed weights where they are faster.

    With few rows a product is bound by reading the weights, and the order in which oneDNN lays them
    out is read 1.3 to 2 times as fast as rows.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, *, pack_from: float, made: bool = False
    ) -> None:
        """weight [M, N], bias [M]. `pack_from`: matrices of so many weights are packed; `made`: the
        weight is no parameter of the module.
        """
        self.bias = bias
        self.copied = weight.nbytes if made else 0
        self.weight: Tensor | None = weight
        self.packed = None
        if weight.numel() >= pack_from:
            self.copied = weight.nbytes
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())
            self.weight = None

    def __call__(self, inputs: Tensor) -> Tensor:
        """inputs [n, N] to [n, M]."""
        if self.weight is not None:
            return F.linear(inputs, self.weight, self.bias)
        return packed_product(inputs, self.packed, self.bias)

    def add_to(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        """hidden [n, M] + product, the sum inside the product."""
        if self.weight is None:
            return packed_product(inputs, self.packed, self.bias, hidden)
        if self.bias is not None:
            hidden = hidden + self.bias
        return torch.addmm(hidden, inputs, self.weight.t())


def packed_product(
    inputs: Tensor, packed: Any, bias: Tensor | None, hidden: Tensor | None = None
) -> Tensor:
    """inputs [n, N] times packed weights, [n, M], plus bias [M] and `hidden` [n, M]. A row of it is
    the same to the last bit whatever the others are, and however many.
    """
    rows = len(inputs)
    if rows < FEWEST_ROWS:  # fewer may take another path, with sums in another order
        more = (0, 0, 0, FEWEST_ROWS - rows)
        hidden = None if hidden is None else F.pad(hidden, more)
        return packed_product(F.pad(inputs, more), packed, bias, hidden)[:rows]
    operation = torch.ops.mkldnn._linear_pointwise
    if hidden is None:
        return operation(inputs, packed, bias, "none", [], "")
    return operation.binary(inputs, hidden, packed, bias, "add")


@dataclass(frozen=True)
class Layer:
    """The weights of one transformer block."""

    input_norm: Tensor  # [E]
    qkv: Product  # to (H * A + 2 * H) * D
    query_norm: Tensor | None  # [D], of Qwen 3
    key_norm: Tensor | None
    output: Product
    mlp_norm: Tensor  # [E]
    gate_up: Product  # to 2 * F
    down: Product


@dataclass(frozen=True)
class Weights:
    """A model of the family."""

    embedding: Tensor  # [V, E]
    layers: tuple[Layer, ...]
    norm: Tensor  # [E]
    head: Product
    cosines: Tensor  # [capacity, D / 2], of the rotary embedding
    sines: Tensor
    rotary: Tensor  # [capacity, D], cosines and then sines
    eps: float
    scale: float  # of the scores
    kv_heads: int
    query_heads: int
    head_size: int
    intermediate: int

    @property
    def copied(self) -> int:
        """Bytes that are held beside the module's own parameters."""
        products = [self.head]
        for layer in self.layers:
            products += [layer.qkv, layer.output, layer.gate_up, layer.down]
        return sum(one.copied for one in products)


def weights_of(
    model: Any, windows: Mapping[str, int | None], capacity: int, tokens: int
) -> Weights | None:
    """The weights as they are now of exactly the models that are known, None for all others.

    `windows`: as of `fit.Fit`; `capacity`: positions of the longest row; `tokens`: of its
    completion.
    """
    causal_lm = unwrap(model)
    if not is_known(causal_lm, windows):
        return None
    packed = tokens >= PACKED_TOKENS and can_pack(causal_lm)
    return lay_out(causal_lm, capacity, partial(Product, pack_from=PACKED_FROM if packed else inf))


def lay_out(causal_lm: Any, capacity: int, product: Callable[..., Product]) -> Weights:
    """The weights of a model that `is_known`; `product` makes one of weight, bias and `made`."""
    config, base = causal_lm.config, causal_lm.model
    attention = base.layers[0].self_attn
    embedding = base.embed_tokens.weight
    places = torch.arange(capacity, device=embedding.device)[None]
    cosines, sines = (
        table[0, :, : attention.head_dim // 2].contiguous()
        for table in base.rotary_emb(embedding, places)
    )
    return Weights(
        embedding=embedding,
        layers=tuple(layer_weights(block, product) for block in base.layers),
        norm=base.norm.weight,
        head=merged_product([causal_lm.lm_head], product),
        cosines=cosines,
        sines=sines,
        rotary=torch.cat((cosines, sines), dim=1),
        eps=config.rms_norm_eps,
        scale=attention.scaling,
        kv_heads=config.num_key_value_heads,
        query_heads=config.num_attention_heads,
        head_size=attention.head_dim,
        intermediate=config.intermediate_size,
    )


def layer_weights(block: Any, product: Callable[..., Product]) -> Layer:
    attention, mlp = block.self_attn, block.mlp
    norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
    query_norm, key_norm = (None if norm is None else norm.weight for norm in norms)
    return Layer(
        input_norm=block.input_layernorm.weight,
        qkv=merged_product([attention.q_proj, attention.k_proj, attention.v_proj], product),
        query_norm=query_norm,
        key_norm=key_norm,
        output=merged_product([attention.o_proj], product),
        mlp_norm=block.post_attention_layernorm.weight,
        gate_up=merged_product([mlp.gate_proj, mlp.up_proj], product),
        down=merged_product([mlp.down_proj], product),
    )


def merged_product(linears: list[Any], product: Callable[..., Product]) -> Product:
    """The product with several linear layers at once."""
    weights = [merged_weight(linear) for linear in linears]
    biases = [linear.bias for linear in linears]
    if len(linears) == 1:
        made = weights[0] is not getattr(linears[0], "weight", None)
        return product(weights[0], biases[0], made=made)
    bias = None if biases[0] is None else torch.cat(biases)
    return product(torch.cat(weights), bias, made=True)


def merged_weight(linear: Any) -> Tensor:
    """The weight of a linear layer with what its adapters add: W + scaling * B A."""
    if type(linear) is nn.Linear:
        return linear.weight
    weight = linear.base_layer.weight
    if not linear.merged and not linear.disable_adapters:
        for name in linear.active_adapters:
            if name in linear.lora_A:
                weight = weight + linear.get_delta_weight(name)
    return weight


def is_known(causal_lm: Any, windows: Mapping[str, int | None]) -> bool:
    """Whether nothing about this model is other than what decoding on its weights assumes."""
    kind, config = type(causal_lm), causal_lm.config
    if kind.__name__ not in FAMILY or kind.__module__.split(".")[0] != "transformers":
        return False
    if torch.is_autocast_enabled(causal_lm.device.type):
        return False  # sums inside products would round where the module's do not
    rope = getattr(config, "rope_parameters", None) or {}
    linear = [
        module for name, module in causal_lm.named_modules() if name.endswith(("_proj", "lm_head"))
    ]
    return (
        config.hidden_act == "silu"
        and rope.get("rope_type", "default") in STATIC_ROPE
        and list(windows.values()) == [None]
        and type(causal_lm.model.embed_tokens) is nn.Embedding
        and all(is_linear(module) for module in linear)
    )


def is_linear(module: Any) -> bool:
    """A linear layer with or without plain LoRA; not quantized, no other adapter."""
    if type(module) is nn.Linear:
        return True
    if not hasattr(module, "base_layer"):
        return False
    from peft.tuners.lora.layer import Linear

    plain = type(module) is Linear and type(module.base_layer) is nn.Linear
    return plain and not module.lora_variant and not any(module.lora_bias.values())


def can_pack(model: Any) -> bool:
    """Whether torch has oneDNN's packed products for such a model."""
    available = torch.backends.mkldnn.is_available() and hasattr(
        torch.ops.mkldnn, "_linear_pointwise"
    )
    return available and model.device.type == "cpu" and model.dtype == torch.float32
