"""The interpreter, the packages, and the variables and limits that a process is given."""

import importlib
import locale
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from open_rs.machine import package_version
from open_rs.plan.doctor.finding import Check, Verdict, fail, ok, skipped, warn
from open_rs.plan.doctor.subject import Subject
from open_rs.runs import free_bytes
from open_rs.text import brief

PACKAGE = "open-rs"
IMPORTED = ("numpy", "safetensors", "tokenizers", "torch", "transformers")
# Not required by us, but loaded by what we require where they are there
COMPANIONS = ("bitsandbytes", "deepspeed", "flash-attn", "torchao", "torchaudio", "torchvision")
# package, versions, what happens
KNOWN_BAD = (
    (
        "torchao",
        "<0.16",
        "peft refuses to make adapters beside it",
        'pip install -U "torchao>=0.16", or uninstall it',
    ),
    (
        "antlr4-python3-runtime",
        "!=4.13.2,!=4.11.*,!=4.9.3",
        "the grader's LaTeX parser cannot be loaded with it",
        'pip install "antlr4-python3-runtime==4.13.2"',
    ),
)
# Variables that a search for a fault leaves behind, and what they do
SLOW = {
    "CUDA_LAUNCH_BLOCKING": "every kernel is waited for",
    "PYTORCH_NO_CUDA_MEMORY_CACHING": "memory is asked of the driver at every tensor",
    "TORCH_USE_CUDA_DSA": "kernels check themselves",
    "PYTHONMALLOC": "Python's own allocator is off",
    "PYTHONTRACEMALLOC": "every allocation is traced",
    "PYTHONDEVMODE": "Python's development mode is on",
}
OFF = ("", "0", "default")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
FEWEST_FILES = 256
FREE_TEMPORARY = 100 * 2**20


def python_version(subject: Subject) -> Verdict:
    """The interpreter is one that the package supports."""
    wanted = Requirement(f"python{metadata.metadata(PACKAGE)['Requires-Python']}").specifier
    have = platform.python_version()
    if not wanted.contains(have, prereleases=True):
        return fail(f"Python is {have}, and {wanted} is needed", "install another Python")
    return ok(f"Python {have}")


def requirements(package: str) -> tuple[Requirement, ...]:
    """What an installed package declares for this interpreter, without extras."""
    declared = (Requirement(line) for line in metadata.requires(package) or ())
    return tuple(one for one in declared if not one.marker or one.marker.evaluate({"extra": ""}))


