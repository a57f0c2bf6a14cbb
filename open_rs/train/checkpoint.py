"""Checkpoints: complete or absent, a Hugging Face model folder plus what training needs to go on.

    checkpoints/000050/
      config.json, model.safetensors, tokenizer files    AutoModelForCausalLM loads the folder
      trainer/optimizer.safetensors                      AdamW's moments, by parameter name
      trainer/adapter.safetensors                        only with LoRA: the adapters by themselves
      trainer/state.json                                 step, sampler position, counters
      manifest.json                                      size and SHA-256 of every other file

Sampling noise and learning rate are functions of (recipe, step), so they need no state. Nothing is
pickled.
"""

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from open_rs.errors import InputError
from open_rs.models import load_weights
from open_rs.runs import RunFolder, fsync_path, read_json, sha256, write_json

MANIFEST = "manifest.json"


@dataclass
class TrainState:
    """What the next step depends on beside weights, optimizer and recipe."""

    step: int = 0  # optimizer updates done
    sampler_position: int = 0
    nonfinite_in_a_row: int = 0


def save_checkpoint(
    run: RunFolder,
    policy: nn.Module,
    tokenizer: Any,
    optimizer: torch.optim.Optimizer,
    state: TrainState,
) -> Path:
    """Write checkpoints/STEP through a temporary neighbour, fsync and rename.

    A failed write (disk full) leaves earlier checkpoints as they were and raises InputError.
    """
    final = run.checkpoint(state.step)
    temporary = final.with_name(f".{final.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / "trainer").mkdir(parents=True)
        _write_parts(temporary, policy, tokenizer, optimizer, state)
        write_json(temporary / MANIFEST, _manifest(temporary))
        _fsync_tree(temporary)
        if final.exists():  # left by a run that was taken back to an earlier step
            shutil.rmtree(final)
        os.rename(temporary, final)
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


def _write_parts(
    folder: Path,
    policy: nn.Module,
    tokenizer: Any,
    optimizer: torch.optim.Optimizer,
    state: TrainState,
) -> None:
    if is_adapted(policy):
        save_file(_trained_tensors(policy), folder / "trainer" / "adapter.safetensors")
        _save_merged(policy, folder)
    else:
        policy.save_pretrained(folder)  # type: ignore[operator]
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:  # tokenizers raises a bare Exception when a file cannot be written
        raise OSError(str(error)) from error
    save_file(_optimizer_tensors(policy, optimizer), folder / "trainer" / "optimizer.safetensors")
    write_json(folder / "trainer" / "state.json", asdict(state))


def is_adapted(policy: nn.Module) -> bool:
    """Whether `policy` is a base model with LoRA adapters."""
    return hasattr(policy, "peft_config")


def _save_merged(policy: Any, folder: Path) -> None:
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
    base = policy.get_base_model()
    tensors = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in base.state_dict().items()
        if ".lora_" not in name
    }
    try:
        base.save_pretrained(folder, state_dict=tensors)
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


def _optimizer_tensors(policy: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's state as flat names: PARAMETER/exp_avg, PARAMETER/exp_avg_sq, PARAMETER/step."""
    return {
        f"{name}/{key}": value.detach().contiguous()
        for name, parameter in policy.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
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
        f"{run.checkpoints}: no intact checkpoint to resume from ({reasons}); "
        "start again under another name"
    )


def remove_leftovers(run: RunFolder) -> None:
    """Temporary folders of a save that was killed."""
    for path in run.checkpoints.glob(".*.tmp") if run.checkpoints.is_dir() else ():
        shutil.rmtree(path, ignore_errors=True)


def restore(folder: Path, policy: nn.Module, optimizer: torch.optim.Optimizer) -> TrainState:
    """Put a checkpoint's weights and moments into `policy` and `optimizer`; returns its state.

    Moments that the optimizer has from other steps are dropped.
    """
    device = next(policy.parameters()).device
    if is_adapted(policy):
        _copy_into(policy, load_file(folder / "trainer" / "adapter.safetensors"))
    else:
        load_weights(policy, folder)
    moments = load_file(folder / "trainer" / "optimizer.safetensors")
    optimizer.state.clear()
    for name, parameter in policy.named_parameters():
        keys = ("step", "exp_avg", "exp_avg_sq")
        values = {key: moments[f"{name}/{key}"] for key in keys if f"{name}/{key}" in moments}
        if values:  # AdamW keeps its step counter on the CPU
            optimizer.state[parameter] = {
                key: value if key == "step" else value.to(device) for key, value in values.items()
            }
    return TrainState(**read_json(folder / "trainer" / "state.json"))


def _copy_into(policy: nn.Module, tensors: dict[str, Tensor]) -> None:
    parameters = dict(policy.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)
