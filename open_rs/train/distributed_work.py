"""What the ranks of a job do together: for the leader, who gives the orders, and for the others,
who carry them out (`Follower`).

A rank draws and grades a share of the completions, and learns from a share of the rows that has as
many tokens as the others'. The completions come together on the leader, which scores them and makes
groups, advantages and micro-batches of them, as a single process does.
"""

import math
from collections.abc import Callable, Container, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from open_rs.console import console
from open_rs.errors import GuardStop
from open_rs.interrupt import on_poll, patient
from open_rs.recipe import LossRecipe, NativeEngineSpec, Recipe
from open_rs.rollout.build import open_sampler
from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.groups import expected_tokens, wanted_samples
from open_rs.rollout.protocol import Prompt, Rollout, RolloutGroup, SamplingParams
from open_rs.train.batches import MicroBatch, Row, make_batches, teaches
from open_rs.train.distributed import Left, Ranks
from open_rs.train.distributed_layout import Replicated, Shapes, empty_moments
from open_rs.train.grpo import loss_denominators
from open_rs.train.learner import load_learner
from open_rs.train.optimizer import set_rate
from open_rs.train.rehearse import try_out
from open_rs.train.update import FITS, add_reference_logprobs
from open_rs.train.update import update as update_share

Key = tuple[str, int]  # problem id, sample
T = TypeVar("T")


# --- completions ---


@dataclass(frozen=True)
class Share:
    """The completions that one rank draws of a batch."""

    prompts: Sequence[Prompt]
    wanted: frozenset[Key]
    group_size: int
    params: SamplingParams
    seed: int
    step: int


class AllBut:
    """Every key that is not among these."""

    def __init__(self, keys: Container[object]) -> None:
        self.keys = keys

    def __contains__(self, key: object) -> bool:
        return key not in self.keys


def draw(
    sampler: GradedSampler, share: Share, on_graded: Callable[[Prompt, Rollout], None]
) -> None:
    """Draw and grade a share."""
    sampler.sample(
        share.prompts,
        group_size=share.group_size,
        params=share.params,
        seed=share.seed,
        step=share.step,
        on_graded=on_graded,
        skip=AllBut(share.wanted),
        keep=False,
    )


class SharedSampler(GradedSampler):
    """A `GradedSampler` of which every rank draws and grades a share."""

    def __init__(self, own: GradedSampler, layout: Replicated) -> None:
        super().__init__(own.engine, own.grader, own.prompter)
        self.own, self.layout, self.ranks = own, layout, layout.ranks

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        group_size: int,
        params: SamplingParams,
        seed: int,
        step: int = 0,
        on_graded: Callable[[Prompt, Rollout], None] | None = None,
        skip: Container[Key] = (),
        keep: bool = True,
    ) -> list[RolloutGroup]:
        groups = [RolloutGroup(one.problem, list(one.prompt_ids), []) for one in prompts]
        wanted = list(wanted_samples(prompts, group_size, skip))
        if not wanted:
            return groups
        tokens = expected_tokens(prompts)
        cut = equal_shares(wanted, [tokens[index] for index, _ in wanted], self.ranks.count)
        places = {prompt.problem.id: place for place, prompt in enumerate(prompts)}

        def settle(id: str, rollout: Rollout) -> None:
            if keep:
                groups[places[id]].rollouts.append(rollout)
            if on_graded is not None:
                on_graded(prompts[places[id]], rollout)

        def settle_own(prompt: Prompt, rollout: Rollout) -> None:
            settle(prompt.problem.id, rollout)
            for part in self.ranks.parts():
                settle(*part)

        shares = []
        for its in cut:
            keys = frozenset((prompts[index].problem.id, sample) for index, sample in its)
            ids = {id for id, _ in keys}
            own = [prompt for prompt in prompts if prompt.problem.id in ids]
            shares.append(Share(own, keys, group_size, params, seed, step))
        self.ranks.order_each("sample", [(share,) for share in shares])
        with self.layout.filled():
            draw(self.own, shares[0], settle_own)
        for part in self.ranks.all_parts():
            settle(*part)
        for group in groups:
            group.rollouts.sort(key=lambda rollout: rollout.sample)
        return groups


