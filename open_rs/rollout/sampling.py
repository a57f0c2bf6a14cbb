"""From logits and uniforms to tokens and their log-probs: pure functions.

N rows, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor

LogProbs = Callable[[Tensor, Tensor], Tensor]  # scores [N, V] and ids [N] to log-probs [N]


def draw(
    logits: Tensor,
    uniform: Tensor,
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    log_probs: LogProbs | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The next token of each row, its log-prob, and whether the row could be sampled at all.

    logits: [N, V]; uniform: float64 [N] in (0, 1). Returns ids int64 [N], log-probs float32 [N],
    and finite bool [N], False where the logits hold a NaN or +inf (such a row's id means nothing).

    The log-prob is that of log_softmax(logits / temperature) BEFORE top-k and top-p: what training
    computes again from the weights. With top_k = 0 and top_p = 1 it is the log-prob under the
    sampling distribution itself. Temperature 0 takes the largest logit and reports its log-prob at
    temperature 1. `log_probs` is another way to them.
    """
    scores = logits.float()
    if temperature not in (0.0, 1.0):
        scores = scores / temperature
    top = scores.amax(dim=-1, keepdim=True)
    weights = (scores - top).exp_()  # [N, V], softmax up to the total
    total = weights.sum(dim=-1)
    if temperature == 0.0:
        ids = scores.argmax(dim=-1)
    else:
        ids = inverse_cdf(truncate(weights, top_k=top_k, top_p=top_p), uniform)
    chosen = scores.gather(1, ids[:, None])[:, 0]
    found = chosen - top[:, 0] - total.log() if log_probs is None else log_probs(scores, ids)
    return ids, found, total.isfinite()


def truncate(weights: Tensor, *, top_k: int, top_p: float) -> Tensor:
    """`weights` [N, V] with zeros outside the `top_k` largest, and then outside the nucleus.

    The nucleus (arXiv 1904.09751) is the smallest set of likeliest tokens whose share of what top-k
    left reaches `top_p`. Ties at the k-th weight all stay.
    """
    if 0 < top_k < weights.shape[-1]:
        smallest = weights.topk(top_k, dim=-1).values[:, -1:]
        weights = weights.masked_fill(weights < smallest, 0.0)
    if top_p < 1.0:
        ordered, order = weights.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(dim=-1) - ordered  # the weight of all likelier tokens
        outside = before >= top_p * ordered.sum(dim=-1, keepdim=True)
        weights = weights.masked_fill(outside.scatter(1, order, outside), 0.0)
    return weights


def inverse_cdf(weights: Tensor, uniform: Tensor) -> Tensor:
    """The smallest index whose cumulative weight exceeds uniform * total. [N, V], [N] -> int64 [N].

    The threshold is rounded to the precision of the sums and kept below the total, so the token
    found always has a weight above 0.
    """
    cumulative = weights.cumsum(dim=-1)
    total = cumulative[:, -1]
    threshold = (uniform * total.double()).to(cumulative.dtype)
    threshold = torch.minimum(threshold, torch.nextafter(total, torch.zeros_like(total)))
    found = torch.searchsorted(cumulative, threshold[:, None], right=True)[:, 0]
    return found.clamp_(max=weights.shape[-1] - 1)  # only a NaN gets past the end
