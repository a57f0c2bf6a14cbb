"""Peak memory of a training run by part, from shapes alone.

Letters: N parameters, H hidden size, L layers, V vocabulary, S tokens of the longest row.
"""

from dataclasses import dataclass

FLOAT = 4  # bytes of float32
CHUNK_TOKENS = 1024  # rows of logits that exist at once, as train.logprobs makes them
# Floats that one layer keeps per token for its backward pass, in multiples of H and of the MLP's
# width: normed inputs, queries, keys, values, attention output, residuals; gate, up, their product
# and the activation.
HIDDEN_KEPT, MLP_KEPT = 8, 4


@dataclass(frozen=True)
class ModelShape:
    """What memory depends on. `bytes_per_weight` is 4 for float32 and 2 for bfloat16."""

    parameters: int
    trained_parameters: int
    hidden_size: int
    intermediate_size: int
    layers: int
    vocab_size: int
    kv_width: int  # key-value heads x head size
    bytes_per_weight: int


def memory_bytes(
    shape: ModelShape,
    *,
    micro_batch_tokens: int,
    slots: int,
    row_tokens: int,
    with_reference: bool,
    gradient_checkpointing: bool,
) -> dict[str, int]:
    """Bytes by part and "total".

    AdamW keeps two float32 moments per trained weight, the gradient is one more. Rollout and update
    take turns, so the peak is the larger of the KV cache and of activations with logits.
    """
    weights = shape.parameters * shape.bytes_per_weight
    per_token = HIDDEN_KEPT * shape.hidden_size + MLP_KEPT * shape.intermediate_size
    kept_layers = 1 if gradient_checkpointing else shape.layers
    tokens = max(micro_batch_tokens, row_tokens)
    activations = tokens * per_token * kept_layers * shape.bytes_per_weight
    if gradient_checkpointing:
        activations += tokens * shape.hidden_size * shape.layers * shape.bytes_per_weight
    parts = {
        "weights": weights,
        "reference": weights if with_reference else 0,
        "gradients": shape.trained_parameters * FLOAT,
        "optimizer": 2 * shape.trained_parameters * FLOAT,
        "kv_cache": 2 * slots * row_tokens * shape.layers * shape.kv_width * shape.bytes_per_weight,
        "activations": activations,
        "logits": 3 * min(CHUNK_TOKENS, tokens) * shape.vocab_size * FLOAT,
    }
    turns = max(parts["kv_cache"], parts["activations"] + parts["logits"])
    resident = sum(parts[name] for name in ("weights", "reference", "gradients", "optimizer"))
    return parts | {"total": resident + turns}
