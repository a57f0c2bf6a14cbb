"""What a recipe will cost: steps, tokens, seconds, memory, dollars; what looks wrong beforehand."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from open_rs.plan.cluster import as_asked, cluster_of, engine_pace, phases_in, split_parts
from open_rs.plan.cost import price_per_hour
from open_rs.plan.devices import SPREAD, find_device
from open_rs.plan.findings import Facts, as_rows, checkpoint_steps, find
from open_rs.plan.fitting import Room, what_fits
from open_rs.plan.gather import Known, Wish, dead_share, decide, gather, lengths_for
from open_rs.plan.lengths import Lengths
from open_rs.plan.memory import parts_of, total_of
from open_rs.plan.pace import device_pace
from open_rs.plan.shapes import ModelShape
from open_rs.plan.workload import Machine, Step, evaluations_of, made_steps, sampling_seconds
from open_rs.recipe import PassRateFilter, Recipe
from open_rs.runs import RunFolder, free_bytes, write_json

RATE_SPREAD = 1.3  # what a probe of seconds measured holds for hours within this factor
BESIDE_TENSORS = 2**20  # bytes of a checkpoint's other files, about
WRITE_BYTES = 32 * 2**20


def make_plan(recipe: Recipe, run: RunFolder, wish: Wish | None = None) -> dict[str, Any]:
    """The plan of a recipe. It is written to plan.json where it is one for this machine, probed,
    and of the very problems that training will read.
    """
    wish = wish or Wish()
    started = time.perf_counter()
    known = gather(recipe, run, wish)
    plan = forecast(recipe, known, wish, run)
    plan["plan_seconds"] = time.perf_counter() - started
    if wish.device is None and known.probe is not None and not known.subject.raw:
        write_json(run.plan, plan)
    return plan


def forecast(recipe: Recipe, known: Known, wish: Wish, run: RunFolder) -> dict[str, Any]:
    """The plan as it stands in plan.json."""
    asked, recipe = recipe, decide(recipe, known.shape, known, wish)
    lengths = lengths_for(recipe, known, wish)
    dead, probed = dead_share(recipe, known)
    plan: dict[str, Any] = counts_of(recipe, known)
    low, mean, high = lengths.means()
    plan["lengths"] = {
        "low": low,
        "mean": mean,
        "high": high,
        "source": lengths.source,
        "completions": len(lengths.seen),
        "truncated_frac": lengths.truncated_frac(),
    } | ({f"p{q}": lengths.quantile(q / 100) for q in (10, 50, 90)} if lengths.seen else {})
    machine = machine_of(recipe, known, wish, dead)
    price = price_per_hour(recipe.budget, known.device)
    plan["device"] = {
        "name": known.device,
        "gpus": wish.gpus,
        "memory_bytes": known.device_memory,
        "usd_per_hour": price,
    }
    plan["usd_per_hour"] = None if price is None else price * wish.gpus
    room: Room | None = None
    if machine is not None:
        step = made_steps(recipe, lengths, machine, problems=plan["problems"])
        plan |= time_of(recipe, known, lengths, machine, step, run)
        spread = SPREAD if wish.device is not None or known.probe is None else RATE_SPREAD
        total = plan["seconds"]["total"]
        plan["seconds_range"] = [total * low / mean / spread, total * high / mean * spread]
        room = Room(recipe, known, machine)
        plan |= memory_of(recipe, known, machine, step, room)
    if plan["usd_per_hour"] is not None and "seconds_range" in plan:
        plan["usd_range"] = [one / 3600 * plan["usd_per_hour"] for one in plan["seconds_range"]]
    plan["probe"] = None if known.probe is None else known.probe.row()
    facts = facts_of(recipe, known, wish, plan, lengths, dead if probed else None, room, run)
    facts = replace(facts, recomputes=recipe.train.recomputes and not asked.train.recomputes)
    plan["findings"] = as_rows(find(recipe, facts))
    return plan


def counts_of(recipe: Recipe, known: Known) -> dict[str, Any]:
    """What follows from the recipe and the number of problems."""
    rollout, train = recipe.rollout, recipe.train
    problems = len(known.prompt_tokens) or known.subject.num_problems
    held_out = known.subject.held_out
    per_step = min(rollout.prompts_per_step, problems or rollout.prompts_per_step)
    prompts = train.num_steps // train.updates_per_batch * per_step
    sets = evaluations_of(recipe, held_out)
    return {
        "steps": train.num_steps,
        "problems": problems,
        "epochs": prompts / problems if problems else None,
        "steps_per_epoch": problems / per_step * train.updates_per_batch if problems else None,
        "prompts": prompts,
        "completions": prompts * rollout.group_size,
        "evaluation_completions": sum(n * k * times for _, n, k, times in sets),
        "max_completion_tokens": rollout.max_completion_tokens,
        "checkpoints": [
            {
                "step": step,
                "prompts": step // train.updates_per_batch * per_step,
                "completions": step // train.updates_per_batch * per_step * rollout.group_size,
            }
            for step in checkpoint_steps(recipe)
        ],
    }


def machine_of(recipe: Recipe, known: Known, wish: Wish, dead: float) -> Machine | None:
    """What does the work: this machine as probed, or a device of the table; None: not known."""
    if known.shape is None:
        return None
    cluster = cluster_of(
        wish.device or find_device(known.device),
        wish.gpus,
        engines_apart=wish.rollout_gpus,
        split=wish.split,
        overlapped=wish.overlapped,
    )
    cluster = as_asked(cluster, recipe)
    if wish.device is not None:
        pace = device_pace(wish.device, known.shape, checkpointing=recipe.train.recomputes)
        engine = engine_pace(wish.device, known.shape, cluster)
        return Machine(pace, known.shape, True, dead, cluster, engine)
    if known.probe is None:
        return None
    return Machine(known.probe.pace, known.shape, known.probe.packed, dead, cluster)


def time_of(
    recipe: Recipe,
    known: Known,
    lengths: Lengths,
    machine: Machine,
    step: Step,
    run: RunFolder,
) -> dict[str, Any]:
    """Seconds by phase, and of a step."""
    train = recipe.train
    batches = train.num_steps // train.updates_per_batch
    held_out = known.subject.held_out
    mean = lengths.means()[1]
    evaluated = sum(
        times
        * sampling_seconds(
            recipe, lengths, machine, problems=n, samples=k, cap=recipe.evaluation_cap
        )
        for _, n, k, times in evaluations_of(recipe, held_out)
    )
    curated = 0.0
    if known.subject.raw:
        curated = sum(
            sampling_seconds(
                recipe,
                lengths,
                machine,
                problems=known.subject.num_problems or 0,
                samples=one.num_samples,
                cap=recipe.rollout.max_completion_tokens,
            )
            for one in recipe.filters
            if isinstance(one, PassRateFilter) and one.model is None and one.engine is None
        )
    size = checkpoint_bytes(machine.shape)
    save = 0.2 + size / write_rate(run.path)
    scored = bool(held_out.get("validation")) * -(-train.num_steps // recipe.evaluate.every)
    seconds = {
        "rollout": batches * step.rollout_s,
        "update": batches * step.update_s,
        "evaluate": evaluated,
        "save": max(scored, 1) * save,  # beside training, but a score waits for it
    } | {
        name: value
        for name, value in (("exchange", batches * step.exchange_s), ("curate", curated))
        if value
    }
    count = sum(n * k * times for _, n, k, times in evaluations_of(recipe, held_out))
    at_once = min(step.rollout_s, step.update_s) if machine.cluster.overlapped else 0.0
    return {
        "completion_tokens": round(batches * step.tokens + count * mean),
        "completion_tokens_are": "expected",
        "seconds": seconds | {"total": sum(seconds.values()) - batches * at_once},
        "step_seconds": step.seconds(machine.cluster) / train.updates_per_batch,
        "step_tokens": step.tokens / train.updates_per_batch,
        "save_seconds": save,
        "checkpoint_bytes": size,
        "dead_frac": machine.dead,
    }


def checkpoint_bytes(shape: ModelShape) -> int:
    """Weights (merged, with adapters beside), and two moments of what is trained."""
    held = shape.parameters * shape.bytes_per_weight + shape.lora * 4
    return held + 2 * shape.trained_parameters * 4 + BESIDE_TENSORS


def write_rate(folder: Path) -> float:
    """Bytes a second that reach the disk of `folder`, hashed as a checkpoint is."""
    import hashlib
    import os
    import tempfile

    while not folder.exists():
        folder = folder.parent
    content = os.urandom(2**20) * (WRITE_BYTES // 2**20)
    started = time.perf_counter()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:  # it cannot be written to, which the run will say
        return 50e6
    hashlib.sha256(content).digest()
    return WRITE_BYTES / (time.perf_counter() - started)


def memory_of(
    recipe: Recipe, known: Known, machine: Machine, step: Step, room: "Room"
) -> dict[str, Any]:
    """The expected peak by part and phase, and the peak if every completion ran to its cap."""
    shape, cluster = machine.shape, machine.cluster
    parts = split_parts(parts_of(shape, step.sizes, room.setting), shape, cluster)
    phases = phases_in(parts, shape, cluster, batches=step.sizes.batches, copies_on_host=known.cuda)
    process = room.process
    total = total_of(phases, process)
    return {
        "memory_bytes": parts | {"process": max(process.values(), default=0), "total": total},
        "memory_phases": {name: size + process.get(name, 0) for name, size in phases.items()},
        "memory_at_cap": room.at_cap(recipe),
    }


def facts_of(
    recipe: Recipe,
    known: Known,
    wish: Wish,
    plan: dict[str, Any],
    lengths: Lengths,
    dead: float | None,
    room: "Room | None",
    run: RunFolder,
) -> Facts:
    """What the checks of findings read."""
    shape, probe, subject = known.shape, known.probe, known.subject
    told = {key: value for key, value in plan["lengths"].items() if isinstance(value, int | float)}
    memory, lower = plan.get("memory_at_cap"), None
    if room is not None and memory and known.device_memory and memory > known.device_memory:
        lower = what_fits(recipe, room, known.device_memory)
    return Facts(
        parameters=shape.parameters if shape else None,
        context=subject.shape.context if subject.shape else None,
        opens_think=known.opens_think,
        missing=subject.missing,
        problems=plan["problems"],
        too_long=known.too_long,
        longest_prompt=known.longest,
        uncurated=subject.raw,
        held_out=subject.held_out,
        pass_rates=tuple(subject.pass_rates.values()),
        lengths=told if lengths.seen else {},
        lengths_from=lengths.source,
        dead_frac=dead,
        reward_ranges=probe.reward_ranges if probe else {},
        no_answer_frac=probe.no_answer_frac if probe else None,
        gpus=wish.gpus,
        step_seconds=plan.get("step_seconds"),
        save_seconds=plan.get("save_seconds", 0.0),
        checkpoint_bytes=plan.get("checkpoint_bytes"),
        free_disk=free_bytes(run.path) if wish.device is None else None,
        reference_bytes=plan.get("memory_bytes", {}).get("reference", 0),
        memory=memory,
        device_memory=known.device_memory,
        device=known.device,
        lower=lower,
        usd_per_hour=plan["usd_per_hour"],
        imported=wish.imported,
    )
