"""Golds of reasoning-gym's data sets and answers near them, by the grader and by their own
`score_answer`: the table of docs/tasks.md.

    python perf/gym_golds.py [--count 100] [--write docs/tasks.md]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "tasks"))

from gym_answers import verdicts  # noqa: E402

from open_rs.grade import Grader  # noqa: E402
from open_rs.tasks.gym import GOLDS, REFUSED  # noqa: E402

HEAD = "| data set | gold | golds right | near misses | grader alone right | data set alone right |"


def table(count: int) -> str:
    """A row for each data set that is taken, and one for each reason to refuse others."""
    lines = [HEAD, "|---|---|---|---|---|---|"]
    with Grader() as grader:
        for kind, names in GOLDS.items():
            for name in sorted(names):
                found = verdicts(name, grader, count)
                right = found.golds - len(found.not_right)
                example = (
                    f", as {found.strict[0][1]} for {found.strict[0][0]}" if found.strict else ""
                )
                lines.append(
                    f"| {name} | {kind} | {right} of {found.golds} | {found.near} | "
                    f"{len(found.lenient)} | {len(found.strict)}{example} |"
                )
    lines += ["", "| refused because | data sets |", "|---|---|"]
    lines += [f"| {reason} | {', '.join(sorted(names))} |" for reason, names in REFUSED.items()]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="golds of each data set")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args(arguments)
    rows = table(given.count)
    print(rows)
    if given.write is not None:
        page = given.write.read_text(encoding="utf-8")
        head, caption, tail = page.partition("<!-- perf/gym_golds.py -->\n")
        if not caption:
            raise SystemExit(f"{given.write}: has no line <!-- perf/gym_golds.py -->")
        rest = tail.partition("\n<!-- end -->")[2]
        text = f"{head}{caption}{rows}\n\n<!-- end -->{rest}"
        given.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
