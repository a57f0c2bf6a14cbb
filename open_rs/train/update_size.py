"""How far one optimizer step moved the weights, measured on a sample of them.

A whole copy of the weights would cost their memory once more, and the moments say what AdamW meant
to do, not what was done to weights that are rounded to bfloat16 or stepped by something else. So
every k-th entry of each tensor is looked at before and after the step: all of them in a tensor of
up to SAMPLE entries.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

SAMPLE = 16_384  # entries of a tensor that are kept at most, about


def entries(tensor: Tensor, stride: int) -> Tensor:
    """Every `stride`-th entry."""
    return tensor.detach().flatten()[::stride]


@torch.no_grad()
def weight_sample(
    parameters: Iterable[Tensor], entries: Callable[[Tensor, int], Tensor] = entries
) -> list[Tensor]:
    """A copy of every k-th entry of each tensor, k odd, so that columns take turns."""
    return [entries(one, stride(one)).float().clone() for one in parameters]


def stride(tensor: Tensor) -> int:
    return -(-tensor.numel() // SAMPLE) | 1


def update_norm(
    before: Sequence[Tensor],
    after: Sequence[Tensor],
    sizes: Sequence[int],
    total: Callable[[Tensor], Tensor] = lambda values: values,
) -> float:
    """||W' - W|| / ||W|| over all tensors (L2), from samples of tensors of these sizes.

    A sample of n of N entries stands for all of them: its sum of squares counts N / n times.
    Entries on other ranks are 0 in the samples here, and `total` sums what is made of them.
    """
    changes, weights = [], []
    for old, new, size in zip(before, after, sizes, strict=True):
        share = size / max(old.numel(), 1)
        changes.append(share * (new - old).square().sum())
        weights.append(share * old.square().sum())
    change, weight = total(torch.stack([torch.stack(changes).sum(), torch.stack(weights).sum()]))
    return float(change.sqrt() / weight.sqrt()) if weight else 0.0
