"""GRPO (arXiv 2402.03300) as a loop: sample groups, score them, compare within the group, update.

P prompts per batch, G rollouts per prompt. A step is one optimizer update; a rollout batch serves
`train.updates_per_batch` of them.
"""

import time
from contextlib import nullcontext

import torch

from open_rs.errors import GuardStop
from open_rs.evaluate.records import is_finished, total_tokens
from open_rs.evaluate.run import evaluate_model
from open_rs.models import model_hash
from open_rs.recipe import Recipe
from open_rs.rollout.build import evaluation_params, training_params
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.runs import RunFolder, append_jsonl, fsync_path, log_event, read_metrics
from open_rs.train.batches import MicroBatch, Row, make_batches
from open_rs.train.checkpoint import save_checkpoint
from open_rs.train.grpo import group_advantages
from open_rs.train.metrics import is_dead, rollout_metrics, score_metrics
from open_rs.train.records import write_rollouts
from open_rs.train.rewards import ScoreReport, score
from open_rs.train.schedule import learning_rate
from open_rs.train.setup import Training, open_training
from open_rs.train.update import policy_logprobs, update
from open_rs.train.view import TrainView


def train(recipe: Recipe, run: RunFolder) -> None:
    """Train from where `run` stands to the recipe's last step. GuardStop ends it resumable."""
    with open_training(recipe, run) as training, TrainView(recipe, run) as view:
        state, updates = training.state, recipe.train.updates_per_batch
        validate(training, view)
        while state.step < recipe.train.num_steps:
            started = time.perf_counter()
            step = state.step + 1
            torch.manual_seed(recipe.seed + step)  # for dropout, where a model has any
            groups, metrics = roll_out(training, step)
            write_rollouts(run, step, groups, training.sampler)
            batches = training_batches(training, groups)
            for number in range(updates):
                metrics |= learn(training, batches, first_of_batch=number == 0)
                metrics["time/step_s"] = time.perf_counter() - started
                append_jsonl(run.metrics, {"step": state.step, **metrics})
                view.step(state.step, metrics, groups)
                metrics, started = {}, time.perf_counter()
            if save_is_due(state.step, recipe):
                save(training)
            validate(training, view)
        log_event(run, "finish", state.step)


def save_is_due(step: int, recipe: Recipe) -> bool:
    """At every save, at the last step, and wherever the weights are scored."""
    return (
        step % recipe.train.save_every == 0
        or step == recipe.train.num_steps
        or score_is_due(step, recipe)
    )


def score_is_due(step: int, recipe: Recipe) -> bool:
    """At the start, every so many steps, and at the last one, where there is a validation set."""
    on_time = step % recipe.evaluate.every == 0 or step == recipe.train.num_steps
    return recipe.data.validation is not None and on_time


def roll_out(training: Training, step: int) -> tuple[list[RolloutGroup], dict[str, float]]:
    """P groups of G scored rollouts with their advantages, and what the metrics say of them.

    With dynamic sampling (DAPO) dead groups are replaced by groups of new prompts, a bounded number
    of times; they stay in the list, where their advantages are 0.
    """
    recipe, groups, reports = training.recipe, list[RolloutGroup](), list[ScoreReport]()
    wanted, started = recipe.rollout.prompts_per_step, time.perf_counter()
    with training.ledger.phase("rollout", step) as figures:
        for _ in range(1 + (recipe.loss.max_refills if recipe.loss.dynamic_sampling else 0)):
            missing = wanted - sum(not is_dead(group) for group in groups)
            seen = {group.problem.id for group in groups}
            problems = training.stream.take(missing, exclude=seen) if missing else []
            if not problems:
                break
            more, report = scored_groups(training, [problem.id for problem in problems], step)
            groups += more
            reports.append(report)
        completion = sum(len(r.completion_ids) for group in groups for r in group.rollouts)
        prompt = sum(len(group.prompt_ids) for group in groups)
        figures["tokens"] = completion
    metrics = rollout_metrics(groups) | score_metrics(reports)
    metrics |= {
        "tokens/completion": float(completion),
        "tokens/prompt": float(prompt),
        "time/rollout_s": time.perf_counter() - started,
    }
    return groups, metrics


def scored_groups(
    training: Training, ids: list[str], step: int
) -> tuple[list[RolloutGroup], ScoreReport]:
    """Sample, grade and score the prompts of these problems, and set every rollout's advantage."""
    recipe = training.recipe
    with training.autocast:
        groups = training.sampler.sample(
            [training.prompts[id] for id in ids],
            group_size=recipe.rollout.group_size,
            params=training_params(recipe),
            seed=recipe.seed,
            step=step,
        )
    report = score(groups, training.rewards, step)
    if report.undecided or report.first_error:
        log_event(
            training.run,
            "undecided",
            step,
            count=report.undecided,
            rows=report.undecided_rows,
            first_error=report.first_error,
        )
    nan = float("nan")
    rewards = torch.tensor(
        [[nan if r.reward is None else r.reward for r in group.rollouts] for group in groups],
        dtype=torch.float64,
    )  # [P, G]
    advantages = group_advantages(rewards, scale=recipe.loss.advantage_scale)  # [P, G]
    for group, row in zip(groups, advantages.tolist(), strict=True):
        for rollout, advantage in zip(group.rollouts, row, strict=True):
            rollout.advantage = 0.0 if is_masked(rollout, recipe) else advantage
    return groups, report


