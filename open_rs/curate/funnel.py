"""What each filter did to how many rows, counted from the files of the work area."""

from collections import Counter
from collections.abc import Iterable, Sequence

from open_rs.console import say
from open_rs.curate.rounds import NamedStage, Round, verdicts_before
from open_rs.curate.stages import Drop, Row
from open_rs.curate.store import Index, WorkArea
from open_rs.recipe import Recipe

READ = "read"  # the stage at which rows are dropped that cannot be read


class Funnel:
    """Counts of a curation, filled round by round."""

    def __init__(self, index: Index, recipe: Recipe) -> None:
        self.index = index
        self.recipe = recipe
        self.kept = index.rows
        self.stages: list[Row] = []

    def count_read(self, work: WorkArea, chunks: Iterable[int]) -> None:
        """The rows that could not be read; no stage where there are none."""
        if not any(source["bad_rows"] for source in self.index.sources):
            return
        reasons: Counter[str] = Counter()
        for number in chunks:
            reasons.update(
                reason for reason in work.read_chunk(number).column("bad").to_pylist() if reason
            )
        self._add(READ, reasons, Counter(), None)

    def count_round(self, work: WorkArea, round_: Round, chunks: Iterable[int]) -> None:
        """The filters of a round that is done for all these chunks."""
        dropped: dict[int, Counter[str]] = {one.number: Counter() for one in round_.stages}
        noted: dict[int, Counter[str]] = {one.number: Counter() for one in round_.stages}
        for number in chunks:
            for _, stage, said in verdicts_before(work, [round_], number):
                counts = dropped if isinstance(said, Drop) else noted
                counts[stage][said.reason] += 1
        for one in round_.stages:
            self._add(one.name, dropped[one.number], noted[one.number], one)

    def _add(
        self, name: str, dropped: Counter[str], noted: Counter[str], stage: NamedStage | None
    ) -> None:
        before, self.kept = self.kept, self.kept - dropped.total()
        row: Row = {
            "filter": name,
            "input": before,
            "dropped": dropped.total(),
            "kept": self.kept,
            "reasons": dict(dropped.most_common()),
            "noted": dict(noted.most_common()),
            "expected": None if stage is None else stage.spec.expect,
        }
        self.stages.append(row)
        say(f"curate: {stage_text(row)}")

    def summary(self) -> Row:
        rows: Counter[str] = Counter()
        for source in self.index.sources:
            rows[source["label"]] += source["rows"]
        return {
            "input": self.index.rows,
            "kept": self.kept,
            "funnel": self.stages,
            "sources": dict(rows),
            "too_long": sum(
                stage["dropped"] for stage in self.stages if stage["filter"] == "prompt_limit"
            ),
            "expected": {
                "sources": {
                    source["label"]: source["expected"]
                    for source in self.index.sources
                    if source["expected"] is not None
                },
                "kept": self.recipe.curate.expect,
            },
        }


def stage_text(stage: Row, shown: int = 5) -> str:
    """One line of the funnel."""
    reasons = list(stage["reasons"].items())
    reasons += [(f"noted: {reason}", count) for reason, count in stage["noted"].items()]
    listed = ", ".join(f"{count} {reason}" for reason, count in reasons[:shown])
    listed += f", {len(reasons) - shown} more reasons" if len(reasons) > shown else ""
    line = f"{stage['filter']}: {stage['input']} -> {stage['kept']}"
    line += f" ({listed})" if listed else ""
    return line + expectation_text(stage["kept"], stage["expected"])


def expectation_text(count: int, expected: int | None) -> str:
    """How a count compares with a paper's; empty where none is stated."""
    if expected is None:
        return ""
    share = f", {(count - expected) / expected:+.1%}" if expected else ""
    return f"; expected {expected}: {count - expected:+d}{share}"


def dropped_by(stages: Sequence[Row]) -> str:
    return ", ".join(f"{one['filter']} {one['dropped']}" for one in stages if one["dropped"])
