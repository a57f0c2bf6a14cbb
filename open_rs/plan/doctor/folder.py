"""The run folder and its disk."""

import os
import tempfile
from pathlib import Path

from open_rs.lock import kernel_lock, refusal_of
from open_rs.plan.doctor.audit import gravest
from open_rs.plan.doctor.finding import Check, Verdict, ok, refused, skipped, warn
from open_rs.plan.doctor.subject import Subject
from open_rs.plan.doctor.weights import parameters
from open_rs.plan.findings import Facts
from open_rs.plan.run_checks import saves
from open_rs.runs import free_bytes, refuse_other_recipe, unwritable, write_text


def nearest(path: Path) -> Path:
    """`path`, or the closest of what is above it that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def writable(subject: Subject) -> Verdict:
    """The run folder can be written: whole files, flushed to the disk, put in place by a rename."""
    parent = nearest(subject.run.path)
    try:
        with tempfile.TemporaryDirectory(prefix=".open-rs-doctor-", dir=parent) as made:
            write_text(Path(made) / "file", "open-rs")
    except OSError as error:
        return refused(unwritable(subject.run.path, error))
    return ok(str(subject.run.path))


def locks(subject: Subject) -> Verdict:
    """Its file system has locks, which keep a second writer out."""
    parent = nearest(subject.run.path)
    with tempfile.TemporaryDirectory(prefix=".open-rs-doctor-", dir=parent) as made:
        lock = kernel_lock(Path(made))
        if lock is None:
            return warn(
                f"{parent}: its file system has no locks, so two runs are kept apart less surely",
                "give --out on a local disk",
            )
        os.close(lock)
    return ok("a lock was taken and given back")


def free(subject: Subject) -> Verdict:
    """No other process writes to the run folder."""
    refusal = refusal_of(subject.run.path) if subject.run.path.is_dir() else None
    return ok("nobody writes there") if refusal is None else refused(refusal)


def recipe(subject: Subject) -> Verdict:
    """The run folder holds no run of another recipe."""
    refuse_other_recipe(subject.run, subject.recipe)
    started = subject.run.metrics.exists()
    return ok("a run of this recipe was begun there" if started else "no run was begun there")


def space(subject: Subject) -> Verdict:
    """The disk has room for the checkpoints that the recipe keeps."""
    if not subject.native:
        return skipped("nothing is trained")
    each, have = checkpoint_bytes(subject), free_bytes(subject.run.path.absolute())
    facts = Facts(checkpoint_bytes=each, free_disk=have)
    told = f"{each / 2**30:.2f} GiB a checkpoint, and {have / 2**30:.1f} GiB are free"
    return gravest(saves(subject.recipe, facts), "train.keep_last", told)


def checkpoint_bytes(subject: Subject) -> int:
    """The weights, and two float32 moments of each where all are trained."""
    from open_rs.models import training_model

    stated = training_model(subject.recipe.model)
    each = 2 if stated.dtype == "bfloat16" else 4
    return parameters(subject.model_folder) * (each if stated.lora else each + 8)


CHECKS = (
    Check("run.writable", writable),
    Check("run.locks", locks, needs=("run.writable",)),
    Check("run.free", free, needs=("run.writable",)),
    Check("run.recipe", recipe),
)
SPACE = Check("disk.space", space, needs=("model.whole",))
