"""Tiny random models and a byte tokenizer for the tests of the rollout engine."""

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from open_rs.problems import Problem
from open_rs.rollout.protocol import Prompt

VOCAB = 264  # 256 bytes and 8 special tokens
EOS = 256
COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # wide, so that the distributions are far from uniform
    "bos_token_id": None,
    "eos_token_id": EOS,
    "pad_token_id": 257,
    "tie_word_embeddings": False,  # tied random weights repeat the last token for ever
}
MIXED = {  # a window of 8 on every other layer
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"],
}


def build_model(kind: str, **changes: Any) -> Any:
    """A random causal LM of transformers' model type `kind`, the same weights at every call."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**COMMON, **changes})
    model = AutoModelForCausalLM.from_config(config).eval()
    model.generation_config.eos_token_id = config.eos_token_id
    return model


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte (ids are not the byte values), and <eos>, <pad>, <s2> to <s7>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<s{i}>" for i in range(2, 8)]})
    return tokenizer


def make_prompts(lengths: Sequence[int], prefix: str = "p") -> list[Prompt]:
    """Prompts of these lengths, ids "p0", "p1", ...; what each holds depends on its index alone."""
    prompts = []
    for index, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(1000 + index)
        ids = torch.randint(0, 256, (length,), generator=generator).tolist()
        prompts.append(Prompt(Problem(f"{prefix}{index}", "?", "!"), ids))
    return prompts
