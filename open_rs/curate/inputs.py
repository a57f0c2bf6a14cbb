"""What decides the output of a curation: settings, files, the grader, the model that is asked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from open_rs.curate.stages import Row
from open_rs.errors import InputError
from open_rs.machine import package_version
from open_rs.plugins import load_function
from open_rs.recipe import FilterSpec, Recipe, Source
from open_rs.recipe.filters import ModelFilter
from open_rs.rows import files_of
from open_rs.runs import sha256
from open_rs.tasks import GYM

if TYPE_CHECKING:
    from open_rs.curate.rounds import NamedStage


def curation_inputs(recipe: Recipe, stages: Sequence[NamedStage]) -> Row:
    """Everything that decides what comes out, for inputs.json."""
    inputs: Row = {
        "sources": [deciding(one) for one in recipe.sources],
        "filters": [deciding(one) for one in recipe.filters],
        "files": {},
    }
    for source in recipe.sources:
        inputs["files"] |= source_hashes(source)
    for one in stages:
        for section, values in one.stage.inputs(one.spec, recipe).items():
            inputs.setdefault(section, {}).update(values)
    return inputs


def deciding(spec: Source | FilterSpec) -> Row:
    """The settings of a source or a filter that can change the output: not an expected count, nor
    where and how fast an engine is asked.
    """
    settings = spec.model_dump(mode="json", exclude={"expect", "max_undecided"})
    for key in ("options", "choices"):
        if not settings.get(key):  # not used, it decides nothing
            settings.pop(key, None)
    if isinstance(spec, ModelFilter) and spec.engine is not None:
        settings["engine"] = spec.engine.shaping()
    return settings


def held_out_source(recipe: Recipe, name: str) -> Source:
    """The set that a contamination filter names: of the recipe's `data`, else a path."""
    if name not in ("validation", "test"):
        return Source(path=name)
    if name not in recipe.data.held_out:
        raise InputError(
            f'filter contamination: against "{name}", but the recipe has no data.{name}; '
            "state it, or name in against what to check"
        )
    return recipe.data.held_out[name]


def source_hashes(source: Source) -> dict[str, str]:
    """{name: SHA-256} of each file that a source reads and of the user's functions in it, and the
    version of the package that makes its problems.
    """
    hashes: dict[str, str] = {}
    for function in (source.task or "", source.answer_from):
        if function.startswith(GYM):
            hashes["reasoning-gym"] = package_version("reasoning-gym") or "not installed"
        elif ":" in function:
            hashes |= function_hash(function)
    if source.path is None:
        return hashes
    return hashes | {str(file): sha256(file) for file in files_of(source.path)}


def function_hash(name: str) -> dict[str, str]:
    """{name: SHA-256 of the file that holds the user's function}."""
    load_function(name)  # with the cure in the sentence where it cannot be
    file_name = getattr(sys.modules[name.partition(":")[0]], "__file__", None)
    return {} if file_name is None else {name: sha256(Path(file_name))}
