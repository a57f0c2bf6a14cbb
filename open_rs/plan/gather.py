"""What a plan is made from: problems and prompts, the model, a probe of this machine."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from open_rs.plan.cluster import Cluster
from open_rs.plan.cost import device_name
from open_rs.plan.devices import Device
from open_rs.plan.lengths import Lengths, answers_of, assumed, recorded
from open_rs.plan.run_checks import expected_dead
from open_rs.plan.shapes import ModelShape
from open_rs.plan.subject import Subject, look, shape_elsewhere, shape_loaded
from open_rs.recipe import NativeEngineSpec, PassRateFilter, Recipe
from open_rs.runs import RunFolder

if TYPE_CHECKING:  # torch
    from open_rs.plan.probe import Probe


FEW = 256  # completions of a probe where curation recorded lengths


@dataclass(frozen=True)
class Wish:
    """What is asked of a plan beside the recipe. `device`: plan for that one, which may not be
    here; `mean_tokens`: of completions, where it is known better; `imported`: an importer's notes.
    Of several `gpus`: `cluster.Cluster` says what the rest means.
    """

    device: Device | None = None
    gpus: int = 1
    rollout_gpus: int = 0
    split: int = 1
    overlapped: bool = False
    mean_tokens: float | None = None
    probe_seconds: float | None = None
    download: bool = False
    imported: Sequence[tuple[str, str, str]] = ()


@dataclass
class Known:
    """All that the forecast is made from."""

    subject: Subject
    shape: ModelShape | None = None
    probe: "Probe | None" = None
    recorded: Lengths | None = None
    prompt_tokens: dict[str, int] = field(default_factory=dict)  # by problem id
    too_long: int = 0
    longest: int | None = None
    opens_think: bool | None = None
    device: str = ""
    device_memory: int | None = None
    cuda: bool = True


def gather(recipe: Recipe, run: RunFolder, wish: Wish) -> Known:
    """Look, and where model and problems are here, encode the prompts and probe."""
    subject = look(recipe, run, download=wish.download)
    known = Known(subject)
    if wish.device is not None:
        known.device, known.device_memory = wish.device.name, int(wish.device.memory)
    if subject.model_here and isinstance(recipe.rollout.engine, NativeEngineSpec):
        encode_and_probe(recipe, run, known, wish)
    elif wish.device is None:
        name_this_device(recipe, known)
    if known.shape is None and subject.shape is not None:
        known.shape = shape_elsewhere(subject.shape, recipe.model, cuda=known.cuda)
    if known.opens_think is None and subject.shape is not None:
        known.opens_think = subject.shape.opens_think
    return known


def name_this_device(recipe: Recipe, known: Known) -> None:
    from open_rs.models import pick_device
    from open_rs.plan.resident import memory_of

    device = pick_device(recipe.model)
    known.device, known.cuda = device_name(device), device.type == "cuda"
    known.device_memory = memory_of(device)


def encode_and_probe(recipe: Recipe, run: RunFolder, known: Known, wish: Wish) -> None:
    """Load the model, unless it is too large to be tried here, and run the probe."""
    from open_rs.models import load_policy
    from open_rs.rollout.build import open_prompter, open_sampler

    if wish.device is None:
        name_this_device(recipe, known)
    prompter = open_prompter(recipe)
    known.opens_think = prompter.opens_think
    prompts, too_long = prompter.encode_all(known.subject.problems)
    known.prompt_tokens = {one.problem.id: len(one.prompt_ids) for one in prompts}
    known.too_long, known.longest = len(too_long), max(known.prompt_tokens.values(), default=None)
    known.recorded = recorded_lengths(recipe, run, known, prompter.fingerprint)
    shape = known.subject.shape
    if not prompts or (shape is not None and not can_be_tried(recipe, known, shape)):
        return
    from open_rs.plan.probe import ENOUGH, SECONDS, run_probe
    from open_rs.train.schedule import ProblemSampler

    stream = ProblemSampler([one.problem for one in prompts], recipe.seed)
    by_id = {one.problem.id: one for one in prompts}
    in_order = [by_id[one.id] for one in stream.take(len(prompts))]  # as training will come to them
    policy = load_policy(recipe.model)
    loaded = shape_loaded(policy, recipe.model)
    recipe = decide(recipe, loaded, known, wish)
    with ExitStack() as stack:
        sampler = stack.enter_context(open_sampler(recipe, model=policy))
        known.probe = run_probe(
            recipe,
            sampler,
            policy,
            loaded,
            in_order,
            seconds=wish.probe_seconds or SECONDS,
            completions=FEW if known.recorded else ENOUGH,
        )
    known.shape = loaded if wish.device is None else None


def decide(recipe: Recipe, shape: ModelShape | None, known: Known, wish: Wish) -> Recipe:
    """The recipe as training will take it: what it leaves to the memory of the device decided."""
    if shape is None or known.device_memory is None:
        return recipe
    from open_rs.plan.activations import decided

    cluster = Cluster(devices=wish.gpus, engines_apart=wish.rollout_gpus)
    return decided(recipe, shape, known.device_memory, cuda=known.cuda, cluster=cluster)


def can_be_tried(recipe: Recipe, known: Known, shape: ModelShape) -> bool:
    """Whether weights, moments and gradients fit here, and a context leaves room for the cap."""
    from open_rs.plan.resident import machine_memory

    here = known.device_memory if known.device_memory and not known.cuda else machine_memory()
    mine = shape_elsewhere(shape, recipe.model, cuda=False)
    needed = mine.parameters * mine.bytes_per_weight + mine.trained_parameters * 12
    short = (
        shape.context is not None
        and (known.longest or 0) + (recipe.rollout.max_completion_tokens) > shape.context
    )
    return needed < 0.8 * here and not short


def recorded_lengths(recipe: Recipe, run: RunFolder, known: Known, prompts: str) -> Lengths | None:
    """What the run's curation sampled, where the recipe's own model answered to these very prompts
    (a fingerprint).
    """
    asked = [one for one in recipe.filters if isinstance(one, PassRateFilter)]
    own = all(one.model is None and one.engine is None for one in asked)
    if not own or known.subject.raw or not answers_of(run):
        return None
    from open_rs.curate.pass_rates import sampling_key  # torch, and the model's files are read

    cap, key = recipe.rollout.max_completion_tokens, sampling_key(recipe, prompts)
    return recorded(run, known.prompt_tokens, cap, key)


def lengths_for(recipe: Recipe, known: Known, wish: Wish) -> Lengths:
    """Given, recorded, probed or assumed, whichever says most."""
    cap = recipe.rollout.max_completion_tokens
    prompt = round(known.probe.mean_prompt_tokens) if known.probe else known.longest
    prompt = prompt or recipe.prompt.max_prompt_tokens // 2
    if wish.mean_tokens is not None:
        return assumed(prompt, cap, wish.mean_tokens)
    if known.recorded is not None:
        return known.recorded
    return known.probe.lengths if known.probe is not None else assumed(prompt, cap, None)


def dead_share(recipe: Recipe, known: Known) -> tuple[float, bool]:
    """(share of groups without signal, whether the probe says so)."""
    rates = known.subject.pass_rates
    kinds = {reward.type for reward in recipe.rewards if reward.weight}
    if rates and kinds == {"accuracy"}:
        return expected_dead(list(rates.values()), recipe.rollout.group_size), False
    if known.probe is not None and known.probe.dead_frac is not None:
        return known.probe.dead_frac, True
    return 0.0, False
