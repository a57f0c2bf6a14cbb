"""What runs of a sweep have in common is made by one of them and copied by the others."""

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from open_rs.console import say
from open_rs.interrupt import WAIT_SECONDS, poll
from open_rs.lock import NO_LOCKS
from open_rs.recipe import Recipe
from open_rs.runs import RunFolder, read_json


def curate_once(
    recipe: Recipe, run: RunFolder, siblings: Sequence[RunFolder], figures: dict[str, Any]
) -> None:
    """Curate, or take what another run has curated from the same inputs: it would be the same.
    Whoever comes while that one is at work waits for it.
    """
    from open_rs.curate import CuratedFolder, curate
    from open_rs.curate.inputs import curation_inputs
    from open_rs.curate.rounds import stages_of

    inputs = curation_inputs(recipe, stages_of(recipe))
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode("utf-8")).hexdigest()
    with one_at_a_time(run.path.parent.parent / f".curation-{digest[:16]}.lock"):
        for theirs in (CuratedFolder(one.curated) for one in siblings):
            if run.curated.exists():
                break
            if theirs.problems.exists() and read_json(theirs.inputs) == inputs:
                copy_whole(theirs.path, run.curated)
                say(f"curate: the same inputs as in {theirs.path}, which is copied")
        curate(recipe, run.curated, workers=1, figures=figures)


def take_base_score(recipe: Recipe, run: RunFolder, siblings: Sequence[RunFolder]) -> None:
    """The score of the model before training, where another run of the sweep has this very one:
    same weights, problems, sampling and seed.
    """
    from open_rs.evaluate.held_out import held_out_sets, is_done
    from open_rs.evaluate.scoring import folder_of
    from open_rs.evaluate.target import Target

    for held in held_out_sets(run, recipe, ()):
        target = Target(recipe.model.path, recipe, run, 0)
        mine = folder_of(target, held)
        for theirs in (one.evaluation(mine.name) for one in siblings):
            if not mine.exists() and is_done(target, held, theirs):
                copy_whole(theirs, mine)


def copy_whole(folder: Path, to: Path) -> None:
    """A copy that is there whole or not at all."""
    part = to.with_name(f".{to.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(folder, part)
    part.rename(to)


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Inside is one process of this host; the others wait. Without locks nobody waits."""
    with path.open("w") as file:
        while True:
            poll()
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(WAIT_SECONDS)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                break
        yield
