"""One optimizer update: from micro-batches to new weights, or to a step skipped and counted.

Letters: B rows of a micro-batch, T completion tokens.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from open_rs.errors import InputError
from open_rs.interrupt import poll
from open_rs.models import ran_out_of_memory
from open_rs.recipe import LossRecipe
from open_rs.train.batches import LossTerms, MicroBatch
from open_rs.train.distributed_layout import Replicated
from open_rs.train.exact import is_exact
from open_rs.train.grpo import k3_kl, policy_loss, truncated_importance
from open_rs.train.logprobs import completion_logprobs, learn_logprobs
from open_rs.train.update_size import update_norm, weight_sample

FITS = "micro_batch_tokens"  # that memory was found to hold: for the caller, no metric
OUT_OF_STEP = (
    "train.micro_batch_tokens: a micro-batch does not fit into the memory of a device, and with "
    'train.sharding = "full" no rank can halve its own; lower it'
)


def update(
    policy: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: list[MicroBatch],
    loss_recipe: LossRecipe,
    *,
    temperature: float,
    max_grad_norm: float,
    first_of_batch: bool,
    autocast: AbstractContextManager[Any],
    layout: Replicated | None = None,
    hold: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Forward and backward of every micro-batch, then one step of the optimizer.

    `hold` is called when the gradient is there; weights move once it has returned.

    Where several ranks learn together, `layout` knows of them: each has its own micro-batches, and
    sums and gradients are those of all.

    On the first update of a rollout batch the trainer's own log-probs become `old_logprobs`: the
    ratio starts at exactly 1, and what the sampler thought differently is `policy/engine_kl`; of a
    model made exact, the tokens with other bits are counted, `policy/inexact_tokens`. A loss or
    gradient that is not finite changes no weight: `optim/skipped` is 1.

    Where memory does not suffice, the micro-batch takes its place in `batches` as two halves and
    the gradient is summed up anew, since a backward pass that broke off left parts of its own.
    """
    splits, settings = 0, (loss_recipe, temperature, first_of_batch, autocast)
    layout = layout or Replicated(policy)
    while True:
        optimizer.zero_grad(set_to_none=False)
        sums: dict[str, float] = defaultdict(float)
        fresh: list[Tensor] = []
        try:
            for batch in batches:
                poll()
                counted = sums if batch.rows else defaultdict(float)
                work = partial(learn_from, policy, batch, counted, *settings)
                fresh.append(layout.within(work))
            break
        except RuntimeError as error:
            if not ran_out_of_memory(error):
                raise
            if layout.is_sharded:
                raise InputError(OUT_OF_STEP) from error
            place = len(fresh)
            fresh.clear()
            if len(batches[place].rows) == 1:
                raise
        batches[place : place + 1] = batches[place].halves()
        splits += 1
        release_memory(policy)
    if first_of_batch:
        for batch, logprobs in zip(batches, fresh, strict=True):
            batch.importance = importance_of(batch, logprobs.cpu(), loss_recipe)
            batch.old_logprobs = logprobs.cpu()
    sums = layout.total(sums | ({"splits": splits} if splits else {}))
    if hold is not None:
        hold()
    metrics = step_optimizer(policy, optimizer, sums.pop("loss", 0.0), max_grad_norm, layout)
    if "splits" in sums:
        metrics["optim/memory_splits"] = float(sums["splits"])
    if splits:
        metrics[FITS] = float(max(batch.tokens for batch in batches))
    if first_of_batch and is_exact(policy):
        metrics["policy/inexact_tokens"] = sums.get("inexact", 0.0)
    return metrics | token_means(sums)


def learn_from(
    policy: nn.Module,
    batch: MicroBatch,
    sums: dict[str, float],
    loss_recipe: LossRecipe,
    temperature: float,
    first_of_batch: bool,
    autocast: AbstractContextManager[Any],
) -> Tensor:
    """Add one micro-batch to the gradient and to `sums`. Returns its log-probs [B, T]."""
    batch = batch.to(next(policy.parameters()).device)
    rows = (batch.input_ids, batch.attention_mask, batch.completion_mask)
    if loss_recipe.ratio_level == "token":
        tokens = batch.by_token()

        def token_loss(logprobs: Tensor, entropy: Tensor, part: slice) -> Tensor:
            one = logprobs[:, None], entropy[:, None]  # [n, 1]: a token is a row
            return add_loss(*one, tokens.of(part), sums, loss_recipe, first_of_batch)

        logprobs, _ = learn_logprobs(
            policy, *rows, token_loss, temperature=temperature, autocast=autocast
        )
        return logprobs
    with autocast:
        logprobs, entropy = completion_logprobs(
            policy, *rows, temperature=temperature, with_entropy=True
        )
        assert entropy is not None
        loss = add_loss(logprobs, entropy, batch, sums, loss_recipe, first_of_batch)
    loss.backward()
    return logprobs.detach()


