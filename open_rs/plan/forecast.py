"""What a recipe will cost: steps, tokens, seconds, memory; and what looks wrong beforehand."""

from dataclasses import asdict
from typing import Any

from open_rs.models import check_context, context_length, load_policy, mixed_precision, pick_device
from open_rs.plan.cost import device_name, price_per_hour, seconds_range, step_seconds
from open_rs.plan.findings import Facts, as_rows, find
from open_rs.plan.memory import ModelShape, memory_bytes
from open_rs.plan.probe import Probe, run_probe
from open_rs.problems import load_problems
from open_rs.recipe import Recipe
from open_rs.rollout.build import open_sampler, training_prompts
from open_rs.runs import RunFolder, write_json


def make_plan(recipe: Recipe, run: RunFolder) -> dict[str, Any]:
    """Probe the recipe on this machine, write plan.json and return it."""
    model = load_policy(recipe.model)
    with open_sampler(recipe, model=model) as sampler:
        prompts, too_long = training_prompts(recipe, run, sampler.prompter)
        opens_think = sampler.prompter.opens_think
        longest = max(len(prompt.prompt_ids) for prompt in prompts)
        check_context(model, longest, recipe.rollout.max_completion_tokens)
        with mixed_precision(recipe.model):
            probe = run_probe(recipe, sampler.engine, model, prompts)
    held_out = {name: len(load_problems(one)) for name, one in recipe.data.held_out.items()}
    plan = forecast(recipe, probe, num_problems=len(prompts), held_out=held_out)
    plan["memory_bytes"] = memory_bytes(
        model_shape(model),
        micro_batch_tokens=recipe.train.micro_batch_tokens,
        slots=min(recipe.rollout.max_slots, most_rows(recipe, held_out)),
        row_tokens=longest + max(recipe.rollout.max_completion_tokens, recipe.evaluation_cap),
        with_reference=bool(recipe.loss.kl_coef) and recipe.model.lora is None,
        gradient_checkpointing=recipe.train.gradient_checkpointing,
    )
    plan["seconds_range"] = list(seconds_range(plan))
    plan["usd_per_hour"] = price_per_hour(recipe.budget, device_name(pick_device(recipe.model)))
    facts = Facts(
        parameters=model_shape(model).parameters,
        context=context_length(model),
        opens_think=opens_think,
        problems=len(prompts),
        too_long=len(too_long),
        longest_prompt=longest,
        held_out=held_out,
        step_seconds=step_seconds(plan),
        usd_per_hour=plan["usd_per_hour"],
    )
    plan["findings"] = as_rows(find(recipe, facts))
    write_json(run.plan, plan)
    return plan


def most_rows(recipe: Recipe, held_out: dict[str, int]) -> int:
    """Completions of the largest call of the engine."""
    return max(
        recipe.rollout.prompts_per_step * recipe.rollout.group_size,
        held_out.get("validation", 0) * recipe.evaluate.validation_samples,
        held_out.get("test", 0) * recipe.evaluate.num_samples,
    )


def forecast(
    recipe: Recipe, probe: Probe, *, num_problems: int, held_out: dict[str, int]
) -> dict[str, Any]:
    """Counts follow from the recipe; seconds are counts over the probe's rates.

    Completions that the probe did not see end are taken to run to the cap: the forecast is then an
    upper bound, and says so.
    """
    rollout, train, evaluate = recipe.rollout, recipe.train, recipe.evaluate
    batches = train.num_steps // train.updates_per_batch
    prompts = batches * rollout.prompts_per_step
    completions = prompts * rollout.group_size
    length = probe.mean_completion_tokens
    scored = 1 + -(-train.num_steps // evaluate.every) if held_out.get("validation") else 0
    evaluated = scored * held_out.get("validation", 0) * evaluate.validation_samples
    evaluated += 2 * held_out.get("test", 0) * evaluate.num_samples
    row = probe.mean_prompt_tokens + length
    seconds = {
        "rollout": completions * length / probe.rollout_tokens_per_s,
        "update": train.updates_per_batch * completions * row / probe.update_tokens_per_s,
        "evaluate": evaluated * length / probe.rollout_tokens_per_s,
    }
    return {
        "steps": train.num_steps,
        "problems": num_problems,
        "epochs": prompts / num_problems,
        "prompts": prompts,
        "completions": completions,
        "evaluation_completions": evaluated,
        "completion_tokens": round((completions + evaluated) * length),
        "max_completion_tokens": rollout.max_completion_tokens,
        "completion_tokens_are": "expected" if probe.ended_frac == 1 else "at most",
        "seconds": seconds | {"total": sum(seconds.values())},
        "probe": asdict(probe),
    }


def model_shape(model: Any) -> ModelShape:
    """The shape of a loaded model."""
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    return ModelShape(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        trained_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        layers=config.num_hidden_layers,
        vocab_size=config.vocab_size,
        kv_width=head * (getattr(config, "num_key_value_heads", None) or heads),
        bytes_per_weight=next(model.parameters()).element_size(),
    )