def is_masked(rollout: Rollout, recipe: Recipe) -> bool:
    """Whether a rollout counts in its group's mean but is left out of the loss."""
    return recipe.loss.mask_truncated and rollout.finish_reason == "length"


def training_batches(training: Training, groups: list[RolloutGroup]) -> list[MicroBatch]:
    """The rollouts to learn from as micro-batches, with reference log-probs where KL counts."""
    recipe = training.recipe
    if recipe.loss.dynamic_sampling:
        groups = [group for group in groups if not is_dead(group)]
    rows = [
        Row(group.prompt_ids, rollout.completion_ids, rollout.engine_logprobs, rollout.advantage)
        for group in groups
        for rollout in group.rollouts
        if rollout.reward is not None and not is_masked(rollout, recipe)
    ]
    batches = make_batches(
        rows,
        micro_batch_tokens=recipe.train.micro_batch_tokens,
        loss_norm=recipe.loss.loss_norm,
        max_completion_tokens=recipe.rollout.max_completion_tokens,
        kl_coef=recipe.loss.kl_coef,
        pad_id=training.tokenizer.pad_token_id or 0,
    )
    if recipe.loss.kl_coef:
        with training.ledger.phase("reference", training.state.step + 1):
            add_reference_logprobs(training, batches)
    return batches


@torch.no_grad()
def add_reference_logprobs(training: Training, batches: list[MicroBatch]) -> None:
    """Log-probs of the frozen start: a model of its own, or the policy without its adapters."""
    reference = training.reference or training.policy
    adapters_off = nullcontext() if training.reference else training.policy.disable_adapter()
    device, temperature = training.policy.device, training.recipe.rollout.temperature
    reference.eval()
    with adapters_off, training.autocast:
        for batch in batches:
            logprobs, _ = policy_logprobs(reference, batch.to(device), temperature)
            batch.ref_logprobs = logprobs.cpu()


def learn(
    training: Training, batches: list[MicroBatch], *, first_of_batch: bool
) -> dict[str, float]:
    """One optimizer update, counted; too many in a row without a finite gradient stop the run."""
    recipe, state = training.recipe, training.state
    state.step += 1
    state.sampler_position = training.stream.position
    rate = learning_rate(state.step, recipe.train)
    for group in training.optimizer.param_groups:
        group["lr"] = rate
    started = time.perf_counter()
    training.policy.train()
    with training.ledger.phase("update", state.step):
        metrics = update(
            training.policy,
            training.optimizer,
            batches,
            recipe.loss,
            temperature=recipe.rollout.temperature,
            max_grad_norm=recipe.train.max_grad_norm,
            first_of_batch=first_of_batch,
            autocast=training.autocast,
        )
    state.nonfinite_in_a_row = state.nonfinite_in_a_row + 1 if metrics["optim/skipped"] else 0
    if metrics["optim/skipped"]:
        log_event(training.run, "skipped_step", state.step, in_a_row=state.nonfinite_in_a_row)
    if state.nonfinite_in_a_row >= recipe.train.max_nonfinite_steps:
        log_event(training.run, "stop", state.step, reason="nonfinite")
        raise GuardStop(
            f"train: {state.nonfinite_in_a_row} steps in a row up to step {state.step} had a loss "
            "or gradient that is not finite; lower train.learning_rate and start under another "
            "name, or look at the last rollouts"
        )
    return metrics | {"optim/learning_rate": rate, "time/update_s": time.perf_counter() - started}


def save(training: Training) -> None:
    fsync_path(training.run.metrics)  # a checkpoint never outlives the metrics of its own step
    with training.ledger.phase("save", training.state.step):
        save_checkpoint(
            training.run,
            training.policy,
            training.tokenizer,
            training.optimizer,
            training.state,
        )
    log_event(training.run, "save", training.state.step)


def validate(training: Training, view: TrainView) -> None:
    """Score the validation set where it is due and not yet done; step 0 is the start."""
    recipe, run, step = training.recipe, training.run, training.state.step
    if not score_is_due(step, recipe):
        return
    if any("validation/pass@1" in row for row in read_metrics(run) if row["step"] == step):
        return
    weights = str(run.checkpoint(step)) if step else recipe.model.path
    name = f"validation-{step:06d}"
    held = is_finished(run.evaluation(name))
    with training.ledger.phase("evaluate", step) as figures, training.autocast:
        summary = evaluate_model(
            training.sampler,
            training.validation,
            params=evaluation_params(recipe),
            num_samples=recipe.evaluate.validation_samples,
            seed=recipe.evaluate.seed,
            out=run.evaluation(name),
            name=name,
            model=weights,
            step=step,
            confidence=recipe.evaluate.confidence,
            model_sha256=model_hash(recipe.model.at(weights)),
        )
        figures["tokens"] = 0 if held else total_tokens(summary)
    found = summary["scores"]["pass@1"]
    row = {
        "validation/pass@1": found["value"],
        "validation/pass@1_low": found["low"],
        "validation/pass@1_high": found["high"],
    }
    append_jsonl(run.metrics, {"step": step, **row})
    view.score(step, row)
