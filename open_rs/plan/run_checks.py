"""Findings that need the data, a probe, recorded completions or the device."""

from collections.abc import Iterator, Sequence

from open_rs.plan.findings import (
    Check,
    Facts,
    Finding,
    checkpoint_steps,
    steps_between_saves,
)
from open_rs.recipe import Recipe

MANY_DEAD, SOME_DEAD = 0.5, 0.25  # shares of groups without signal
MUCH_CUT, SOME_CUT = 0.2, 0.02  # shares of completions that the cap cuts off
MANY_EPOCHS = 10
LARGE_GAIN = 0.10  # of pass@1: a smaller gain is what training of this kind brings
LOST_WORK = 3600.0  # seconds that a kill may cost without a word
GIB = 2**30


def not_here(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    for key, what in facts.missing.items():
        yield Finding(
            "note",
            key,
            f"{what}: what needs it is not in this forecast",
            "download it first, or plan with --download",
        )
    if facts.uncurated:
        yield Finding(
            "note",
            "sources",
            f"nothing is curated yet: the {facts.problems or 0:,} problems are raw rows, and fewer "
            "will be left",
            "run open-rs curate first",
        )


def prompts(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    if facts.problems is None:
        return
    if facts.too_long:
        limit, whole = recipe.prompt.max_prompt_tokens, facts.problems + facts.too_long
        share = facts.too_long / whole
        yield Finding(
            "warning" if share > 0.05 else "note",
            "prompt.max_prompt_tokens",
            f"{facts.too_long} of {whole} training prompts are over {limit} tokens and will be "
            "left out",
            "raise it to keep them",
        )
    wanted = recipe.rollout.prompts_per_step
    if facts.problems < wanted:
        yield Finding(
            "warning",
            "rollout.prompts_per_step",
            f"{wanted} prompts a step are wanted and there are {facts.problems} problems, so a "
            "batch holds no more",
            f"set it to {facts.problems} or give more problems",
        )
    seen = recipe.train.num_steps // recipe.train.updates_per_batch * wanted
    epochs = seen / facts.problems
    one_pass = max(facts.problems // wanted, 1) * recipe.train.updates_per_batch
    if epochs > 1:
        yield Finding(
            "warning" if epochs > MANY_EPOCHS else "note",
            "train.num_steps",
            f"{seen:,} prompts are asked for and there are {facts.problems:,} problems: each is "
            f"seen {epochs:.1f} times",
            f"set it to {one_pass} for one pass over the data",
        )


def dead_groups(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    """A group whose rewards are all equal teaches nothing."""
    cures = "curate with a pass_rate filter, raise rollout.group_size, or set loss.dynamic_sampling"
    if facts.dead_frac is not None:
        dead, why = facts.dead_frac, f"in {facts.lengths_from} all rewards were equal"
    elif facts.pass_rates and {one.type for one in recipe.rewards} == {"accuracy"}:
        dead = expected_dead(facts.pass_rates, recipe.rollout.group_size)
        why = "by the pass rates that curation measured"
    else:
        return
    if dead > SOME_DEAD:
        cost = "" if recipe.loss.kl_coef else " (sampled, and then skipped)"
        yield Finding(
            "warning" if dead > MANY_DEAD else "note",
            "filters",
            f"{dead:.0%} of the groups have no signal{cost}: {why}",
            cures,
        )


def expected_dead(pass_rates: Sequence[float], group_size: int) -> float:
    """The mean of p^G + (1 - p)^G: a group is dead where all of it is right, or all wrong."""
    terms = [p**group_size + (1 - p) ** group_size for p in pass_rates]
    return sum(terms) / len(terms)


def truncation(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    cut = facts.lengths.get("truncated_frac")
    if cut is None or cut <= SOME_CUT:
        return
    masked = recipe.loss.mask_truncated
    then = "and are left out of the loss" if masked else "and count as wrong in most cases"
    yield Finding(
        "warning" if cut > MUCH_CUT else "note",
        "rollout.max_completion_tokens",
        f"by {facts.lengths_from} about {cut:.0%} of completions reach the cap of "
        f"{recipe.rollout.max_completion_tokens:,} {then}",
        "raise it, or reward brevity",
    )


def constant_rewards(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    for name, (least, most) in facts.reward_ranges.items():
        if least != most:
            continue
        why = ", as the chat template opens <think> itself" if facts.opens_think else ""
        yield Finding(
            "warning",
            "rewards",
            f"the reward {name} was {least:g} for every completion of {facts.lengths_from}{why}: "
            "so far it teaches nothing",
            "see whether the prompt asks for what it pays",
        )


def detectable_gain(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    """How large a gain has to be to be found (`evaluate.power`, normal approximation)."""
    from open_rs.evaluate.power import assumed, likely_smallest_gain

    score = sum(facts.pass_rates) / len(facts.pass_rates) if facts.pass_rates else 0.3
    difficulty = assumed(min(max(score, 0.05), 0.95))
    samples = {
        "validation": recipe.evaluate.validation_samples,
        "test": recipe.evaluate.num_samples,
    }
    for name, k in samples.items():
        n = facts.held_out.get(name, 0)
        if n < 2:
            continue
        gain = likely_smallest_gain(difficulty, n, k)
        if gain is not None and gain <= LARGE_GAIN:
            continue
        shown = (
            "no gain is found"
            if gain is None
            else f"a gain below {100 * gain:.0f} points is missed"
        )
        yield Finding(
            "warning",
            f"data.{name}",
            f"{n} problems x {k} samples: {shown} in one of five comparisons or more",
            f"give more problems, or raise evaluate.{'num' if name == 'test' else name}_samples",
        )


def saves(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    """Checkpoints in time, and with room on the disk."""
    if facts.step_seconds is not None:
        first = steps_between_saves(recipe)
        between = first * facts.step_seconds + facts.save_seconds
        hours = recipe.budget.hours
        if hours is not None and between > hours * 3600:
            most = int(hours * 3600 / facts.step_seconds)
            yield Finding(
                "error",
                "train.save_every",
                f"the first checkpoint comes after {between / 3600:.2g} h, and budget.hours is "
                f"{hours:g}",
                f"set it to {max(most // 2, 1)} or raise budget.hours",
            )
        elif between > LOST_WORK:
            fitting = max(int(LOST_WORK / facts.step_seconds), 1)
            yield Finding(
                "note",
                "train.save_every",
                f"checkpoints lie {between / 3600:.1f} h apart: a kill costs up to that (rollouts "
                "are kept)",
                f"set it to {fitting}",
            )
    if facts.checkpoint_bytes is None:
        return
    steps = checkpoint_steps(recipe)
    kept = (
        len(steps)
        if recipe.train.keep_last is None
        else min(recipe.train.keep_last + 2, len(steps))
    )
    size = kept * facts.checkpoint_bytes
    if facts.free_disk is not None and size > facts.free_disk:
        fitting = max(int(facts.free_disk / facts.checkpoint_bytes) - 2, 1)
        yield Finding(
            "error",
            "train.keep_last",
            f"{kept} checkpoints take {size / GIB:.1f} GiB and the disk has "
            f"{facts.free_disk / GIB:.1f} free",
            f"set it to {fitting}, or write the run elsewhere by --out",
        )


def cost(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    if facts.usd_per_hour is None:
        yield Finding(
            "note",
            "budget.usd_per_hour",
            f"no price is known for {facts.device or 'this device'}: no dollars",
            "set it to what an hour of it costs",
        )
    if recipe.loss.dynamic_sampling:
        most = 1 + recipe.loss.max_refills
        yield Finding(
            "note",
            "loss.dynamic_sampling",
            f"rollouts may cost up to {most} times the forecast",
            "lower loss.max_refills to bound it",
        )


def memory(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    if facts.memory is None or facts.device_memory is None or facts.memory <= facts.device_memory:
        return
    key, cure = facts.lower or ("model.path", "take a smaller model")
    yield Finding(
        "error",
        key,
        f"{facts.memory / GIB:.1f} GiB are needed and {facts.device or 'the device'} has "
        f"{facts.device_memory / GIB:.1f}",
        cure,
    )


def activations(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    if facts.recomputes:
        yield Finding(
            "note",
            "train.gradient_checkpointing",
            "auto: activations are recomputed, since the largest micro-batch would not fit into "
            f"{facts.device or 'the device'} otherwise; updates take a third longer",
            "lower train.micro_batch_tokens to keep them",
        )


RUN_CHECKS: tuple[Check, ...] = (
    memory,
    activations,
    not_here,
    prompts,
    dead_groups,
    truncation,
    constant_rewards,
    detectable_gain,
    saves,
    cost,
)
