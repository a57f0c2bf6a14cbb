"""Where a run goes on: its newest intact checkpoint, and what must not have changed since.

A step after the checkpoint is done again from the rollouts that are held of it (`journal`), and the
run comes out as if it had not been stopped. That needs the model, the data, the settings and the
libraries that it was started with; what differs is named, and refused unless it is accepted. A
setting that changes the maths is always refused.
"""

import gzip
import hashlib
import json
import re
import shutil
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from open_rs.console import say
from open_rs.errors import GuardStop, InputError
from open_rs.evaluate.records import problems_hash
from open_rs.machine import PACKAGES, environment, package_version
from open_rs.models import model_hash
from open_rs.plan.cost import device_name
from open_rs.problems import problem_lines
from open_rs.recipe import Recipe, load_recipe
from open_rs.runs import (
    RunFolder,
    different_keys,
    log_event,
    read_json,
    read_log,
    write_bytes,
    write_json,
    write_jsonl,
)
from open_rs.train.checkpoint import (
    checkpoint_steps,
    newest_valid,
    read_state,
    remove_leftovers,
    restore,
    set_aside_damaged,
)
from open_rs.train.decisions import ending, held_decisions, told_end
from open_rs.train.resumable import held_recipe

# Settings that may change between two starts: where and how the work is done, never what it is.
FREE_KEYS = (
    "name",
    "threads",
    "sentinel",
    "budget",
    "model.device",
    "rollout.max_slots",
    "rollout.engine.urls",
    "rollout.engine.served_as",
    "rollout.engine.weights_folder",
    "rollout.engine.api_key_env",
    "rollout.engine.max_concurrency",
    "rollout.engine.timeout_s",
    "rollout.engine.max_retries",
    "rollout.engine.gpu_memory_utilization",
    "rollout.engine.sync_tolerance",
    "grade.workers",
    "train.save_every",
    "train.keep_last",
    "train.keep_every",
    "train.rehearse",
    "train.sharding",
    "train.micro_batch_tokens",
    "train.gradient_checkpointing",
    "train.max_nonfinite_steps",
    "train.trackers",
    "evaluate.num_samples",
    "evaluate.confidence",
    "evaluate.scripts",
    "evaluate.completion_ids",
    "data.test",
)
STEP_FILE = re.compile(r"(\d{6,})\.(?:jsonl\.gz|journal)")
STEP_SCORE = re.compile(r"validation-(\d{6,})")


def start_or_resume(training: Any, *, accept_changes: bool = False) -> None:
    """Put the newest intact checkpoint back, or note the start."""
    run = training.run
    remove_leftovers(run)
    if not checkpoint_steps(run) and not run.metrics.exists():
        there = any(step_of(path) > 0 for path in run.rollouts(0).parent.glob("*"))
        if there and not accept_changes:
            raise InputError(
                f"{run.metrics}: is gone, though rollouts/ holds steps of a run; put it back, or "
                "train from the start by --accept-changes"
            )
        if not accept_changes and saves_told(run):
            raise InputError(
                f"{run.path}: events.jsonl tells of saved steps, but metrics.jsonl, rollouts/ and "
                "checkpoints/ are gone; put them back, or train from the start by --accept-changes"
            )
        take_back(run, 0)
        write_environment(training)
        write_recipe(training)
        write_jsonl(run.metrics, [])
        log_event(run, "start", 0, **training.ranks.facts)
        return
    step, skipped = place_to_resume(run, accept_changes)
    for sentence in skipped:
        say(sentence)
    if step:
        read_state(run.checkpoint(step))  # that of a later version is refused before anything moves
    if refuse_changes(training, step, accept_changes=accept_changes):
        take_back(run, step)
    set_aside_damaged(run, step)
    if step:
        training.state = restore(
            run.checkpoint(step), training.policy, training.optimizer, training.layout
        )
        training.find_place()
        write_bytes(run.metrics, saved_metrics(run, step))
        say(f"resuming after step {step}")
    else:
        write_jsonl(run.metrics, [])  # its score of step 0 will be read again
        say("resuming from the start: the steps are replayed from the rollouts that are there")
    name_damaged_rollouts(run, step)
    write_recipe(training)
    log_event(run, "resume", step, skipped=skipped, **training.ranks.facts)
    training.saver.retire(step)


