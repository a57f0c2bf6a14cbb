"""Log-probs of completion tokens, without ever holding a [B, T, V] tensor of logits.

Letters: B rows, S tokens of prompt + completion + padding, T completion tokens, N completion tokens
of all rows together, H hidden size, V vocabulary. A row is prompt and completion contiguously, then
padding on the right, so positions are 0, 1, 2, ... in every row.

The decoder runs once, without padding and over a prompt that several rows share once (`packed`);
only the hidden states that predict a completion token go on; the LM head is applied to a chunk of
them at a time, so that at any moment there are LOGIT_BYTES of logits at most. In training the
backward pass of a chunk follows at once (`learn_logprobs`), so that no logits are made twice.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from open_rs.errors import InputError
from open_rs.models import unwrap
from open_rs.rollout.sampling import LogProbs
from open_rs.train.exact import ExactPass, exact_pass
from open_rs.train.packed import can_pack, packed_states

LOGIT_BYTES = 256 * 2**20  # of a chunk's logits in float32
NEAR = 64  # rows of logits that pass through the processor's cache together

TokenLoss = Callable[[Tensor, Tensor, slice], Tensor]


def completion_logprobs(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    completion_mask: Tensor,
    *,
    temperature: float,
    chunk_tokens: int | None = None,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """log softmax(logits / temperature)[token] for every completion token.

    `input_ids`, `attention_mask`, `completion_mask` [B, S]; `completion_mask` is True on the
    completion's tokens, which stand together. Returns log-probs [B, T], T the longest completion,
    row i's tokens at 0 .. |o_i| - 1 and 0.0 after them, in float32 (float64 for such a model), and
    the entropies in nats [B, T] or None. Entropy is a measurement: no gradient flows through it.
    `temperature` is that of sampling, so that the ratio to the engine's log-probs is 1 on policy.
    The logits of a chunk are made again in the backward pass.
    """
    causal_lm = unwrap(model)
    predicts = predicting(completion_mask, temperature)
    exact = exact_pass(causal_lm, input_ids.shape[1])
    hidden = completion_states(causal_lm, input_ids, attention_mask, predicts, exact)  # [N, H]
    targets = input_ids[:, 1:][predicts]  # [N]
    made = [
        checkpoint(
            token_logprobs,
            causal_lm,
            hidden[part],
            targets[part],
            temperature,
            with_entropy,
            exact,
            use_reentrant=False,
        )
        for part in chunks(causal_lm, len(targets), chunk_tokens)
    ]
    logprobs, entropy = joined(made, predicts)
    return logprobs, entropy if with_entropy else None


def learn_logprobs(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    completion_mask: Tensor,
    token_loss: TokenLoss,
    *,
    temperature: float,
    chunk_tokens: int | None = None,
    autocast: AbstractContextManager[Any],
) -> tuple[Tensor, Tensor]:
    """`completion_logprobs` and entropies, detached, with the gradient of a loss added to the
    model's.

    The loss is a sum over tokens: `token_loss(logprobs [n], entropies [n], part)` gives the share
    of the tokens in `part`, a slice of all completion tokens row by row. Since it is known as soon
    as a chunk's log-probs are, the chunk's logits serve its backward pass, too, and are forgotten.
    """
    causal_lm = unwrap(model)
    predicts = predicting(completion_mask, temperature)
    targets = input_ids[:, 1:][predicts]  # [N]
    exact = exact_pass(causal_lm, input_ids.shape[1])
    with autocast:
        hidden = completion_states(causal_lm, input_ids, attention_mask, predicts, exact)  # [N, H]
    gradient = torch.empty_like(hidden)
    made = []
    for part in chunks(causal_lm, len(targets), chunk_tokens):
        states = hidden[part].detach().requires_grad_()
        with autocast:
            logprobs, entropy = token_logprobs(
                causal_lm, states, targets[part], temperature, True, exact
            )
            loss = token_loss(logprobs, entropy, part)
        loss.backward()
        assert states.grad is not None
        gradient[part] = states.grad
        made.append((logprobs.detach(), entropy))
        del logprobs, loss, states  # and with them the chunk's logits
    if hidden.requires_grad:  # not where the head alone is trained
        hidden.backward(gradient)
    return joined(made, predicts)


def predicting(completion_mask: Tensor, temperature: float) -> Tensor:
    """Where a state predicts a completion token: [B, S - 1], the state at s the token at s + 1."""
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; log-probs need one above 0")
    if completion_mask[:, 0].any():
        raise ValueError("a completion starts at position 0; its first token has nothing before it")
    return completion_mask[:, 1:].bool()


def chunks(causal_lm: Any, tokens: int, chunk_tokens: int | None) -> list[slice]:
    """Slices of so many tokens, by default as many as LOGIT_BYTES hold."""
    vocabulary = causal_lm.get_output_embeddings().weight.shape[0]
    size = chunk_tokens or max(1, LOGIT_BYTES // (4 * vocabulary))
    return [slice(first, min(first + size, tokens)) for first in range(0, tokens, size)]


def joined(made: list[tuple[Tensor, Tensor]], predicts: Tensor) -> tuple[Tensor, Tensor]:
    """The log-probs and the entropies of all chunks as [B, T], 0.0 after a row's last token."""
    lengths = predicts.sum(1)
    filled = torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]  # [B, T]
    logprobs, entropy = (torch.cat(values) for values in zip(*made, strict=True))
    return spread(logprobs, filled), spread(entropy, filled)


