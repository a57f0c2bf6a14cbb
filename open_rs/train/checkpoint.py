"""Checkpoints: complete or absent, a Hugging Face model folder plus what training needs to go on.

    checkpoints/000050/
      config.json, model.safetensors, tokenizer files    AutoModelForCausalLM loads the folder
      trainer/optimizer.safetensors                      AdamW's moments, by parameter name
      trainer/adapter.safetensors                        only with LoRA: the adapters by themselves
      trainer/state.json                                 step, place in the data, counters
      trainer/origin.json                                recipe, hashes of model and data, versions
      trainer/metrics.jsonl                              the run's metrics up to this step
      manifest.json                                      size and SHA-256 of every other file

Sampling noise and learning rate are functions of (recipe, step), so they need no state. Nothing is
pickled. A save has two parts: `take_snapshot` copies what changes to the host, `write_snapshot`
writes the copy and may do so in another thread.
"""

import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from open_rs.errors import InputError
from open_rs.models import load_weights
from open_rs.recipe import recipe_from_dict
from open_rs.runs import (
    RunFolder,
    free_bytes,
    fsync_path,
    read_json,
    rename,
    sha256,
    write_bytes,
    write_json,
)
from open_rs.train.distributed_layout import Moments, Replicated, shapes_of
from open_rs.train.schedule import save_is_due

MANIFEST = "manifest.json"
FORMAT = 2  # of trainer/; a higher one belongs to a later version
BESIDE_TENSORS = 32 * 2**20  # bytes that a checkpoint's other files need at most


@dataclass
class TrainState:
    """What the next step depends on beside weights, optimizer and recipe."""

    step: int = 0  # optimizer updates done
    sampler_position: int = 0
    history: dict[str, Any] = field(default_factory=dict)  # `selection.History.counts`
    nonfinite_in_a_row: int = 0
    micro_batch_tokens: int | None = None  # less than the recipe's, once memory did not suffice
    changes: list[dict[str, Any]] = field(default_factory=list)  # that triggers made (`settings`)


@dataclass
class Snapshot:
    """What one checkpoint will hold, on the host: training may go on while it is written."""

    state: TrainState
    model: Any  # whose configuration is written; its tensors are not read
    tensors: dict[str, Tensor]
    adapter: dict[str, Tensor]  # empty without LoRA
    moments: dict[str, Tensor]
    origin: dict[str, Any] = field(default_factory=dict)
    metrics: bytes = b""

    @property
    def bytes(self) -> int:
        """An upper bound of the folder's size."""
        parts = (self.tensors, self.adapter, self.moments)
        return sum(t.nbytes for part in parts for t in part.values()) + BESIDE_TENSORS


def take_snapshot(
    policy: Any,
    optimizer: torch.optim.Optimizer,
    state: TrainState,
    *,
    origin: dict[str, Any] | None = None,
    metrics: bytes = b"",
    layout: Replicated | None = None,
) -> Snapshot:
    """A copy of everything that the next step changes; whole, wherever its parts lie."""
    adapted, layout = is_adapted(policy), layout or Replicated(policy)
    if layout.is_sharded:
        layout.ranks.order("gather")
    with layout.filled() as whole:
        tensors = _merged_tensors(whole) if adapted else host_copy(whole.state_dict())
    moments = {name: on_host(value) for name, value in layout.moments(optimizer)}
    if layout.is_sharded:
        layout.ranks.wait()
    return Snapshot(
        state=TrainState(**asdict(state)),
        model=policy.get_base_model() if adapted else layout.whole,
        tensors=tensors,
        adapter=host_copy(_trained_tensors(policy)) if adapted else {},
        moments=moments,
        origin=origin or {},
        metrics=metrics,
    )


