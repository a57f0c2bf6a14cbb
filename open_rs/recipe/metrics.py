"""The keys of a run's metrics.jsonl: what a trigger can watch. The rows are made in `train`."""

import difflib

from open_rs.errors import InputError
from open_rs.recipe.moving import reward_names
from open_rs.recipe.schema import Recipe

ALWAYS = (
    "reward/mean",
    "reward/std",
    "reward/undecided_frac",
    "completion/mean_tokens",
    "completion/p10_tokens",
    "completion/p50_tokens",
    "completion/p90_tokens",
    "completion/max_tokens",
    "completion/truncated_frac",
    "completion/repetition_frac",
    "completion/other_script_frac",
    "groups/dead_frac",
    "groups/unsolved_dead_frac",
    "groups/effective",
    "policy/loss",
    "policy/entropy",
    "policy/ratio",
    "policy/clip_frac",
    "policy/clip_low_frac",
    "policy/clip_high_frac",
    "policy/engine_kl",
    "optim/grad_norm",
    "optim/update_norm",
    "optim/learning_rate",
    "optim/skipped",
    "optim/memory_splits",
    "time/rollout_s",
    "time/update_s",
    "time/step_s",
    "time/spent_s",
    "cost/usd",
    "tokens/completion",
    "tokens/prompt",
)
VALIDATION = ("validation/pass@1", "validation/pass@1_low", "validation/pass@1_high")
IMPORTANCE = ("policy/importance", "policy/importance_cap_frac")
BESIDE = ("time/overlap_s", "time/wait_s")  # of a batch that servers draw while another is learnt


def metric_names(recipe: Recipe) -> list[str]:
    """The keys that the rows of a run of this recipe can have."""
    names = [*ALWAYS]
    for name in reward_names(recipe):
        names += [f"reward/{name}", f"reward/{name}_weight", f"time/reward_{name}_s"]
    moving = {one.key for one in recipe.schedules} | {one.key for one in recipe.sentinel.changes}
    if recipe.loss.kl_coef or "loss.kl_coef" in moving:
        names.append("policy/kl")
    if recipe.corrected_loss.importance_cap:
        names += IMPORTANCE
    if recipe.rollout.staleness:
        names.append("policy/staleness")
        if recipe.rollout.engine.is_apart:
            names += BESIDE
    if recipe.rollout.exact:
        names.append("policy/inexact_tokens")
    if recipe.data.validation is not None:
        names += VALIDATION
    return names


def refuse_unknown_metrics(recipe: Recipe) -> None:
    """A trigger on a metric that no row has would wait for ever."""
    known = metric_names(recipe)
    for number, schedule in enumerate(recipe.schedules):
        if schedule.when is None or schedule.when.metric in known:
            continue
        name = schedule.when.metric
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(
            f"schedules.{number}.when.metric = {name!r}: a run of this recipe measures no such "
            f"thing, so the trigger would never fire; {hint}name one of {', '.join(known)}"
        )
