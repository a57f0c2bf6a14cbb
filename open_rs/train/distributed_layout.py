"""How weights, gradients and moments lie over the ranks of a job, and the sums over all of them.

`Replicated`: every rank holds everything, as DistributedDataParallel has it, and gradients are
summed once a step. `distributed_shards.Sharded`: every rank holds a share of everything. Both sum
and never average: denominators are those of the whole step.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from open_rs.train.distributed import ALONE, Ranks
from open_rs.train.optimizer import flat_state, state_of
from open_rs.train.update_size import entries

BUCKET_BYTES = 64 * 2**20  # of gradients that are summed in one call
PIECE = 2**24  # entries whose bits are summed in one call, which may copy them as int64
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of an entry

T = TypeVar("T")
Moments = dict[str, dict[str, Tensor]]  # AdamW's state, by parameter name
Shapes = dict[str, dict[str, tuple[tuple[int, ...], torch.dtype]]]  # of it


class Replicated:
    """All weights on every rank; the layout of a process by itself, too."""

    is_sharded = False

    def __init__(self, policy: Any, ranks: Ranks = ALONE) -> None:
        self.policy, self.ranks = policy, ranks
        self.whole = policy  # a module with all weights, inside `filled`

    @contextmanager
    def held(self) -> Iterator[Any]:
        """Inside, `whole` has memory for its weights."""
        yield self.whole

    @contextmanager
    def filled(self) -> Iterator[Any]:
        """Inside, `whole` has the weights of now; every rank enters it at the same time."""
        yield self.whole

    def within(self, work: Callable[[], T]) -> T:
        """Forward and backward passes of the policy, where it calls its parts by itself."""
        return work()

    def total(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Sums over all ranks, the same to the last bit on each."""
        if not self.ranks.several:
            return dict(sums)
        held: list[Any] = [None] * self.ranks.count
        dist.all_gather_object(held, dict(sums))
        totals: dict[str, float] = defaultdict(float)
        for one in held:
            for name, value in one.items():
                totals[name] += value
        return dict(totals)

    def sum_gradients(self) -> None:
        """Every parameter's gradient becomes the sum over all ranks."""
        if not self.ranks.several:
            return
        gradients = [one.grad for one in trained(self.policy) if one.grad is not None]
        for bucket in buckets(gradients):
            flat = torch.cat([one.flatten() for one in bucket])
            dist.all_reduce(flat)
            for one, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                one.copy_(summed.view_as(one))

    def clip(self, parameters: list[nn.Parameter], most: float) -> float:
        """Scale the summed gradients down to a norm of `most`; returns the norm before, which
        is rank 0's: more threads sum in another order, and replicas have to stay equal.
        """
        gradients = [one.grad for one in parameters if one.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.ranks.several:
            dist.broadcast(norm, 0)
        nn.utils.clip_grads_with_norm_(parameters, most, norm)
        return norm.item()

    def fingerprint(self) -> str | None:
        """Of this rank's weights, to the last bit; None where no other rank has the same."""
        return bit_sums(self.policy)

    def total_tensor(self, values: Tensor) -> Tensor:
        """Sums over the shards; what every rank holds whole is whole already."""
        return values

    def entries(self, tensor: Tensor, stride: int) -> Tensor:
        """Every `stride`-th entry, 0 where it lies on another rank."""
        return entries(tensor, stride)

    def whole_tensor(self, tensor: Tensor) -> Tensor:
        """A tensor with what lies on other ranks; every rank asks for it at the same time."""
        return tensor

    def moments(self, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
        """AdamW's state, whole and one by one, under flat names: PARAMETER/exp_avg,
        PARAMETER/exp_avg_sq, PARAMETER/step. Every rank goes through it at the same time.
        """
        for name, parameter in self.policy.named_parameters():
            for key, value in flat_state(optimizer.state.get(parameter, {})):
                yield f"{name}/{key}", self.whole_tensor(value)

    def spread(self, moments: Moments) -> Moments:
        """Rank 0's weights on all ranks, and its moments, laid out as the weights are.

        Elsewhere the values of `moments` do not count, but their names and shapes.
        """
        if self.ranks.several:
            for tensor in [*self.policy.parameters(), *self.policy.buffers()]:
                dist.broadcast(tensor.data, 0)
        return self.laid_out(moments)

    def set_moments(self, optimizer: torch.optim.Optimizer, moments: Moments) -> None:
        """Moments that are laid out, in the place of those that the optimizer has."""
        parameters = dict(self.policy.named_parameters())
        optimizer.state.clear()
        for name, state in moments.items():
            parameter = parameters[name]
            optimizer.state[parameter] = state_of(state, parameter, optimizer)

    def laid_out(self, moments: Moments) -> Moments:
        parameters = dict(self.policy.named_parameters())
        return {
            name: {key: self.laid(value, parameters[name]) for key, value in state.items()}
            for name, state in moments.items()
        }

    def laid(self, value: Tensor, parameter: nn.Parameter) -> Tensor:
        """Rank 0's value, of the shape of a parameter, laid out as that is; a number stays on the
        CPU, where AdamW keeps its step counter.
        """
        value = value.to(parameter.device) if value.dim() else value
        if self.ranks.several:
            dist.broadcast(value, 0)
        return value


def shapes_of(moments: Moments) -> Shapes:
    return {
        name: {key: (tuple(value.shape), value.dtype) for key, value in state.items()}
        for name, state in moments.items()
    }


def empty_moments(shapes: Shapes) -> Moments:
    return {
        name: {key: torch.empty(shape, dtype=dtype) for key, (shape, dtype) in state.items()}
        for name, state in shapes.items()
    }


def trained(policy: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in policy.parameters() if parameter.requires_grad]


@torch.no_grad()
def bit_sums(model: nn.Module) -> str:
    """A hash of the sums, tensor by tensor, of what the bits of the parameters are as integers."""
    sums = []
    for parameter in model.parameters():
        bits = parameter.detach().flatten().view(INTEGERS[parameter.element_size()])
        sums += [piece.sum(dtype=torch.int64) for piece in bits.split(PIECE)]
    return hashlib.sha256(repr(torch.stack(sums).tolist()).encode()).hexdigest()


def buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours, of one kind, up to BUCKET_BYTES or one."""
    bucket: list[Tensor] = []
    size = 0
    for one in gradients:
        if bucket and (size + one.nbytes > BUCKET_BYTES or one.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(one)
        size += one.nbytes
    if bucket:
        yield bucket
