"""What decides the output of a curation: settings, files, the grader, the model that is asked."""

import sys
from pathlib import Path

from open_rs.curate.stages import Row, Stage
from open_rs.errors import InputError
from open_rs.plugins import load_function
from open_rs.recipe import Recipe, Source
from open_rs.runs import sha256


def curation_inputs(recipe: Recipe, stages: list[tuple[str, Stage, object]]) -> Row:
    """Everything that decides what comes out; inputs.json. An expected count decides nothing."""
    dumped = recipe.model_dump(mode="json")
    inputs: Row = {
        "sources": dumped["sources"],
        "filters": [{key: one[key] for key in one if key != "expect"} for one in dumped["filters"]],
        "files": {},
    }
    for source in recipe.sources:
        inputs["files"] |= source_hashes(source)
    for _, stage, spec in stages:
        for section, values in stage.inputs(spec, recipe).items():
            inputs.setdefault(section, {}).update(values)
    return inputs


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
    """{name: SHA-256} of each file that a source reads, and of the file of a task of the user's."""
    if source.task is not None and ":" in source.task:
        return function_hash(source.task)
    if source.path is None:
        return {}
    path = Path(source.path)
    file = path / "problems.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file}: no such file; check the path in the recipe")
    return {source.path: sha256(file)}


def function_hash(name: str) -> dict[str, str]:
    """{name: SHA-256 of the file that holds the user's function}."""
    load_function(name)  # with the cure in the sentence where it cannot be
    file_name = getattr(sys.modules[name.partition(":")[0]], "__file__", None)
    return {} if file_name is None else {name: sha256(Path(file_name))}
