"""From a recipe to what draws graded completions, for curation, training and evaluation alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, assert_never, cast

from open_rs.console import say
from open_rs.errors import InputError
from open_rs.grade import Grader
from open_rs.interrupt import at_once
from open_rs.machine import cpus
from open_rs.problems import Problem, load_problems
from open_rs.prompts import Prompter, ServerPrompter
from open_rs.recipe import (
    ModelRecipe,
    NativeEngineSpec,
    OpenAIEngineSpec,
    Recipe,
    VLLMEngineSpec,
    VLLMServerEngineSpec,
)
from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.protocol import Engine, Prompt, SamplingParams
from open_rs.runs import RunFolder, training_source


@contextmanager
def open_sampler(
    recipe: Recipe, *, model: Any = None, path: str | None = None, spent_usd: float = 0.0
) -> Iterator[GradedSampler]:
    """Engine, prompts and grader of `recipe`; the grader's workers end with the context.

    Samples from `model` where one is given (vLLM once its weights were loaded), else from the
    folder or id `path`, else from the recipe's model; an endpoint serves a model of its own, and
    `path` names the tokenizer of its prompts. `spent_usd` is what an earlier start of the same work
    has cost. torch is loaded only for models and tokenizers.
    """
    source = recipe.model if path is None else recipe.model.at(path)
    spec = recipe.rollout.engine
    if model is not None and isinstance(spec, OpenAIEngineSpec):
        raise InputError('rollout.engine: an endpoint cannot be trained; set type = "native"')
    with at_once():
        prompter = open_prompter(recipe, path=path)
        match spec:
            case NativeEngineSpec():
                engine = native_engine(recipe, source, model, prompter.tokenizer)
            case OpenAIEngineSpec():
                engine = endpoint_engine(spec.resolved(source.path), spent_usd)
            case VLLMEngineSpec():
                engine = vllm_engine(recipe, spec, source, prompter.tokenizer, model is not None)
            case VLLMServerEngineSpec():
                engine = vllm_servers(recipe, spec, source, prompter.tokenizer, model is not None)
            case _ as unknown:
                assert_never(unknown)
    grade = recipe.grade
    with Grader(
        workers=grade.workers, timeout_s=grade.timeout_s, unboxed_numbers=grade.unboxed_numbers
    ) as grader:
        yield GradedSampler(engine, grader, prompter)


def with_search(sampler: GradedSampler, recipe: Recipe) -> GradedSampler:
    """`sampler`, or one that searches as `evaluate.search` says."""
    spec = recipe.evaluate.search
    if spec is None:
        return sampler
    if not isinstance(recipe.rollout.engine, NativeEngineSpec):
        raise InputError(
            "evaluate.search: the embedded engine alone can go on from a completion so far; set "
            'rollout.engine.type = "native", or remove it'
        )
    from open_rs.rollout.beam import BeamEngine, StepEngine

    engine = BeamEngine(cast(StepEngine, sampler.engine), spec)
    return GradedSampler(engine, sampler.grader, sampler.prompter)


def open_prompter(recipe: Recipe, *, path: str | None = None) -> Prompter:
    """The prompts that `open_sampler` would use; no model is loaded for them."""
    source = recipe.model if path is None else recipe.model.at(path)
    spec = recipe.rollout.engine
    if isinstance(spec, OpenAIEngineSpec) and spec.resolved(source.path).mode == "chat":
        return ServerPrompter(recipe.prompt, opens_think=spec.opens_think)
    from open_rs.models import load_tokenizer

    return Prompter(load_tokenizer(source), recipe.prompt)


def native_engine(recipe: Recipe, source: ModelRecipe, model: Any, tokenizer: Any) -> Engine:
    """The embedded engine. This is also where the recipe's `threads` take effect."""
    import torch

    from open_rs.models import load_model
    from open_rs.rollout.native import NativeEngine

    if recipe.threads:
        if recipe.threads > cpus():
            say(
                f"threads = {recipe.threads}: this process may use {cpus()} cores, and threads "
                f"beyond them make every step slower; set it to {cpus()}"
            )
        torch.set_num_threads(recipe.threads)
    module = load_model(source) if model is None else model
    rollout = recipe.rollout
    return NativeEngine(module, tokenizer, max_slots=rollout.max_slots, exact=rollout.exact)


def endpoint_engine(spec: OpenAIEngineSpec, spent_usd: float) -> Engine:
    from open_rs.rollout.endpoint import EndpointEngine

    return EndpointEngine(spec, spent_usd=spent_usd)


def vllm_engine(
    recipe: Recipe, spec: VLLMEngineSpec, source: ModelRecipe, tokenizer: Any, training: bool
) -> Engine:
    from open_rs.rollout.vllm import VLLMEngine
    from open_rs.rollout.vllm_rules import logprobs_mode, refuse_truncation

    if training:
        refuse_truncation(recipe)
    return VLLMEngine(
        spec,
        source,
        tokenizer,
        max_slots=recipe.rollout.max_slots,
        logprobs_mode=logprobs_mode(training_params(recipe)),
        training=training,
    )


def vllm_servers(
    recipe: Recipe, spec: VLLMServerEngineSpec, source: ModelRecipe, tokenizer: Any, training: bool
) -> Engine:
    from open_rs.rollout.vllm_rules import refuse_truncation
    from open_rs.rollout.vllm_server import VLLMServerEngine

    if training:
        refuse_truncation(recipe)
    return VLLMServerEngine(spec, source, tokenizer, training=training)


def training_prompts(
    recipe: Recipe, run: RunFolder, prompter: Prompter
) -> tuple[list[Prompt], list[Problem]]:
    """The training set ready for the model, and the problems whose prompt is over the limit."""
    prompts, too_long = prompter.encode_all(load_problems(training_source(recipe, run)))
    if not prompts:
        raise InputError(
            f"prompt.max_prompt_tokens = {recipe.prompt.max_prompt_tokens}: every training prompt "
            "is longer; raise it"
        )
    return prompts, too_long


def training_params(recipe: Recipe) -> SamplingParams:
    rollout = recipe.rollout
    return SamplingParams(
        max_completion_tokens=rollout.max_completion_tokens,
        temperature=rollout.temperature,
        top_p=rollout.top_p,
        top_k=rollout.top_k,
    )


def evaluation_params(recipe: Recipe) -> SamplingParams:
    evaluate = recipe.evaluate
    return SamplingParams(
        max_completion_tokens=recipe.evaluation_cap,
        temperature=evaluate.temperature,
        top_p=evaluate.top_p,
        top_k=evaluate.top_k,
    )