def host_copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the host; names that share one tensor (tied weights) share its copy."""
    made: dict[tuple[int, torch.Size], Tensor] = {}
    copies = {}
    for name, tensor in tensors.items():
        key = tensor.data_ptr(), tensor.shape
        if key not in made:
            made[key] = on_host(tensor)
        copies[name] = made[key]
    return copies


def on_host(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def save_checkpoint(
    run: RunFolder,
    policy: nn.Module,
    tokenizer: Any,
    optimizer: torch.optim.Optimizer,
    state: TrainState,
) -> Path:
    """Snapshot and write, one after the other."""
    return write_snapshot(run, take_snapshot(policy, optimizer, state), tokenizer)


def check_space(run: RunFolder, snapshot: Snapshot) -> None:
    """Refuse a save that cannot fit before anything of it is written."""
    free = free_bytes(run.checkpoints)
    if free < snapshot.bytes:
        raise InputError(
            f"{run.checkpoints}: the checkpoint of step {snapshot.state.step} needs "
            f"{snapshot.bytes / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; free space or lower "
            f"train.keep_last, then open-rs train --resume {run.path}"
        )


def write_snapshot(run: RunFolder, snapshot: Snapshot, tokenizer: Any) -> Path:
    """Write checkpoints/STEP through a temporary neighbour, fsync and rename.

    A failed write (disk full) leaves earlier checkpoints as they were and raises InputError.
    """
    final = run.checkpoint(snapshot.state.step)
    temporary = final.with_name(f".{final.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / "trainer").mkdir(parents=True)
        _write_parts(temporary, snapshot, tokenizer)
        write_json(temporary / MANIFEST, _manifest(temporary))
        _fsync_tree(temporary)
        if final.exists():  # left by a run that was taken back to an earlier step
            remove_checkpoint(final)
        rename(temporary, final)
        fsync_path(final.parent)
    except (OSError, SafetensorError, InputError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        newest = next(iter(checkpoint_steps(run)), None)
        kept = "there is none before it" if newest is None else f"step {newest} is intact"
        raise InputError(
            f"{final}: the checkpoint could not be saved ({error}); {kept}; "
            f"free space, then open-rs train --resume {run.path}"
        ) from error
    return final


def _write_parts(folder: Path, snapshot: Snapshot, tokenizer: Any) -> None:
    trainer = folder / "trainer"
    snapshot.model.save_pretrained(folder, state_dict=snapshot.tensors)
    if snapshot.adapter:
        save_file(snapshot.adapter, trainer / "adapter.safetensors")
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:  # tokenizers raises a bare Exception when a file cannot be written
        raise OSError(str(error)) from error
    save_file(snapshot.moments, trainer / "optimizer.safetensors")
    write_json(trainer / "state.json", {"format": FORMAT, **asdict(snapshot.state)})
    write_json(trainer / "origin.json", snapshot.origin)
    write_bytes(trainer / "metrics.jsonl", snapshot.metrics)


def remove_checkpoint(folder: Path) -> None:
    """Gone at once by its name, then its files: a kill leaves no half of it behind."""
    dying = folder.with_name(f".{folder.name}.old.tmp")
    shutil.rmtree(dying, ignore_errors=True)
    rename(folder, dying)
    shutil.rmtree(dying, ignore_errors=True)


def is_adapted(policy: nn.Module) -> bool:
    """Whether `policy` is a base model with LoRA adapters."""
    return hasattr(policy, "peft_config")


def _merged_tensors(policy: Any) -> dict[str, Tensor]:
    """The whole model with the adapters added in, while `policy` keeps them apart, bit for bit.

    Unmerging would subtract what was added and leave rounding behind, so the base weights are put
    back from a copy.
    """
    layers = {
        name: module.base_layer.weight.detach().clone()
        for name, module in policy.named_modules()
        if hasattr(module, "base_layer")
    }
    policy.merge_adapter()
    try:
        return host_copy(
            {
                name.replace(".base_layer.", "."): tensor
                for name, tensor in policy.get_base_model().state_dict().items()
                if ".lora_" not in name
            }
        )
    finally:
        policy.unmerge_adapter()
        with torch.no_grad():
            for name, module in policy.named_modules():
                if name in layers:
                    module.base_layer.weight.copy_(layers[name])


def _trained_tensors(policy: nn.Module) -> dict[str, Tensor]:
    return {
        name: parameter.detach().contiguous()
        for name, parameter in policy.named_parameters()
        if parameter.requires_grad
    }


def _manifest(folder: Path) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "files": {
            str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256(path)}
            for path in files
        }
    }


def _fsync_tree(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        fsync_path(path)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint folder, None if every file is as its manifest says."""
    try:
        listed = read_json(folder / MANIFEST)["files"].items()
        files = {name: (facts["bytes"], facts["sha256"]) for name, facts in listed}
    except (InputError, KeyError, TypeError, AttributeError) as error:
        return f"no usable manifest ({error})"
    if not files:
        return "no usable manifest (it lists no file)"
    for name, (size, checksum) in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size or sha256(path) != checksum:
            return f"{name} was changed or cut short"
    return None


