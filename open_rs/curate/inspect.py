"""Reading curated sets: the story of one row, and what two sets have in common."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from open_rs.curate.funnel import READ
from open_rs.curate.output import CuratedFolder
from open_rs.curate.stages import Row
from open_rs.errors import InputError
from open_rs.rows import read_jsonl
from open_rs.runs import read_json, read_log


def existing(path: Path) -> CuratedFolder:
    folder = CuratedFolder(path)
    if not folder.problems.exists():
        unfinished = " (its curation is not finished)" if folder.work.path.exists() else ""
        raise InputError(
            f"{path}: holds no curated set{unfinished}; give a folder that curate wrote by --out"
        )
    return folder


def explain(path: Path, id_: str) -> list[Row]:
    """What became of each input row with this id (its beginning will do), filter by filter."""
    folder = existing(path)
    rows = [row for _, row in read_jsonl(folder.manifest) if row["id"].startswith(id_)]
    ids = {row["id"] for row in rows}
    if len(ids) != 1:
        raise InputError(
            f"{folder.manifest}: "
            + (
                f"{len(ids)} ids begin with {id_!r}; give more of it"
                if ids
                else f"holds no row with id {id_!r}; ids are its first column"
            )
        )
    kept = {row["id"]: row for _, row in read_jsonl(folder.problems) if row["id"] in ids}
    answers = [
        {"journal": journal.name, **row}
        for journal in sorted(path.glob("*.jsonl"))
        if journal not in (folder.manifest, folder.problems)
        for row in read_log(journal)
        if row.get("problem_id") in ids
    ]
    filters = [stage["filter"] for stage in read_json(folder.summary)["funnel"]]
    return [
        {
            **row,
            "passed": filters[: filters.index(row["filter"])] if row["filter"] else filters,
            "problem": kept.get(row["id"]),
            "answers": answers,
        }
        for row in rows
    ]


def story(row: Row) -> str:
    """What `explain` says of a row, as text."""
    lines = [f"{row['id']} ({row['source']}), {row['where']}"]
    lines += [f"  passed {name}" for name in row["passed"] if name != READ]
    if row["note"]:
        lines.append(f"  noted by {row['note']}")
    if row["kept"]:
        lines.append("  kept")
    else:
        detail = f" ({row['detail']})" if row["detail"] else ""
        lines.append(f"  dropped by {row['filter']}: {row['reason']}{detail}")
    for answer in row["answers"]:
        said = {key: value for key, value in answer.items() if key not in ("journal", "problem_id")}
        lines.append(f"  {answer['journal']}: {json.dumps(said, ensure_ascii=False)}")
    if row["problem"]:
        lines += [
            f"  problem: {row['problem']['problem']}",
            f"  answer: {row['problem']['answer']}",
        ]
    return "\n".join(lines)


def diff(left: Path, right: Path) -> Row:
    """What differs between two curated sets: input rows of one alone, and rows that one keeps and
    the other drops, by the filter and the reason. Rows are compared by id; of an id that occurs
    more than once, one kept row counts as kept.
    """
    here, there = _fates(existing(left)), _fates(existing(right))
    shared = here.keys() & there.keys()
    only_left = [id_ for id_ in shared if here[id_] is None and there[id_] is not None]
    only_right = [id_ for id_ in shared if here[id_] is not None and there[id_] is None]
    return {
        "left": str(left),
        "right": str(right),
        "shared_rows": len(shared),
        "kept_in_both": sum(here[id_] is None and there[id_] is None for id_ in shared),
        "rows_only_left": len(here.keys() - shared),
        "rows_only_right": len(there.keys() - shared),
        "kept_only_left": _by_reason(only_left, there),
        "kept_only_right": _by_reason(only_right, here),
    }


Fates = dict[str, tuple[str, str] | None]  # by id: filter and reason of the drop, None where kept


def _fates(folder: CuratedFolder) -> Fates:
    fates: Fates = {}
    for _, row in read_jsonl(folder.manifest):
        fate = None if row["kept"] else (row["filter"], row["reason"])
        if fate is None or row["id"] not in fates:
            fates[row["id"]] = fate
    return fates


def _by_reason(ids: list[str], fates: Fates) -> list[Row]:
    """The rows that the other set dropped, by why, with some ids to look at."""
    why: Counter[tuple[str, str]] = Counter(fates[id_] or ("", "") for id_ in ids)
    return [
        {
            "filter": name,
            "reason": reason,
            "rows": count,
            "ids": sorted(id_ for id_ in ids if fates[id_] == (name, reason))[:5],
        }
        for (name, reason), count in sorted(why.items(), key=lambda one: (-one[1], one[0]))
    ]


def diff_text(made: Row) -> str:
    return "\n".join(_diff_lines(made))


def _diff_lines(made: Row) -> Iterator[str]:
    yield f"left {made['left']}, right {made['right']}"
    shared, kept = made["shared_rows"], made["kept_in_both"]
    yield f"  {shared} rows in both inputs, {kept} of them kept in both"
    for side in ("left", "right"):
        if made[f"rows_only_{side}"]:
            yield f"  {made[f'rows_only_{side}']} rows in the {side} input alone"
    for side, other in (("left", "right"), ("right", "left")):
        for one in made[f"kept_only_{side}"]:
            yield (
                f"  {one['rows']} kept {side}, dropped {other} by {one['filter']}: {one['reason']} "
                f"(such as {one['ids'][0]})"
            )
