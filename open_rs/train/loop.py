"""GRPO (arXiv 2402.03300) as a loop: sample groups, score them, compare within the group, update.

P prompts per batch, G rollouts per prompt. A step is one optimizer update; a rollout batch serves
`train.updates_per_batch` of them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch

from open_rs.console import say
from open_rs.errors import InputError, NonFiniteStop
from open_rs.evaluate.records import is_finished, total_tokens
from open_rs.evaluate.run import evaluate_model, validation_metrics, validation_settings
from open_rs.interrupt import poll
from open_rs.live import LiveView
from open_rs.recipe import Recipe
from open_rs.rollout.build import training_params
from open_rs.rollout.protocol import Prompt, Rollout, RolloutGroup
from open_rs.runs import RunFolder, append_jsonl, fsync_path, log_event, read_metrics
from open_rs.train.advantages import is_masked, set_advantages
from open_rs.train.ahead import Ahead, Batch, drawing_ahead, take_over
from open_rs.train.batches import MicroBatch, Row
from open_rs.train.checkpoint import take_snapshot
from open_rs.train.decisions import ending, told_end
from open_rs.train.distributed import ALONE, Ranks, blaming
from open_rs.train.distributed_work import Step, share_batches, share_reference, update
from open_rs.train.guard import (
    RolledBack,
    act,
    decisions_at_start,
    follow,
    pull_triggers,
    settings_of,
    watch_again,
)
from open_rs.train.handover import hand_over
from open_rs.train.journal import put_back, rollouts_by_key
from open_rs.train.leaving import leaving_well
from open_rs.train.logprobs import unwrap
from open_rs.train.metrics import is_dead, mean_staleness, rollout_metrics, score_metrics
from open_rs.train.packed import can_pack
from open_rs.train.records import write_rollouts
from open_rs.train.rehearse import refusing_long_rows, rehearse
from open_rs.train.rescore import remove_other_score
from open_rs.train.rewards import ScoreReport, score, unscored
from open_rs.train.schedule import learning_rate, save_is_due, score_is_due
from open_rs.train.selection import next_ids, rewards_differ
from open_rs.train.sentinel import Alarm
from open_rs.train.settings import outside_band, scheduled_weights
from open_rs.train.setup import Training, open_training
from open_rs.train.trackers import open_trackers
from open_rs.train.update import FITS

Onlooker = Callable[[Mapping[str, Any]], None]  # is told every row of metrics


def train(
    recipe: Recipe, run: RunFolder, *, accept_changes: bool = False, ranks: Ranks = ALONE
) -> None:
    """Train from where `run` stands to the recipe's last step.

    A signal (Interrupted), a cap of the budget or a guard (GuardStop) ends it resumable.
    What the sentinel has ended stays so, until the recipe asks for something else.
    `accept_changes`: go on although model, data or libraries are not those of the start. `ranks`:
    the processes that share the work, of which this one leads.
    """
    decisions = decisions_at_start(run, accept_changes=accept_changes)
    if end := ending(run, recipe, decisions):
        say(told_end(run, recipe, end))
        return
    with (
        blaming(ranks),
        open_training(recipe, run, accept_changes=accept_changes, ranks=ranks) as training,
        open_trackers(recipe, run) as trackers,
        LiveView(run) as view,
        leaving_well(training, save),
    ):
        rehearse(training)
        while True:
            with suppress(RolledBack):  # then the steps go on from an earlier one
                act(training, watch_again(training))
                steps(training, [view.row, trackers.log])
                break
        training.saver.wait()
        log_event(run, "finish", training.state.step)


def steps(training: Training, onlookers: Sequence[Onlooker]) -> None:
    """Every step that is left: roll out, learn, note, save, score."""
    recipe, run, state = training.recipe, training.run, training.state
    training.budget.watch()
    hand_over(training)
    validate(training, onlookers)
    ahead, updates = None, recipe.train.updates_per_batch
    while state.step < recipe.train.num_steps:
        training.budget.watch()
        poll()
        started = time.perf_counter()
        step = state.step + 1
        torch.manual_seed(recipe.seed + step)  # for dropout, where a model has any
        if ahead is None:
            training.now = settings_of(training, step)
            groups, metrics = draw(training, step)
        else:
            groups, metrics = take_over(training, ahead)
        with drawing_ahead(training, draw) as ahead:
            batches, alarms = training_batches(training, groups), list[Alarm]()
            for number in range(updates):
                last = ahead if number == updates - 1 else None
                metrics |= learn(training, batches, first_of_batch=number == 0, ahead=last)
                metrics |= training.budget.metrics()
                metrics["time/step_s"] = time.perf_counter() - started
                row = {"step": state.step, **metrics}
                note(run, row, onlookers)
                alarms += follow(training, row, groups)
                metrics, started = {}, time.perf_counter()
        pull_triggers(training, state.step)
        act(training, alarms)
        training.saver.look()
        if save_is_due(state.step, recipe):
            save(training)
        hand_over(training)
        validate(training, onlookers)


def draw(training: Training, step: int) -> Batch:
    """The batch of a step, whole in rollouts/."""
    groups, metrics = roll_out(training, step)
    write_rollouts(training.run, step, groups, training.sampler)
    training.journal.finish(step)
    return groups, metrics


def roll_out(training: Training, step: int) -> tuple[list[RolloutGroup], dict[str, float]]:
    """P groups of G scored rollouts with their advantages, and what the metrics say of them.

    With dynamic sampling (DAPO) dead groups are replaced by groups of new prompts, a bounded number
    of times; they stay in the list, where their advantages are 0.
    """
    recipe, groups, reports = training.now, list[RolloutGroup](), list[ScoreReport]()
    wanted, started = recipe.rollout.prompts_per_step, time.perf_counter()
    batches = 1 + (recipe.loss.max_refills if recipe.loss.dynamic_sampling else 0)
    left_out = outside_band(recipe, training.pass_rates)
    with training.ledger.phase("rollout", step) as figures:
        for _ in range(batches):
            missing = wanted - sum(not is_dead(group) for group in groups)
            seen = left_out | {group.problem.id for group in groups}
            ids = next_ids(
                recipe,
                training.stream,
                training.history,
                step=step,
                missing=missing,
                most=batches * wanted - len(groups),
                exclude=seen,
            )
            if not ids:
                break
            more, its_reports, drawn = scored_groups(training, ids, step)
            groups += more
            reports += its_reports
            figures["tokens"] = figures.get("tokens", 0) + drawn
        completion = sum(len(r.completion_ids) for group in groups for r in group.rollouts)
        prompt = sum(len(group.prompt_ids) for group in groups)
    if not groups:
        raise InputError(
            f"data.min_pass_rate, data.max_pass_rate: no training problem is within them at step "
            f"{step}; widen them"
        )
    training.history.note(step, groups)
    metrics = rollout_metrics(groups) | score_metrics(reports)
    metrics |= {
        "tokens/completion": float(completion),
        "tokens/prompt": float(prompt),
        "time/rollout_s": time.perf_counter() - started,
    }
    if training.recipe.rollout.staleness:
        metrics["policy/staleness"] = mean_staleness(groups, step)
    return groups, metrics


def scored_groups(
    training: Training, ids: list[str], step: int
) -> tuple[list[RolloutGroup], list[ScoreReport], int]:
    """Sample, grade and score the prompts of these problems, and set every rollout's advantage.

    With a screen, a group is drawn to its end only where the rewards of its first completions
    differ. The last value returned counts the tokens that were drawn.
    """
    size, screen = training.now.rollout.group_size, training.now.rollout.screen_size
    groups, report, drawn = drawn_groups(training, ids, step, screen or size, [])
    reports, passed = [report], [group for group in groups if rewards_differ(group)]
    if screen and passed:
        ids = [group.problem.id for group in passed]
        completed, report, more = drawn_groups(training, ids, step, size, passed)
        by_id = {group.problem.id: group for group in completed}
        groups = [by_id.get(group.problem.id, group) for group in groups]
        reports, drawn = [*reports, report], drawn + more
    set_advantages(groups, training.now)
    return groups, reports, drawn


def drawn_groups(
    training: Training, ids: list[str], step: int, size: int, begun: list[RolloutGroup]
) -> tuple[list[RolloutGroup], ScoreReport, int]:
    """`size` scored rollouts for each problem; `begun` holds those of them that are there.

    Rollouts that are held from before a stop are neither drawn nor graded again, and those of a
    finished step not even scored.
    """
    recipe, prompts = training.now, [training.prompts[id] for id in ids]
    drawn_by = training.state.step if recipe.rollout.staleness else None

    def keep(prompt: Prompt, rollout: Rollout) -> None:
        rollout.weights_step = drawn_by
        training.journal.add(step, prompt, rollout)

    held = training.journal.held(step, prompts) | rollouts_by_key(begun)
    with training.autocast:
        groups = training.sampler.sample(
            training.history.expecting(prompts),
            group_size=size,
            params=training_params(recipe),
            seed=recipe.seed,
            step=step,
            skip=held.keys(),
            on_graded=keep,
        )
    drawn = sum(rollout.num_tokens for group in groups for rollout in group.rollouts)
    put_back(groups, held, size)
    report = score(
        unscored(groups, whole=not begun),
        training.rewards,
        scheduled=scheduled_weights(training.recipe, recipe),
        max_completion_tokens=recipe.rollout.max_completion_tokens,
    )
    if report.undecided or report.first_error:
        log_event(training.run, "undecided", step, **report.details())
    return groups, report, drawn


def training_batches(training: Training, groups: list[RolloutGroup]) -> list[MicroBatch]:
    """The rollouts to learn from as micro-batches, with reference log-probs where KL counts."""
    recipe = training.now
    if recipe.loss.dynamic_sampling:
        groups = [group for group in groups if not is_dead(group)]
    rows = [
        Row(group.prompt_ids, rollout.completion_ids, rollout.engine_logprobs, rollout.advantage)
        for group in groups
        for rollout in group.rollouts
        if rollout.reward is not None and not is_masked(rollout, recipe)
    ]
    batches = share_batches(
        training.layout,
        rows,
        micro_batch_tokens=training.micro_batch_tokens,
        loss_norm=recipe.loss.loss_norm,
        max_completion_tokens=recipe.rollout.max_completion_tokens,
        kl_coef=recipe.loss.kl_coef,
        pad_id=training.tokenizer.pad_token_id or 0,
        packed=can_pack(unwrap(training.policy)),
    )
    if recipe.loss.kl_coef:
        with training.ledger.phase("reference", training.state.step + 1):
            share_reference(
                training.layout,
                training.reference,
                batches,
                temperature=recipe.rollout.temperature,
                autocast=training.autocast,
            )
    return batches


def learn(
    training: Training,
    batches: list[MicroBatch],
    *,
    first_of_batch: bool,
    ahead: Ahead | None = None,
) -> dict[str, float]:
    """One optimizer update, counted; too many in a row without a finite gradient stop the run.

    Weights wait until the batch that is drawn `ahead` is whole.
    """
    recipe, state = training.now, training.state
    step = state.step + 1
    rate = learning_rate(step, recipe.train)
    with training.ledger.phase("update", step) as spent, refusing_long_rows(training):
        metrics = update(
            training.layout,
            training.optimizer,
            batches,
            Step(
                recipe.corrected_loss,
                rate,
                temperature=recipe.rollout.temperature,
                max_grad_norm=recipe.train.max_grad_norm,
                first_of_batch=first_of_batch,
                seed=recipe.seed + step,
            ),
            training.autocast,
            ahead.wait if ahead else None,
        )
    state.step = step
    training.note_place()
    if tokens := metrics.pop(FITS, None):
        state.micro_batch_tokens = int(tokens)
        log_event(training.run, "out_of_memory", step, tokens=state.micro_batch_tokens)
    state.nonfinite_in_a_row = state.nonfinite_in_a_row + 1 if metrics["optim/skipped"] else 0
    if inexact := metrics.get("policy/inexact_tokens"):
        log_event(training.run, "inexact", step, tokens=int(inexact))
        say(f"step {step}: the trainer's log-probs of {inexact:.0f} tokens are not the engine's")
    if metrics["optim/skipped"]:
        log_event(training.run, "skipped_step", state.step, in_a_row=state.nonfinite_in_a_row)
    if state.nonfinite_in_a_row >= recipe.train.max_nonfinite_steps:
        raise NonFiniteStop(
            f"train: {state.nonfinite_in_a_row} steps in a row up to step {state.step} had a loss "
            "or gradient that is not finite; lower train.learning_rate and start under another "
            "name, or look at the last rollouts"
        )
    metrics |= {"optim/learning_rate": rate, "time/update_s": spent["seconds"]}
    return metrics | (ahead.metrics if ahead else {})


def save(training: Training) -> None:
    """Begin a checkpoint of the step that is complete; `training.saver` writes it."""
    run = training.run
    fsync_path(run.metrics)  # a checkpoint never outlives the metrics of its own step
    with training.ledger.phase("save", training.state.step):
        training.saver.start(
            lambda: take_snapshot(
                training.policy,
                training.optimizer,
                training.state,
                origin=training.origin,
                metrics=run.metrics.read_bytes(),
                layout=training.layout,
            )
        )


def note(run: RunFolder, row: Mapping[str, Any], onlookers: Sequence[Onlooker]) -> None:
    """A row of metrics: into the log, then to whoever follows it."""
    append_jsonl(run.metrics, dict(row))
    for tell in onlookers:
        tell(row)


def validate(training: Training, onlookers: Sequence[Onlooker]) -> None:
    """Score the validation set where it is due and not yet done; step 0 is the start."""
    recipe, run, step = training.recipe, training.run, training.state.step
    if not score_is_due(step, recipe):
        return
    if any("validation/pass@1" in row for row in read_metrics(run) if row["step"] == step):
        return
    training.saver.wait()  # the score is that of the checkpoint's weights
    settings = validation_settings(recipe, run, step)
    remove_other_score(settings)
    held = is_finished(settings["out"])
    with training.ledger.phase("evaluate", step) as figures, training.autocast:
        summary = evaluate_model(training.sampler, training.validation, **settings)
        figures["tokens"] = 0 if held else total_tokens(summary)
    row = {"step": step, **validation_metrics(summary)}
    note(run, row, onlookers)
    act(training, follow(training, row, []))
