"""Curation of many rows: seconds, CPU seconds and memory of `open-rs curate`, by number of rows.

    OPEN_RS_BENCHMARKS=../shared/data/benchmarks python perf/curation.py --rows 10000 100000

The rows are real training rows (../shared/data/train, or OPEN_RS_DATA) with seeded variations: a
tenth is copied with another spelling, a tenth with 15 % of its words replaced, a tenth as it is;
of the others every number is another one and some words are, so that they are problems of their
own. The recipe checks golds, drops exact and near duplicates, and checks against every benchmark
that is found. Memory is the largest sum of the resident sets of all processes, five times a second.
"""

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from open_rs.benchmarks import BENCHMARKS
from open_rs.problems import load_problems
from open_rs.recipe import Source

NUMBER = re.compile(r"\d+")
WORD = re.compile(r"\b[a-z]{4,}\b")
SPELLINGS = (
    lambda text: text.upper(),
    lambda text: text.replace(" ", "  "),
    lambda text: text.replace("$", ""),
    lambda text: text.replace("\\frac", "\\dfrac"),
)


def write_rows(path: Path, count: int, data: Path) -> None:
    """`count` variations of the training rows; the first ones are the same for every count."""
    base = load_problems(Source(path=str(data / "train")), raw=True)
    words = sorted({word for one in base for word in WORD.findall(one.problem)})
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            one, draw = rng.choice(base), rng.random()
            text, answer = one.problem, one.answer
            if draw < 0.1:
                text = rng.choice(SPELLINGS)(text)
            elif draw < 0.2:
                text = replaced(text, words, 0.15, rng)
            elif draw >= 0.3:
                text = NUMBER.sub(lambda found: other_number(found[0], rng), text)
                text = replaced(text, words, rng.choice((0.1, 0.3, 0.6)), rng)
                answer = NUMBER.sub(lambda found: other_number(found[0], rng), answer)
            row = {"problem": text, "answer": answer, "solution": one.solution}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def replaced(text: str, words: list[str], share: float, rng: random.Random) -> str:
    return WORD.sub(lambda found: rng.choice(words) if rng.random() < share else found[0], text)


def other_number(number: str, rng: random.Random) -> str:
    """Another number with as many digits."""
    low = 10 ** (len(number) - 1)
    return str(rng.randrange(low, 10 * low))


@dataclass
class Run:
    """What one curation took."""

    rows: int
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    stages: list[tuple[float, str]] = field(default_factory=list)  # seconds since the start, line


def measure(rows: Path, count: int, out: Path, workers: int, benchmarks: list[str]) -> Run:
    """Curate and watch."""
    recipe = out.with_suffix(".toml")
    against = json.dumps(benchmarks)
    recipe.write_text(
        f'[[sources]]\npath = "{rows}"\nname = "varied"\n[[filters]]\ntype = "gold"\n'
        '[[filters]]\ntype = "exact_duplicates"\n[[filters]]\ntype = "near_duplicates"\n'
        f'[[filters]]\ntype = "contamination"\nagainst = {against}\n',
        encoding="utf-8",
    )
    made = Run(count)
    command = [sys.executable, "-m", "open_rs.cli", "curate", str(recipe), "--out", str(out)]
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--workers", str(workers)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    watcher = threading.Thread(target=watch, args=(process, made))
    watcher.start()
    assert process.stderr is not None
    for line in process.stderr:
        made.stages.append((time.perf_counter() - start, line.strip()))
    if process.wait():
        raise SystemExit("\n".join(line for _, line in made.stages))
    made.seconds = time.perf_counter() - start
    watcher.join()
    return made


def watch(process: subprocess.Popen[str], made: Run) -> None:
    """The largest memory of the process and all below it, and their CPU time."""
    seen: dict[int, float] = {}
    main = psutil.Process(process.pid)
    while process.poll() is None:
        resident = 0
        try:
            for one in [main, *main.children(recursive=True)]:
                resident += one.memory_info().rss
                times = one.cpu_times()
                seen[one.pid] = times.user + times.system
        except psutil.NoSuchProcess:
            continue
        made.peak_bytes = max(made.peak_bytes, resident)
        made.cpu_seconds = sum(seen.values())
        time.sleep(0.2)


def table(runs: list[Run]) -> str:
    lines = [
        "| rows | seconds | CPU seconds | ms a row | peak GB |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {run.rows:,} | {run.seconds:.1f} | {run.cpu_seconds:.1f} | "
        f"{1000 * run.seconds / run.rows:.2f} | {run.peak_bytes / 1e9:.2f} |"
        for run in runs
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep rows and sets here")
    arguments = parser.parse_args()
    data = Path(os.environ.get("OPEN_RS_DATA", "../shared/data"))
    local = Path(os.environ.get("OPEN_RS_BENCHMARKS", data / "benchmarks"))
    os.environ["OPEN_RS_BENCHMARKS"] = str(local)
    known = [name for name in BENCHMARKS if list(local.glob(f"{name}*.jsonl"))]
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    print(f"against {', '.join(known)}; {arguments.workers} workers")
    runs = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for count in arguments.rows:
            rows = folder / f"rows-{count}.jsonl"
            if not rows.exists():
                write_rows(rows, count, data)
            runs.append(measure(rows, count, folder / f"set-{count}", arguments.workers, known))
            for seconds, line in runs[-1].stages:
                print(f"  {seconds:8.1f} s  {line[:160]}")
            print(table(runs), flush=True)


if __name__ == "__main__":
    main()
