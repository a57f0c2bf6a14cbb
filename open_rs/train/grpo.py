"""The GRPO family as pure functions: group advantages, loss denominators, the clipped policy loss.

Letters: P prompts, G rollouts per prompt, B = P * G rows, T completion tokens (padded), V
vocabulary. The variants are parameters:

    GRPO     clip_low = clip_high, loss_norm "sequence", group_std       arXiv 2402.03300
    DAPO     clip_high > clip_low, loss_norm "token"                     arXiv 2503.14476
    Dr. GRPO loss_norm "constant", advantage scale "none"                arXiv 2503.20783
    GSPO     ratio_level "sequence", loss_norm "sequence"                arXiv 2507.18071
    CISPO    objective "cispo", loss_norm "token"                        arXiv 2506.13585

The names that TRL 1.16 gives to the same losses, proved equal in `tests/train/test_trl_golden.py`:

    grpo     sequence    bnpo, dapo  token (bnpo: when TRL sees the step as one micro-batch)
    dr_grpo  constant    cispo       token; TRL's `epsilon_high` is the bound itself, 1 + clip_high
                                     here, and TRL has no lower bound: clip_low = 1
    `importance_sampling_level="sequence"` is `ratio_level="sequence"`. TRL's `delta` (a second,
    outer cap on the ratio) is off there by default and absent here. TRL multiplies the KL by the
    ratio (`use_bias_correction_kl`, arXiv 2512.02556) unless told not to; here, as in GRPO's paper,
    it is not.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

AdvantageScale = Literal["group_std", "none"]
LossNorm = Literal["sequence", "token", "constant"]
RatioLevel = Literal["token", "sequence"]
Objective = Literal["clip", "cispo"]


def group_advantages(rewards: Tensor, *, scale: AdvantageScale, eps: float = 1e-4) -> Tensor:
    """A_i = (r_i - mean) / (std + eps) within each group; with scale "none", A_i = r_i - mean.

    `rewards` [P, G] -> advantages [P, G]. NaN marks an undecided rollout: left out of mean and std,
    advantage 0. std is unbiased (n - 1), and eps = 1e-4 keeps a group whose rewards differ by a
    rounding from being blown up to unit size; both as TRL, so that runs can be compared. A group
    that teaches nothing (fewer than two decided, or all equal) gets exactly 0.0, whatever the
    rounding of its mean. Source: arXiv 2402.03300; without the std, arXiv 2503.20783.
    """
    if rewards.dim() != 2:
        raise ValueError(f"rewards must be [P, G], got {tuple(rewards.shape)}")
    if scale not in ("group_std", "none"):
        raise ValueError(f'advantage scale {scale!r} unknown; use "group_std" or "none"')
    decided = ~rewards.isnan()
    if not rewards[decided].isfinite().all():
        raise ValueError("rewards hold an infinity; mark an undecided rollout with NaN")
    values = rewards.where(decided, 0.0)
    count = decided.sum(1, keepdim=True)  # [P, 1]
    mean = values.sum(1, keepdim=True) / count.clamp(min=1)
    centred = (values - mean).where(decided, 0.0)
    if scale == "group_std":
        std = (centred.square().sum(1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
        centred = centred / (std + eps)
    highest = rewards.where(decided, -torch.inf).amax(1, keepdim=True)
    lowest = rewards.where(decided, torch.inf).amin(1, keepdim=True)
    return centred.where(highest > lowest, 0.0)  # also zero where fewer than two are decided


def loss_denominators(
    lengths: Tensor, *, loss_norm: LossNorm, max_completion_tokens: int
) -> Tensor:
    """The number by which each row's summed token loss is divided, for the whole step at once.

    `lengths` [B] counts each row's tokens in the loss -> denominators [B]:
      "sequence"  B * |o_i|                  every sequence weighs the same (GRPO)
      "token"     sum_i |o_i|                every token weighs the same (DAPO)
      "constant"  B * max_completion_tokens  no length bias either way (Dr. GRPO)
    Because they are fixed before the step is split, a split into micro-batches cannot change the
    loss. A row of length 0 is left out: it does not count in B (TRL counts it), and its own
    denominator is 1 so that 0 / 1 = 0.
    """
    if lengths.dim() != 1:
        raise ValueError(f"lengths must be [B], got {tuple(lengths.shape)}")
    present = lengths > 0
    rows = present.sum()
    denominators = {
        "sequence": rows * lengths,
        "token": lengths.sum().expand_as(lengths),
        "constant": (rows * max_completion_tokens).expand_as(lengths),
    }
    if loss_norm not in denominators:
        raise ValueError(f"loss_norm {loss_norm!r} unknown; use one of {', '.join(denominators)}")
    return denominators[loss_norm].where(present, 1).float()


def k3_kl(policy_logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Per-token estimate of KL(policy || reference): x - log x - 1 with x = ref / policy [B, T].

    Unbiased under the policy and never negative (Schulman's k3); arXiv 2402.03300, eq. 4.
    """
    log_x = ref_logprobs - policy_logprobs
    return log_x.exp() - log_x - 1


