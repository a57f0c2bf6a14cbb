"""What the training loop works with: built from a recipe, restored from a checkpoint."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from open_rs.budget import Budget, governed
from open_rs.console import say
from open_rs.errors import InputError
from open_rs.interrupt import at_once
from open_rs.models import check_context
from open_rs.overlap import refuse_overlap
from open_rs.plan.cost import device_name
from open_rs.problems import Problem, load_problems
from open_rs.recipe import NativeEngineSpec, Recipe, Source, VLLMEngineSpec
from open_rs.recipe.moving import largest_cap
from open_rs.rollout.build import open_sampler, training_prompts
from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.protocol import Prompt
from open_rs.runs import Ledger, RunFolder, log_event, read_log, training_source
from open_rs.train.checkpoint import TrainState, checkpoint_steps
from open_rs.train.decisions import Decision, held_decisions
from open_rs.train.distributed import ALONE, Ranks
from open_rs.train.distributed_layout import Replicated
from open_rs.train.distributed_work import SharedSampler
from open_rs.train.handover import Probe
from open_rs.train.journal import RolloutJournal
from open_rs.train.learner import load_learner
from open_rs.train.resume import origin_of, start_or_resume
from open_rs.train.rewards import Reward, open_rewards
from open_rs.train.saver import Saver
from open_rs.train.schedule import ProblemSampler
from open_rs.train.selection import History
from open_rs.train.sentinel import Sentinel
from open_rs.train.settings import uses_band


@dataclass
class Training:
    """A run in progress; the loop moves `policy`, `optimizer`, `stream`, `history`, `state`
    and `now`."""

    recipe: Recipe
    now: Recipe  # the recipe as it holds at the step in work
    run: RunFolder
    policy: Any
    reference: nn.Module | None  # None: no KL, or the policy itself without its adapters
    optimizer: torch.optim.Optimizer
    tokenizer: Any
    sampler: GradedSampler
    stream: ProblemSampler
    history: History
    prompts: dict[str, Prompt]  # by problem id
    validation: list[Problem]
    rewards: list[Reward]
    state: TrainState
    ledger: Ledger
    journal: RolloutJournal
    saver: Saver
    budget: Budget
    autocast: AbstractContextManager[Any]
    layout: Replicated  # of the policy over the ranks of the job, `layout.ranks`
    pass_rates: dict[str, float]  # by problem id; empty where the recipe asks for no band of them
    decisions: list[Decision]  # of the sentinel so far
    sentinel: Sentinel = field(default_factory=Sentinel)
    probes: list[Probe] = field(default_factory=list)  # of the weights that the engine had last
    origin: dict[str, Any] = field(default_factory=dict)  # `resume.origin_of`

    @property
    def ranks(self) -> Ranks:
        """Of the job; this one leads."""
        return self.layout.ranks

    @property
    def micro_batch_tokens(self) -> int:
        """The recipe's, or what memory was found to hold."""
        return self.state.micro_batch_tokens or self.recipe.train.micro_batch_tokens

    def note_place(self) -> None:
        """Stream and history go into the state, once their step is complete."""
        self.state.sampler_position = self.stream.position
        self.state.history = dict(self.history.counts)

    def find_place(self) -> None:
        """Stream and history as the state has them."""
        self.stream.position = self.state.sampler_position
        self.history.counts = {id: tuple(one) for id, one in self.state.history.items()}


