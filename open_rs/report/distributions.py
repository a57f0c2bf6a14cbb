"""How the lengths and rewards of single rollouts were spread, over the steps: a count by cell."""

import numpy as np

from open_rs.report.load import Row, RunData
from open_rs.report.rollouts import Rollouts

COLUMNS = 60
ROWS = 24


def distributions(data: RunData, rollouts: Rollouts | None) -> list[Row]:
    """The pictures of lengths and rewards; none without rollouts."""
    if rollouts is None:
        return []
    cap = (data.recipe.get("rollout") or {}).get("max_completion_tokens")
    found = [
        spread("lengths", "Completion lengths, tokens", rollouts.tokens, cap),
        spread("rewards", "Rewards of single rollouts", rollouts.rewards, None),
    ]
    return [one for one in found if one]


def spread(name: str, title: str, points: list[tuple[int, float]], cap: float | None) -> Row | None:
    """Shares of each column's rollouts by row, from the lowest value up; None without points.

    Rows go from 0, or the least value below it, to the greatest value. Few different values get a
    row each; otherwise rows are `ROWS` bins of equal width. A column is one step, or as many as
    leave no more than `COLUMNS`.
    """
    if not points:
        return None
    steps, values = (np.array(one) for one in zip(*points, strict=True))
    first, width = int(steps.min()), -(-(int(np.ptp(steps)) + 1) // COLUMNS)
    columns = (steps - first) // width
    different = np.unique(values)
    if len(different) <= 10:
        rows, labels = np.searchsorted(different, values), [float(one) for one in different]
        edges = None
    else:
        low, high = min(0.0, float(values.min())), float(values.max())
        edges = np.linspace(low, high, ROWS + 1)
        rows = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, ROWS - 1)
        labels = [round(float(one), 6) for one in edges]
    shape = (int(columns.max()) + 1, len(different) if edges is None else ROWS)
    counts = np.zeros(shape)
    np.add.at(counts, (columns, rows), 1)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(shape), where=totals > 0)
    return {
        "id": name,
        "title": title,
        "first": first,
        "width": width,
        "labels": labels,  # of rows where `bins` is false, else the edges of the bins
        "bins": edges is not None,
        "cap": cap,
        "shares": [[round(float(one), 3) for one in column] for column in shares],
        "totals": [int(one) for one in totals[:, 0]],
    }