def truncated_importance(
    old_logprobs: Tensor, engine_logprobs: Tensor, loss_mask: Tensor, *, cap: float
) -> Tensor:
    """min(pi_trainer / pi_engine, cap) per token [B, T]: the weight that makes up for an engine
    which does not sample from exactly the trainer's policy.

    Without it the gradient is that of rollouts which another policy drew. The weight is a constant
    (no gradient), taken before the first update on the rollouts; it multiplies the token's part of
    the objective beside the clipped ratio, and not the KL term. The cap bounds its variance, at the
    price of a bias for tokens that the engine made much too rare. 1 outside the mask.
    Source: truncated importance sampling (Ionides 2008, "Truncated Importance Sampling") between
    engine and trainer, Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You Off-Policy
    RL Training".
    """
    log_weight = (old_logprobs - engine_logprobs).detach().where(loss_mask, 0.0)
    return log_weight.exp().clamp(max=cap).where(loss_mask, 1.0)


def importance_ratio(log_ratio: Tensor, loss_mask: Tensor, level: RatioLevel) -> Tensor:
    """policy / old as a ratio [B, T], from log-ratios [B, T] that are 0 outside the mask.

    "token": rho_t = exp(log_ratio_t). "sequence": every token of a row gets the geometric mean
    exp(sum_t log_ratio_t / |o|), GSPO's length-normalised ratio (arXiv 2507.18071, eq. 7).
    """
    if level == "token":
        return log_ratio.exp()
    if level == "sequence":
        lengths = loss_mask.sum(1, keepdim=True).clamp(min=1)
        return (log_ratio.sum(1, keepdim=True) / lengths).exp().expand_as(log_ratio)
    raise ValueError(f'ratio_level {level!r} unknown; use "token" or "sequence"')


def clip_objective(
    ratio: Tensor, advantages: Tensor, policy_logprobs: Tensor, low: float, high: float
) -> tuple[Tensor, Tensor, Tensor]:
    """-min(rho A, clip(rho, low, high) A) per token, and where the clip binds below and above.

    It binds (and stops the gradient) below where A < 0 and above where A > 0. arXiv 2402.03300.
    """
    token_loss = -torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)
    return token_loss, (ratio < low) & (advantages < 0), (ratio > high) & (advantages > 0)


def cispo_objective(
    ratio: Tensor, advantages: Tensor, policy_logprobs: Tensor, low: float, high: float
) -> tuple[Tensor, Tensor, Tensor]:
    """-stop_gradient(clip(rho, low, high)) A log pi per token, and where the weight was clipped.

    No token loses its gradient; only its weight is bounded. arXiv 2506.13585, eq. 4-5, where the
    lower bound is switched off: clip_low = 1 does that (a ratio is never below 0).
    """
    token_loss = -ratio.clamp(low, high).detach() * advantages * policy_logprobs
    acts = advantages != 0
    return token_loss, (ratio < low) & acts, (ratio > high) & acts


