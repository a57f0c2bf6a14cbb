"""FSDP2: a share of every weight, gradient and moment on each rank of a job.

Letters: N ranks. `fully_shard` cuts every tensor along its first dimension into N pieces, gathers a
decoder layer while it works, and scatters the sums of its gradients.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from open_rs.train.distributed import Ranks
from open_rs.train.distributed_layout import Moments, Replicated

T = TypeVar("T")


class Sharded(Replicated):
    """A share of everything on every rank. A whole module is kept beside the policy, whose memory
    is held only inside `filled`: for sampling, saves and loads.
    """

    is_sharded = True

    def __init__(self, policy: Any, ranks: Ranks) -> None:
        """`policy` is whole, and the same on every rank; its decoder layers and what is around them
        become groups that are gathered one by one.
        """
        super().__init__(policy, ranks)
        self.whole = hollow_copy(policy)
        mesh = init_device_mesh(policy.device.type, (ranks.count,))
        layers = set(getattr(policy, "_no_split_modules", None) or ())
        for module in policy.modules():
            if type(module).__name__ in layers:
                fully_shard(module, mesh=mesh)
        fully_shard(policy, mesh=mesh)
        for module in policy.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)  # a sum, not a mean
                module.set_force_sum_reduction_for_comms(True)  # which gloo has, too
        type(policy).within = lambda _, work: work()
        register_fsdp_forward_method(policy, "within")

    @contextmanager
    def held(self) -> Iterator[Any]:
        for parameter in self.whole.parameters():
            parameter.untyped_storage().resize_(parameter.nbytes)
        try:
            yield self.whole
        finally:
            self._release()

    @contextmanager
    def filled(self) -> Iterator[Any]:
        with self.held(), torch.no_grad():
            targets = dict(self.whole.named_parameters())
            for name, parameter in self.policy.named_parameters():
                targets[name].copy_(self.whole_tensor(parameter.detach()))
            yield self.whole

    def _release(self) -> None:
        for parameter in self.whole.parameters():
            parameter.untyped_storage().resize_(0)

    def within(self, work: Callable[[], T]) -> T:
        """Inside a forward of the root, which gathers embedding, norm and head; layers gather
        themselves.
        """
        found: T = self.policy.within(work)
        return found

    def sum_gradients(self) -> None:
        """They are summed as they are scattered, layer by layer."""

    def clip(self, parameters: list[nn.Parameter], most: float) -> float:
        return self.whole_tensor(nn.utils.clip_grad_norm_(parameters, most)).item()

    def fingerprint(self) -> str | None:
        return None

    def total_tensor(self, values: Tensor) -> Tensor:
        dist.all_reduce(values)
        return values

    def entries(self, tensor: Tensor, stride: int) -> Tensor:
        found = torch.zeros(-(-tensor.numel() // stride), device=tensor.device)
        assert isinstance(tensor, DTensor)
        own = tensor.to_local().detach().flatten()  # a contiguous piece: shards are of dimension 0
        start = self._first_row(tensor) * (tensor.numel() // max(tensor.shape[0], 1))
        skip = -start % stride
        picked = own[skip::stride]
        place = (start + skip) // stride
        found[place : place + len(picked)] = picked.float()
        return found

    def _first_row(self, tensor: DTensor) -> int:
        """The row of a tensor at which this rank's share begins: shares are as torch.chunk's."""
        rows = -(-tensor.shape[0] // self.ranks.count)
        return min(self.ranks.rank * rows, tensor.shape[0])

    def whole_tensor(self, tensor: Tensor) -> Tensor:
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def spread(self, moments: Moments) -> Moments:
        """Rank 0's `whole`, which is held there, becomes the shards of all."""
        sources = dict(self.whole.named_parameters())
        with torch.no_grad():
            for name, parameter in self.policy.named_parameters():
                source = sources[name].detach()
                if not self.ranks.leads:
                    source = torch.empty(parameter.shape, dtype=parameter.dtype)
                parameter.copy_(self.laid(source, parameter))
        return self.laid_out(moments)

    def laid(self, value: Tensor, parameter: nn.Parameter) -> Tensor:
        if not value.dim():
            return super().laid(value, parameter)
        assert isinstance(parameter, DTensor)
        value = value.to(parameter.device)
        return distribute_tensor(value, parameter.device_mesh, parameter.placements)


def hollow_copy(policy: nn.Module) -> Any:
    """A copy whose parameters have shapes, and no memory yet."""
    parameters = {}
    for parameter in policy.parameters():
        empty = torch.empty_like(parameter)
        empty.untyped_storage().resize_(0)
        parameters[id(parameter)] = nn.Parameter(empty, requires_grad=False)
    return deepcopy(policy, parameters)