def add_loss(
    logprobs: Tensor,
    entropy: Tensor,
    terms: LossTerms,
    sums: dict[str, float],
    loss_recipe: LossRecipe,
    first_of_batch: bool,
) -> Tensor:
    """The loss of log-probs [B, T], and what it and the metrics are made of added to `sums`."""
    old, importance = terms.old_logprobs, terms.importance
    if first_of_batch:
        sums["engine_kl"] += masked_sum(k3_kl(old, logprobs), terms.loss_mask)
        sums["inexact"] += masked_sum((old != logprobs).float(), terms.loss_mask)
        importance = importance_of(terms, logprobs, loss_recipe)
        old = logprobs.detach()
    if importance is not None:
        sums["importance"] += masked_sum(importance, terms.loss_mask)
        capped = importance >= (loss_recipe.importance_cap or 0.0)
        sums["importance_capped"] += masked_sum(capped.float(), terms.loss_mask)
    loss, parts = policy_loss(
        logprobs,
        old,
        terms.advantages,
        terms.loss_mask,
        clip_low=loss_recipe.clip_low,
        clip_high=loss_recipe.clip_high,
        denominators=terms.denominators,
        ratio_level=loss_recipe.ratio_level,
        objective=loss_recipe.objective,
        importance=importance,
        ref_logprobs=terms.ref_logprobs,
        kl_coef=loss_recipe.kl_coef,
    )
    sums["loss"] += loss.item()
    sums["entropy"] += masked_sum(entropy, terms.loss_mask)
    for name, value in parts.items():
        sums[name] += value.item()
    return loss


def importance_of(terms: LossTerms, logprobs: Tensor, loss_recipe: LossRecipe) -> Tensor | None:
    """The weights [B, T] of tokens that an engine with its own copy of the weights has drawn;
    `terms.old_logprobs` are still the engine's. None where the recipe does not correct it.
    """
    if not loss_recipe.importance_cap:
        return None
    engine, mask = terms.old_logprobs, terms.loss_mask
    return truncated_importance(logprobs, engine, mask, cap=loss_recipe.importance_cap)


def release_memory(policy: nn.Module) -> None:
    """Give back what a broken pass held, so that the next one finds whole pieces."""
    if next(policy.parameters()).is_cuda:
        torch.cuda.empty_cache()


def step_optimizer(
    policy: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: float,
    max_grad_norm: float,
    layout: Replicated | None = None,
) -> dict[str, float]:
    """Clip and apply the gradient that has been summed up, unless it is not finite."""
    layout = layout or Replicated(policy)
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    for parameter in trained:  # a step without signal still moves by AdamW's momentum
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    layout.sum_gradients()
    norm = layout.clip(trained, max_grad_norm)
    finite = torch.tensor([loss, norm]).isfinite().all().item()
    metrics = {"policy/loss": loss, "optim/grad_norm": norm, "optim/skipped": float(not finite)}
    if finite:
        before = weight_sample(trained, layout.entries)
        optimizer.step()
        sizes = [parameter.numel() for parameter in trained]
        after = weight_sample(trained, layout.entries)
        metrics["optim/update_norm"] = update_norm(before, after, sizes, layout.total_tensor)
    optimizer.zero_grad(set_to_none=True)
    return metrics


@torch.no_grad()
def add_reference_logprobs(
    policy: Any,
    reference: nn.Module | None,
    batches: list[MicroBatch],
    *,
    temperature: float,
    autocast: AbstractContextManager[Any],
) -> None:
    """Log-probs of the frozen start: a model of its own, or the policy without its adapters."""
    model = reference or policy
    adapters_off = nullcontext() if reference else policy.disable_adapter()
    model.eval()
    with adapters_off, autocast:
        for batch in batches:
            one = batch.to(policy.device)
            logprobs, _ = completion_logprobs(
                model,
                one.input_ids,
                one.attention_mask,
                one.completion_mask,
                temperature=temperature,
            )
            batch.ref_logprobs = logprobs.cpu()


def masked_sum(values: Tensor, loss_mask: Tensor) -> float:
    """Sum over the tokens that count."""
    return values.detach().where(loss_mask, 0.0).sum().item()


def token_means(sums: Mapping[str, float]) -> dict[str, float]:
    """Sums over the tokens that were trained on as means; nothing where no token was."""
    tokens = sums.get("tokens", 0.0)
    if not tokens:
        return {}
    means = {
        "policy/entropy": sums["entropy"],
        "policy/ratio": sums["ratio_sum"],
        "policy/clip_frac": sums["clip_low_tokens"] + sums["clip_high_tokens"],
        "policy/clip_low_frac": sums["clip_low_tokens"],
        "policy/clip_high_frac": sums["clip_high_tokens"],
    }
    named = {
        "kl_sum": "policy/kl",
        "engine_kl": "policy/engine_kl",
        "importance": "policy/importance",
        "importance_capped": "policy/importance_cap_frac",
    }
    means |= {key: sums[name] for name, key in named.items() if name in sums}
    return {key: value / tokens for key, value in means.items()}
