"""`open-rs compare`: what evaluations, and scores that others have published, allow to say."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from open_rs.commands.shared import Json, show, stop
from open_rs.errors import InputError

if TYPE_CHECKING:
    from open_rs.evaluate.tables import Published


def compare(
    evaluations: Annotated[
        list[Path] | None,
        typer.Argument(
            help="the base, then candidates: folders of open-rs evaluate, folders of several such "
            "(one a benchmark), lighteval's details_*.parquet, lm-evaluation-harness's "
            "samples_*.jsonl"
        ),
    ] = None,
    confidence: Annotated[float, typer.Option(min=0.9, max=0.999)] = 0.95,
    allow_different_harness: Annotated[
        bool,
        typer.Option(
            "--allow-different-harness", help="show the difference, which is then no verdict"
        ),
    ] = False,
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="of samples of another harness: NAME or NAME,FILTER"),
    ] = None,
    published: Annotated[
        list[Path] | None,
        typer.Option("--published", help="judge published scores: .csv, or lighteval's .json"),
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="the model that published scores are held against")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="judge only this published model")
    ] = None,
    facts: Annotated[
        Path | None,
        typer.Option("--facts", help=".csv with model and base, harness, best_of, benchmark"),
    ] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option("--checkpoints", help=".csv of the checkpoints a score was chosen from"),
    ] = None,
    best_of: Annotated[
        int, typer.Option("--best-of", min=1, help="scores that each one was chosen from")
    ] = 1,
    as_json: Json = False,
) -> None:
    """Paired by problem: difference, interval, verdict. Or a verdict on each published score."""
    if published:
        if evaluations:
            raise InputError("give evaluations to compare, or --published, not both")
        rows = published_rows(published, facts, checkpoints, best_of)
        judge_published(rows, base, model or [], confidence, as_json)
        return
    if base or model or facts or checkpoints or best_of > 1:
        raise InputError("--base, --model, --facts, --checkpoints and --best-of need --published")
    if not evaluations or len(evaluations) < 2:
        raise InputError("name two evaluations at least: the base, then what is held against it")
    compare_evaluations(evaluations, confidence, allow_different_harness, metric, as_json)


def compare_evaluations(
    paths: list[Path], confidence: float, allowed: bool, metric: str | None, as_json: bool
) -> None:
    """Print one comparison, or the family of them; exit 1 where they were not measured alike."""
    from open_rs.evaluate.compare import DifferentHarness, compare_all, evaluations_in
    from open_rs.evaluate.compare import compare as compare_two

    try:
        if len(paths) == 2 and all("" in evaluations_in(path) for path in paths):
            before, after = paths
            found = compare_two(
                before, after, confidence, allow_different_harness=allowed, metric=metric
            )
            title = f"before: {before}, after: {after}"
            show(found, as_json, f"{title}\n{comparison_text(found)}")
        else:
            found = compare_all(paths, confidence, allow_different_harness=allowed, metric=metric)
            show(found, as_json, family_text(found))
    except DifferentHarness as error:
        stop(f"{error}, or give --allow-different-harness to see the difference", 1)


def published_rows(
    paths: list[Path], facts: Path | None, checkpoints: Path | None, best_of: int
) -> "list[Published]":
    """The scores of these tables with what is known about how each was arrived at."""
    from dataclasses import replace

    from open_rs.evaluate.tables import read_published, with_checkpoints, with_facts

    rows = [row for path in paths for row in read_published(path)]
    rows = [replace(row, best_of=max(row.best_of, best_of)) for row in rows]
    if facts is not None:
        rows = with_facts(rows, facts)
    return rows if checkpoints is None else with_checkpoints(rows, checkpoints)


def judge_published(
    rows: "list[Published]", base: str | None, models: list[str], confidence: float, as_json: bool
) -> None:
    from open_rs.evaluate.published import judge

    found = judge(rows, base=base, models=models, confidence=confidence)
    show(found, as_json, published_text(found))


def comparison_text(comparison: dict[str, Any]) -> str:
    """The before/after table with intervals and the verdict."""
    percent = 100 * comparison["difference"]["confidence"]
    rows = [f"{'':<10} {'pass@1':>7}   {percent:.0f} % interval"]
    for name in ("before", "after"):
        one = comparison["scores"][name]["pass@1"]
        rows.append(f"{name:<10} {one['value']:7.3f}   [{one['low']:.3f}, {one['high']:.3f}]")
    one = comparison["difference"]
    rows.append(
        f"{'difference':<10} {one['value']:+7.3f}   [{one['low']:+.3f}, {one['high']:+.3f}]"
    )
    adjusted = comparison.get("p_adjusted")
    rows.append(
        f"n = {comparison['num_problems']} problems, k = {samples_text(comparison, ' and ')} "
        f"samples each, paired by problem, p = {comparison['p_value']:.2g}"
        + ("" if adjusted is None else f", among the family {adjusted:.2g}")
    )
    rows.append(
        f"smallest gain found in 80 % of such comparisons: {comparison['smallest_gain']:+.3f}"
    )
    return "\n".join([*rows, *caveats(comparison), f"verdict: {comparison['verdict']}"])


def samples_text(comparison: dict[str, Any], between: str) -> str:
    """k; both, the base's first, where they differ."""
    sides = (comparison["scores"][side]["pass@1"]["k"] for side in ("before", "after"))
    return between.join(map(str, dict.fromkeys(sides)))


