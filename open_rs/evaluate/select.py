"""Which checkpoint is reported: chosen on the validation split, never on the test split."""

import re
from collections.abc import Sequence
from typing import Any

from open_rs.errors import InputError
from open_rs.evaluate.compare import refuse_other_harness
from open_rs.evaluate.records import SUMMARY, read_summary
from open_rs.runs import RunFolder

RULE = "highest validation pass@1, the earliest of equals"
NAME = re.compile(r"validation-(\d{6})")


def select_checkpoint(run: RunFolder) -> dict[str, Any]:
    """{"step", "rule", "pass@1", "candidates": [{"step", "pass@1"}]} of the run's checkpoints.

    Only `evaluations/validation-*` are read, so the choice cannot depend on the test split. The
    start (step 0) is no candidate: the run is judged by what it trained, for better or worse.
    All candidates answer the same problems k times each, so what makes a problem hard is common to
    them, their intervals are as wide as each other, and a lower bound would rank them as the mean
    does. Among equals the earliest is nearest to the start and costs least. The winner's own
    validation score is the best of several draws and too high; that is why it is not the result.
    """
    scored = []
    for folder in sorted(run.evaluation("").glob("validation-*")):
        match = NAME.fullmatch(folder.name)
        if match is None or not (folder / SUMMARY).is_file():
            continue
        step = int(match[1])
        if step > 0 and run.checkpoint(step).is_dir():
            scored.append((step, folder, read_summary(folder)))
    if not scored:
        raise InputError(
            f"{run.path}: no checkpoint with a validation score to choose from; set "
            "data.validation and train to the first score"
        )
    first = scored[0]
    for _, folder, summary in scored[1:]:
        refuse_other_harness(first[1], folder, first[2]["fingerprint"], summary["fingerprint"])
    candidates = [
        {"step": step, "pass@1": summary["scores"]["pass@1"]["value"]}
        for step, _, summary in scored
    ]
    return {**best_candidate(candidates), "rule": RULE, "candidates": candidates}


def best_candidate(candidates: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The one with the highest `pass@1`, of equals the one with the lowest `step`."""
    return max(candidates, key=lambda one: (one["pass@1"], -one["step"]))
