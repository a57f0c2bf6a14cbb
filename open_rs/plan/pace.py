"""Seconds for what a run does: fitted to a probe of this machine, or from a device's data sheet."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from open_rs.plan.devices import (
    DECODE_EFFICIENCY,
    LAUNCH_S,
    PREFILL_EFFICIENCY,
    TRAIN_EFFICIENCY,
    Device,
)
from open_rs.plan.schedule import DECODE_TERMS, Decoding, Floats, Pass
from open_rs.plan.shapes import ModelShape

# Products of a weight and a number, each 2 operations, for a token: forward 1, backward 2; the head
# is applied anew in the backward pass.
BODY_PASSES, HEAD_PASSES = 3, 4
ATTENTION_PASSES = 3.5  # the scores are made anew in the backward pass
CHECKPOINTED = 4 / 3  # of an update's operations, where activations are computed again
UPDATE_TERMS = 3  # micro-batches, operations of products, operations of attention


@dataclass(frozen=True)
class Pace:
    """Seconds per unit of work; see `schedule.DECODE_TERMS` and UPDATE_TERMS."""

    decode: tuple[float, ...]
    update: tuple[float, ...]
    optimizer_s: float  # of a step of AdamW
    reference: float = 1 / 3  # of an update's passes, what those of a frozen reference take
    row_s: float = 0.0  # of a completion beside all that: scoring, writing

    def decoding_seconds(self, call: Decoding) -> float:
        return float(call.total @ np.array(self.decode))

    def update_seconds(self, found: Sequence[Pass], shape: ModelShape, *, kl: bool) -> float:
        """One optimizer step."""
        once = sum(float(update_work(one, shape) @ np.array(self.update)) for one in found)
        return once * (1 + self.reference * kl) + self.optimizer_s


def update_work(one: Pass, shape: ModelShape) -> Floats:
    """The work of a micro-batch [UPDATE_TERMS]."""
    products = BODY_PASSES * shape.body * one.forwarded + HEAD_PASSES * shape.head * one.scored
    attention = ATTENTION_PASSES * 2 * shape.query_width * shape.layers * one.pairs
    return np.array([1.0, 2.0 * products, 2.0 * attention])


def fit(work: Floats, seconds: Floats, prior: Sequence[float]) -> tuple[float, ...]:
    """Seconds per unit from measured pieces [n, terms], none below 0, near `prior` where the
    pieces do not tell.

    Least squares of relative errors. Each term is pulled towards its prior by as much as one piece
    of a hundredth of the weight would.
    """
    from scipy.optimize import nnls

    scale = np.maximum(seconds, 0.02 * seconds.max())
    rows = work / scale[:, None]
    size = np.maximum(np.abs(rows).max(axis=0), 1e-300)
    pull = 0.1 * np.diag(size)
    found, _ = nnls(
        np.concatenate([rows, pull]), np.concatenate([seconds / scale, pull @ np.array(prior)])
    )
    return tuple(float(one) for one in found)


def cpu_prior(shape: ModelShape, operations_per_s: float) -> tuple[tuple[float, ...], ...]:
    """Where to start from on a machine that does so many operations a second: seconds per unit of
    decoding and of an update. Attention reaches about a fifth of what products do.
    """
    weights = 2 * (shape.body + shape.head) / operations_per_s
    attention = 5 * 4 * shape.query_width * shape.layers / operations_per_s
    decode = (0.0, 0.0, weights, attention, 2 * shape.body / operations_per_s, 0.0)
    return decode, (0.0, 1 / operations_per_s, 5 / operations_per_s)


def device_pace(device: Device, shape: ModelShape, *, checkpointing: bool = False) -> Pace:
    """What the table's device is expected to need, at the stated efficiencies."""
    again = CHECKPOINTED if checkpointing else 1.0
    reading = device.bandwidth * DECODE_EFFICIENCY
    weights = (shape.body + shape.head) * shape.bytes_per_value
    launch = shape.layers * LAUNCH_S
    prefill = 2 * shape.body / (device.flops * PREFILL_EFFICIENCY)
    per_row = 2 * (shape.body + shape.head) / (device.flops * PREFILL_EFFICIENCY)
    decode = (0.05, weights / reading + launch, per_row, shape.cache_per_token / reading, prefill)
    rate = device.flops * TRAIN_EFFICIENCY
    moved = shape.trained_parameters * 28  # bytes: weight, gradient, two moments, read and written
    return Pace(
        decode=(*decode, *[1e-4] * (DECODE_TERMS - len(decode))),
        update=(3 * launch, again / rate, again / rate),
        optimizer_s=moved / reading,
        reference=1 / 3 / again,
        row_s=2e-3,
    )