def place_to_resume(run: RunFolder, accept_changes: bool) -> tuple[int, list[str]]:
    """(the checkpoint's step or 0 for the start, a sentence for each one that was skipped). A run
    that had checkpoints goes back to its start only where that is accepted.
    """
    if checkpoint_steps(run):
        try:
            return newest_valid(run)
        except InputError as error:
            if not accept_changes:
                raise
            return 0, [str(error).partition(";")[0]]
    saves = saves_told(run)
    if saves and not accept_changes:
        raise InputError(
            f"{run.checkpoints}: holds no checkpoint, though that of step {saves[-1]} was saved; "
            "put it back, or go back to the start, whose steps are replayed from rollouts/, by "
            "--accept-changes"
        )
    return 0, []


def saves_told(run: RunFolder) -> list[int]:
    """The steps that events.jsonl says were saved."""
    return [row["step"] for row in read_log(run.events) if row.get("event") == "save"]


def saved_metrics(run: RunFolder, step: int) -> bytes:
    """metrics.jsonl as it was at the checkpoint; of one without a copy, the rows up to it."""
    copy = run.checkpoint(step) / "trainer" / "metrics.jsonl"
    if copy.exists():
        return copy.read_bytes()
    rows = [row for row in read_log(run.metrics) if row.get("step", 0) <= step]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")


def name_damaged_rollouts(run: RunFolder, step: int) -> None:
    """Records of steps behind the checkpoint are not read again, so damage there is only told."""
    for path in sorted(run.rollouts(0).parent.glob("*.jsonl.gz")):
        if step_of(path) <= step and not is_intact(path):
            say(f"rollouts/{path.name} is damaged; its step lies behind the checkpoint and stays")
            log_event(run, "damaged", step_of(path), file=f"rollouts/{path.name}")


def is_intact(path: Path) -> bool:
    """Whether a gzip file is what its own checksum says; an empty one has none."""
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error):
        return False
    return path.stat().st_size > 0


def step_of(path: Path) -> int:
    """The step that a file of rollouts/ belongs to, -1 for another one."""
    match = STEP_FILE.fullmatch(path.name)
    return int(match[1]) if match else -1


def take_back(run: RunFolder, step: int) -> None:
    """Remove rollouts and validation scores of later steps, where they are to be made anew."""
    for path in made_after(run, step):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def made_after(run: RunFolder, step: int) -> list[Path]:
    """The files of rollouts and the folders of validation scores that belong to later steps."""
    later = [path for path in run.rollouts(0).parent.glob("*") if step_of(path) > step]
    for folder in run.evaluation("").glob("validation-*"):
        match = STEP_SCORE.fullmatch(folder.name)
        if match and int(match[1]) > step:
            later.append(folder)
    return later


# --- the recipe ---