OBJECTIVES = {"clip": clip_objective, "cispo": cispo_objective}


def policy_loss(
    policy_logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    loss_mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    denominators: Tensor,
    ratio_level: RatioLevel = "token",
    objective: Objective = "clip",
    importance: Tensor | None = None,
    ref_logprobs: Tensor | None = None,
    kl_coef: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """sum_i (1 / denominator_i) sum_t mask_it (w_it objective_it + kl_coef * k3_it), minimised.

    Takes log-probs [B, T] at the sampling temperature, advantages and denominators [B], a boolean
    mask [B, T] (True counts; whatever stands elsewhere, NaN included, is ignored). The ratio is
    clipped to [1 - clip_low, 1 + clip_high]. w is `importance` [B, T] (`truncated_importance`), 1
    without it. The losses of micro-batches add up to that of the
    step, gradients likewise.

    Metrics are detached sums over the masked tokens of these rows, so that adding them over
    micro-batches and dividing once gives exact values: `tokens`, `ratio_sum`, `clip_low_tokens`,
    `clip_high_tokens` and, with a reference, `kl_sum` (nats). A sequence-level ratio counts once
    per token. A mean is over the rows that were trained on: rows skipped upstream are not in it.
    """
    per_token = {"old_logprobs": old_logprobs, "ref_logprobs": ref_logprobs}
    per_token |= {"loss_mask": loss_mask, "importance": importance}
    check_shapes(policy_logprobs, per_token, advantages, denominators)
    if objective not in OBJECTIVES:
        raise ValueError(f"objective {objective!r} unknown; use one of {', '.join(OBJECTIVES)}")
    if kl_coef != 0 and ref_logprobs is None:
        raise ValueError("kl_coef is not 0 but no ref_logprobs were given")
    # masked here and not only at the end: 0 x NaN in a backward pass is NaN
    policy_logprobs = policy_logprobs.where(loss_mask, 0.0)
    log_ratio = policy_logprobs - old_logprobs.where(loss_mask, 0.0)
    ratio = importance_ratio(log_ratio, loss_mask, ratio_level)
    token_loss, low, high = OBJECTIVES[objective](
        ratio, advantages[:, None], policy_logprobs, 1 - clip_low, 1 + clip_high
    )
    if importance is not None:
        token_loss = token_loss * importance
    metrics = {
        "tokens": loss_mask.sum(),
        "ratio_sum": ratio.detach().where(loss_mask, 0.0).sum(),
        "clip_low_tokens": (low & loss_mask).sum(),
        "clip_high_tokens": (high & loss_mask).sum(),
    }
    if ref_logprobs is not None:
        kl = k3_kl(policy_logprobs, ref_logprobs.where(loss_mask, 0.0))  # 0 outside the mask
        metrics["kl_sum"] = kl.detach().sum()
        if kl_coef != 0:
            token_loss = token_loss + kl_coef * kl
    row_losses = token_loss.where(loss_mask, 0.0).sum(1)  # [B]
    return (row_losses / denominators).sum(), metrics


def check_shapes(
    policy_logprobs: Tensor,
    per_token: Mapping[str, Tensor | None],
    advantages: Tensor,
    denominators: Tensor,
) -> None:
    """Refuse what broadcasting would silently accept."""
    if policy_logprobs.dim() != 2:
        raise ValueError(f"policy_logprobs must be [B, T], got {tuple(policy_logprobs.shape)}")
    for name, tensor in per_token.items():
        if tensor is not None and tensor.shape != policy_logprobs.shape:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)}, policy_logprobs {tuple(policy_logprobs.shape)}"
            )
    for name, tensor in {"advantages": advantages, "denominators": denominators}.items():
        if tensor.shape != policy_logprobs.shape[:1]:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)}, needs [B] = [{len(policy_logprobs)}]"
            )
    loss_mask = per_token["loss_mask"]
    if loss_mask is None or loss_mask.dtype != torch.bool:
        raise ValueError(f"loss_mask must be boolean, got {getattr(loss_mask, 'dtype', None)}")