@contextmanager
def open_training(
    recipe: Recipe, run: RunFolder, *, accept_changes: bool = False, ranks: Ranks = ALONE
) -> Iterator[Training]:
    """Everything loaded, checked and, where the run holds a checkpoint, restored."""
    with ExitStack() as stack:
        budget = stack.enter_context(governed(recipe, run, "train"))
        refuse_with_ranks(recipe, ranks)
        ranks.order("open", recipe)
        with at_once():
            learner = load_learner(recipe, ranks)
        policy, layout = learner.layout.policy, learner.layout
        sampler = stack.enter_context(open_sampler(recipe, model=layout.whole))
        ranks.wait()
        if ranks.several and isinstance(recipe.rollout.engine, NativeEngineSpec):
            sampler = SharedSampler(sampler, layout)
        rewards = stack.enter_context(
            open_rewards(
                recipe.rewards,
                max_completion_tokens=recipe.rollout.max_completion_tokens,
                template_opens_think=sampler.prompter.opens_think,
            )
        )
        refuse_screen_of_groups(recipe, rewards)
        with at_once():
            prompts, too_long = training_prompts(recipe, run, sampler.prompter)
            held_out = load_held_out(recipe, [prompt.problem for prompt in prompts])
        say_dropped(recipe, run, len(too_long), len(prompts))
        longest = max(len(prompt.prompt_ids) for prompt in prompts)
        check_context(policy, longest, largest_cap(recipe))
        check_held_out(policy, recipe, sampler, held_out)
        devices = ranks.count if policy.device.type == "cuda" else len(set(ranks.hosts))
        budget.on_device(device_name(policy.device), devices)
        journal = RolloutJournal(run)
        stack.callback(journal.close)
        tokenizer = sampler.prompter.tokenizer
        saver = stack.enter_context(Saver(run, recipe, tokenizer, checkpoint_bytes(policy)))
        budget.to_save = saver.stop_seconds
        newest = max(checkpoint_steps(run), default=0)
        budget.refuse_too_little(recipe, newest, len(held_out.get("validation", [])))
        training = Training(
            recipe=recipe,
            now=recipe,
            run=run,
            policy=policy,
            reference=learner.reference,
            optimizer=learner.optimizer,
            tokenizer=tokenizer,
            sampler=sampler,
            stream=ProblemSampler([prompt.problem for prompt in prompts], recipe.seed),
            history=History(recipe.data.half_life),
            prompts={prompt.problem.id: prompt for prompt in prompts},
            validation=held_out.get("validation", []),
            rewards=rewards,
            state=TrainState(),
            ledger=budget.ledger,
            journal=journal,
            saver=saver,
            budget=budget,
            autocast=learner.autocast,
            layout=layout,
            pass_rates=pass_rates(training_source(recipe, run)) if uses_band(recipe) else {},
            decisions=held_decisions(run),
        )
        training.origin = origin_of(training)
        start_or_resume(training, accept_changes=accept_changes)
        try:
            yield training
        finally:
            budget.step, budget.to_save = training.state.step, None


def pass_rates(source: Source) -> dict[str, float]:
    """How often a model solved each problem, by id, where curation measured it."""
    path = Path(source.path or "") / "pass_rates.jsonl"
    if source.path is None or not path.is_file():
        raise InputError(
            "data.min_pass_rate, data.max_pass_rate: the training set has no pass_rates.jsonl; "
            "curate it with a pass_rate filter, or leave them out"
        )
    rows = read_log(path)
    return {one["problem_id"]: one["correct"] / one["decided"] for one in rows if one["decided"]}


def refuse_with_ranks(recipe: Recipe, ranks: Ranks) -> None:
    """What several ranks cannot do together; how the work falls on them."""
    if not ranks.several:
        return
    if isinstance(recipe.rollout.engine, VLLMEngineSpec):
        raise InputError(
            'rollout.engine.type = "vllm": holds the device of one process; with several ranks set '
            '"native", or "vllm_server" for servers of their own'
        )
    if recipe.rollout.staleness:
        raise InputError(
            "rollout.staleness = 1: batches are drawn ahead for one training process, not several; "
            "set it to 0, or train with one rank"
        )
    completions = recipe.rollout.prompts_per_step * recipe.rollout.group_size
    if ranks.count > completions:
        say(
            f"{ranks.count} ranks and {completions} completions a step: "
            f"{ranks.count - completions} of them will have none to draw"
        )


def refuse_screen_of_groups(recipe: Recipe, rewards: list[Reward]) -> None:
    """A reward that looks at the group would say something else of its first completions."""
    for reward in rewards:
        if reward.sees_group and recipe.rollout.screen_size is not None:
            raise InputError(
                f"rollout.screen_size: the reward {reward.name!r} sees the whole group, which a "
                "screen judges before it is complete; leave one of them out"
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
    refuse_overlap({"data.train": train} | {f"data.{name}": held for name, held in sets.items()})
    return sets


def check_held_out(
    policy: Any, recipe: Recipe, sampler: GradedSampler, held_out: dict[str, list[Problem]]
) -> None:
    """A score that cannot be taken is refused before training, not after it."""
    for problems in held_out.values():
        prompts, _ = sampler.prompter.encode_all(problems)
        longest = max((len(prompt.prompt_ids) for prompt in prompts), default=0)
        check_context(policy, longest, recipe.evaluation_cap, section="evaluate")


def checkpoint_bytes(policy: nn.Module) -> int:
    """About what a checkpoint takes: the weights, and two moments of what is trained."""
    weights = sum(parameter.nbytes for parameter in policy.parameters())
    return weights + 2 * sum(p.nbytes for p in policy.parameters() if p.requires_grad)
