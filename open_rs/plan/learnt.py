"""The learning part of a probe: what an update costs here, by the trainer's own `update`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from open_rs.models import context_length, mixed_precision
from open_rs.plan.kept import KeptActivations
from open_rs.plan.pace import cpu_prior, fit, update_work
from open_rs.plan.resident import PeakMemory
from open_rs.plan.schedule import Floats, Pass, counted
from open_rs.plan.shapes import ModelShape
from open_rs.recipe import Recipe
from open_rs.rollout.protocol import RolloutGroup
from open_rs.train.batches import MicroBatch, Row, Span, make_batches
from open_rs.train.logprobs import unwrap
from open_rs.train.optimizer import make_optimizer
from open_rs.train.packed import can_pack
from open_rs.train.settings import uses_kl
from open_rs.train.update import add_reference_logprobs, update

FIRST_TOKENS = 512  # of the first pass, which tells how many can be afforded
LONG = 3  # times as long are the rows of the pass that tells what attention costs


@dataclass(frozen=True)
class Learnt:
    """`pass_`: the micro-batch at whose update `peak` bytes were held."""

    pace: tuple[float, ...]
    optimizer_s: float
    reference: float  # of a pass, what one of a frozen reference takes
    tokens_per_s: float  # of whole rows
    packed: bool  # prompts go through once, and no padding
    kept: float  # bytes of activations per token
    pass_: Pass
    peak: int


class Learner:
    """A throw-away optimizer on the loaded model, and the timings of its updates."""

    def __init__(self, recipe: Recipe, model: Any) -> None:
        self.recipe, self.model = recipe, model
        if recipe.train.recomputes:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        self.optimizer = make_optimizer(model, recipe)
        self.packed = can_pack(unwrap(model))

    def batch(self, rows: list[Row]) -> MicroBatch:
        """The rows as one micro-batch."""
        [made] = make_batches(
            rows,
            micro_batch_tokens=len(rows) * max(row.length for row in rows),
            loss_norm=self.recipe.loss.loss_norm,
            max_completion_tokens=self.recipe.rollout.max_completion_tokens,
            packed=self.packed,
        )
        if uses_kl(self.recipe):
            made.ref_logprobs = torch.zeros_like(made.old_logprobs)
        return made

    def seconds(self, batches: list[MicroBatch]) -> float:
        """One update with these micro-batches."""
        recipe = self.recipe
        self.model.train()
        started = time.perf_counter()
        update(
            self.model,
            self.optimizer,
            batches,
            recipe.loss,
            temperature=recipe.rollout.temperature,
            max_grad_norm=recipe.train.max_grad_norm,
            first_of_batch=True,
            autocast=mixed_precision(recipe.model),
        )
        return time.perf_counter() - started

    def reference_seconds(self, batches: list[MicroBatch]) -> float:
        """The log-probs of a frozen start: the model stands for its own."""
        own = None if self.recipe.model.lora else self.model
        started = time.perf_counter()
        add_reference_logprobs(
            self.model,
            own,
            batches,
            temperature=self.recipe.rollout.temperature,
            autocast=mixed_precision(self.recipe.model),
        )
        return time.perf_counter() - started


def learn(
    recipe: Recipe, model: Any, shape: ModelShape, groups: Sequence[RolloutGroup], seconds: float
) -> Learnt:
    """Updates without rows, with few, with as many of those of a step as `seconds` allow, and with
    long ones.
    """
    learner = Learner(recipe, model)
    learner.seconds([])  # AdamW makes its moments
    optimizer_s = learner.seconds([])
    work: list[Floats] = []
    spent: list[float] = []

    def timed(rows: list[Row]) -> tuple[MicroBatch, Pass, float]:
        """After one that is not counted: it pays for memory that later ones find."""
        batch = learner.batch(rows)
        learner.seconds([batch])
        counts = pass_of(batch)
        took = max(learner.seconds([batch]) - optimizer_s, 1e-6)
        work.append(update_work(counts, shape))
        spent.append(took)
        return batch, counts, took

    few = rows_of(groups, FIRST_TOKENS)
    with KeptActivations(model) as kept:
        learner.seconds([learner.batch(few)])
    batch, _, took = timed(few)
    afforded = batch.tokens * max(seconds / (2 * took), 1.0)  # each is made twice
    budget = min(round(afforded), recipe.train.micro_batch_tokens)
    with PeakMemory(model.device) as peak:
        many, largest, took = timed(rows_of(groups, budget))
    if long := long_rows(recipe, model, groups, budget // 2):
        timed(long)
    reference = learner.reference_seconds([many]) / took if uses_kl(recipe) else 1 / 3
    operations = sum(row[1] for row in work) / sum(spent)
    return Learnt(
        pace=fit(np.array(work), np.array(spent), cpu_prior(shape, operations)[1]),
        optimizer_s=optimizer_s,
        reference=reference,
        tokens_per_s=int(many.attention_mask.sum()) / (took + optimizer_s),
        packed=many.packed,
        kept=kept.bytes / max(kept.tokens, 1),
        pass_=largest,
        peak=peak.bytes,
    )


def pass_of(batch: MicroBatch) -> Pass:
    """The counts of a micro-batch that is made."""
    completions, rows = batch.completion_mask.sum(1).tolist(), batch.input_ids.tolist()
    starts = batch.completion_mask.int().argmax(1).tolist()
    spans = [
        Span(tuple(ids[:start]), start - 1, count)
        for ids, start, count in zip(rows, starts, completions, strict=True)
    ]
    return counted(spans, packed=batch.packed)


def rows_of(groups: Sequence[RolloutGroup], tokens: int) -> list[Row]:
    """Rollouts in their order, as many as hold about so many tokens and at least one, each with
    something to learn.
    """
    rows: list[Row] = []
    held = 0
    for group in groups:
        held += len(group.prompt_ids)
        for rollout in group.rollouts:
            held += rollout.num_tokens
            if rows and held > tokens:
                return rows
            if rollout.completion_ids:
                rows.append(row_of(group.prompt_ids, rollout.completion_ids, len(rows)))
    return rows


def row_of(prompt: list[int], completion: list[int], place: int) -> Row:
    return Row(prompt, completion, [-1.0] * len(completion), 1.0 if place % 2 else -1.0)


def long_rows(recipe: Recipe, model: Any, groups: Sequence[RolloutGroup], tokens: int) -> list[Row]:
    """Rows of completions put behind each other; none where the cap or `tokens` has no room."""
    rollouts = [one for group in groups for one in group.rollouts]
    mean = sum(one.num_tokens for one in rollouts) // len(rollouts)
    prompt = groups[0].prompt_ids
    limit = min(context_length(model) or tokens, tokens)
    length = min(LONG * mean, recipe.rollout.max_completion_tokens, limit - len(prompt))
    if length < 1.5 * mean:
        return []
    ids = [id_ for one in rollouts for id_ in one.completion_ids]
    ids = (ids * (length // max(len(ids), 1) + 1))[:length]
    count = max((tokens - len(prompt)) // length, 1)
    return [row_of(prompt, ids, place) for place in range(count)]
