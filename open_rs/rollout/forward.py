"""The ways to the logits of the next token of every live row, the slower the more models they know.

n live rows (always slots 0 .. n - 1), L positions that a step attends to, V vocabulary.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from open_rs.errors import InputError
from open_rs.rollout.cache import SlotCache
from open_rs.rollout.compiled import CompiledForward, kernels_of
from open_rs.rollout.decoder import Decoder
from open_rs.rollout.exact import CURE, DISAGREES, NAME, ExactForward, exact_parts
from open_rs.rollout.fit import Fit
from open_rs.rollout.prefill import Located, Prefill, run_module
from open_rs.rollout.sampling import LogProbs
from open_rs.rollout.weights import Product, Weights, weights_of

LENGTH_BLOCK = 16  # attention lengths are rounded up to a multiple of this
TRIED_LENGTHS = (13, 17)  # of the prompts on which a way has to agree with the module
TRIED: WeakKeyDictionary[Any, dict[str, bool]] = WeakKeyDictionary()  # by model and way
BLOCK_ROWS = 4  # for each thread: rows are fed in multiples of this, see `blocks`

Way = Callable[..., "Forward"]  # of the number of slots


class Forward(Protocol):
    """Keeps the keys and values of the rows in slots, and tells their logits."""

    log_probs: LogProbs | None  # where they are not those that `sampling.draw` makes

    def prefill(self, heads: Sequence[Sequence[int]]) -> Any:
        """A batch of prompts without their last tokens as `put` wants it."""

    def put(self, slots: Sequence[int], lengths: Sequence[int], located: Iterable[Located]) -> None:
        """Start new rows in `slots`; `lengths`: tokens prefilled of each."""

    def move(self, source: Sequence[int], target: Sequence[int], length: int) -> None:
        """Rows at up to `length` positions go from slots to others, which are free."""

    def keep(self, live: int) -> None:
        """The slots from `live` on will hold no row again; they stand at their first position."""

    def logits(self, token: Tensor, position: Tensor, longest: int) -> Tensor:
        """Logits [n, V] after each row's `token`, int64 [n], at its `position`, int64 [n], the
        largest of which is `longest`.
        """


class ModuleForward:
    """By the module's own forward: any model that the engine accepts."""

    log_probs: LogProbs | None = None

    def __init__(self, model: Any, fit: Fit, *, slots: int, capacity: int) -> None:
        """`capacity`: positions of the longest row."""
        self.model, self.fit = model, fit
        self.device, self.dtype = model.device, model.dtype
        self.capacity = capacity
        self.cache = SlotCache(slots, capacity, self.device)
        self.all_rows = torch.arange(slots, device=self.device)
        self.all_positions = torch.arange(capacity, device=self.device)

    def prefill(self, heads: Sequence[Sequence[int]]) -> DynamicCache:
        return run_module(self.model, self.fit.last_only, heads)

    def put(self, slots: Sequence[int], lengths: Sequence[int], located: Iterable[Located]) -> None:
        for picks, batch, rows in located:
            self.cache.load(self._index([slots[pick] for pick in picks]), batch, self._index(rows))

    def move(self, source: Sequence[int], target: Sequence[int], length: int) -> None:
        self.cache.move(self._index(source), self._index(target), length)

    def keep(self, live: int) -> None:
        self.cache.frame.slots = blocks(live, self.device)

    def _index(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)

    def logits(self, token: Tensor, position: Tensor, longest: int) -> Tensor:
        length = self._begin(position, longest)
        output = self.model(
            input_ids=token[:, None],
            attention_mask=self._mask(position, length),
            position_ids=position[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        return output.logits[:, -1]

    def _begin(self, position: Tensor, longest: int) -> int:
        """Tell the cache what this step writes and reads; returns L."""
        length = min(-(-(longest + 1) // LENGTH_BLOCK) * LENGTH_BLOCK, self.capacity)
        self.cache.frame.begin(self.all_rows[: len(position)], position, length)
        return length

    def _mask(self, position: Tensor, length: int) -> Tensor | dict[str, Tensor]:
        """What each row may attend to: itself and what came before, within the layer's window.

        An additive mask [n, 1, 1, L] (0 or the dtype's minimum), which eager and sdpa attention
        both take; a dict of them by layer type where full and sliding layers mix.
        """
        behind = position[:, None] - self.all_positions[:length]  # [n, L]
        masks = {}
        for layer_type, window in self.fit.windows.items():
            hidden = behind < 0
            if window is not None:
                hidden |= behind >= window
            mask = torch.zeros(behind.shape, dtype=self.dtype, device=self.device)
            masks[layer_type] = mask.masked_fill_(hidden, torch.finfo(self.dtype).min)[
                :, None, None
            ]
        return masks if len(masks) > 1 else next(iter(masks.values()))


class DecoderForward(ModuleForward):
    """By `decoder`: models of the Llama family, on any device."""

    def __init__(
        self, model: Any, fit: Fit, weights: Weights, *, slots: int, capacity: int
    ) -> None:
        super().__init__(model, fit, slots=slots, capacity=capacity)
        self.decoder = Decoder(weights)
        shape = (0, weights.kv_heads, 0, weights.head_size)
        self.cache.allocate(len(weights.layers), weights.embedding.new_empty(shape))

    def logits(self, token: Tensor, position: Tensor, longest: int) -> Tensor:
        mask = self._mask(position, self._begin(position, longest))
        assert isinstance(mask, Tensor)  # `weights_of` takes no model with two kinds of layer
        return self.decoder.logits(token, position, mask, self.cache)


def open_forward(
    model: Any, fit: Fit, *, slots: int, longest: int, tokens: int, exact: bool = False
) -> Forward:
    """The fastest way for this model that agrees with its module; with `exact` that of training.

    `longest`: tokens of the longest prompt; `tokens`: of the longest completion.
    """
    capacity = max(longest + tokens, *TRIED_LENGTHS)
    if exact:
        parts = exact_parts(model, capacity, partial(Product, pack_from=0))
        way: Way = partial(ExactForward, *parts, tokens=tokens)
        if not agrees(model, fit, "exact", way):
            raise InputError(f"{NAME}: {DISAGREES}; {CURE}")
        return way(slots=slots)
    weights = weights_of(model, fit.windows, capacity, tokens)
    if weights is not None:
        ways: dict[str, Way] = {}
        kernels = kernels_of(weights)
        if kernels is not None:
            run = partial(run_module, model, fit.last_only)
            ways["compiled"] = partial(CompiledForward, weights, kernels, run, tokens=tokens)
        ways["decoder"] = partial(DecoderForward, model, fit, weights, capacity=capacity)
        for name, way in ways.items():
            if agrees(model, fit, name, way):
                return way(slots=slots)
    return ModuleForward(model, fit, slots=slots, capacity=capacity)


def agrees(model: Any, fit: Fit, name: str, way: Way) -> bool:
    """Whether a way gives the module's own logits. It is tried once for a model."""
    tried = TRIED.setdefault(model, {})
    if name not in tried:
        ids = [(1 + place * 7919) % fit.vocab_size for place in range(max(TRIED_LENGTHS))]
        prompts = [ids[:length] for length in TRIED_LENGTHS]
        count = blocks(len(prompts), model.device)
        forward: Forward = way(slots=count)
        prefill = Prefill(prompts, [1] * len(prompts), forward.prefill)
        starts = [length - 1 for length in TRIED_LENGTHS]
        forward.put(range(len(prompts)), starts, prefill.locate(range(len(prompts))))
        filling = [0] * (count - len(prompts))
        token, position = torch.tensor(
            [[prompt[-1] for prompt in prompts] + filling, starts + filling], device=model.device
        )
        found = forward.logits(token, position, max(starts))[: len(prompts)]
        expected = [
            model(input_ids=torch.tensor([prompt], device=model.device), use_cache=False).logits
            for prompt in prompts
        ]
        tried[name] = same_logits(found, torch.cat([logits[:, -1] for logits in expected]))
    return tried[name]


def same_logits(ours: Tensor, expected: Tensor) -> bool:
    """Equal up to the dtype's rounding, measured on the largest logit; False for a NaN."""
    tolerance = 1e-4 if expected.dtype == torch.float32 else 3e-2
    difference = (ours - expected).abs().amax()
    return bool(difference <= tolerance * expected.abs().amax().clamp(min=1.0))


def blocks(rows: int, device: torch.device) -> int:
    """Rows filled up so that a row's logits do not depend on how many others there are.

    A product of matrices with few rows takes another path through the library, with sums in another
    order. From 4 rows a thread on, and in multiples of that, each row of a product is the same to
    the last bit whatever the others are, on the CPUs measured. Other devices promise no such thing.
    """
    block = BLOCK_ROWS * torch.get_num_threads() if device.type == "cpu" else 1
    return -(-rows // block) * block
