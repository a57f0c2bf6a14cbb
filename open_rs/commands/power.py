"""`open-rs power`: what an evaluation could show, before it is paid for."""

from pathlib import Path
from typing import Annotated, Any

import typer

from open_rs.commands.shared import Json, show
from open_rs.errors import InputError


def power(
    problems: Annotated[int | None, typer.Option("--problems", min=2, help="n")] = None,
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="k, per problem")] = None,
    gain: Annotated[
        float | None, typer.Option("--gain", help="a gain in pass@1 to plan for, as in 0.03")
    ] = None,
    pilot: Annotated[
        Path | None,
        typer.Option("--pilot", help="a finished evaluation: difficulty, n, k, tokens, speed"),
    ] = None,
    score: Annotated[
        float | None, typer.Option("--score", help="mean pass rate without a pilot; default 0.5")
    ] = None,
    tokens_per_completion: Annotated[
        float | None, typer.Option(min=1, help="mean length of a completion")
    ] = None,
    tokens_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="speed of sampling")
    ] = None,
    usd_per_hour: Annotated[float | None, typer.Option(min=0, help="price of the device")] = None,
    usd_per_million_tokens: Annotated[
        float | None, typer.Option(min=0, help="price of an endpoint's completion tokens")
    ] = None,
    as_json: Json = False,
) -> None:
    """The smallest gain that n problems x k samples show; what a given gain would need and cost."""
    from open_rs.evaluate.power import Price, assumed, from_pilot, plan

    summary: dict[str, Any] = {}
    if pilot is not None:
        if score is not None:
            raise InputError("--score and --pilot: the pilot tells the score; leave --score out")
        difficulty, summary = from_pilot(pilot)
    else:
        difficulty = assumed(0.5 if score is None else score)
    n, k = problems or summary.get("num_problems"), samples or summary.get("num_samples")
    if n is None or k is None:
        raise InputError("--problems and --samples are needed where no --pilot tells them")
    speed = tokens_per_second or pilot_speed(summary)
    length = tokens_per_completion or summary.get("mean_tokens")
    price = Price(length, speed, usd_per_hour, usd_per_million_tokens)
    found = plan(difficulty, n, k, gain=gain, price=price)
    show(found, as_json, power_text(found))


def pilot_speed(summary: dict[str, Any]) -> float | None:
    """Tokens per second of a pilot, where it tells its seconds and tokens."""
    if not summary.get("seconds") or not summary.get("mean_tokens"):
        return None
    completions = summary["num_problems"] * summary["num_samples"]
    return float(summary["mean_tokens"] * completions / summary["seconds"])


def power_text(found: dict[str, Any]) -> str:
    """The answer first, then what it rests on."""
    n, k, chance = found["num_problems"], found["num_samples"], f"{100 * found['power']:.0f} %"
    smallest = found["smallest_gain"]
    if smallest is None:
        rows = [f"{n} problems x {k} samples: no gain would be found in {chance} of comparisons"]
    else:
        rows = [
            f"{n} problems x {k} samples: the smallest gain found in {chance} of comparisons is "
            f"+{smallest:.3f} (from {found['score']:.3f} to {found['score'] + smallest:.3f})"
        ]
    rows.append(f"  {cost_text(found['cost'])}")
    if found["power_if_concentrated"] is not None:
        rows.append(
            f"  if as much comes from few problems that go from rarely to always solved: found in "
            f"{100 * found['power_if_concentrated']:.0f} %"
        )
    if "gain" in found:
        rows += gain_rows(found["gain"], n, k, chance)
    rows.append(f"difficulty: {found['difficulty']}")
    rows.append(f"gain: {found['gain_model']}; verdict `improved` at 95 %, paired by problem")
    return "\n".join(rows)


def gain_rows(one: dict[str, Any], n: int, k: int, chance: str) -> list[str]:
    """What a given gain would need."""
    rows = [f"a gain of +{one['value']:.3f} is found in {100 * one['power']:.0f} % of comparisons"]
    if one["samples_needed"] is None:
        rows.append(f"  with {n} problems no number of samples finds it in {chance}")
    else:
        rows.append(
            f"  {chance} with {n} problems: {one['samples_needed']} samples each; "
            f"{cost_text(one['samples_cost'])}"
        )
    if one["problems_needed"] is None:
        rows.append(f"  with {k} samples each no number of problems finds it in {chance}")
    else:
        rows.append(
            f"  {chance} with {k} samples each: {one['problems_needed']:,} problems; "
            f"{cost_text(one['problems_cost'])}"
        )
    return rows


def cost_text(cost: dict[str, Any]) -> str:
    parts = [f"{cost['completions']:,} completions of both models"]
    if cost["tokens"] is not None:
        parts.append(f"{cost['tokens']:,.0f} tokens")
    if cost["hours"] is not None:
        parts.append(f"{cost['hours']:.2g} hours")
    if cost["usd"] is not None:
        parts.append(f"${cost['usd']:.2f}")
    return ", ".join(parts)
