"""What this process may use of the machine, and what it runs on: versions, device, commit."""

import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from open_rs.text import redact_all

PACKAGES = ("open-rs", "torch", "transformers", "accelerate", "peft", "numpy", "math-verify")


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(device: str, data: dict[str, str], model_hash: str) -> dict[str, Any]:
    """What a reader needs to run this again: versions, device, git commit, hashes of data and
    model.
    """
    return {
        "packages": {name: package_version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "cpu_count": os.cpu_count(),
        "git_commit": git_commit(),
        "data_sha256": data,
        "model_sha256": model_hash,
        "command": redact_all(sys.argv),
    }


@cache
def package_version(package: str) -> str | None:
    """The installed version; None where the package is absent."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """The commit of the working tree that holds this package; None for an installed copy, in
    whatever repository its environment may lie.
    """
    here = Path(__file__)
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    return _git(here.parent, "rev-parse", "HEAD")


def _git(folder: Path, *words: str) -> str | None:
    """What git prints, None where it is not there or fails."""
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