def checkpoint_steps(run: RunFolder) -> list[int]:
    """Steps of all checkpoint folders, newest first, damaged ones included."""
    if not run.checkpoints.is_dir():
        return []
    names = [path.name for path in run.checkpoints.iterdir() if path.is_dir()]
    return sorted((int(name) for name in names if name.isdigit()), reverse=True)


def planned_steps(run: RunFolder) -> list[int]:
    """Of all checkpoints, newest first, those that their own recipe had planned. The others were
    saved because the run was stopped: one that nobody stopped has none of them, so what is kept and
    where a roll-back goes must not depend on them.
    """
    return [step for step in checkpoint_steps(run) if is_planned(run, step)]


def is_planned(run: RunFolder, step: int) -> bool:
    try:
        recipe = recipe_from_dict(
            read_json(run.checkpoint(step) / "trainer" / "origin.json")["recipe"]
        )
    except (InputError, KeyError, TypeError):  # it cannot be told
        return True
    return save_is_due(step, recipe)


def newest_valid(run: RunFolder) -> tuple[int, list[str]]:
    """(step of the newest intact checkpoint, a sentence for each newer one that was skipped)."""
    skipped: list[str] = []
    for step in checkpoint_steps(run):
        wrong = damage(run.checkpoint(step))
        if wrong is None:
            return step, skipped
        skipped.append(f"checkpoint {step:06d} skipped: {wrong}")
    reasons = "; ".join(skipped) or "none was saved yet"
    raise InputError(
        f"{run.checkpoints}: no intact checkpoint to resume from ({reasons}); put one back, or go "
        "back to the start, whose steps are replayed from rollouts/, by --accept-changes"
    )


def remove_leftovers(run: RunFolder) -> None:
    """Temporary folders of a save that was killed, and temporary files of other writes. A report
    may be written at the same time by somebody who holds no lock: its file is left alone.
    """
    for path in run.checkpoints.glob(".*.tmp"):
        shutil.rmtree(path, ignore_errors=True)
    written = [*run.path.glob(".*.tmp"), *run.rollouts(0).parent.glob(".*.tmp")]
    for path in [*written, *run.evaluation("").rglob(".*.tmp")]:
        if path.is_file() and not path.name.startswith(f".{run.report.name}."):
            path.unlink(missing_ok=True)


def set_aside_damaged(run: RunFolder, step: int) -> None:
    """Checkpoints newer than `step`, all of them damaged, keep their files under another name: they
    count neither as saved nor as the newest ones that retention keeps.
    """
    for newer in checkpoint_steps(run):
        if newer > step:
            aside = run.checkpoint(newer).with_name(f"damaged-{newer:06d}")
            shutil.rmtree(aside, ignore_errors=True)
            rename(run.checkpoint(newer), aside)


def restore(
    folder: Path,
    policy: nn.Module,
    optimizer: torch.optim.Optimizer,
    layout: Replicated | None = None,
) -> TrainState:
    """Put a checkpoint's weights and moments into `policy` and `optimizer`, on every rank; returns
    its state.

    Moments that the optimizer has from other steps are dropped.
    """
    layout = layout or Replicated(policy)
    flat = load_file(folder / "trainer" / "optimizer.safetensors")
    moments: Moments = {}
    for flat_name, value in flat.items():
        name, key = flat_name.split("/", 1)
        moments.setdefault(name, {})[key] = value
    with layout.held() as whole:
        if is_adapted(policy):
            _copy_into(policy, load_file(folder / "trainer" / "adapter.safetensors"))
        else:
            load_weights(whole, folder)
        layout.ranks.order("spread", shapes_of(moments))
        moments = layout.spread(moments)
    layout.set_moments(optimizer, moments)
    layout.ranks.wait()
    return read_state(folder)


def read_state(folder: Path) -> TrainState:
    """trainer/state.json; InputError where a later version wrote it."""
    held = read_json(folder / "trainer" / "state.json")
    if held.get("format", 1) > FORMAT:
        raise InputError(
            f"{folder}: a later version of open-rs wrote this checkpoint (format {held['format']}, "
            f"this one reads {FORMAT}); go on with that version"
        )
    known = {one.name for one in fields(TrainState)}
    return TrainState(**{key: value for key, value in held.items() if key in known})


def _copy_into(policy: nn.Module, tensors: dict[str, Tensor]) -> None:
    parameters = dict(policy.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)