def caveats(comparison: dict[str, Any]) -> list[str]:
    """What a reader has to know of this comparison besides its numbers."""
    rows = [f"different: {one}" for one in comparison["different_harness"]]
    one, left = comparison["undecided"], comparison["left_out"]
    if one["before"] or one["after"]:
        rows.append(
            f"not judged: {one['before']} samples before, {one['after']} after, so {left} problems "
            f"are left out; all counted against the difference: "
            f"[{one['low']:+.3f}, {one['high']:+.3f}], p = {one['p_value']:.2g}, and a verdict has "
            "to bear that"
        )
    if comparison["untold"]:
        untold = " and no ".join(comparison["untold"])
        rows.append(f"taken on trust: the files tell no {untold}, so that is not checked")
    steps = comparison.get("scored_steps", [])
    if len(steps) > 1:
        named = ", ".join(map(str, steps))
        rows.append(
            f"these problems were scored for the checkpoints of steps {named}: the best of several "
            "is better by chance alone"
        )
    if comparison["same_model"]:
        rows.append("both are the same weights: what differs is the draw")
    return rows


def family_text(found: dict[str, Any]) -> str:
    """A row for each comparison, then what holds for all of them."""
    comparisons = found["comparisons"]
    percent = 100 * comparisons[0]["difference"]["confidence"]
    names = [one["candidate"] for one in comparisons]
    marks = [one["benchmark"] for one in comparisons]
    left = max(map(len, ["candidate", *names])), max(map(len, ["benchmark", *marks]))
    rows = [
        f"{'candidate':<{left[0]}}  {'benchmark':<{left[1]}}    n    k    base   score  "
        f"difference [{percent:.0f} %]            p  p (Holm)  smallest  verdict"
    ]
    for one in comparisons:
        old, new = (one["scores"][side]["pass@1"]["value"] for side in ("before", "after"))
        d = one["difference"]
        rows.append(
            f"{one['candidate']:<{left[0]}}  {one['benchmark']:<{left[1]}} {one['num_problems']:4} "
            f"{samples_text(one, ':'):>4}  {old:6.3f}  {new:6.3f}  {d['value']:+.3f} "
            f"[{d['low']:+.3f}, {d['high']:+.3f}]  {one['p_value']:7.2g}  "
            f"{one['p_adjusted']:8.2g}  {one['smallest_gain']:+8.3f}  {one['verdict']}"
        )
    for one in comparisons:
        rows += [f"{one['candidate']}, {one['benchmark']}: {text}" for text in caveats(one)]
    rows.append(f"base: {found['base']}; paired by problem; intervals and p are of each row alone")
    rows.append(
        f"verdicts: {found['family']['comparisons']} comparisons as one family, "
        f"{found['family']['method']}"
    )
    for one in found["best"]:
        most = "at most " if one["at_most"] else ""
        rows.append(
            f"{one['benchmark']}: the best of {one['best_of']} is {one['candidate']} with "
            f"{one['gain']:+.3f}; the best of {one['best_of']} equals of the base would show "
            f"{most}{one['expected_if_none_differs']:+.3f} on average"
        )
    return "\n".join(rows)


def published_text(found: dict[str, Any]) -> str:
    """A verdict a row, then the errors that are counted, then each withheld claim with reasons."""
    judged = found["rows"]
    percent = 100 * found["confidence"]
    wide = max(len(one["model"]) for one in judged)
    marks = max(len(one["benchmark"]) for one in judged)
    rows = [
        f"{'model':<{wide}}  {'benchmark':<{marks}}    n seeds   base  score   diff "
        f"{f'[{percent:.0f} %]':>15} {'over problems':>15}        p  p (Holm)  verdict"
    ]
    for one in judged:
        d, outer = one["difference"], one["over_problems"]
        spans = [f"[{100 * a['low']:+.1f}, {100 * a['high']:+.1f}]" for a in (d, outer)]
        adjusted = "" if one["p_adjusted"] is None else f"{one['p_adjusted']:.2g}"
        seeds = ":".join(map(str, dict.fromkeys(one["seeds"])))
        rows.append(
            f"{one['model']:<{wide}}  {one['benchmark']:<{marks}} {one['problems']:4} {seeds:>5}  "
            f"{100 * one['base_score']:5.1f}  {100 * one['score']:5.1f}  {100 * d['value']:+5.1f} "
            f"{spans[0]:>15} {spans[1]:>15}  {one['p_value']:7.2g}  {adjusted:>8}  {one['verdict']}"
        )
    rows += ["", f"base: {found['base'] or 'each row against the one that it names'}"]
    for error in dict.fromkeys(one["difference"]["error"] for one in judged):
        rows.append(f"[{percent:.0f} %] and p count {error}")
    rows.append(
        "over problems: as if the two models had met different problems; what they have in common "
        "cannot be told from means"
    )
    family = found["family"]
    if family["comparisons"]:
        rows.append(f"verdicts: {family['comparisons']} rows as one family, {family['method']}")
    if any(None in one["harness"] for one in judged):
        rows.append(
            "harness: not told of every row, and then taken to be that of the base where both have "
            "seeds; a single score is then called neither improved nor worse"
        )
    missing = (f"{one['model']}, no score of {one['base']}" for one in found["base_missing"])
    rows += [f"not judged: {text} in the table" for text in dict.fromkeys(missing)]
    claims = [one for one in judged if one["withheld"] and len(one["reasons"]) > 1]
    if claims:
        rows += ["", "higher than the base, and withheld:"]
    for one in claims:
        rows.append(f"{one['model']}, {one['benchmark']}, {100 * one['score']:.1f}:")
        rows += [f"  - {reason}" for reason in one["reasons"]]
    return "\n".join(rows)
