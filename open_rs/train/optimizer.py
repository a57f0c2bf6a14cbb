"""The optimizer, and its moments as plain tensors: what checkpoints hold and ranks send each other.

AdamW of torch, or torchao's with moments of 8 bits (Dettmers and others 2022, arXiv 2110.02861): a
code of a byte for each, and a float32 scale for each block of 256. The moments of a tensor with
fewer than 4,096 entries, or with parts of a block, stay float32 in both.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from open_rs.errors import InputError
from open_rs.recipe import Recipe

EIGHT_BIT = "adamw_8bit"
MOMENTS = {"exp_avg": True, "exp_avg_sq": False}  # and whether they have a sign
COMPILERS = ("g++", "c++", "clang++")


def make_optimizer(policy: Any, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW over what is trained; that of torch on a CPU in one pass over each tensor, not one per
    operation.
    """
    train = recipe.train
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    settings: dict[str, Any] = {
        "lr": train.learning_rate,
        "betas": (train.beta1, train.beta2),
        "weight_decay": train.weight_decay,
    }
    if train.optimizer == EIGHT_BIT:
        return eight_bit(trained, settings)
    return torch.optim.AdamW(trained, fused=policy.device.type == "cpu" or None, **settings)


def eight_bit(trained: list[nn.Parameter], settings: dict[str, Any]) -> torch.optim.Optimizer:
    try:
        from torchao.optim import AdamW8bit
    except ImportError:
        raise InputError(
            f'train.optimizer = "{EIGHT_BIT}" needs torchao; pip install "open-rs[eight-bit]", or '
            'set it to "adamw"'
        ) from None
    if not any(map(shutil.which, [os.environ.get("CXX", ""), *COMPILERS])):
        raise InputError(
            f'train.optimizer = "{EIGHT_BIT}": torchao compiles its step, and there is no C++ '
            'compiler; install one, or set it to "adamw"'
        )
    made: torch.optim.Optimizer = AdamW8bit(trained, **settings)
    return made


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):  # a part of what torchao has compiled
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def flat_state(state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """A parameter's state by name; of moments in 8 bits the codes and the scales."""
    for key, value in state.items():
        if hasattr(value, "codes"):
            yield f"{key}/codes", value.codes
            yield f"{key}/scale", value.scale
        else:
            yield key, value.detach()


def state_of(
    flat: Mapping[str, Tensor], parameter: nn.Parameter, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """What `flat_state` was made of; moments of the other kind become this optimizer's."""
    state = {key: value for key, value in flat.items() if "/" not in key}
    in_bits = hasattr(optimizer, "block_size")
    for key, signed in MOMENTS.items():
        if f"{key}/codes" in flat:
            moment = blank(parameter, signed)
            moment.codes.copy_(flat[f"{key}/codes"])
            moment.scale.copy_(flat[f"{key}/scale"])
            state[key] = moment if in_bits else moment.dequantize()
        elif key in flat and in_bits and in_blocks(parameter, optimizer):
            state[key] = blank(parameter, signed)
            state[key].copy_(flat[key])
    return state


def in_blocks(parameter: nn.Parameter, optimizer: Any) -> bool:
    """Whether torchao keeps the moments of a tensor in 8 bits."""
    return parameter.numel() >= 4096 and parameter.numel() % optimizer.block_size == 0


def blank(parameter: nn.Parameter, signed: bool) -> Any:
    """Moments in 8 bits, all 0."""
    from torchao.optim.subclass_8bit import OptimState8bit

    return OptimState8bit.zeros(
        parameter.shape, signed, device=parameter.device, dtype=parameter.dtype
    )


def moment_bytes(trained: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Memory such as the moments of these parameters take, where there are none yet."""
    dtype = torch.uint8 if hasattr(optimizer, "block_size") else None
    return [torch.empty_like(one, dtype=dtype) for one in [*trained, *trained]]