# --- learning ---


def share_batches(layout: Replicated, rows: Sequence[Row], **settings: Any) -> list[MicroBatch]:
    """This rank's micro-batches of a step's rows; the others are sent theirs.

    Denominators are those of all rows. Where layers are gathered for each micro-batch, every rank
    has as many of them: some of its own, and fillers that count for nothing.
    """
    ranks = layout.ranks
    if not ranks.several:
        return make_batches(rows, **settings)
    cap, kl_coef = settings["max_completion_tokens"], settings["kl_coef"]
    lengths = torch.tensor([len(row.completion_ids) for row in rows], dtype=torch.long)
    denominators = loss_denominators(
        lengths, loss_norm=settings["loss_norm"], max_completion_tokens=cap
    )
    teaching = [i for i, row in enumerate(rows) if teaches(row, kl_coef)]
    shares = []
    for places in equal_shares(teaching, [rows[i].length for i in teaching], ranks.count):
        batches = make_batches([rows[i] for i in places], **settings)
        for batch in batches:
            batch.rows = [places[i] for i in batch.rows]
            batch.denominators = denominators[batch.rows]
        shares.append(batches)
    most = max(map(len, shares)) if layout.is_sharded else 0
    shares = [[*own, *[filler() for _ in range(most - len(own))]] for own in shares]
    ranks.order_each("take", [(share,) for share in shares])
    ranks.wait()
    return shares[0]


def equal_shares(rows: Sequence[T], lengths: Sequence[float], count: int) -> list[list[T]]:
    """Neighbours cut into `count` parts of as many tokens as can be: each row goes to the part in
    which its middle lies, so that no part has more than half a row too much at either end. Of
    completions to draw the lengths are expected ones, and a prompt is prefilled on few ranks.
    """
    shares: list[list[T]] = [[] for _ in range(count)]
    total, before = max(sum(lengths), 1), 0.0
    for row, length in zip(rows, lengths, strict=True):
        shares[min(int(count * (2 * before + length) / (2 * total)), count - 1)].append(row)
        before += length
    return shares


def filler() -> MicroBatch:
    """A micro-batch of no row: two tokens, whose gradient is 0."""
    one = Row([0], [0], [0.0], 0.0)
    [batch] = make_batches(
        [one], micro_batch_tokens=2, loss_norm="token", max_completion_tokens=1, kl_coef=1.0
    )
    batch.rows = []
    batch.denominators = torch.tensor([torch.inf])
    batch.ref_logprobs = torch.zeros_like(batch.old_logprobs)
    return batch


def share_reference(
    layout: Replicated, reference: nn.Module | None, batches: list[MicroBatch], **settings: Any
) -> None:
    """The reference's log-probs of every rank's micro-batches."""
    layout.ranks.order("reference", settings["temperature"])
    add_reference_logprobs(layout.policy, reference, batches, **settings)
    layout.ranks.wait()


@dataclass(frozen=True)
class Step:
    """One optimizer update, as every rank takes it."""

    loss: LossRecipe
    rate: float
    temperature: float
    max_grad_norm: float
    first_of_batch: bool
    seed: int  # of dropout


def take_step(
    layout: Replicated,
    optimizer: torch.optim.Optimizer,
    batches: list[MicroBatch],
    step: Step,
    autocast: AbstractContextManager[Any],
    hold: Callable[[], None] | None = None,
) -> dict[str, float]:
    """This rank's part of an update. The metrics are those of all ranks."""
    set_rate(optimizer, step.rate)
    layout.policy.train()
    return update_share(
        layout.policy,
        optimizer,
        batches,
        step.loss,
        temperature=step.temperature,
        max_grad_norm=step.max_grad_norm,
        first_of_batch=step.first_of_batch,
        autocast=autocast,
        layout=layout,
        hold=hold,
    )


