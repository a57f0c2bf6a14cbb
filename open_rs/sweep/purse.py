"""The budget of a sweep: what all its runs may cost together.

`budget.hours` and `budget.usd` are sums over the runs, however many are under way at a time. A run
that starts is promised a part of what is left, one for each worker that is free, and keeps to it as
any run keeps to its budget; what it did not use comes back. What is spent and promised is never
above the cap.
"""

from collections.abc import Sequence
from pathlib import Path

from open_rs.budget import cost, last_beat
from open_rs.recipe import Recipe
from open_rs.recipe.schema import BudgetRecipe
from open_rs.runs import RunFolder, read_log
from open_rs.sweep.cells import Cell, is_finished

LEAST = 0.02  # of a cap: no run is started on less

Cost = dict[str, float]  # "hours" and "usd"


class Purse:
    """Of one sweep, for `workers` at a time."""

    def __init__(self, recipe: Recipe, cells: Sequence[Cell], workers: int) -> None:
        budget = recipe.budget
        self.cells, self.workers, self.usd_per_hour = cells, workers, budget.usd_per_hour
        caps = {"hours": budget.hours, "usd": budget.usd}
        self.caps: Cost = {name: cap for name, cap in caps.items() if cap is not None}
        self.promised: dict[Path, Cost] = {}  # to runs under way, over all their starts

    def take(self, cell: Cell) -> BudgetRecipe | None:
        """What a run may cost over all its starts; None where too little is left to start it."""
        own, promised = spent(cell.run, self.usd_per_hour), Cost()
        for name, cap in self.caps.items():
            part = (cap - self.used(name)) / (self.workers - len(self.promised))
            if part < LEAST * cap:
                return None
            promised[name] = own[name] + part
        self.promised[cell.run.path] = promised
        arm = cell.recipe.budget  # an arm may cap its runs
        caps = {name: min(most, getattr(arm, name) or most) for name, most in promised.items()}
        return arm.model_copy(update=caps)

    def give_back(self, cell: Cell) -> None:
        """A run has ended; what it has spent is in its ledger."""
        self.promised.pop(cell.run.path, None)

    def used(self, name: str) -> float:
        """Spent or promised so far."""
        paths = self.promised
        return sum(
            paths[cell.run.path][name]
            if cell.run.path in paths
            else spent(cell.run, self.usd_per_hour)[name]
            for cell in self.cells
        )

    def sentence(self) -> str:
        """What of the budget is used; empty without one."""
        told = [
            f"budget.{name} = {cap:g}: {self.used(name):.2g}" for name, cap in self.caps.items()
        ]
        return f"{', '.join(told)} used by all runs of the sweep together" if told else ""


def spent(run: RunFolder, usd_per_hour: float | None) -> Cost:
    """What a run has cost so far, with what a killed start has not entered yet."""
    rows, (start, beaten) = read_log(run.ledger), last_beat(run)
    entered = sum(row["seconds"] for row in rows if row.get("start") == start)
    rows.append({"seconds": max(beaten - entered, 0.0)})
    return {
        "hours": sum(row["seconds"] for row in rows) / 3600,
        "usd": sum(cost(row, usd_per_hour) for row in rows),
    }


def mean_cost(cells: Sequence[Cell]) -> Cost | None:
    """Of the runs that are finished; None where there is none."""
    costs = [
        spent(cell.run, cell.recipe.budget.usd_per_hour) for cell in cells if is_finished(cell)
    ]
    if not costs:
        return None
    return {name: sum(one[name] for one in costs) / len(costs) for name in ("hours", "usd")}


def outlook(one: Cost, runs: int) -> str:
    """What runs that cost as much as `one` come to."""

    def told(times: int) -> str:
        usd = f", ${one['usd'] * times:.2f}" if one["usd"] else ""
        return f"{one['hours'] * times:.2g} h{usd}"

    return f"sweep: about {told(1)} a run, {told(runs)} for the {runs} that are left, added up"
