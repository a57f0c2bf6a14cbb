"""The largest micro-batch that a run can meet, tried before its first step: memory that does not
suffice shows now, and not hours later at the longest batch.
"""

from collections import defaultdict

import torch

from open_rs.console import say
from open_rs.errors import InputError
from open_rs.runs import log_event
from open_rs.train.batches import MicroBatch, Row, make_batches
from open_rs.train.settings import largest_cap, uses_kl
from open_rs.train.setup import Training
from open_rs.train.update import learn_from, release_memory


def rehearse(training: Training) -> None:
    """Forward and backward over the longest prompt with completions at the cap, as many rows as
    `train.micro_batch_tokens` lets in, with the optimizer's moments beside them. No weight moves.

    Rows are halved until they fit, and the run keeps to that; one row that does not fit is refused.
    Costs about one micro-batch, and runs on CUDA only unless `train.rehearse` says otherwise.
    """
    wanted = training.recipe.train.rehearse
    if not (training.policy.device.type == "cuda" if wanted is None else wanted):
        return
    while True:
        batch = largest_batch(training)
        try:
            try_out(training, batch)
            return
        except torch.OutOfMemoryError:
            pass
        release_memory(training.policy)
        rows, tokens = batch.input_ids.shape
        if rows == 1:
            raise InputError(
                f"rollout.max_completion_tokens: a row of {tokens} tokens does not fit into the "
                "memory of the device; lower it, or set train.gradient_checkpointing = true"
            )
        training.state.micro_batch_tokens = (rows + 1) // 2 * tokens
        say(f"{rows} rows of {tokens} tokens do not fit into memory: {(rows + 1) // 2} are tried")
        log_event(training.run, "out_of_memory", 0, rows=rows, tokens=tokens)


def largest_batch(training: Training) -> MicroBatch:
    """Made up rows of the largest size."""
    recipe = training.recipe
    longest = max((prompt.prompt_ids for prompt in training.prompts.values()), key=len)
    cap = largest_cap(recipe)
    row = Row(longest, [longest[-1]] * cap, [-1.0] * cap, 1.0)
    budget = training.micro_batch_tokens
    rows = min(
        max(1, budget // row.length), recipe.rollout.prompts_per_step * recipe.rollout.group_size
    )
    return make_batches(
        [row] * rows,
        micro_batch_tokens=max(budget, row.length),
        loss_norm=recipe.loss.loss_norm,
        max_completion_tokens=cap,
        kl_coef=recipe.loss.kl_coef,
        pad_id=longest[0],
    )[0]


def try_out(training: Training, batch: MicroBatch) -> None:
    """The memory of one micro-batch, at its peak."""
    policy, recipe = training.policy, training.recipe
    if uses_kl(recipe):
        batch.ref_logprobs = torch.zeros_like(batch.old_logprobs)
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    moments = []
    if not training.optimizer.state:  # AdamW makes them at its first step
        moments = [torch.empty_like(parameter) for parameter in [*trained, *trained]]
    policy.train()
    try:
        learn_from(
            policy,
            batch,
            defaultdict(float),
            recipe.loss,
            recipe.rollout.temperature,
            True,
            training.autocast,
        )
    finally:
        moments.clear()
        training.optimizer.zero_grad(set_to_none=True)
