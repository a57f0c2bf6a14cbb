"""Peak memory of a training run by part and by phase, from shapes and counts.

The parts that a run holds all the time are weights, a frozen reference, the optimizer's moments and
what the process itself takes. To these comes what a phase needs: rollouts the KV cache, an update
activations, logits and gradients, a step of AdamW the gradients, and what a save copies beside
whatever goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from open_rs.plan.shapes import FLOAT, HALF, ModelShape

LOGIT_BYTES = 256 * 2**20  # of logits that exist at once, as train.logprobs makes them
# Values that one layer keeps per token for its backward pass, in multiples of H and of the MLP's
# width: normed inputs, queries, keys, values, attention output, residuals; gate, up, their product
# and the activation. Where a probe has counted them, its number is taken.
HIDDEN_KEPT, MLP_KEPT = 8, 4
BLOCK = 256  # moments of 8 bits with one scale
UNIFORM, PICKED = 8, 12  # bytes of a slot's position beside the cache: noise, token id, log-prob


@dataclass(frozen=True)
class Sizes:
    """What the memory of a phase grows with."""

    slots: int  # rows decoded side by side
    positions: int  # that the longest of them reaches
    cap: int  # completion tokens that a slot has room for
    forwarded: int  # tokens of the largest micro-batch that go through the blocks
    scored: int  # ... whose log-probs are taken
    batches: int = 2  # micro-batches of an update: gradients are there from the second on


@dataclass(frozen=True)
class Setting:
    """What of the recipe decides memory. `kept`: bytes of activations per token as counted, None:
    from the shape. `decode_copies`: bytes of weights that decoding lays out anew, None: q, k and v.
    `autocast`: weights in float32, of which every product takes a copy in half precision;
    `eight_bit`: moments of a byte, and a scale for each block of them.
    """

    with_reference: bool
    gradient_checkpointing: bool
    kept: float | None = None
    decode_copies: int | None = None
    autocast: bool = False
    eight_bit: bool = False


def kept_per_token(shape: ModelShape, *, gradient_checkpointing: bool) -> float:
    """Bytes of activations per token, from the shape alone; checkpointing keeps one layer in full
    and the input of each.
    """
    layer = HIDDEN_KEPT * shape.hidden_size + MLP_KEPT * shape.intermediate_size
    if gradient_checkpointing:
        return (layer + shape.layers * shape.hidden_size) * shape.bytes_per_value
    return layer * shape.layers * shape.bytes_per_value


def parts_of(shape: ModelShape, sizes: Sizes, setting: Setting) -> dict[str, int]:
    """Bytes by part, without what the process takes."""
    weights = shape.parameters * shape.bytes_per_weight + shape.lora * FLOAT
    each = 1 + FLOAT / BLOCK if setting.eight_bit else FLOAT
    moments = round(2 * shape.trained_parameters * each)
    kept = setting.kept
    if kept is None:
        kept = kept_per_token(shape, gradient_checkpointing=setting.gradient_checkpointing)
    copies = setting.decode_copies
    if copies is None:
        copies = shape.layers * shape.hidden_size * (shape.query_width + 2 * shape.kv_width)
        copies *= shape.bytes_per_weight
    if setting.autocast and shape.bytes_per_weight > HALF:
        copies = (shape.body + shape.head) * HALF
    beside = sizes.slots * sizes.cap * (UNIFORM + PICKED)
    return {
        "weights": weights,
        "reference": weights if setting.with_reference else 0,
        "optimizer": moments,
        "gradients": shape.trained_parameters * FLOAT,
        "activations": round(kept * sizes.forwarded),
        "logits": min(LOGIT_BYTES, sizes.scored * shape.vocab_size * FLOAT),
        "kv_cache": sizes.slots * sizes.positions * shape.cache_per_token + beside,
        "weight_copies": copies,
        "save_copy": shape.parameters * shape.bytes_per_weight + moments + shape.lora * FLOAT,
    }


def phases_of(
    parts: Mapping[str, int],
    shape: ModelShape,
    *,
    batches: int = 2,
    save_over: tuple[str, ...] = ("rollout",),
    copies_on_host: bool = False,
) -> dict[str, int]:
    """Bytes at the peak of each phase, without what the process takes.

    The first micro-batch finds no gradients but meets those of the head. `save_over`: the phases
    during which a checkpoint is being written; of CUDA's memory its copy takes nothing.
    """
    always = parts["weights"] + parts["reference"] + parts["optimizer"]
    passing = parts["activations"] + parts["logits"]
    head = 0 if shape.lora else shape.head * FLOAT
    backward = passing + (parts["gradients"] if batches > 1 else min(head, parts["gradients"]))
    stepping = parts["gradients"] + (2 * head if not shape.lora else 0)
    phases = {
        "rollout": always + parts["kv_cache"] + parts["weight_copies"],
        "update": always + max(backward, stepping),
    }
    saving = [phases[name] for name in save_over] or [always]
    return phases | {"save": max(saving) + (0 if copies_on_host else parts["save_copy"])}


def total_of(phases: Mapping[str, int], process: Mapping[str, int]) -> int:
    """The peak of a run: the largest phase with what the process takes beside it."""
    return max(size + process.get(name, 0) for name, size in phases.items())
