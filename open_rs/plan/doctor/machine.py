"""Cores, memory and the device."""

import os
import platform
import shutil
from pathlib import Path

import psutil

from open_rs.plan.doctor.finding import Check, Verdict, fail, ok, skipped, warn
from open_rs.plan.doctor.subject import Subject
from open_rs.plan.doctor.weights import parameters

CGROUP = Path("/sys/fs/cgroup")
NVIDIA = Path("/proc/driver/nvidia/version")


def usable_cores() -> float:
    """The cores that this process may use: its affinity, and the quota of its container."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):  # no such controller, or cgroup v1
        return cores
    return cores if quota == "max" else min(cores, max(int(quota) / int(period), 1.0))


def free_memory() -> int:
    """Bytes that this process can still take: of the machine, and of its container."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return free
    used -= int(stat.get("inactive_file", 0))  # a cache, which gives way
    return free if limit == "max" else min(free, int(limit) - used)


def cpu_threads(subject: Subject) -> Verdict:
    """No more threads than cores that this process may use: beyond them every step is slower."""
    import torch

    cores = usable_cores()
    given = os.environ.get("OMP_NUM_THREADS", "")
    if subject.recipe.threads is not None:
        key, threads = "threads", subject.recipe.threads
    elif given.isdecimal() and int(given):
        key, threads = "OMP_NUM_THREADS", int(given)
    else:
        key, threads = "torch's own choice", torch.get_num_threads()
    if threads > cores:
        return warn(
            f"{threads} threads ({key}) on {cores:g} cores that this process may use",
            f"set threads = {max(int(cores), 1)} in the recipe",
        )
    return ok(f"{threads} threads on {cores:g} cores")


def cpu_instructions(subject: Subject) -> Verdict:
    """torch uses the vector instructions of the processor (AVX2 or better on x86)."""
    import torch

    level = torch.backends.cpu.get_cpu_capability()
    if platform.machine().lower() in ("x86_64", "amd64") and level in ("DEFAULT", "NO AVX"):
        return warn(
            "torch uses no AVX2, so a CPU is many times slower",
            "unset ATEN_CPU_CAPABILITY, or use a processor that has it",
        )
    return ok(level)


def device_usable(subject: Subject) -> Verdict:
    """The device that the recipe asks for is there and computes."""
    import torch

    device = subject.device
    total = torch.ones(8, device=device).sum().item()
    if total != 8:
        return fail(f"{device} adds 8 ones up to {total}", "use another device")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return ok(f"{device} ({name})")


def has_nvidia() -> bool:
    """Whether an NVIDIA driver is installed, whatever torch sees."""
    return NVIDIA.exists() or shutil.which("nvidia-smi") is not None


def are_hidden() -> bool:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")


def device_hidden(subject: Subject) -> Verdict:
    """No variable hides the GPUs of the machine."""
    if not has_nvidia():
        return skipped("no NVIDIA driver here")
    if are_hidden():
        return warn(
            "CUDA_VISIBLE_DEVICES hides every GPU of this machine", "unset CUDA_VISIBLE_DEVICES"
        )
    return ok("none is hidden")


def device_build(subject: Subject) -> Verdict:
    """On a machine with an NVIDIA GPU torch is built for CUDA."""
    import torch

    if not has_nvidia():
        return skipped("no NVIDIA driver here")
    if torch.version.cuda is None and torch.version.hip is None:
        return warn(
            f"torch {torch.__version__} is built for CPUs, and the GPU lies idle",
            "install torch for CUDA: pip install --force-reinstall torch, without constraints.txt",
        )
    return ok(f"CUDA {torch.version.cuda}")


def device_driver(subject: Subject) -> Verdict:
    """The driver works with the CUDA that torch is built for."""
    import torch

    if not has_nvidia() or are_hidden() or torch.version.cuda is None:
        return skipped("no GPU to be seen, or torch is built for CPUs")
    if not torch.cuda.is_available():
        return warn(
            f"torch is built for CUDA {torch.version.cuda} and can use no GPU here",
            "update the driver, or install torch for the CUDA that nvidia-smi names",
        )
    return ok(f"CUDA {torch.version.cuda}")


def device_bfloat16(subject: Subject) -> Verdict:
    """The device computes in bfloat16 itself, where the recipe asks for it."""
    import torch

    from open_rs.models import has_bfloat16, pick_dtype

    device = subject.device
    if pick_dtype(subject.recipe.model, device) != torch.bfloat16:
        return skipped("the recipe computes in float32")
    if not has_bfloat16(device):
        return warn(
            f"{device} has no bfloat16 of its own, so it is slower than float32",
            'set model.dtype = "float32"',
        )
    return ok(f"{device} has bfloat16")


def memory(subject: Subject) -> Verdict:
    """Memory holds the weights, and where all of them are trained their gradients and moments."""
    import torch

    recipe, device = subject.recipe, subject.device
    if not subject.native:
        return skipped("the engine holds the model")
    count = parameters(subject.model_folder)
    each = 4 if recipe.model.dtype == "float32" or device.type == "cpu" else 2
    if recipe.model.lora is None:
        each = 4 if recipe.model.dtype != "bfloat16" else 2
        each += each + 8 + (each if recipe.loss.kl_coef else 0)
    need = count * each
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    told = f"at least {need / 2**30:.2f} GiB are needed, and {free / 2**30:.2f} GiB are free"
    if need > free:
        return fail(
            f"{told} on {device}",
            "train adapters ([model.lora]), a smaller model, or on a larger device",
        )
    return ok(f"{told} on {device}")


CHECKS = (
    Check("cpu.threads", cpu_threads, needs=("packages.import",)),
    Check("cpu.instructions", cpu_instructions, needs=("packages.import",)),
    Check("device.hidden", device_hidden),
    Check("device.build", device_build, needs=("packages.import",)),
    Check("device.driver", device_driver, needs=("packages.import",)),
    Check("device.usable", device_usable, needs=("packages.import",)),
    Check("device.bfloat16", device_bfloat16, needs=("device.usable",)),
)
MEMORY = Check("device.memory", memory, needs=("device.usable", "model.whole"))
