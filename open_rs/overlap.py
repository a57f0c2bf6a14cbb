"""Sets of problems that have to be apart: what was trained on, what chooses, what is scored."""

from collections.abc import Mapping, Sequence

from open_rs.errors import InputError
from open_rs.normalise import normalised
from open_rs.problems import Problem


def refuse_overlap(sets: Mapping[str, Sequence[Problem]]) -> None:
    """Refuse problems that stand in two of the `sets` (by name), whatever their spelling: a score
    on problems that were trained on, or that chose the checkpoint, is not held out.
    """
    seen: dict[str, tuple[str, str]] = {}  # text: set and id
    for name, problems in sets.items():
        shared = [one for one in problems if seen.get(normalised(one.problem), (name,))[0] != name]
        if shared:
            other, other_id = seen[normalised(shared[0].problem)]
            raise InputError(
                f"{name}: {len(shared)} of {len(problems)} problems stand in {other} too "
                f"(such as {shared[0].id!r}, there {other_id!r}); curate with a contamination "
                "filter, or give sets that are apart"
            )
        seen |= {normalised(one.problem): (name, one.id) for one in problems}