def recipe_to_resume(run: RunFolder, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of the run, with settings changed that do not alter the maths; `start_or_resume`
    writes them to the run, if the start is not refused. A key that it lacks came with a later
    version, and its default is taken.
    """
    held = held_recipe(run)
    recipe = load_recipe(run.recipe, overrides)
    resolved = recipe.model_dump(mode="json")
    for key in missing_keys(held, resolved):
        place: Any = resolved
        for part in key.split("."):
            place = place[part]
        say(f"{run.recipe.name} has no {key}: its default is taken, {json.dumps(place)}")
    refuse_recipe_changes(run, held, recipe)
    if end := ending(run, recipe, held_decisions(run)):
        raise GuardStop(told_end(run, recipe, end))
    return recipe


# --- what must not have changed ---


def origin_of(training: Any) -> dict[str, Any]:
    """What the run's numbers depend on beside its state. The order of the training problems counts:
    the stream reads it.
    """
    problems = problem_lines(training.stream.problems).encode("utf-8")
    data = {"train": hashlib.sha256(problems).hexdigest()}
    if training.validation:
        data["validation"] = problems_hash(training.validation)
    return {
        "packages": {name: package_version(name) for name in PACKAGES},
        "device": str(training.policy.device),
        "data_sha256": data,
        "model_sha256": model_hash(training.recipe.model),
        "grader_policy": training.sampler.grader.policy_version,
        "threads": torch.get_num_threads(),
        "recipe": training.recipe.model_dump(mode="json"),
    }


def write_recipe(training: Any) -> None:
    """The settings that the run goes on with, where they are not those that it has."""
    recipe, now = training.run.recipe, training.recipe.model_dump(mode="json")
    if not recipe.exists() or read_json(recipe) != now:
        write_json(recipe, now)


def write_environment(training: Any) -> None:
    origin = training.origin
    facts = environment(
        origin["device"], data=origin["data_sha256"], model_hash=origin["model_sha256"]
    )
    facts |= {"grader_policy": origin["grader_policy"]}
    facts["device_name"] = device_name(training.policy.device)
    write_json(training.run.environment, facts)


def refuse_changes(training: Any, step: int, *, accept_changes: bool) -> list[str]:
    """The names of what differs and was accepted; InputError where something may not differ."""
    run = training.run
    held = held_origin(run, step)
    refuse_recipe_changes(run, held.get("recipe", {}), training.recipe)
    now = {key: value for key, value in training.origin.items() if key in held}
    threads = held.pop("threads", None)
    if threads not in (None, now.pop("threads", None)):
        say(f"the run was started with {threads} threads: sums may differ in their last bits")
    keys = now.keys() - {"recipe"}
    changed = sorted(different_keys({k: held[k] for k in keys}, {k: now[k] for k in keys}))
    if not changed:
        return []
    if not accept_changes:
        raise InputError(
            f"{run.path}: {', '.join(changed)} differ from those that the run started with; put "
            "them back, start under another name, or go on all the same by --accept-changes"
        )
    say(f"accepted although changed since the start: {', '.join(changed)}")
    log_event(run, "accept_changes", step, changed=changed)
    return changed


def held_origin(run: RunFolder, step: int) -> dict[str, Any]:
    """What the run started with, by its checkpoint, or by environment.json before the first."""
    path = run.checkpoint(step) / "trainer" / "origin.json" if step else run.environment
    if not path.exists():
        path = run.environment
    try:
        held: dict[str, Any] = read_json(path)
    except InputError as error:
        say(f"whether model and data are still the same cannot be told: {error}")
        return {}
    return held


def refuse_recipe_changes(run: RunFolder, held: dict[str, Any], now: Recipe) -> None:
    """Settings of another maths end here; others are told. A key that the held recipe lacks came
    with a later version: its default counts.
    """
    changed = changed_settings(held, now)
    maths = [key for key in changed if not is_free(key)]
    if maths:
        raise InputError(
            f"{run.recipe}: {', '.join(maths)} changed since the run was started, which would be "
            "another run; put them back (the checkpoint's trainer/origin.json holds the recipe), "
            "or start under another name"
        )
    if changed:
        say(f"settings changed since the start, without another maths: {', '.join(changed)}")


def changed_settings(held: dict[str, Any], now: Recipe) -> list[str]:
    """Dotted keys that both have and that differ."""
    resolved = now.model_dump(mode="json")
    lacking = set(missing_keys(held, resolved))
    return sorted(key for key in different_keys(held, resolved) if key not in lacking)


def missing_keys(held: Any, resolved: Any, prefix: str = "") -> Iterable[str]:
    """Dotted keys of `resolved` that a recipe written by an earlier version lacks."""
    if not (isinstance(held, dict) and isinstance(resolved, dict)):
        return
    for key, value in resolved.items():
        path = f"{prefix}.{key}" if prefix else key
        if key not in held:
            yield path
        else:
            yield from missing_keys(held[key], value, path)


def is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE_KEYS)
