"""What the training loop works with: built from a recipe, restored from a checkpoint."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from open_rs.console import say
from open_rs.errors import InputError
from open_rs.evaluate.records import problems_hash
from open_rs.models import (
    check_context,
    load_policy,
    mixed_precision,
    model_hash,
)
from open_rs.overlap import refuse_overlap
from open_rs.problems import Problem, load_problems, problem_lines
from open_rs.recipe import Recipe
from open_rs.rollout.build import open_sampler, training_prompts
from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.protocol import Prompt
from open_rs.runs import (
    Ledger,
    RunFolder,
    different_keys,
    environment,
    log_event,
    read_json,
    truncate_log,
    write_json,
)
from open_rs.train.checkpoint import (
    TrainState,
    checkpoint_steps,
    newest_valid,
    remove_leftovers,
    restore,
)
from open_rs.train.logprobs import check_lm_head
from open_rs.train.rewards import Reward, open_rewards
from open_rs.train.schedule import ProblemSampler


@dataclass
class Training:
    """A run in progress; the loop moves `policy`, `optimizer`, `stream` and `state`."""

    recipe: Recipe
    run: RunFolder
    policy: Any
    reference: nn.Module | None  # None: no KL, or the policy itself without its adapters
    optimizer: torch.optim.Optimizer
    tokenizer: Any
    sampler: GradedSampler
    stream: ProblemSampler
    prompts: dict[str, Prompt]  # by problem id
    validation: list[Problem]
    rewards: list[Reward]
    state: TrainState
    ledger: Ledger
    autocast: AbstractContextManager[Any]


@contextmanager
def open_training(recipe: Recipe, run: RunFolder) -> Iterator[Training]:
    """Everything loaded, checked and, where the run holds a checkpoint, restored."""
    torch.manual_seed(recipe.seed)  # initial LoRA weights; the loop seeds every step anew
    policy = load_policy(recipe.model)
    check_lm_head(policy)
    reference = frozen_copy(policy) if recipe.loss.kl_coef and recipe.model.lora is None else None
    if recipe.train.gradient_checkpointing:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
        policy.enable_input_require_grads()
    with (
        open_sampler(recipe, model=policy) as sampler,
        open_rewards(
            recipe.rewards,
            max_completion_tokens=recipe.rollout.max_completion_tokens,
            template_opens_think=sampler.prompter.opens_think,
        ) as rewards,
    ):
        prompts, too_long = training_prompts(recipe, run, sampler.prompter)
        say_dropped(recipe, run, len(too_long), len(prompts))
        longest = max(len(prompt.prompt_ids) for prompt in prompts)
        check_context(policy, longest, recipe.rollout.max_completion_tokens)
        held_out = load_held_out(recipe, [prompt.problem for prompt in prompts])
        check_held_out(policy, recipe, sampler, held_out)
        training = Training(
            recipe=recipe,
            run=run,
            policy=policy,
            reference=reference,
            optimizer=make_optimizer(policy, recipe),
            tokenizer=sampler.prompter.tokenizer,
            sampler=sampler,
            stream=ProblemSampler([prompt.problem for prompt in prompts], recipe.seed),
            prompts={prompt.problem.id: prompt for prompt in prompts},
            validation=held_out.get("validation", []),
            rewards=rewards,
            state=TrainState(),
            ledger=Ledger(run.ledger),
            autocast=mixed_precision(recipe.model),
        )
        start_or_resume(training)
        yield training


def frozen_copy(policy: nn.Module) -> nn.Module:
    """The start of the run as the KL reference."""
    return deepcopy(policy).eval().requires_grad_(False)


def make_optimizer(policy: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    train = recipe.train
    return torch.optim.AdamW(
        [parameter for parameter in policy.parameters() if parameter.requires_grad],
        lr=train.learning_rate,
        betas=(train.beta1, train.beta2),
        weight_decay=train.weight_decay,
    )


def say_dropped(recipe: Recipe, run: RunFolder, dropped: int, kept: int) -> None:
    """Prompts over the limit, on the console and among the events."""
    limit = recipe.prompt.max_prompt_tokens
    if dropped:
        say(f"{dropped} of {dropped + kept} problems dropped: prompt over {limit} tokens")
        log_event(run, "prompts_dropped", count=dropped, limit=limit)


def load_held_out(recipe: Recipe, train: list[Problem]) -> dict[str, list[Problem]]:
    """The recipe's validation and test sets, which must be apart from `train` and each other."""
    sets = {name: load_problems(source) for name, source in recipe.data.held_out.items()}
    refuse_overlap({"train": train, **sets})
    return sets


def check_held_out(
    policy: Any, recipe: Recipe, sampler: GradedSampler, held_out: dict[str, list[Problem]]
) -> None:
    """A score that cannot be taken is refused before training, not after it."""
    for problems in held_out.values():
        prompts, _ = sampler.prompter.encode_all(problems)
        longest = max((len(prompt.prompt_ids) for prompt in prompts), default=0)
        check_context(policy, longest, recipe.evaluation_cap, section="evaluate")


def start_or_resume(training: Training) -> None:
    """Put the newest intact checkpoint back, or note the start; take back what came after it."""
    run = training.run
    remove_leftovers(run)
    resumed = run.metrics.exists()
    if checkpoint_steps(run):
        refuse_changed_inputs(training)
        step, skipped = newest_valid(run)
        for sentence in skipped:
            say(sentence)
        training.state = restore(run.checkpoint(step), training.policy, training.optimizer)
        training.stream.position = training.state.sampler_position
        log_event(run, "resume", step, skipped=skipped)
        say(f"resuming after step {step}")
    elif resumed:
        refuse_changed_inputs(training)
        log_event(run, "resume", 0, skipped=[])
        say("resuming from the start: the run was stopped before its first checkpoint")
    else:
        log_event(run, "start", 0)
        write_environment(training)
    truncate_log(run.metrics, training.state.step)
    take_back(run, training.state.step)


def take_back(run: RunFolder, step: int) -> None:
    """Remove rollouts and validation scores of later steps, which will be made again."""
    for file in run.rollouts(0).parent.glob("*.jsonl.gz"):
        if int(file.name.partition(".")[0]) > step:
            file.unlink()
    for folder in run.evaluation("").glob("validation-*"):
        if int(folder.name.partition("-")[2]) > step:
            shutil.rmtree(folder)


def input_hashes(training: Training) -> dict[str, Any]:
    """Model and data of the run. The order of the training problems counts: the stream reads it."""
    problems = problem_lines(training.stream.problems).encode("utf-8")
    data = {"train": hashlib.sha256(problems).hexdigest()}
    if training.validation:
        data["validation"] = problems_hash(training.validation)
    return {"model_sha256": model_hash(training.recipe.model), "data_sha256": data}


def refuse_changed_inputs(training: Training) -> None:
    """A run goes on with the model and the data that it started with, or not at all."""
    held = read_json(training.run.environment) if training.run.environment.exists() else {}
    now = input_hashes(training)
    changed = sorted(different_keys({key: held.get(key) for key in now}, now)) if held else []
    if changed:
        raise InputError(
            f"{training.run.path}: {', '.join(changed)} differ from those that the run started "
            "with; put model and data back, or start under another name"
        )


def write_environment(training: Training) -> None:
    hashes = input_hashes(training)
    facts = environment(
        str(training.policy.device),
        data=hashes["data_sha256"],
        model_hash=hashes["model_sha256"],
    )
    write_json(training.run.environment, facts)
