"""What the native engine refuses, by name and with the cure, before it spends any time."""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from math import inf
from typing import Any

from transformers import MODEL_FOR_MASKED_LM_MAPPING
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from open_rs.errors import InputError
from open_rs.models import context_length, unwrap
from open_rs.rollout.protocol import Prompt, SamplingParams

ELSEWHERE = "use another model, or an engine that runs it"


@dataclass(frozen=True)
class Fit:
    """What the engine needs to know of a model that it accepts."""

    context: int | None  # positions, None without a limit
    windows: dict[str, int | None]  # by layer type: the sliding window, None for full attention
    vocab_size: int
    keeps_logits: bool  # takes `logits_to_keep`

    @property
    def last_only(self) -> dict[str, int]:
        """What to tell the model's forward where only the last token's logits count."""
        return {"logits_to_keep": 1} if self.keeps_logits else {}


def check_model(model: Any) -> Fit:
    """The facts about a causal LM with a plain KV cache; an InputError names what does not fit."""
    base = unwrap(model)
    name = type(base).__name__
    if any(config.is_prompt_learning for config in getattr(model, "peft_config", {}).values()):
        raise InputError(
            f"{name}: an adapter that prepends virtual tokens cannot be sampled from by the native "
            "engine; use LoRA"
        )
    if model.config.is_encoder_decoder:
        raise InputError(f"{name} is an encoder-decoder; the native engine samples from causal LMs")
    accepted = signature(base.forward).parameters
    missing = [key for key in ("past_key_values", "position_ids") if key not in accepted]
    if missing:
        raise InputError(f"{name}.forward takes no {missing[0]}, which is needed; {ELSEWHERE}")
    config = model.config.get_text_config(decoder=True)
    check_causal(name, config)
    if getattr(config, "alibi", False):
        raise InputError(f"{name} places tokens by ALiBi, not by position ids; {ELSEWHERE}")
    if config.model_type == "gpt_neo":
        raise InputError(f"{name} adds a mask of its own by cache length; {ELSEWHERE}")
    attention = config._attn_implementation
    if attention not in ("sdpa", "eager"):
        raise InputError(
            f"{name} was loaded with attn_implementation={attention!r}, which takes no "
            "explicit mask; load it with 'sdpa' or 'eager'"
        )
    return Fit(
        context=context_length(model),
        windows=attention_windows(base, config),
        vocab_size=model.get_input_embeddings().weight.shape[0],
        keeps_logits="logits_to_keep" in accepted,
    )


def check_causal(name: str, config: Any) -> None:
    """Refuse models in which a token sees what comes after it, so that no cache can be right."""
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not config.is_decoder:
        raise InputError(
            f"{name} attends in both directions; set is_decoder in its config.json if it was "
            "trained as a causal LM, or use another model"
        )
    if getattr(config, "use_bidirectional_attention", None) in (True, "all"):
        raise InputError(f"{name} attends in both directions; use a causal LM")


def attention_windows(base: Any, config: Any) -> dict[str, int | None]:
    """Per layer type its sliding window; refuses caches that hold more than keys and values."""
    name = type(base).__name__
    layers: list[Any] = [] if base._is_stateful else [*DynamicCache(config=config).layers]
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    if not layers or not plain or getattr(config, "num_kv_shared_layers", None):
        raise InputError(
            f"{name} keeps a recurrent, shared or compressed state where the native engine needs "
            f"keys and values for every layer; {ELSEWHERE}"
        )
    if getattr(config, "attention_chunk_size", None) is not None:
        raise InputError(f"{name} attends in chunks, which is not supported; {ELSEWHERE}")
    windows = {
        "sliding_attention" if layer.is_sliding else "full_attention": getattr(
            layer, "sliding_window", None
        )
        for layer in layers
    }
    if len({getattr(layer, "sliding_window", None) for layer in layers}) > len(windows):
        raise InputError(f"{name} has sliding windows of several sizes; {ELSEWHERE}")
    return windows


def check_params(group_size: int, params: SamplingParams) -> None:
    """Refuse sampling parameters outside their range, naming the recipe's key."""
    bounds = [
        ("group_size", group_size, group_size >= 1, "at least 1"),
        (
            "max_completion_tokens",
            params.max_completion_tokens,
            params.max_completion_tokens >= 1,
            "at least 1",
        ),
        ("temperature", params.temperature, 0 <= params.temperature < inf, "0 (greedy) or above"),
        ("top_p", params.top_p, 0 < params.top_p <= 1, "above 0 and at most 1"),
        ("top_k", params.top_k, params.top_k >= 0, "0 (off) or above"),
        ("stop", params.stop, all(params.stop), "non-empty strings"),
    ]
    for key, value, fits, need in bounds:
        if not fits:
            raise InputError(f"rollout.{key} is {value!r}; it must be {need}")


def check_prompts(prompts: Sequence[Prompt], params: SamplingParams, fit: Fit) -> None:
    """Refuse prompts that are empty, too long, repeated, or of another tokenizer."""
    seen: set[str] = set()
    for prompt in prompts:
        name, length = prompt.problem.id, len(prompt.prompt_ids)
        if name in seen:
            raise InputError(
                f"problem {name!r} occurs twice in one call, so its samples would be equal; "
                "raise rollout.group_size instead"
            )
        seen.add(name)
        if length == 0:
            raise InputError(f"problem {name!r}: the prompt is empty; give it at least one token")
        if fit.context is not None and length + params.max_completion_tokens > fit.context:
            raise InputError(
                f"problem {name!r}: {length} prompt tokens + rollout.max_completion_tokens = "
                f"{params.max_completion_tokens} exceed the model's context of {fit.context}; "
                f"lower rollout.max_completion_tokens to {max(fit.context - length, 0)} "
                "or drop the problem"
            )
        outside = [token for token in prompt.prompt_ids if not 0 <= token < fit.vocab_size]
        if outside:
            raise InputError(
                f"problem {name!r}: prompt token {outside[0]} is outside the model's "
                f"vocabulary of {fit.vocab_size}; use the model's own tokenizer"
            )
