"""Sizes of a model that memory and time depend on: of a config, or of a table of known models.

Counts hold for Llama-like decoders: an embedding, blocks of grouped attention and a gated MLP, a
head that may be the embedding. No torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from open_rs.recipe import LoraRecipe

FLOAT, HALF = 4, 2  # bytes


@dataclass(frozen=True)
class ModelShape:
    """`bytes_per_weight`: of the trained copy; `bytes_per_value`: of activations and the cache."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocab_size: int
    tied: bool = False  # the head is the embedding
    qkv_bias: bool = False
    qk_norm: bool = False
    context: int | None = None
    opens_think: bool | None = None  # the chat template ends the prompt with <think>
    lora: int = 0  # trained weights of adapters; 0: all are trained
    bytes_per_weight: int = FLOAT
    bytes_per_value: int = FLOAT
    counted: int | None = None  # weights as counted in the loaded model

    @property
    def query_width(self) -> int:
        return self.heads * self.head_size

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_size

    @property
    def linear_per_layer(self) -> int:
        """Weights of the products of one block."""
        attention = self.hidden_size * (2 * self.query_width + 2 * self.kv_width)
        return attention + 3 * self.hidden_size * self.intermediate_size

    @property
    def body(self) -> int:
        """Weights that every token is multiplied with, the head left out."""
        return self.layers * self.linear_per_layer

    @property
    def head(self) -> int:
        return self.vocab_size * self.hidden_size

    @property
    def parameters(self) -> int:
        """All weights, adapters left out."""
        if self.counted is not None:
            return self.counted
        block = self.linear_per_layer + 2 * self.hidden_size
        block += (self.query_width + 2 * self.kv_width) * self.qkv_bias
        block += 2 * self.head_size * self.qk_norm
        return self.layers * block + self.hidden_size + self.head * (1 if self.tied else 2)

    @property
    def trained_parameters(self) -> int:
        return self.lora or self.parameters

    @property
    def cache_per_token(self) -> int:
        """Bytes of keys and values of one position."""
        return 2 * self.layers * self.kv_width * self.bytes_per_value


def shape_of_config(config: Mapping[str, Any]) -> ModelShape:
    """From the settings of a config.json; KeyError where one is missing."""
    heads = config["num_attention_heads"]
    kind = config.get("model_type", "")
    return ModelShape(
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or config["hidden_size"] // heads,
        vocab_size=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings")),
        qkv_bias=kind == "qwen2" or bool(config.get("attention_bias")),
        qk_norm=kind == "qwen3",
        context=config.get("max_position_embeddings"),
    )


def with_lora(shape: ModelShape, lora: LoraRecipe | None) -> ModelShape:
    """With adapters on every linear layer of the blocks: rank x (in + out) weights each."""
    if lora is None:
        return shape
    hidden, inner = shape.hidden_size, shape.intermediate_size
    wide = 2 * (hidden + shape.query_width) + 2 * (hidden + shape.kv_width) + 3 * (hidden + inner)
    return replace(shape, lora=lora.rank * wide * shape.layers)


# hidden, intermediate, layers, heads, kv heads, head size, vocabulary, tied, qkv bias, q and k
# normed: from the config.json of each; the sum of weights is that of its model card (tested)
_QWEN = 151_936
_KNOWN: Mapping[str, tuple[int, int, int, int, int, int, int, bool, bool, bool]] = {
    "qwen2.5-0.5b": (896, 4864, 24, 14, 2, 64, _QWEN, True, True, False),
    "qwen2.5-1.5b": (1536, 8960, 28, 12, 2, 128, _QWEN, True, True, False),
    "qwen2.5-3b": (2048, 11008, 36, 16, 2, 128, _QWEN, True, True, False),
    "qwen2.5-7b": (3584, 18944, 28, 28, 4, 128, 152_064, False, True, False),
    "qwen2.5-14b": (5120, 13824, 48, 40, 8, 128, 152_064, False, True, False),
    "qwen2.5-32b": (5120, 27648, 64, 40, 8, 128, 152_064, False, True, False),
    "qwen3-0.6b": (1024, 3072, 28, 16, 8, 128, _QWEN, True, False, True),
    "qwen3-1.7b": (2048, 6144, 28, 16, 8, 128, _QWEN, True, False, True),
    "qwen3-4b": (2560, 9728, 36, 32, 8, 128, _QWEN, True, False, True),
    "qwen3-8b": (4096, 12288, 36, 32, 8, 128, _QWEN, False, False, True),
    "deepseek-r1-distill-qwen-1.5b": (1536, 8960, 28, 12, 2, 128, _QWEN, False, True, False),
    "deepseek-r1-distill-qwen-7b": (3584, 18944, 28, 28, 4, 128, 152_064, False, True, False),
    "deepseek-r1-distill-qwen-14b": (5120, 13824, 48, 40, 8, 128, 152_064, False, True, False),
    "deepseek-r1-distill-qwen-32b": (5120, 27648, 64, 40, 8, 128, 152_064, False, True, False),
    "smollm2-135m": (576, 1536, 30, 9, 3, 64, 49_152, True, False, False),
    "smollm2-360m": (960, 2560, 32, 15, 5, 64, 49_152, True, False, False),
    "smollm2-1.7b": (2048, 8192, 24, 32, 32, 64, 49_152, True, False, False),
    "llama-3.2-1b": (2048, 8192, 16, 32, 8, 64, 128_256, True, False, False),
    "llama-3.2-3b": (3072, 8192, 28, 24, 8, 128, 128_256, True, False, False),
}
_KINDS = ("-instruct", "-base", "-math", "-coder")  # of one shape


def known_shape(path: str) -> ModelShape | None:
    """The shape of a public model by its hub id, whoever publishes it; None for one not known."""
    name = path.split("/")[-1].lower()
    for kind in _KINDS:
        name = name.replace(kind, "")
    if name not in _KNOWN:
        return None
    hidden, inner, layers, heads, kv, size, vocab, tied, bias, norm = _KNOWN[name]
    distilled = name.startswith("deepseek-r1")  # its template opens the thought
    return ModelShape(
        hidden_size=hidden,
        intermediate_size=inner,
        layers=layers,
        heads=heads,
        kv_heads=kv,
        head_size=size,
        vocab_size=vocab,
        tied=tied,
        qkv_bias=bias,
        qk_norm=norm,
        context=131_072 if distilled else None,
        opens_think=True if distilled else None,
    )
