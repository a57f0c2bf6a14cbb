"""From a recipe to what draws graded completions, for curation, training and evaluation alike."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from open_rs.errors import InputError
from open_rs.grade import Grader
from open_rs.models import load_model, load_tokenizer, local_model
from open_rs.problems import Problem, load_problems
from open_rs.prompts import Prompter
from open_rs.recipe import Recipe
from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.native import NativeEngine
from open_rs.rollout.protocol import Prompt, SamplingParams
from open_rs.runs import RunFolder, training_source


@contextmanager
def open_sampler(
    recipe: Recipe, *, model: Any = None, path: str | None = None
) -> Iterator[GradedSampler]:
    """Engine, prompts and grader of `recipe`; the grader's workers end with the context.

    Samples from `model` where one is given, else from the folder or id `path`, else from the
    recipe's model. This is also where the recipe's `threads` take effect, for every stage.
    """
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    source = recipe.model if path is None else local_model(recipe.model, path)
    tokenizer = load_tokenizer(source)
    prompter = Prompter(tokenizer, recipe.prompt)
    engine = NativeEngine(
        load_model(source) if model is None else model,
        tokenizer,
        max_slots=recipe.rollout.max_slots,
    )
    grade = recipe.grade
    with Grader(
        workers=grade.workers, timeout_s=grade.timeout_s, unboxed_numbers=grade.unboxed_numbers
    ) as grader:
        yield GradedSampler(engine, grader, prompter)


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
