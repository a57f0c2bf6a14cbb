"""The folder that curation leaves: its file names, what it was made from, and when it is whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from open_rs.curate.stages import Row
from open_rs.errors import InputError
from open_rs.problems import Problem, problem_lines
from open_rs.runs import different_keys, read_json, write_json, write_jsonl, write_text


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