def update(
    layout: Replicated,
    optimizer: torch.optim.Optimizer,
    batches: list[MicroBatch],
    step: Step,
    autocast: AbstractContextManager[Any],
    hold: Callable[[], None] | None = None,
) -> dict[str, float]:
    """One update by all ranks, each with the micro-batches that it was given. From here to its end
    every rank waits for the others, so that no stop comes in between; and none can `hold` them.
    `GuardStop` where replicas of the weights are no longer the same.
    """
    ranks = layout.ranks
    if not ranks.several:
        return take_step(layout, optimizer, batches, step, autocast, hold)
    with patient():
        ranks.order("update", step)
        metrics = take_step(layout, optimizer, batches, step, autocast)
        own = layout.fingerprint()
        answers = ranks.wait()
    for rank, (its, _) in answers.items():
        if its != own:
            raise GuardStop(
                f"train: {ranks.names[rank]} has other weights than rank 0 after the update: they "
                "train apart; go on from the newest checkpoint by the same command with --resume "
                "RUN, and look at the memory and the kind of its device if it comes again"
            )
    fits = [tokens for _, tokens in answers.values() if tokens]
    if FITS in metrics or fits:
        metrics[FITS] = min([*fits, metrics.get(FITS, math.inf)])
    return metrics


# --- the other ranks ---


def follow(ranks: Ranks) -> None:
    """Carry out the leader's orders until it ends the job. What is told goes to the leader."""
    console.quiet = True
    with ranks.passing_signals_on(), ExitStack() as stack:
        on_poll(ranks.look)
        stack.callback(on_poll, None)
        follower = Follower(ranks, stack)
        while True:
            name, arguments = ranks.next_order()
            if name == "end":
                return
            try:
                answer = getattr(follower, name)(*arguments)
            except Left:
                continue
            except Exception as error:
                ranks.send_failure(error)
                raise SystemExit(1) from None
            ranks.send("done", answer)


class Follower:
    """A rank that is not the leader; a method for each order."""

    def __init__(self, ranks: Ranks, stack: ExitStack) -> None:
        self.ranks, self.stack = ranks, stack
        self.batches: list[MicroBatch] = []

    def open(self, recipe: Recipe) -> None:
        """Load what the leader loads."""
        self.recipe, self.learner = recipe, load_learner(recipe, self.ranks)
        self.layout, self.optimizer = self.learner.layout, self.learner.optimizer
        if isinstance(recipe.rollout.engine, NativeEngineSpec):  # others are asked by the leader
            self.sampler = self.stack.enter_context(open_sampler(recipe, model=self.layout.whole))

    def sample(self, share: Share) -> None:
        """Send every completion of a share as it is graded."""
        with self.layout.filled(), self.learner.autocast:
            draw(
                self.sampler,
                share,
                lambda prompt, rollout: self.ranks.send("part", (prompt.problem.id, rollout)),
            )

    def take(self, batches: list[MicroBatch]) -> None:
        """The micro-batches of the updates that follow."""
        self.batches = batches

    def reference(self, temperature: float) -> None:
        """The reference's log-probs of these micro-batches."""
        add_reference_logprobs(
            self.layout.policy,
            self.learner.reference,
            self.batches,
            temperature=temperature,
            autocast=self.learner.autocast,
        )

    def update(self, step: Step) -> tuple[str | None, float | None]:
        """One update: the fingerprint of the weights, by which ranks that train apart are found,
        and the tokens that memory was found to hold.
        """
        torch.manual_seed(step.seed + self.ranks.rank)
        autocast = self.learner.autocast
        metrics = take_step(self.layout, self.optimizer, self.batches, step, autocast)
        return self.layout.fingerprint(), metrics.get(FITS)

    def try_out(self, batch: MicroBatch) -> None:
        """The largest micro-batch, which all ranks try together where layers are gathered."""
        learner = self.learner
        try_out(self.layout, self.optimizer, batch, self.recipe, learner.autocast)

    def fill(self) -> None:
        """This rank's shards for the whole weights that the leader hands to an engine."""
        with self.layout.filled():
            pass

    def gather(self) -> None:
        """This rank's shards for a checkpoint that the leader writes."""
        with self.layout.filled():
            for _ in self.layout.moments(self.optimizer):
                pass  # the leader keeps them

    def spread(self, shapes: Shapes) -> None:
        """The leader's weights, and its moments of these shapes."""
        self.layout.set_moments(self.optimizer, self.layout.spread(empty_moments(shapes)))
