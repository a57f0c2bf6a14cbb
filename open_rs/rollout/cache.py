"""A static KV cache in which every slot is at a position of its own.

S slots, n live ones (always the first n), H key-value heads, L positions, D head size. transformers
sees a `Cache` of which it gets the first n slots and the first `frame.length` positions.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache


@dataclass
class Frame:
    """What all layers of a cache share: its size, and where the current step writes and reads."""

    slots: int  # in use: fewer after the tail of a call was packed
    capacity: int  # positions that a slot can hold
    rows: Tensor  # int64 [n], 0..n-1
    positions: Tensor  # int64 [n], where each live slot writes its token of this step
    length: int = 0  # attention reads positions 0..length-1
    lines: dict[int, Tensor] = field(default_factory=dict)  # by H; see `written_lines`

    def begin(self, rows: Tensor, positions: Tensor, length: int) -> None:
        """Start a step."""
        self.rows, self.positions, self.length = rows, positions, length
        self.lines.clear()

    def written_lines(self, heads: int) -> Tensor:
        """Where this step writes in a layer seen as [S * H * L, D]: int64 [n * H], made once."""
        if heads not in self.lines:
            head = torch.arange(heads, device=self.rows.device)
            lines = (self.rows[:, None] * heads + head) * self.capacity + self.positions[:, None]
            self.lines[heads] = lines.flatten()
        return self.lines[heads]


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values, [S, H, L, D], allocated when the layer is first used.

    What lies beyond a row's position is masked, but a masked NaN is a NaN, so it has to be finite.
    It is zeroed only as far as attention reads: memory that no row reaches stays untouched.
    """

    is_sliding = False
    is_croppable = False
    supports_early_init = False

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        self.frame = frame
        self.clean = 0  # positions below this one hold finite numbers in every live slot

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        slots, capacity = self.frame.slots, self.frame.capacity
        for name, states in (("keys", key_states), ("values", value_states)):
            _, heads, _, size = states.shape
            setattr(self, name, states.new_empty(slots, heads, capacity, size))
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store one token per live slot, states [n, H, 1, D]; return the part to attend over."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        n, heads, _, size = key_states.shape
        lines, length = self.frame.written_lines(heads), self.frame.length
        self.clean_to(length)
        self.keys.view(-1, size).index_copy_(0, lines, key_states.reshape(-1, size))
        size = value_states.shape[-1]
        self.values.view(-1, size).index_copy_(0, lines, value_states.reshape(-1, size))
        return self.keys[:n, :, :length], self.values[:n, :, :length]

    def clean_to(self, length: int) -> None:
        """Make sure that attention over `length` positions meets finite numbers only."""
        if length > self.clean:
            assert self.keys is not None and self.values is not None
            live = self.frame.slots
            self.keys[:live, :, self.clean : length] = 0.0
            self.values[:live, :, self.clean : length] = 0.0
            self.clean = length

    def get_seq_length(self) -> int:
        return self.frame.length

    def get_max_length(self) -> int:
        return self.frame.capacity

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.frame.length, 0


class SlotCache(Cache):
    """`slots` x `capacity` positions of keys and values for every layer."""

    def __init__(self, slots: int, capacity: int, device: torch.device) -> None:
        empty = torch.empty(0, dtype=torch.long, device=device)
        self.frame = Frame(slots, capacity, empty, empty)
        new_layer: Any = partial(SlotLayer, self.frame)  # called without arguments
        super().__init__(layer_class_to_replicate=new_layer)

        self.slot_layers: list[Any] = self.layers

    def allocate(self, layers: int, like: Tensor) -> None:
        """Make all layers at once, for keys and values of the shape [..., H, ..., D] of `like`."""
        for _ in range(layers):
            self.slot_layers.append(SlotLayer(self.frame))
            self.slot_layers[-1].lazy_initialization(like, like)

    def load(self, slots: Tensor, prefilled: DynamicCache, rows: Tensor) -> None:
        """Copy the prompts in `rows` [k] of a prefill into `slots` [k]."""
        sources: list[Any] = prefilled.layers
        while len(self.slot_layers) < len(sources):
            self.slot_layers.append(SlotLayer(self.frame))
        for layer, source in zip(self.slot_layers, sources, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(source.keys, source.values)
            length = source.keys.shape[2]
            layer.clean_to(length)
            layer.keys[slots, :, :length] = source.keys[rows]
            layer.values[slots, :, :length] = source.values[rows]

    def move(self, source: Tensor, target: Tensor, length: int) -> None:
        """Copy the first `length` positions of slots `source` [k] over slots `target` [k]."""
        for layer in self.slot_layers:
            layer.keys[target, :, :length] = layer.keys[source, :, :length]
            layer.values[target, :, :length] = layer.values[source, :, :length]