def spread(values: Tensor, filled: Tensor) -> Tensor:
    """Lay flat values [N] out on the True places of `filled` [B, T], row by row, 0.0 elsewhere."""
    return values.new_zeros(filled.shape).masked_scatter(filled, values)


def token_logprobs(
    causal_lm: Any,
    hidden: Tensor,
    targets: Tensor,
    temperature: float,
    with_entropy: bool,
    exact: ExactPass | None,
) -> tuple[Tensor, Tensor]:
    """Log-probs [n] of `targets` [n] given `hidden` [n, H], and the entropies [n], 0 unless
    asked for.
    """
    logits = head_logits(causal_lm, hidden) if exact is None else exact.weights.head(hidden)
    if logits.dtype != torch.float64:
        logits = logits.float()
    log_probs = None if exact is None else exact.log_probs
    found: tuple[Tensor, Tensor] = Picked.apply(
        logits, targets, temperature, with_entropy, log_probs
    )
    return found


class Picked(torch.autograd.Function):
    """log softmax(x / temperature)[target] of logits x [n, V], and the entropies, in the memory of
    x: it holds the probabilities p afterwards, and in the backward pass the gradient
    (onehot(target) - p) / temperature, which is all that is ever made of size [n, V]. `log_probs`
    is another way to the log-probs alone.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        targets: Tensor,
        temperature: float,
        with_entropy: bool,
        log_probs: LogProbs | None = None,
    ) -> tuple[Tensor, Tensor]:
        held = logits.detach()  # shares its version: a producer that kept its output would raise
        logprobs, entropy = held.new_empty(len(held)), held.new_zeros(len(held))
        for first in range(0, len(held), NEAR):
            near = slice(first, first + NEAR)
            rows = held[near]
            if temperature != 1:
                rows /= temperature
            if log_probs is not None:
                logprobs[near] = log_probs(rows, targets[near])
            torch.log_softmax(rows, 1, out=rows)
            if log_probs is None:
                logprobs[near] = rows.gather(1, targets[near, None]).squeeze(1)
            if with_entropy:
                chances = rows.exp()
                rows.clamp_(min=torch.finfo(rows.dtype).min)  # 0 x infinity is not a number
                entropy[near] = -torch.linalg.vecdot(chances, rows)
                rows.copy_(chances)
            else:
                rows.exp_()
        ctx.save_for_backward(held, targets)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        held, targets = ctx.saved_tensors
        scale = (upstream / ctx.temperature)[:, None]
        held.mul_(-scale).scatter_add_(1, targets[:, None], scale)
        return held, None, None, None, None


def head_logits(causal_lm: Any, hidden: Tensor) -> Tensor:
    """Logits [N, V] as the model's own forward makes them from its last hidden states [N, H].

    Covers a plain head, a factor on the logits (Cohere, Falcon-H1), a divisor (Granite) and tanh
    soft-capping (Gemma 2), as the configuration says; `check_lm_head` finds what this misses.
    """
    config = causal_lm.config.get_text_config()
    logits = causal_lm.get_output_embeddings()(hidden)
    for name in ("logit_scale", "lm_head_multiplier"):
        if (factor := getattr(config, name, None)) is not None:
            logits = logits * factor
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        logits = logits / divisor
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        logits = cap * torch.tanh(logits / cap)
    return logits


def completion_states(
    causal_lm: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    predicts: Tensor,
    exact: ExactPass | None,
) -> Tensor:
    """The last hidden states [N, H] at the True places of `predicts` [B, S - 1], row by row."""
    if exact is not None:
        return exact.states(input_ids, predicts)
    if can_pack(causal_lm):
        return packed_states(causal_lm, input_ids, predicts)
    return last_hidden_states(causal_lm, input_ids, attention_mask)[:, :-1][predicts]


def last_hidden_states(causal_lm: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Hidden states [B, S, H] that the LM head reads, from right-padded rows [B, S]."""
    body = causal_lm.base_model
    extra = {}
    if "position_ids" in inspect.signature(body.forward).parameters:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        extra["position_ids"] = positions.expand_as(input_ids)
    output = body(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **extra)
    return output.last_hidden_state


