"""What a process learns with: the policy, the frozen start, the optimizer; placed on its device and
laid out over the ranks of its job.
"""

from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from open_rs.console import say
from open_rs.errors import InputError
from open_rs.models import load_policy, mixed_precision
from open_rs.plan.cluster import Cluster
from open_rs.recipe import Recipe
from open_rs.train.distributed import ALONE, Ranks
from open_rs.train.distributed_join import agree_on_model
from open_rs.train.distributed_layout import Replicated
from open_rs.train.exact import make_exact
from open_rs.train.logprobs import check_lm_head, unwrap
from open_rs.train.optimizer import make_optimizer
from open_rs.train.packed import can_pack
from open_rs.train.settings import uses_kl


@dataclass
class Learner:
    """The same on every rank of a job, but for the shares of a sharded layout."""

    layout: Replicated
    reference: nn.Module | None  # None: no KL, or the policy itself without its adapters
    optimizer: torch.optim.Optimizer
    autocast: AbstractContextManager[Any]


def load_learner(recipe: Recipe, ranks: Ranks = ALONE) -> Learner:
    """Loaded from the recipe's model, checked, and on every rank what it is on rank 0."""
    torch.manual_seed(recipe.seed)  # initial LoRA weights; the loop seeds every step anew
    policy = load_policy(ranks.placed(recipe.model))
    check_lm_head(policy)
    if decide(recipe, policy, ranks).train.recomputes:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
        policy.enable_input_require_grads()
    layout = Replicated(policy, ranks)
    agree_on_model(ranks, policy, recipe.model)
    layout.spread({})
    reference = frozen_copy(policy) if uses_kl(recipe) and recipe.model.lora is None else None
    if recipe.rollout.exact:
        for model in filter(None, (policy, reference)):
            make_exact(model)
    if ranks.several and recipe.train.sharding == "full":
        from open_rs.train.distributed_shards import Sharded

        can_pack(policy)  # is tried on whole weights, and remembered
        layout = Sharded(policy, ranks)
    optimizer = make_optimizer(policy, recipe)
    return Learner(layout, reference, optimizer, mixed_precision(recipe.model))


def decide(recipe: Recipe, policy: Any, ranks: Ranks) -> Recipe:
    """What the recipe leaves to the memory of the device, as `plan` decides it."""
    if recipe.train.gradient_checkpointing != "auto":
        return recipe
    from open_rs.plan.activations import decided
    from open_rs.plan.resident import memory_of
    from open_rs.plan.subject import shape_loaded

    if not unwrap(policy).supports_gradient_checkpointing:
        return recipe
    try:
        shape = shape_loaded(policy, recipe.model)
    except InputError:  # of an architecture of which nothing is forecast
        return recipe
    memory, cuda = memory_of(policy.device), policy.device.type == "cuda"
    if not cuda:  # is that of all ranks on a machine
        memory //= -(-ranks.count // len(set(ranks.hosts)))
    made = decided(recipe, shape, memory, cuda=cuda, cluster=Cluster(devices=ranks.count))
    if made.train.recomputes:
        say("train.gradient_checkpointing: activations are recomputed, or they would not fit")
    return made


def frozen_copy(policy: nn.Module) -> nn.Module:
    """The start of the run as the KL reference."""
    return deepcopy(policy).eval().requires_grad_(False)
