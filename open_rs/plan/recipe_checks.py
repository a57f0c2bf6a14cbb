"""Findings that the recipe alone decides, or the recipe and what is known of its model."""

from collections.abc import Iterator
from pathlib import PurePath

from open_rs.benchmarks import BENCHMARKS
from open_rs.plan.findings import Check, Facts, Finding
from open_rs.prompts import SYSTEM_PROMPTS, USER_PROMPTS
from open_rs.recipe import CosineReward, OverlongReward, Recipe, Source, VLLMEngineSpec
from open_rs.recipe.moving import largest_cap

# Peak learning rates of AdamW that published GRPO runs use; a model of a few million weights bears,
# and needs, more. An adapter takes about ten times the rate of full weights (arXiv 2106.09685, D).
FULL_RATES = (1e-7, 2e-5)
LORA_RATES = (1e-6, 5e-4)
SMALL_MODEL, SMALL_RATES = 100_000_000, (1e-6, 2e-3)
UNSTATED_KL = 0.04  # what TRL before 0.16 took where a recipe stated none
LONG_RUN = 150  # steps after which the paper's runs collapsed


def held_out_sets(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    """Selection and the final score need sets of their own."""
    data = recipe.data
    if data.validation is None:
        yield Finding(
            "warning",
            "data.validation",
            "no validation set: only the test set is left to choose a checkpoint, and the best of "
            "several noisy scores looks like a gain",
            "set data.validation to problems held out for it",
        )
    if data.test is None:
        yield Finding(
            "warning",
            "data.test",
            "no test set: no gain can be claimed, and the cost of evaluation is not in this "
            "forecast (it took 20.9 A40-hours beside the paper's $42)",
            "set data.test",
        )
    if data.validation is not None and data.validation == data.test:
        yield Finding(
            "error",
            "data.validation",
            "the test set is used for selection: validation and test are the same rows",
            "hold out another set, or another split or rows of it",
        )
    elif data.validation is not None and (name := benchmark_of(data.validation)):
        yield Finding(
            "warning",
            "data.validation",
            f"the benchmark {name} chooses the checkpoint, so its score is no test any more",
            "choose on held-out training problems",
        )


def benchmark_of(source: Source) -> str | None:
    """The public benchmark that a source is, by its address on the hub or its file's name."""
    if source.hub is not None:
        return next((n for n, one in BENCHMARKS.items() if one.source.hub == source.hub), None)
    name = PurePath(source.path or "").name.partition(".")[0]
    return name if name in BENCHMARKS else None


def samples_at_evaluation(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    evaluate = recipe.evaluate
    if recipe.data.test is not None and evaluate.num_samples == 1:
        yield Finding(
            "warning",
            "evaluate.num_samples",
            "one sample a problem: the interval is a bound, and a gain has to be large to show",
            "set it to 4 or more",
        )
    if recipe.data.validation is not None and evaluate.validation_samples == 1:
        yield Finding(
            "note",
            "evaluate.validation_samples",
            "one sample a problem chooses the checkpoint by luck as much as by skill",
            "set it to 4 or more",
        )


def same_sampling(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    """Training and evaluation share prompt and template by design; sampling can differ."""
    rollout, evaluate = recipe.rollout, recipe.evaluate
    for name in ("temperature", "top_p", "top_k"):
        trained, scored = getattr(rollout, name), getattr(evaluate, name)
        if trained != scored:
            yield Finding(
                "note",
                f"evaluate.{name}",
                f"scores are taken at {name} {scored:g}, training samples at {trained:g}",
                f"set it to {trained:g} where the score shall be of what is trained",
            )
    cap = rollout.max_completion_tokens
    if recipe.evaluation_cap != cap:
        yield Finding(
            "warning" if recipe.evaluation_cap < cap else "note",
            "evaluate.max_completion_tokens",
            f"completions are scored at up to {recipe.evaluation_cap:,} tokens and trained at up "
            f"to {cap:,}",
            "leave it out, so that both are the same",
        )
    if rollout.top_p < 1 or rollout.top_k:
        yield Finding(
            "note",
            "rollout.top_p" if rollout.top_p < 1 else "rollout.top_k",
            "the loss is that of the whole distribution, and completions come from a part of it",
            "set rollout.top_p = 1 and rollout.top_k = 0",
        )


def prompt_text(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    system = SYSTEM_PROMPTS.get(recipe.prompt.system, recipe.prompt.system)
    user = USER_PROMPTS.get(recipe.prompt.user, recipe.prompt.user)
    for key, text in (("prompt.system", system), ("prompt.user", user)):
        if "{{}}" in text:
            yield Finding(
                "warning",
                key,
                "it shows the model \\boxed{{}} literally, an escape that nothing undoes",
                "write \\boxed{}",
            )
    rewards = {reward.type for reward in recipe.rewards}
    if "format" in rewards and "<answer>" in system + user:
        yield Finding(
            "note",
            "prompt.system",
            "it asks for <answer> tags, which no reward looks at",
            "leave them out",
        )
    if facts.opens_think and "<think>" in system + user:
        yield Finding(
            "warning",
            "prompt.system",
            "it asks for <think>, which the chat template has opened already: a completion that "
            "obeys opens it twice and earns no format reward",
            "ask for the thought in words, or set prompt.chat_template to one that ends without it",
        )
    boxed = "boxed" in system + user or recipe.grade.unboxed_numbers
    graded = rewards & {"accuracy", "cosine", "group_length"}
    if graded and not boxed and (facts.no_answer_frac is None or facts.no_answer_frac > 0.5):
        yield Finding(
            "note" if facts.no_answer_frac is None else "warning",
            "prompt.user",
            "no prompt asks for \\boxed{}, where the grader looks for the answer",
            'ask for it, as prompt.system = "open_rs" does, or set grade.unboxed_numbers = true',
        )


def opened_thought(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    """A format reward that counts <think> in the completion is 0 under such a template."""
    if not facts.opens_think:
        return
    if any(reward.type == "format" for reward in recipe.rewards):
        yield Finding(
            "note",
            "rewards",
            "the chat template opens <think> itself; the format reward here counts that, where one "
            "that looks for <think> in the completion is always 0",
            "nothing to do; compare rewards with other trainers' by their parts",
        )
    custom = [reward.function for reward in recipe.rewards if reward.type == "custom"]
    if custom:
        yield Finding(
            "note",
            "rewards",
            f"the chat template opens <think> itself: if {', '.join(custom)} looks for it in the "
            "completion, it is constant",
            "let it look for </think>",
        )


def learning_rate(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    rate = recipe.train.learning_rate
    small = facts.parameters is not None and facts.parameters < SMALL_MODEL
    if recipe.model.lora is not None:
        (low, high), what = LORA_RATES, "adapters"
    else:
        (low, high), what = (
            (SMALL_RATES, "so small a model") if small else (FULL_RATES, "all weights")
        )
    if not low <= rate <= high:
        yield Finding(
            "warning",
            "train.learning_rate",
            f"{rate:g} is {'above' if rate > high else 'below'} what is usual for {what}, "
            f"{low:g} to {high:g}",
            f"set it to {high if rate > high else low:g} or {'below' if rate > high else 'above'}",
        )
    if recipe.model.dtype == "bfloat16" and recipe.model.lora is None:
        yield Finding(
            "warning",
            "model.dtype",
            "bfloat16 weights lose every update below 1/512 of a weight, and with that most of "
            f"what a rate of {rate:g} brings",
            'set model.dtype = "auto": float32 weights, bfloat16 arithmetic on CUDA',
        )


def kl(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    coefficient = recipe.loss.kl_coef
    if not coefficient:
        return
    inherited = any(
        key == "beta" and kind == "default made plain" for kind, key, _ in facts.imported
    )
    if inherited or coefficient == UNSTATED_KL:
        yield Finding(
            "warning",
            "loss.kl_coef",
            f"{coefficient:g} is the weight that TRL once took where a recipe stated none: KL is "
            "on without being chosen",
            "set it to 0, or to a weight of your choice",
        )
    if recipe.model.lora is None:
        held = f" of {facts.reference_bytes / 2**30:.2f} GiB" if facts.reference_bytes else ""
        yield Finding(
            "note",
            "loss.kl_coef",
            f"above 0 a frozen copy of the model{held} is held, every rollout goes through it, and "
            "groups without signal cannot be skipped",
            "set it to 0 unless it is wanted",
        )


def length_rewards(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    """What counts length against the cap."""
    cap = recipe.rollout.max_completion_tokens
    for reward in recipe.rewards:
        if isinstance(reward, OverlongReward) and (reward.overlong_buffer or 0) >= cap:
            yield Finding(
                "warning",
                "rewards",
                f"overlong_buffer = {reward.overlong_buffer} reaches from the cap of {cap} to the "
                "first token, so every completion is punished for its length",
                f"set it to about {cap // 5}",
            )
        longest = facts.lengths.get("p90")
        if isinstance(reward, CosineReward) and longest is not None and longest < cap / 4:
            yield Finding(
                "note",
                "rollout.max_completion_tokens",
                f"nine of ten completions are below {longest:.0f} tokens, and the cosine reward is "
                f"nearly flat there: it measures against the cap of {cap:,}",
                f"lower it towards {round(2 * longest)}",
            )


def context(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    """Prompt and completion have to fit behind each other."""
    known = facts.longest_prompt is not None
    prompt = facts.longest_prompt if facts.longest_prompt else recipe.prompt.max_prompt_tokens
    limits = [("the model's context", facts.context)]
    if isinstance(recipe.rollout.engine, VLLMEngineSpec):
        limits.append(("rollout.engine.max_model_len", recipe.rollout.engine.max_model_len))
    caps = {"rollout": largest_cap(recipe), "evaluate": recipe.evaluation_cap}
    for what, limit in limits:
        for section, cap in caps.items():
            if (
                limit is None
                or prompt + cap <= limit
                or (section == "evaluate" and cap <= caps["rollout"])
            ):
                continue
            yield Finding(
                "error" if known else "warning",
                f"{section}.max_completion_tokens",
                f"prompts of up to {prompt:,} and completions of up to {cap:,} tokens exceed "
                f"{what} of {limit:,}",
                f"lower it to {max(limit - prompt, 0):,}",
            )


def batches(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    rollout = recipe.rollout
    completions, slots = rollout.prompts_per_step * rollout.group_size, rollout.max_slots
    rows = -(-completions // facts.gpus)  # of each device
    rest = rows % slots
    if rows > slots and 0 < rest <= slots // 4:
        yield Finding(
            "note",
            "rollout.max_slots",
            f"{rows} completions a step do not divide by {slots} slots: the last {rest} wait for a "
            "free slot and are decoded nearly alone",
            f"set it to {rows}, or to {-(-rows // 2)}",
        )
    if completions < facts.gpus:
        yield Finding(
            "warning",
            "rollout.prompts_per_step",
            f"{completions} completions a step leave some of {facts.gpus} devices without any",
            f"set it to {-(-facts.gpus // rollout.group_size)}",
        )
    every, saves = recipe.evaluate.every, recipe.train.save_every
    if recipe.data.validation is not None and every % saves and saves % every:
        yield Finding(
            "note",
            "evaluate.every",
            f"scores every {every} and saves every {saves} steps fall apart, and every scored step "
            "is saved as well",
            f"set it to {saves}",
        )


def guards(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    sentinel, steps = recipe.sentinel, recipe.train.num_steps
    off = sorted(name for name, action in sentinel.actions.items() if action == "off")
    if sentinel.action == "off" or off:
        what = f"for {', '.join(off)}" if sentinel.action != "off" else ""
        yield Finding(
            "warning",
            "sentinel.action" if sentinel.action == "off" else "sentinel.actions",
            f"the sentinel is off {what}".rstrip() + ": a collapse is found when it is over",
            'set it to "warn" or "roll_back"',
        )
    elif sentinel.action == "warn" and steps > LONG_RUN:
        yield Finding(
            "note",
            "sentinel.action",
            f"{steps} steps, and an alarm only warns; the paper's runs went astray after step "
            f"{LONG_RUN}",
            'set it to "roll_back" where nobody looks on',
        )


def imported(recipe: Recipe, facts: Facts) -> Iterator[Finding]:
    """What an imported recipe meant elsewhere, and what it means here."""
    for kind, key, text in facts.imported:
        if kind in ("read differently", "unknown") or (kind, key) == ("default made plain", "beta"):
            yield Finding(
                "note",
                key,
                f"imported: {text}",
                "see that it is what you want",
            )


RECIPE_CHECKS: tuple[Check, ...] = (
    held_out_sets,
    samples_at_evaluation,
    same_sampling,
    prompt_text,
    opened_thought,
    learning_rate,
    kl,
    length_rewards,
    context,
    batches,
    guards,
    imported,
)
