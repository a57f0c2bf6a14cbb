"""Activations that a model keeps for its backward pass, counted where autograd saves them."""

from collections import Counter
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from open_rs.train.logprobs import unwrap


class KeptActivations:
    """`with KeptActivations(policy) as kept:` around a forward and backward pass; then
    `kept.bytes` were saved when the blocks were through, for the `kept.tokens` that went in.

    A storage that several operations save counts once; weights do not count.
    """

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.bytes = self.tokens = 0
        self._live = 0
        self._uses: Counter[int] = Counter()

    def __enter__(self) -> Self:
        self._weights = {p.untyped_storage().data_ptr() for p in self.policy.parameters()}
        body = unwrap(self.policy).base_model
        self._hook = body.register_forward_hook(self._through, with_kwargs=True)
        self._saved = torch.autograd.graph.saved_tensors_hooks(self._pack, _unpack)
        self._saved.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._saved.__exit__(kind, error, trace)
        self._hook.remove()

    def _through(self, body: Any, args: Any, settings: dict[str, Any], output: Any) -> None:
        if torch.is_grad_enabled():
            self.tokens += settings["input_ids"].numel()
            self.bytes = max(self.bytes, self._live)

    def _pack(self, tensor: Tensor) -> "_Saved":
        storage = tensor.untyped_storage()
        if storage.data_ptr() in self._weights:
            return _Saved(tensor)
        return _Saved(tensor, self, storage.data_ptr(), storage.nbytes())


class _Saved:
    """A saved tensor that counts while it lives."""

    def __init__(
        self, tensor: Tensor, kept: KeptActivations | None = None, key: int = 0, size: int = 0
    ) -> None:
        self.tensor, self.kept, self.key, self.size = tensor, kept, key, size
        if kept is not None:
            kept._live += size * (kept._uses[key] == 0)
            kept._uses[key] += 1

    def __del__(self) -> None:
        if self.kept is not None:
            self.kept._uses[self.key] -= 1
            self.kept._live -= self.size * (self.kept._uses[self.key] == 0)


def _unpack(saved: _Saved) -> Tensor:
    return saved.tensor
