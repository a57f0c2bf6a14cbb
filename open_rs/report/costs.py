"""What a run has cost: device-hours and dollars by phase, from its ledger and a dated price."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from open_rs.plan.cost import price_of
from open_rs.report.load import RunData


@dataclass(frozen=True)
class Rate:
    """Dollars for an hour of the run's device, and where that comes from; None without a price."""

    usd_per_hour: float | None
    source: str


@dataclass
class PhaseCost:
    """A phase of the ledger. `usd` is None where part of it has no price."""

    phase: str
    seconds: float = 0.0
    tokens: int = 0
    usd: float | None = 0.0

    @property
    def device_hours(self) -> float:
        return self.seconds / 3600


@dataclass
class RunCost:
    """A run's phases, in the order in which they first came, and their sum as `total`."""

    device: str
    rate: Rate
    phases: list[PhaseCost]
    total: PhaseCost
    notes: list[str] = field(default_factory=list)


def run_cost(data: RunData, usd_per_hour: float | None = None) -> RunCost | None:
    """The cost of a run; None where it has no ledger.

    A row's own dollars count as they were entered, an endpoint's among them; a row without has the
    rate of the run's device, and `usd_per_hour` where none is known.
    """
    if not data.ledger:
        return None
    device = device_of(data)
    rate = hourly_rate(data, device, usd_per_hour)
    phases: dict[str, PhaseCost] = {}
    total, unpriced = PhaseCost("total"), defaultdict[str, float](float)
    for row in data.ledger:
        name = str(row["phase"])
        one = phases.setdefault(name, PhaseCost(name))
        seconds = float(row.get("seconds") or 0.0)
        usd = row_usd(row, seconds, rate.usd_per_hour)
        if usd is None:
            unpriced[name] += seconds
        for held in (one, total):
            held.seconds += seconds
            held.tokens += int(row.get("tokens") or 0)
            held.usd = None if usd is None or held.usd is None else held.usd + usd
    found = RunCost(device, rate, list(phases.values()), total)
    if rate.usd_per_hour is None:
        found.notes.append(rate.source)
    if unpriced and any(one.usd for one in phases.values()):
        found.notes.append(
            f"no dollars for {', '.join(unpriced)} ({sum(unpriced.values()) / 3600:.3g} h), so "
            "none in total"
        )
    return found


def row_usd(row: dict[str, Any], seconds: float, usd_per_hour: float | None) -> float | None:
    """Dollars of one row of the ledger; None without any price."""
    if row.get("usd") is not None:
        return float(row["usd"])
    return None if usd_per_hour is None else seconds / 3600 * usd_per_hour


def device_of(data: RunData) -> str:
    """The name of the device's model where the run tells it, else "cpu" or the like."""
    named = data.environment.get("device_name") or data.environment.get("device")
    return str(named or "unknown device")


def hourly_rate(data: RunData, device: str, usd_per_hour: float | None) -> Rate:
    """The run's own price, that of the dated table of `plan.cost`, that of the run's own forecast,
    or else the one given.
    """
    own = (data.recipe.get("budget") or {}).get("usd_per_hour")
    if own is not None:
        return Rate(float(own), "budget.usd_per_hour of the run")
    if (price := price_of(device)) is not None:
        return Rate(price.usd_per_hour, f"{price.source}, {price.date}")
    if (planned := data.plan.get("usd_per_hour")) is not None:
        return Rate(float(planned), "plan.json of the run")
    if usd_per_hour is not None:
        return Rate(usd_per_hour, "--usd-per-hour")
    return Rate(None, f"no price is known for {device}; name one by --usd-per-hour")
