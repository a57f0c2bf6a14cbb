"""`sample` and `mix`: so many rows, drawn by what is in them and not by where they stand."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

from open_rs.console import say
from open_rs.curate.inputs import function_hash
from open_rs.curate.stages import Drop, Fetch, Note, Row, Setting, Verdict
from open_rs.errors import InputError
from open_rs.plugins import load_function
from open_rs.problems import Problem
from open_rs.recipe import MixFilter, Recipe, SampleFilter
from open_rs.runs import read_log

StratumOf = Callable[[Problem], str | None]


def draw_key(problem: Problem, seed: int) -> int:
    """The rows with the smallest keys are drawn: 64 bits of a hash of seed, problem and answer."""
    content = f"{seed}\0{problem.problem}\0{problem.answer}"
    return int.from_bytes(blake2b(content.encode(), digest_size=8).digest(), "big")


def sample_features(problems: Sequence[Problem], spec: SampleFilter) -> list[Any]:
    return [["", draw_key(one, spec.seed)] for one in problems]


def sample(features: Sequence[Any], fetch: Fetch, spec: SampleFilter) -> list[Verdict]:
    """Keeps `spec.count` rows."""
    return _drawn(features, {"": spec.count}, spec)


def mix_features(problems: Sequence[Problem], spec: MixFilter, stratum_of: StratumOf) -> list[Any]:
    """[stratum or None, key] of each row."""
    return [[stratum_of(one), draw_key(one, spec.seed)] for one in problems]


def mix(features: Sequence[Any], fetch: Fetch, spec: MixFilter) -> list[Verdict]:
    """Keeps `spec.counts` rows of each stratum."""
    present = {stratum for stratum, _ in features if stratum is not None}
    unknown = [stratum for stratum in spec.counts if stratum not in present]
    if unknown and spec.by != "pass_rate":  # a band may be empty; another name is a slip
        have = ", ".join(sorted(present)[:12]) or "none"
        raise InputError(
            f"filter mix: no row of {spec.by} {unknown[0]!r} is left (there are: {have}); correct "
            "the name in counts, or loosen the filters before it"
        )
    return _drawn(features, spec.counts, spec)


def _drawn(
    features: Sequence[Any], counts: dict[str, int], spec: SampleFilter | MixFilter
) -> list[Verdict]:
    """The rows of each stratum with the smallest keys stay; the first of rows that are the same."""
    verdicts: list[Verdict] = [Drop("of no stratum of the mix", str(one[0])) for one in features]
    rows: dict[str, list[int]] = {stratum: [] for stratum in counts}
    for row, (stratum, _) in enumerate(features):
        if stratum in rows:
            rows[stratum].append(row)
    for stratum, wanted in counts.items():
        name = f"{spec.type} {stratum}".strip()
        members = rows[stratum]
        note = _shortage(name, len(members), wanted, spec)
        members.sort(key=lambda row: (features[row][1], row))
        for row in members[:wanted]:
            verdicts[row] = note
        for row in members[wanted:]:
            verdicts[row] = Drop("not drawn", f"{name}: {wanted} of {len(members)}")
    return verdicts


def _shortage(name: str, have: int, wanted: int, spec: SampleFilter | MixFilter) -> Note | None:
    """What is noted of the rows of a stratum that is short."""
    if have >= wanted:
        return None
    if spec.short == "refuse":
        raise InputError(
            f"filter {name}: {wanted} rows are asked for and {have} are left; ask for fewer, add "
            'sources, or set short = "report"'
        )
    say(f"curate: {name}: {wanted} rows are asked for and {have} are left")
    return Note(f"{name} is short: {have} of {wanted} rows")


@contextmanager
def open_strata(spec: MixFilter, setting: Setting) -> Iterator[StratumOf]:
    """What gives the stratum of a problem."""
    if spec.by == "source":
        yield lambda problem: problem.source
    elif spec.by == "pass_rate":
        yield _bands_of(spec, setting)
    else:
        function = load_function(spec.by)
        yield lambda problem: _text_of(function(problem), spec.by, problem)


def _text_of(stratum: Any, name: str, problem: Problem) -> str | None:
    if stratum is None or isinstance(stratum, str):
        return stratum
    raise InputError(
        f"filter mix: {name} returned {stratum!r} for problem {problem.id}; return the stratum as "
        "text, or None for none"
    )


def _bands_of(spec: MixFilter, setting: Setting) -> StratumOf:
    """The band that holds a problem's pass rate, as the pass_rate filter journalled it."""
    rates: dict[str, float] = {}
    ways: set[str] = set()
    for journal in sorted(setting.folder.glob("pass_rates*.jsonl")):  # one a shard
        for row in read_log(journal):
            ways.add(row["sampling"])
            if row["decided"]:
                rates[row["problem_id"]] = row["correct"] / row["decided"]
    if not ways:
        raise InputError(
            'filter mix: by = "pass_rate" needs a pass_rate filter before it; add one to filters'
        )
    if len(ways) > 1:
        raise InputError(
            f"{setting.folder}: its pass rates were sampled in {len(ways)} ways, and mix cannot "
            "tell which counts; give another output folder"
        )
    bands = spec.bands()

    def stratum_of(problem: Problem) -> str | None:
        rate = rates.get(problem.id)
        if rate is None:
            return None
        # the upper bound is out, but for the highest rate there is
        return next(
            (
                name
                for name, (lower, upper) in bands.items()
                if lower <= rate < upper or rate == upper == 1
            ),
            None,
        )

    return stratum_of


def strata_inputs(spec: MixFilter, recipe: Recipe) -> Row:
    """The file of the user's function, where the strata come from one."""
    return {"files": function_hash(spec.by)} if ":" in spec.by else {}
