"""What grading costs and how often it errs, beside math-verify called serially in the same run.

    python perf/grading.py [bombs|throughput|errors|golds|threads ...]

Reads the golds of `$OPEN_RS_DATA` (default `../shared/data`). Prints one JSON object a measure.
"""

import gzip
import json
import logging
import os
import platform
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "grade"))

from hostile_answers import GOLDS, hostile_answers  # noqa: E402
from labelled_pairs import Pair, layout, pairs  # noqa: E402
from made_pairs import made_pairs  # noqa: E402

from open_rs.grade import OUTCOMES, Grader  # noqa: E402
from open_rs.grade.readings import readable  # noqa: E402

DATA = Path(os.environ.get("OPEN_RS_DATA", ROOT.parent / "shared" / "data"))
WORKERS = 2
MADE_ROUNDS = 300  # of pairs whose gold is made too
GOOD = r"\sqrt{2} \sqrt{3} + {n} - {n}", r"\sqrt{6}"  # takes a worker


def gold_rows() -> list[str]:
    """The gold of every row of every benchmark and training file."""
    found = []
    for file in sorted(DATA.glob("*/*.jsonl*")):
        opened = gzip.open if file.suffix == ".gz" else open
        with opened(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                answer = json.loads(line)["answer"]
                answer = ", ".join(answer) if isinstance(answer, list) else str(answer)
                found.append(answer.rpartition("####")[2].strip())
    return [gold for gold in found if gold]


def bombs(count: int = 5_120) -> dict[str, Any]:
    """Hostile answers, one at a time, with a good one after every tenth."""
    draw, outcomes, good = random.Random(1), Counter[str](), Counter[str]()
    worst, worst_kind, worst_cpu, memory = 0.0, "", 0.0, 0.0
    with Grader(workers=1) as grader:
        grader.grade(rf"\boxed{{{GOOD[0].replace('{n}', '1')}}}", GOOD[1])
        for number, (kind, answer) in enumerate(hostile_answers(count)):
            started, started_cpu = time.perf_counter(), time.process_time()
            outcomes[grader.grade(rf"\boxed{{{answer}}}", draw.choice(GOLDS)).outcome] += 1
            seconds = time.perf_counter() - started
            worst_cpu = max(worst_cpu, time.process_time() - started_cpu)
            if seconds > worst:
                worst, worst_kind = seconds, kind
            if number % 10 == 0:
                text = GOOD[0].replace("{n}", str(number))
                good[grader.grade(rf"\boxed{{{text}}}", GOOD[1]).outcome] += 1
                memory = max(memory, workers_peak_mb())
    return {
        "measure": "bombs", "count": count, "outcomes": dict(outcomes), "good": dict(good),
        "worst_seconds": round(worst, 3), "worst_kind": worst_kind,
        "worst_cpu_seconds_of_caller": round(worst_cpu, 3),
        "worker_peak_mb": round(memory),
    }  # fmt: skip


def workers_peak_mb() -> float:
    """The largest resident size that a process below this one has had."""
    parents: dict[int, int] = {}
    peaks: dict[int, float] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(
                line.split(":", 1) for line in status.read_text().splitlines() if ":" in line
            )
        except OSError:  # it ended while we looked
            continue
        pid = int(status.parent.name)
        parents[pid] = int(fields["PPid"])
        peaks[pid] = int(fields.get("VmHWM", "0 kB").split()[0]) / 1024  # none of a zombie
    return max((peak for pid, peak in peaks.items() if _is_below(pid, parents)), default=0.0)


def _is_below(pid: int, parents: dict[int, int]) -> bool:
    """Whether this process is an ancestor of `pid`."""
    while (pid := parents.get(pid, 0)) > 0:
        if pid == os.getpid():
            return True
    return False


def varied_answers(count: int) -> list[Pair]:
    """Rows drawn from all files, each with one of its right or wrong rewritings."""
    draw = random.Random(2)
    rows = gold_rows()
    return [draw.choice(list(pairs([draw.choice(rows)], seed=draw.random()))) for _ in range(count)]


def serial_math_verify(sample: list[Pair]) -> tuple[float, list[bool]]:
    """(seconds, verdicts) of math-verify as its README calls it."""
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    started = time.perf_counter()
    verdicts = [
        verify(parse(rf"\boxed{{{pair.gold}}}"), parse(rf"\boxed{{{pair.answer}}}"))
        for pair in sample
    ]
    return time.perf_counter() - started, verdicts


def ours(sample: list[Pair]) -> tuple[float, list[str]]:
    """(seconds, outcomes) with nothing cached; the workers are warm."""
    readable.cache_clear()
    with Grader(workers=WORKERS) as grader:
        warm = [rf"\boxed{{{GOOD[0].replace('{n}', str(n))}}}" for n in range(WORKERS * 4)]
        grader.grade_many((text, GOOD[1]) for text in warm)
        started = time.perf_counter()
        grades = grader.grade_many((rf"\boxed{{{one.answer}}}", one.gold) for one in sample)
        return time.perf_counter() - started, [grade.outcome for grade in grades]


def throughput(count: int = 20_000, repeats: int = 3) -> dict[str, Any]:
    """Answers a second, ours and math-verify's in turn; disagreements on what both judged."""
    sample, part = varied_answers(count), 400
    serial_math_verify(sample[:20])
    rates, cpu_rates, their_rates, differ = [], [], [], []
    for repeat in range(repeats):
        started_cpu = time.process_time()
        seconds, outcomes = ours(sample)
        rates.append(count / seconds)
        cpu_rates.append(count / (time.process_time() - started_cpu))
        first = repeat * part
        seconds, verdicts = serial_math_verify(sample[first : first + part])
        their_rates.append(part / seconds)
        for pair, outcome, verdict in zip(sample[first:], outcomes[first:], verdicts, strict=False):
            if (outcome == "correct") != verdict:
                differ.append([pair.gold, pair.answer, f"right={pair.right}", outcome, verdict])
    return {
        "measure": "throughput", "answers": count, "workers": WORKERS,
        "per_second": [round(rate) for rate in rates],
        "per_cpu_second_of_caller": [round(rate) for rate in cpu_rates],
        "math_verify_per_second": [round(rate) for rate in their_rates],
        "ratio_of_medians": round(statistics.median(rates) / statistics.median(their_rates), 1),
        "compared": repeats * part, "disagreements": differ,
    }  # fmt: skip


def errors(theirs: int = 1_000) -> dict[str, Any]:
    """Error rates on all labelled pairs, math-verify's on a sample of them."""
    labelled = [*pairs(sorted(set(gold_rows()))), *made_pairs(MADE_ROUNDS)]
    _, outcomes = ours(labelled)
    sample = random.Random(4).sample(labelled, theirs)
    _, verdicts = serial_math_verify(sample)
    missed = [
        [pair.rule, pair.gold, pair.answer, outcome]
        for pair, outcome in zip(labelled, outcomes, strict=True)
        if outcome != ("correct" if pair.right else "wrong")
    ]
    right = sum(pair.right for pair in labelled)
    counts = Counter(
        (pair.right, outcome) for pair, outcome in zip(labelled, outcomes, strict=True)
    )
    their_counts = Counter(
        (pair.right, verdict) for pair, verdict in zip(sample, verdicts, strict=True)
    )
    undecided = sum(
        counts[side, name] for side in (True, False) for name in ("timeout", "error", "bad_gold")
    )
    return {
        "measure": "errors", "pairs": len(labelled), "right": right,
        "right_outcomes": {name: counts[True, name] for name in OUTCOMES},
        "wrong_outcomes": {name: counts[False, name] for name in OUTCOMES},
        "false_negatives_pct": 100 * (right - counts[True, "correct"]) / right,
        "false_positives_pct": 100 * counts[False, "correct"] / (len(labelled) - right),
        "undecided_pct": 100 * undecided / len(labelled),
        "math_verify_pairs": theirs,
        "math_verify_false_negatives_pct": 100 * their_counts[True, False]
        / (their_counts[True, False] + their_counts[True, True]),
        "math_verify_false_positives_pct": 100 * their_counts[False, True]
        / (their_counts[False, False] + their_counts[False, True]),
        "missed": missed[:60],
    }  # fmt: skip


def golds() -> dict[str, Any]:
    """Golds that do not grade themselves correct in one of their usual layouts."""
    distinct = sorted(set(gold_rows()))
    forms: list[Pair] = [pair for gold in distinct for pair in layout(gold)]
    _, outcomes = ours(forms)
    bad = [
        [pair.rule, pair.gold, outcome]
        for pair, outcome in zip(forms, outcomes, strict=True)
        if outcome != "correct"
    ]
    return {"measure": "golds", "golds": len(distinct), "forms": len(forms), "not_correct": bad}


def threads(count: int = 1_000) -> dict[str, Any]:
    """24 threads with `count` answers each, on one Grader."""
    sample = varied_answers(count)

    def work(_: int) -> int:
        return sum(grader.grade(rf"\boxed{{{pair.answer}}}", pair.gold).decided for pair in sample)

    files = len(os.listdir("/proc/self/fd"))
    started = time.perf_counter()
    with Grader(workers=WORKERS) as grader, ThreadPoolExecutor(24) as pool:
        decided = sum(pool.map(work, range(24)))
    return {
        "measure": "threads", "answers": 24 * count, "decided": decided,
        "seconds": round(time.perf_counter() - started, 1),
        "files_left_open": len(os.listdir("/proc/self/fd")) - files,
        "workers_left": workers_peak_mb() > 0,
    }  # fmt: skip


MEASURES = {one.__name__: one for one in (bombs, throughput, errors, golds, threads)}


def main(names: list[str]) -> Iterator[dict[str, Any]]:
    yield {"measure": "machine", "cpu": platform.processor() or platform.machine(),
           "cores": os.cpu_count(), "python": platform.python_version(),
           "load": os.getloadavg()}  # fmt: skip
    for name in names or MEASURES:
        yield MEASURES[name]()


if __name__ == "__main__":
    for result in main(sys.argv[1:]):
        print(json.dumps(result, ensure_ascii=False), flush=True)
