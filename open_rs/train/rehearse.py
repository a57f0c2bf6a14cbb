"""The largest micro-batch that a run can meet, tried before its first step: memory that does not
suffice shows now, and not hours later at the longest batch.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from open_rs.console import say
from open_rs.errors import InputError
from open_rs.models import ran_out_of_memory
from open_rs.recipe import Recipe
from open_rs.recipe.moving import largest_cap
from open_rs.runs import log_event
from open_rs.train.batches import MicroBatch, Row, make_batches
from open_rs.train.distributed_layout import Replicated
from open_rs.train.logprobs import unwrap
from open_rs.train.optimizer import moment_bytes
from open_rs.train.packed import can_pack
from open_rs.train.settings import uses_kl
from open_rs.train.update import OUT_OF_STEP, learn_from, release_memory

if TYPE_CHECKING:
    from open_rs.train.setup import Training


def rehearse(training: "Training") -> None:
    """Forward and backward over the longest prompt with completions at the cap, as many rows as
    `train.micro_batch_tokens` lets in, with the optimizer's moments beside them. No weight moves.

    Rows are halved until they fit, and the run keeps to that; one row that does not fit is refused.
    Costs about one micro-batch, and runs on CUDA only unless `train.rehearse` says otherwise.
    """
    wanted = training.recipe.train.rehearse
    if not (training.policy.device.type == "cuda" if wanted is None else wanted):
        return
    cap = largest_cap(training.recipe)
    if training.layout.is_sharded:  # a rank cannot try by itself
        batch = largest_batch(training, cap)
        training.ranks.order("try_out", batch)
        try_out_own(training, batch)
        training.ranks.wait()
        return
    while not fits(training, batch := largest_batch(training, cap)):
        rows = len(batch.rows)
        if rows == 1:
            raise InputError(refusal(training, batch.tokens, cap))
        log_event(training.run, "out_of_memory", 0, rows=rows, tokens=batch.tokens)
        training.state.micro_batch_tokens = batch.halves()[0].tokens
        say(f"{rows} rows, {batch.tokens} tokens, do not fit into memory: half of them are tried")


@contextmanager
def refusing_long_rows(training: "Training") -> Iterator[None]:
    """Inside, an update that has no memory for a single row is refused with the cap that fits."""
    try:
        yield
    except RuntimeError as error:
        if training.ranks.several or not ran_out_of_memory(error):
            raise
        release_memory(training.policy)
        cap = largest_cap(training.recipe)
        tokens = largest_batch(training, cap, rows=1).tokens
        raise InputError(refusal(training, tokens, cap)) from error


def refusal(training: "Training", tokens: int, cap: int) -> str:
    """The sentence for a row that does not fit: which cap would, found by trial."""
    low, high = 0, cap
    while high - low > max(1, cap // 32):
        middle = (low + high) // 2
        if fits(training, largest_batch(training, middle, rows=1)):
            low = middle
        else:
            high = middle
    cure = f"lower it to {low}" if low else "use a smaller model, or adapters (model.lora)"
    if not any(getattr(one, "gradient_checkpointing", 0) for one in training.policy.modules()):
        cure += ", or set train.gradient_checkpointing = true"
    return (
        f"rollout.max_completion_tokens = {cap}: a row of {tokens} tokens does not fit into the "
        f"memory of the device; {cure}"
    )


def largest_batch(training: "Training", cap: int, rows: int | None = None) -> MicroBatch:
    """Made up rows of the largest size, as many as the budget holds unless it is said."""
    recipe = training.recipe
    longest = max((prompt.prompt_ids for prompt in training.prompts.values()), key=len)
    row = Row(longest, [longest[-1]] * cap, [-1.0] * cap, 1.0)
    return make_batches(
        [row] * (rows or recipe.rollout.prompts_per_step * recipe.rollout.group_size),
        micro_batch_tokens=training.micro_batch_tokens,
        loss_norm=recipe.loss.loss_norm,
        max_completion_tokens=cap,
        kl_coef=recipe.loss.kl_coef,
        pad_id=longest[0],
        packed=can_pack(unwrap(training.policy)),
    )[0]


def fits(training: "Training", batch: MicroBatch) -> bool:
    """Whether memory suffices for a micro-batch."""
    try:
        try_out_own(training, batch)
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
        release_memory(training.policy)
        return False
    return True


def try_out_own(training: "Training", batch: MicroBatch) -> None:
    try_out(training.layout, training.optimizer, batch, training.recipe, training.autocast)


def try_out(
    layout: Replicated,
    optimizer: torch.optim.Optimizer,
    batch: MicroBatch,
    recipe: Recipe,
    autocast: AbstractContextManager[Any],
) -> None:
    """The memory of one micro-batch, at its peak."""
    policy = layout.policy
    if uses_kl(recipe):
        batch.ref_logprobs = torch.zeros_like(batch.old_logprobs)
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    moments = []
    if not optimizer.state:  # AdamW makes them at its first step
        moments = moment_bytes(trained, optimizer)
    policy.train()
    settings = (recipe.loss, recipe.rollout.temperature, True, autocast)
    try:
        layout.within(partial(learn_from, policy, batch, defaultdict(float), *settings))
    except RuntimeError as error:
        if not (layout.is_sharded and ran_out_of_memory(error)):
            raise
        raise InputError(OUT_OF_STEP) from error
    finally:
        moments.clear()
        optimizer.zero_grad(set_to_none=True)