def packages_installed(subject: Subject) -> Verdict:
    """Every package that open-rs requires is installed."""
    wanted = requirements(PACKAGE)
    missing = [one.name for one in wanted if package_version(one.name) is None]
    if missing:
        return fail(f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return ok(f"{len(wanted)} packages")


def packages_versions(subject: Subject) -> Verdict:
    """Their versions are in the ranges that open-rs declares."""
    wrong = list(_unmet(PACKAGE))
    if wrong:
        needs = " ".join(f'"{one.name}{one.specifier}"' for one, _ in wrong)
        told = ", ".join(f"{one.name} is {have}, not {one.specifier}" for one, have in wrong)
        return fail(told, f"pip install {needs}")
    shown = ", ".join(f"{name} {package_version(name)}" for name in ("torch", "transformers"))
    return ok(shown)


def _unmet(package: str) -> Iterator[tuple[Requirement, str]]:
    """The requirements of a package that what is installed does not meet."""
    for one in requirements(package):
        have = package_version(one.name)
        if have is not None and not one.specifier.contains(have, prereleases=True):
            yield one, have


def packages_agree(subject: Subject) -> Verdict:
    """What those packages require of each other is met, torchvision and its like included."""
    told = []
    for package in [*(one.name for one in requirements(PACKAGE)), *COMPANIONS]:
        have = package_version(package)
        if have is not None:
            told += [
                f"{package} {have} needs {one.name}{one.specifier}, and {installed} is there"
                for one, installed in _unmet(package)
            ]
    if told:
        return warn("; ".join(told), "install versions that belong together, or uninstall one")
    return ok("no package asks for another version of another")


def packages_known_bad(subject: Subject) -> Verdict:
    """No package is installed that is known to break another."""
    for name, versions, what, cure in KNOWN_BAD:
        have = package_version(name)
        if have and Requirement(f"{name}{versions}").specifier.contains(have, prereleases=True):
            return fail(f"{name} {have}: {what}", cure)
    return ok(f"{len(KNOWN_BAD)} combinations looked for")


def packages_import(subject: Subject) -> Verdict:
    """The packages that hold compiled code can be imported."""
    for name in IMPORTED:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a broken wheel raises
            reason = brief(error)
            return fail(
                f"{name} cannot be imported ({type(error).__name__}: {reason})",
                f"pip install --force-reinstall {name}",
            )
    return ok(", ".join(IMPORTED))


def python_asserts(subject: Subject) -> Verdict:
    """Python runs without -O: libraries rely on their assertions."""
    if sys.flags.optimize:
        return warn(
            "Python runs with -O or PYTHONOPTIMIZE, so no assertion is checked",
            "unset PYTHONOPTIMIZE and start without -O",
        )
    return ok("assertions are checked")


def encoding(subject: Subject) -> Verdict:
    """File names and the terminal take any text (UTF-8)."""
    files, text = sys.getfilesystemencoding(), locale.getpreferredencoding(False)
    wrong = [name for name in (files, text) if name.lower().replace("-", "") != "utf8"]
    if wrong:
        return warn(
            f"the locale's encoding is {wrong[0]}, so names and output with other letters fail",
            "set LC_ALL=C.UTF-8",
        )
    return ok("UTF-8")


def clock(subject: Subject) -> Verdict:
    """The clock is not before the package's own files: times of events and of files go by it."""
    newest = max(file.stat().st_mtime for file in Path(__file__).parents[2].glob("*.py"))
    behind = newest - time.time()
    if behind > 60:
        return warn(
            f"the clock is {behind / 3600:.1f} h behind the package's own files",
            "set the clock of the machine",
        )
    return ok(time.strftime("%Y-%m-%d %H:%M"))


def threads_readable(subject: Subject) -> Verdict:
    """The variables that set the number of threads hold a number."""
    for name in THREADS:
        value = os.environ.get(name)
        if value is not None and not (value.isdecimal() and int(value) > 0):
            return warn(f"{name} is {value!r}, which is no number of threads", f"unset {name}")
    given = [f"{name}={os.environ[name]}" for name in THREADS if name in os.environ]
    return ok(", ".join(given) or "neither OMP_NUM_THREADS nor MKL_NUM_THREADS is set")


def slow_variables(subject: Subject) -> Verdict:
    """No variable is set that slows everything down, as a search for a fault leaves behind."""
    found = [name for name in SLOW if os.environ.get(name, "") not in OFF]
    if found:
        told = ", ".join(f"{name} ({SLOW[name]})" for name in found)
        return warn(f"set in the environment: {told}", f"unset {' '.join(found)}")
    return ok(f"{len(SLOW)} variables looked for")


def temporary_files(subject: Subject) -> Verdict:
    """Temporary files can be written, and there is room for them."""
    try:
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"open-rs")
            file.flush()
    except OSError as error:
        return fail(
            f"no temporary file can be written ({error})",
            "free space, or set TMPDIR to a folder that can be written",
        )
    folder = Path(tempfile.gettempdir())
    free = free_bytes(folder)
    if free < FREE_TEMPORARY:
        return warn(
            f"{folder}: {free / 2**20:.0f} MiB are free",
            "free space, or set TMPDIR to another folder",
        )
    return ok(f"{folder}, {free / 2**30:.1f} GiB free")


def open_files(subject: Subject) -> Verdict:
    """The process may open files enough."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEWEST_FILES:
        return warn(f"only {soft} files may be open at a time", "ulimit -n 4096")
    return ok("no limit" if soft == resource.RLIM_INFINITY else f"{soft} files")


def address_space(subject: Subject) -> Verdict:
    """No limit on the process's memory (ulimit -v) stands in the way."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return ok("no limit")
    return warn(
        f"the process may use {soft / 2**30:.1f} GiB of addresses, of which libraries reserve "
        "much more than they use",
        "ulimit -v unlimited",
    )


def umask(subject: Subject) -> Verdict:
    """Files that are written can be read again by their owner."""
    mask = os.umask(0)
    os.umask(mask)
    if mask & 0o600:
        return fail(f"the umask is {mask:04o}: what is written cannot be read again", "umask 022")
    return ok(f"{mask:04o}")


def compiler(subject: Subject) -> Verdict:
    """A C compiler is there where the recipe compiles (vLLM without enforce_eager)."""
    from shutil import which

    spec = subject.recipe.rollout.engine
    if spec.type != "vllm" or spec.enforce_eager:
        return skipped("nothing in the recipe compiles")
    found = next(filter(None, map(which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)
    if found is None:
        return fail(
            "vLLM compiles the model, and there is no C compiler",
            "install gcc, or set rollout.engine.enforce_eager = true",
        )
    return ok(found)


CHECKS = (
    Check("python.version", python_version),
    Check("python.asserts", python_asserts),
    Check("packages.installed", packages_installed),
    Check("packages.versions", packages_versions),
    Check("packages.agree", packages_agree),
    Check("packages.known_bad", packages_known_bad),
    Check("packages.import", packages_import, needs=("packages.installed",)),
    Check("environment.encoding", encoding),
    Check("environment.clock", clock),
    Check("environment.threads", threads_readable),
    Check("environment.slow", slow_variables),
    Check("environment.temporary", temporary_files),
    Check("environment.compiler", compiler),
    Check("limits.open_files", open_files),
    Check("limits.memory", address_space),
    Check("limits.umask", umask),
)
