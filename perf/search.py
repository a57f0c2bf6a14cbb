"""Accuracy against tokens of the ways to choose an answer: the tables of docs/search.md.

    python perf/search.py tiny chain_sum gsm8k --out FOLDER [--write docs/search.md]

Each subject is sampled and searched by `open-rs evaluate`, then put together by
`open_rs.evaluate.search`. Killed, it goes on. `--write` puts the tables into the page, each behind
the line `<!-- perf/search.py: NAME -->` of its subject. gsm8k reads `$OPEN_RS_DATA` (default
`../shared/data`), chain_sum needs reasoning-gym, and both need models/smollm2-135m
(tools/fetch_smollm2.py).
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_rs.evaluate.search import frontier
from open_rs.problems import load_problems, problem_lines
from open_rs.recipe import Source

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("OPEN_RS_DATA", ROOT.parent / "shared" / "data"))
AGAINST = ("majority", "likeliest")
SMOL = "models/smollm2-135m"
CAPTION = "<!-- perf/search.py: {} -->"
WORKED = "Problem: {}\nSolution: {} The answer is \\boxed{{{}}}.\n\nProblem: {{problem}}\nSolution:"


@dataclass(frozen=True)
class Subject:
    """A model on some problems, and what is spent on them.

    Attributes:
        beams: (width, branch) of each beam search.
        searches: of each problem, by each beam search.
        unboxed: the last number is an answer, too; SmolLM2 seldom writes a box.
    """

    model: str
    source: Source
    prompt: str
    max_tokens: int
    step_tokens: int
    samples: int
    beams: tuple[tuple[int, int], ...]
    searches: int
    temperature: float = 1.0
    unboxed: bool = False


def worked(question: str, solution: str, answer: str) -> str:
    """A prompt with one worked problem."""
    return WORKED.format(question, solution, answer)


SUBJECTS = {
    "tiny": Subject(
        model="tiny",
        source=Source(task="arithmetic", split="test", count=200, levels=(1, 2, 3, 4)),
        prompt="{problem}",
        max_tokens=64,
        step_tokens=32,
        samples=32,
        beams=((1, 4), (2, 2), (4, 4)),
        searches=4,
    ),
    "chain_sum": Subject(
        model=SMOL,
        source=Source(
            task="reasoning_gym:chain_sum",
            split="test",
            count=80,
            options={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
        ),
        prompt=worked(
            "What is 14 + 5 - 7?",
            "14 + 5 = 19. 19 - 7 = 12.",
            "12",
        ),
        max_tokens=48,
        step_tokens=16,
        samples=16,
        beams=((2, 2),),
        searches=2,
        temperature=0.7,
        unboxed=True,
    ),
    "gsm8k": Subject(
        model=SMOL,
        source=Source(path=str(DATA / "benchmarks" / "gsm8k_test.jsonl"), count=30),
        prompt=worked(
            "Tom has 3 bags with 4 apples each. He eats 2 apples. How many apples are left?",
            "Tom has 3 * 4 = 12 apples. After eating 2 he has 12 - 2 = 10 apples.",
            "10",
        ),
        max_tokens=128,
        step_tokens=32,
        samples=16,
        beams=((2, 4),),
        searches=1,
        temperature=0.7,
        unboxed=True,
    ),
}


def evaluate(subject: Subject, problems: Path, out: Path, *words: str) -> Path:
    """One evaluation, by the command that a user gives."""
    if not (out / "summary.json").is_file():
        settings = {
            "prompt.user": json.dumps(subject.prompt),
            "evaluate.max_completion_tokens": subject.max_tokens,
            "evaluate.temperature": subject.temperature,
            "evaluate.top_p": 1.0,
            "grade.unboxed_numbers": str(subject.unboxed).lower(),
        }
        command = ["evaluate", subject.model, "--benchmark", str(problems), "--out", str(out)]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        subprocess.run([sys.executable, "-m", "open_rs.cli", *command, *words], check=True)
    return out


def measure(name: str, out: Path) -> dict[str, Any]:
    """Samples and searches of one subject, put together."""
    subject, folder = SUBJECTS[name], out / name
    folder.mkdir(parents=True, exist_ok=True)
    problems = folder / "problems.jsonl"
    if not problems.is_file():
        problems.write_text(problem_lines(load_problems(subject.source)), encoding="utf-8")
    samples = evaluate(subject, problems, folder / "samples", "--num-samples", str(subject.samples))
    searches = [
        evaluate(
            subject,
            problems,
            folder / f"beam-{width}x{branch}",
            *("--num-samples", str(subject.searches), "--search", "beam"),
            *("--set", f"evaluate.search.width={width}"),
            *("--set", f"evaluate.search.branch={branch}"),
            *("--set", f"evaluate.search.step_tokens={subject.step_tokens}"),
        )
        for width, branch in subject.beams
    ]
    found = {way: frontier(samples, searches, against=way) for way in AGAINST}
    (folder / "frontier.json").write_text(json.dumps(found, indent=1))
    return found


def table(found: dict[str, Any]) -> str:
    """The rows of docs/search.md."""
    lines = [
        "| way | budget | tokens a problem | accuracy | less majority's | less the likeliest's |",
        "|---|---|---|---|---|---|",
    ]
    for several in zip(*(one["rows"] for one in found.values()), strict=True):
        row, score = several[0], several[0]["score"]
        budget = row["budget"]
        if budget != row["baseline"]["budget"]:
            budget += (
                f", reads {row['read_tokens']:,.0f} again; against n = {row['baseline']['budget']}"
            )
        told = [
            ""
            if row["way"] in ("single", way)
            else f"{one['difference']['value']:+.3f} "
            f"[{one['difference']['low']:+.3f}, {one['difference']['high']:+.3f}]"
            for way, one in zip(found, several, strict=True)
        ]
        lines.append(
            f"| {row['way']} | {budget} | {row['tokens']:.0f} | {score['value']:.3f} "
            f"[{score['low']:.3f}, {score['high']:.3f}] | {' | '.join(told)} |"
        )
    return "\n".join(lines)


def written(page: str, name: str, rows: str) -> str:
    """`page` with the table behind the caption of `name` in place of the old one."""
    caption = re.escape(CAPTION.format(name))
    text, count = re.subn(rf"({caption}\n)(?:\|.*\n)*", lambda found: f"{found[1]}{rows}\n", page)
    if count != 1:
        raise SystemExit(f"the page has no line {CAPTION.format(name)}")
    return text


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=SUBJECTS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args(arguments)
    for name in given.names:
        rows = table(measure(name, given.out))
        print(f"{name}\n{rows}\n", flush=True)
        if given.write is not None:
            page = given.write.read_text(encoding="utf-8")
            given.write.write_text(written(page, name, rows), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
