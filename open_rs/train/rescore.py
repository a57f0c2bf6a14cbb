"""Whether a validation score that is there already is that of these weights."""

import shutil
from typing import Any

from open_rs.console import say
from open_rs.errors import InputError
from open_rs.evaluate.records import is_finished, iter_records, light, read_summary, scores_of


def remove_other_score(settings: dict[str, Any]) -> None:
    """A score of this step that is damaged, or of other weights (kernels that are not
    deterministic, a change that was accepted), is said and made anew.
    """
    out = settings["out"]
    if not is_finished(out):
        return
    try:
        held = read_summary(out)
        stated, samples = held["scores"]["pass@1"], held["num_samples"]
        rows = [light(row, ()) for row in iter_records(out, held)]
        found = scores_of(rows, num_samples=samples, confidence=stated["confidence"])["pass@1"]
        if held["model_sha256"] != settings["model_sha256"]:
            reason = "it was of other weights"
        elif found["value"] != stated["value"]:
            reason = "it is not that of its records"
        else:
            return
    except (InputError, KeyError, TypeError, ValueError) as error:
        reason = f"it is damaged ({error})"
    say(f"{settings['name']} is scored again: {reason}")
    shutil.rmtree(out)