@torch.no_grad()
def check_lm_head(model: Any, token_ids: Sequence[int] | None = None) -> None:
    """Compare `completion_logprobs` with the model's own logits, before a run depends on it.

    Two rows, the second a right-padded half of the first, so that a model that minds padding is
    found as well. `token_ids` (8 or more) default to ids spread over the vocabulary. Raises
    InputError with the architecture's name where the two disagree.
    """
    causal_lm = unwrap(model)
    name = type(causal_lm).__name__
    if getattr(causal_lm, "get_output_embeddings", lambda: None)() is None:
        raise InputError(f"{name} has no LM head; use a causal language model")
    if causal_lm.base_model is causal_lm:
        raise InputError(f"{name} has no separate decoder body; use another architecture")
    was_training = model.training
    model.eval()
    try:
        error, allowed = head_disagreement(model, token_ids or spread_ids(causal_lm))
    finally:
        model.train(was_training)
    if not error <= allowed:  # NaN disagrees too
        raise InputError(
            f"{name} turns hidden states into logits in a way that open-rs does not know "
            f"(log-probs differ by {error:.2g}); use another architecture"
        )


def head_disagreement(model: Any, token_ids: Sequence[int]) -> tuple[float, float]:
    """(largest difference, largest one that rounding explains) of the two ways to log-probs."""
    device = unwrap(model).get_output_embeddings().weight.device
    length, half = len(token_ids), len(token_ids) // 2
    ids = torch.tensor([token_ids, [*token_ids[:half], *[0] * (length - half)]], device=device)
    inside = torch.arange(length, device=device) < torch.tensor([[length], [half]], device=device)
    scored = inside.clone()
    scored[:, 0] = False
    ours, _ = completion_logprobs(model, ids, inside.long(), scored, temperature=1.0)  # [2, n - 1]
    logits = model(input_ids=ids[:1]).logits[0, :-1]
    logits = logits if logits.dtype == torch.float64 else logits.float()
    theirs = logits.log_softmax(-1).gather(1, ids[0, 1:, None]).squeeze(1)  # [n - 1]
    error = torch.maximum(
        (ours[0] - theirs).abs().max(), (ours[1] - theirs)[: half - 1].abs().max()
    )
    precise = unwrap(model).dtype in (torch.float32, torch.float64)
    return error.item(), (1e-4 if precise else 3e-2) * max(1.0, logits.abs().max().item())


def spread_ids(causal_lm: Any) -> list[int]:
    """Sixteen token ids spread over the vocabulary."""
    vocabulary = causal_lm.get_output_embeddings().weight.shape[0]
    return [(1 + place * 7919) % vocabulary for place in range(16)]
