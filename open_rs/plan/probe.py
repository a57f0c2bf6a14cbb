"""A few seconds of the real thing: how fast this machine decodes and learns with this model."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from open_rs.recipe import Recipe
from open_rs.rollout.build import training_params
from open_rs.rollout.protocol import Engine, Prompt, RolloutGroup

PROBE_TOKENS = 64  # completion tokens of a probe's rollouts at most
UPDATE_TOKENS = 2048  # tokens of a probe's forward and backward at most


@dataclass(frozen=True)
class Probe:
    """Rates are tokens per second: sampled ones in rollout, all tokens of a row in an update."""

    rollout_tokens_per_s: float
    update_tokens_per_s: float
    mean_prompt_tokens: float
    mean_completion_tokens: float  # what the probe cut off counts as the recipe's cap
    ended_frac: float  # of the probe's completions; below 1 the mean is an upper bound
    seconds: float


def run_probe(recipe: Recipe, engine: Engine, model: Any, prompts: Sequence[Prompt]) -> Probe:
    """Sample one short batch of the recipe's own size, then one forward and backward over it."""
    started = time.perf_counter()
    batch = prompts[: recipe.rollout.prompts_per_step]
    params = training_params(recipe)
    cap = min(params.max_completion_tokens, PROBE_TOKENS)
    short = replace(params, max_completion_tokens=cap)
    settings: dict[str, Any] = {
        "group_size": recipe.rollout.group_size,
        "seed": recipe.seed,
        "step": -2,  # a stream of its own: nothing that the run samples
    }
    engine.generate(
        batch[:1], params=replace(params, max_completion_tokens=2), **settings
    )  # warm-up
    groups = engine.generate(batch, params=short, **settings)
    assert engine.stats is not None
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    ended = [
        r for r in rollouts if r.finish_reason == "stop" or cap == params.max_completion_tokens
    ]
    tokens = sum(len(rollout.completion_ids) for rollout in ended)
    tokens += (len(rollouts) - len(ended)) * params.max_completion_tokens
    return Probe(
        rollout_tokens_per_s=engine.stats.completion_tokens / engine.stats.seconds,
        update_tokens_per_s=update_rate(model, groups),
        mean_prompt_tokens=sum(len(prompt.prompt_ids) for prompt in prompts) / len(prompts),
        mean_completion_tokens=tokens / len(rollouts),
        ended_frac=len(ended) / len(rollouts),
        seconds=time.perf_counter() - started,
    )


def update_rate(model: Any, groups: Sequence[RolloutGroup]) -> float:
    """Tokens per second of one forward and backward, the model's own cross entropy as the loss."""
    rows: list[list[int]] = []
    for group in groups:
        for rollout in group.rollouts:
            row = [*group.prompt_ids, *rollout.completion_ids]
            if rows and (len(rows) + 1) * max(map(len, [*rows, row])) > UPDATE_TOKENS:
                break
            rows.append(row)
    longest = max(map(len, rows))
    ids = torch.tensor([row + [row[0]] * (longest - len(row)) for row in rows], device=model.device)
    model.train()
    started = time.perf_counter()
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    if ids.is_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    model.zero_grad(set_to_none=True)
    model.eval()
    return ids.numel() / seconds
