"""Log-probs that sampling and training agree on to the last bit, on a CPU in float32.

Prefill, decoding and training go through the same kernels and packed products, in which a token's
numbers depend neither on what is computed beside it nor on how its sequence is cut into calls:
every sum over keys, features or the vocabulary has an order of its own. A prompt's head (all but
its last token) is one sequence, from which a completion's goes on, in the engine as in training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from open_rs.errors import InputError
from open_rs.models import unwrap
from open_rs.rollout.compiled import (
    CompiledForward,
    Sequences,
    kernels_of,
    last_states,
    log_probs,
)
from open_rs.rollout.fit import check_model
from open_rs.rollout.kernels import Kernels, kernels_for
from open_rs.rollout.weights import Product, Weights, can_pack, is_known, lay_out

NAME = "rollout.exact = true"
CURE = "leave rollout.exact out"
DISAGREES = "its kernels do not give this model's own logits"


def refuse_inexact(model: Any) -> None:
    """An InputError says why this model cannot be sampled from and trained by the same kernels."""
    causal_lm = unwrap(model)
    kind, dtype = type(causal_lm).__name__, str(causal_lm.dtype).removeprefix("torch.")
    if causal_lm.device.type != "cpu" or causal_lm.dtype != torch.float32:
        raise InputError(
            f"{NAME}: holds on a CPU in float32 alone, and the model is {dtype} on "
            f'{causal_lm.device.type}; set model.device = "cpu" and model.dtype = "float32", or '
            f"{CURE}"
        )
    if not is_known(causal_lm, check_model(model).windows):
        raise InputError(
            f"{NAME}: there are no kernels for this {kind}, only for Llama, Mistral, Qwen 2 and "
            f"Qwen 3 with full attention; {CURE}"
        )
    if any(drops(module) for module in model.modules()) or causal_lm.config.attention_dropout:
        raise InputError(
            f"{NAME}: sampling has no dropout and training would; set model.lora.dropout = 0 and "
            f"attention_dropout of the model's config.json to 0, or {CURE}"
        )
    if not can_pack(causal_lm):
        raise InputError(f"{NAME}: this torch has no oneDNN; install one that has, or {CURE}")
    config, size = causal_lm.config, causal_lm.model.layers[0].self_attn.head_dim
    queries = config.num_attention_heads // config.num_key_value_heads
    sizes = (config.hidden_size, config.intermediate_size)
    if kernels_for(head_size=size, queries=queries, sizes=sizes) is None:
        raise InputError(
            f"{NAME}: nothing compiles its kernels for this {kind}; install a C compiler (cc), or "
            f"{CURE}"
        )


def drops(module: Any) -> bool:
    return isinstance(module, torch.nn.Dropout) and module.p > 0


def exact_parts(
    model: Any, capacity: int, product: Callable[..., Product]
) -> tuple[Weights, Kernels]:
    """Weights and kernels of a model that `refuse_inexact` has let through; `capacity`: positions
    of the longest row; `product`: packs every matrix.
    """
    weights = lay_out(unwrap(model), capacity, product)
    kernels = kernels_of(weights)
    assert kernels is not None
    return weights, kernels


def side_by_side(counts: Sequence[int], layers: int, weights: Weights, lanes: int) -> Sequences:
    """Room for sequences of so many tokens."""
    padded = [-(-count // lanes) * lanes for count in counts]
    offsets = torch.tensor([0, *accumulate(padded)][:-1])
    shape = (layers, weights.kv_heads * sum(padded) * weights.head_size)
    return Sequences.of(torch.empty(shape), torch.empty(shape), offsets, sum(padded))


def spread_out(counts: Sequence[int]) -> Tensor:
    """The sequence of every token, int64 [n], where sequences stand one after another."""
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


@dataclass(frozen=True)
class Prefilled:
    """Prompts' keys and values where the kernels left them."""

    held: Sequences
    size: int  # of a head

    @property
    def stride(self) -> int:
        return self.held.stride

    def addresses(self, row: int) -> tuple[Tensor, Tensor]:
        """Where the keys and the values of a prompt begin in each layer: int64 [L] each."""
        held, first = self.held, self.size * int(self.held.offsets[row])
        keys, values = (
            all_layers.data_ptr()
            + 4 * (torch.arange(len(all_layers)) * all_layers.stride(0) + first)
            for all_layers in (held.keys, held.values)
        )
        return keys, values


class ExactForward(CompiledForward):
    """`CompiledForward` with prompts through the kernels, too."""

    def __init__(self, weights: Weights, kernels: Kernels, *, slots: int, tokens: int) -> None:
        super().__init__(weights, kernels, None, slots=slots, tokens=tokens)
        self.log_probs = partial(log_probs, kernels)

    def prefill(self, heads: Sequence[Sequence[int]]) -> Prefilled:
        weights, counts = self.weights, [len(head) for head in heads]
        held = side_by_side(counts, len(weights.layers), weights, self.kernels.lanes)
        token = torch.tensor([one for head in heads for one in head])
        position = torch.cat([torch.arange(count) for count in counts])
        last_states(self.kernels, weights, token, spread_out(counts), position, held)
        return Prefilled(held, weights.head_size)
