"""What a plan is about: the problems, the model's shape, and what of them is not on this machine.

Nothing is fetched from a network unless that is asked for: what is not here is named, and what
needs it is left out of the forecast.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from open_rs.benchmarks import BENCHMARKS
from open_rs.errors import InputError
from open_rs.plan.shapes import HALF, ModelShape, known_shape, shape_of_config, with_lora
from open_rs.problems import Problem, load_problems, read_source
from open_rs.recipe import ModelRecipe, Recipe, Source
from open_rs.runs import RunFolder, read_json, read_log, training_source

# Rows of training sets that may not be here: arXiv 2503.16219, section 3 and appendix
KNOWN_ROWS = {
    "knoveleng/open-rs": 7_000,
    "knoveleng/open-s1": 18_615,
    "knoveleng/open-deepscaler": 21_044,
}


@dataclass
class Subject:
    """`problems`: rows to train on, empty where they are not here; `raw`: they are not curated."""

    problems: list[Problem] = field(default_factory=list)
    num_problems: int | None = None
    raw: bool = False
    held_out: dict[str, int] = field(default_factory=dict)
    pass_rates: dict[str, float] = field(default_factory=dict)
    model_here: bool = False
    shape: ModelShape | None = None
    missing: dict[str, str] = field(default_factory=dict)  # key: what is not here


def look(recipe: Recipe, run: RunFolder, *, download: bool) -> Subject:
    """Everything about the recipe that can be known without loading the model."""
    found = Subject()
    look_at_data(found, recipe, run, download)
    for name, source in recipe.data.held_out.items():
        count = rows_of(source, download)
        if count is None:
            found.missing[f"data.{name}"] = f"{source.label} is not on this machine"
        else:
            found.held_out[name] = count
    found.model_here = download or is_here(recipe.model)
    found.shape = shape_of(recipe.model)
    if not found.model_here:
        what = f"{recipe.model.path} is not on this machine, so nothing was probed"
        if found.shape is None:
            what += ", and its shape is not in the table of known models"
        found.missing["model.path"] = what
    return found


def look_at_data(found: Subject, recipe: Recipe, run: RunFolder, download: bool) -> None:
    """The training problems: of data.train, of the run's curation, or raw."""
    curated = (run.curated / "problems.jsonl").is_file()
    if recipe.data.train is None and not curated and recipe.sources:
        found.raw = True
        sources = recipe.sources
    else:
        sources = (training_source(recipe, run),)
    for source in sources:
        key = "sources" if found.raw else "data.train"
        if not (download or source_is_here(source)):
            found.missing[key] = f"{source.label} is not on this machine"
            rows = known_rows(source)
            found.num_problems = None if rows is None else (found.num_problems or 0) + rows
            continue
        found.problems += raw_problems(source) if found.raw else load_problems(source)
    if found.problems:
        found.num_problems = (found.num_problems or 0) + len(found.problems)
        found.pass_rates = known_pass_rates(sources[0])


def raw_problems(source: Source) -> list[Problem]:
    """The rows that can be read; curation will say what is wrong with the others."""
    rows = [row for _, row in read_source(source) if isinstance(row, Problem)]
    return list({row.id: row for row in rows}.values())


def known_pass_rates(source: Source) -> dict[str, float]:
    """Of a curated folder's problems, where it has them."""
    rows = read_log(Path(source.path or "") / "pass_rates.jsonl")
    return {one["problem_id"]: one["correct"] / one["decided"] for one in rows if one["decided"]}


def rows_of(source: Source, download: bool) -> int | None:
    """How many problems a source has; None where it is not here and not known."""
    if download or source_is_here(source):
        return len(load_problems(source))
    return known_rows(source)


def known_rows(source: Source) -> int | None:
    """Of a public set by its address."""
    named = [one.num_problems for one in BENCHMARKS.values() if one.source.hub == source.hub]
    rows = named[0] if named else KNOWN_ROWS.get(source.hub or "")
    return rows if rows is None or source.count is None else min(rows, source.count)


def source_is_here(source: Source) -> bool:
    """Whether it can be read without a network."""
    if source.hub is None or Path(source.hub).exists():
        return True
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_DATASETS_CACHE", home / "datasets"))
    return (cache / source.hub.replace("/", "___")).is_dir()


def is_here(model: ModelRecipe) -> bool:
    """Whether the model can be loaded without a network."""
    return config_file(model) is not None


def config_file(model: ModelRecipe) -> Path | None:
    """Its config.json on this machine: in the package, in a folder, or fetched before."""
    from open_rs.models import model_path

    path = model_path(model.path)
    if Path(path).is_dir() or path.startswith((".", "/", "~")) or path.count("/") != 1:
        return Path(path) / "config.json"  # a bad path is refused where it is loaded
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(path, "config.json", revision=model.revision)
    return Path(found) if isinstance(found, str) else None


def shape_of(model: ModelRecipe) -> ModelShape | None:
    """By its config.json, or by the table of known models."""
    file = config_file(model)
    if file is None or not file.is_file():
        return known_shape(model.path)
    config: Mapping[str, Any] = read_json(file)
    try:
        return shape_of_config(config.get("text_config") or config)
    except KeyError:  # of another architecture: the loaded model tells
        return None


def shape_loaded(model: Any, recipe: ModelRecipe) -> ModelShape:
    """The shape of a loaded model, its weights counted."""
    config = model.config.get_text_config()
    settings = {**config.to_dict(), "num_attention_heads": config.num_attention_heads}
    try:
        shape = shape_of_config(settings)
    except KeyError as missing:
        name = type(model).__name__
        raise InputError(
            f"model.path {recipe.path}: {name} states no {missing}, which a forecast needs; use "
            "another model"
        ) from None
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    whole = sum(one.numel() for one in model.parameters())
    first = next(one for one in model.parameters())
    lora = trained if recipe.lora is not None else 0
    return replace(
        shape,
        lora=lora,
        counted=whole - lora,
        bytes_per_weight=first.element_size(),
        bytes_per_value=HALF if first.is_cuda else first.element_size(),
    )


def shape_elsewhere(shape: ModelShape, recipe: ModelRecipe, *, cuda: bool) -> ModelShape:
    """The shape as it would be loaded: `models.training_model` says in which types."""
    half = recipe.dtype == "bfloat16" or (cuda and recipe.dtype == "auto" and recipe.lora)
    return replace(
        with_lora(replace(shape, counted=None if shape.lora else shape.counted), recipe.lora),
        bytes_per_weight=HALF if half else 4,
        bytes_per_value=HALF if half or cuda else 4,
    )
