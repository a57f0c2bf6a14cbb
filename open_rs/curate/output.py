"""The folder that curation leaves: its file names, what it was made from, and when it is whole."""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_rs.errors import InputError
from open_rs.plugins import load_function
from open_rs.problems import Problem, problem_lines
from open_rs.recipe import (
    ContaminationFilter,
    CustomFilter,
    GoldFilter,
    PassRateFilter,
    Recipe,
    Source,
)
from open_rs.runs import different_keys, read_json, sha256, write_json, write_jsonl, write_text

Row = dict[str, Any]


@dataclass(frozen=True)
class CuratedFolder:
    """The names of the files of an output. It is whole if `problems` is there, which comes last."""

    path: Path

    @property
    def problems(self) -> Path:
        return self.path / "problems.jsonl"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.jsonl"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def inputs(self) -> Path:
        return self.path / "inputs.json"

    @property
    def pass_rates(self) -> Path:
        return self.path / "pass_rates.jsonl"

    def write(
        self, problems: Sequence[Problem], manifest: Sequence[Row], summary: Row, inputs: Row
    ) -> None:
        """All of it, or none where a write fails; the journal of pass rates is left alone."""
        try:
            write_json(self.inputs, inputs)
            write_jsonl(self.manifest, manifest)
            write_json(self.summary, summary)
            write_text(self.problems, problem_lines(problems))
        except BaseException:
            self.clear()
            raise

    def clear(self) -> None:
        """Remove what a broken-off `write` may have left."""
        for file in (self.problems, self.inputs, self.manifest, self.summary):
            file.unlink(missing_ok=True)

    def finished(self, inputs: Row) -> Row | None:
        """The summary of a whole output of the same inputs, None where there is none; an output of
        other inputs is refused.
        """
        if not self.problems.exists():
            return None
        if not self.inputs.exists():
            raise InputError(
                f"{self.problems}: exists, and curate did not write it; give another folder"
            )
        held = read_json(self.inputs)
        if held != inputs:
            differing = ", ".join(sorted(different_keys(held, inputs))[:5])
            raise InputError(
                f"{self.path}: already holds a set curated from other inputs (different: "
                f"{differing}); give another folder, or remove this one"
            )
        summary: Row = read_json(self.summary)
        return summary


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


def curation_inputs(recipe: Recipe, *, limited: bool) -> Row:
    """Everything that decides what comes out: settings, hashes of files, the model where one is
    asked; `limited` if prompts over the limit are dropped.
    """
    dumped = recipe.model_dump(mode="json")
    kinds = {type(spec) for spec in recipe.filters}
    inputs: Row = {"sources": dumped["sources"], "filters": dumped["filters"]}
    held_out = {
        name: held_out_source(recipe, name)
        for spec in recipe.filters
        if isinstance(spec, ContaminationFilter)
        for name in spec.against
    }
    inputs["held_out"] = {name: one.model_dump(mode="json") for name, one in held_out.items()}
    inputs["files"] = dict(_file_hashes([*recipe.sources, *held_out.values()], recipe))
    if kinds & {GoldFilter, PassRateFilter}:
        inputs["grade"] = grading_key(recipe)
    if limited or PassRateFilter in kinds:
        inputs["prompt"] = dumped["prompt"]
        inputs["model"] = {key: dumped["model"][key] for key in ("path", "revision")}
    if PassRateFilter in kinds:
        inputs["sampling"] = sampling_settings(recipe)
    return inputs


def grading_key(recipe: Recipe) -> Row:
    from open_rs.grade.policy import policy_version

    version = policy_version(unboxed_numbers=recipe.grade.unboxed_numbers)
    return {"policy_version": version, "timeout_s": recipe.grade.timeout_s}


def sampling_settings(recipe: Recipe) -> Row:
    """What decides the completions of a pass-rate filter beside the prompt: weights and noise."""
    from open_rs.models import model_hash  # torch: but a pass rate needs it anyway

    rollout = recipe.rollout.model_dump(
        mode="json", exclude={"max_slots", "prompts_per_step", "group_size"}
    )
    return {
        "model_sha256": model_hash(recipe.model),
        "revision": recipe.model.revision,
        "dtype": recipe.model.dtype,
        "seed": recipe.seed,
        "rollout": rollout,
    }


def sampling_key(recipe: Recipe, prompt_fingerprint: str) -> str:
    """Identifies how pass rates were sampled and graded, thresholds apart (16 hex digits)."""
    parts = [sampling_settings(recipe), grading_key(recipe), prompt_fingerprint]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _file_hashes(sources: Sequence[Source], recipe: Recipe) -> Iterator[tuple[str, str]]:
    """(name, SHA-256) of each file that is read, and of the files of the user's functions."""
    functions = [spec.function for spec in recipe.filters if isinstance(spec, CustomFilter)]
    for source in sources:
        if source.path is not None:
            path = Path(source.path)
            file = path / "problems.jsonl" if path.is_dir() else path
            if not file.is_file():
                raise InputError(f"{file}: no such file; check the path in the recipe")
            yield source.path, sha256(file)
        elif source.task is not None and ":" in source.task:
            functions.append(source.task)
    for name in functions:
        load_function(name)  # with the cure in the sentence where it cannot be
        file_name = getattr(sys.modules[name.partition(":")[0]], "__file__", None)
        if file_name is not None:
            yield name, sha256(Path(file_name))
