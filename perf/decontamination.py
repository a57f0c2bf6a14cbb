"""What curation's filters of like rows find, miss and cost, on real problems.

    python perf/decontamination.py [found|recall|rules|minhash|speed ...] [--rows N] [--pairs FILE]

Reads `$OPEN_RS_DATA` (default `../shared/data`). Prints one JSON object a measure. `found --pairs
FILE` writes the pairs of like rows for a person to look at. `minhash` measures datasketch and rensa
too where they are installed; the package needs neither.
"""

import argparse
import importlib.util
import json
import os
import platform
import random
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "curate"))

from altered_copies import FILLER, REWORDINGS, SPELLINGS, WORD  # noqa: E402

from open_rs.curate.contamination import HeldOut, contamination  # noqa: E402
from open_rs.curate.duplicates import (  # noqa: E402
    candidate_pairs,
    exact_duplicates,
    near_duplicates,
    text_and_bands,
    text_hashes,
)
from open_rs.curate.signatures import feature_hashes, minhash  # noqa: E402
from open_rs.curate.similarity import wording  # noqa: E402
from open_rs.curate.stages import Drop, Setting, Verdict  # noqa: E402
from open_rs.curate.text_rules import language, multi_part, open_language, proof  # noqa: E402
from open_rs.problems import Problem, load_problems  # noqa: E402
from open_rs.recipe import (  # noqa: E402
    ContaminationFilter,
    ExactDuplicatesFilter,
    LanguageFilter,
    MultiPartFilter,
    NearDuplicatesFilter,
    ProofFilter,
    Recipe,
    Source,
)

DATA = Path(os.environ.get("OPEN_RS_DATA", ROOT.parent / "shared" / "data"))
CHUNK = 2048
ALTERED = 1500  # problems that each change is tried on


def sets(folder: str) -> dict[str, list[Problem]]:
    """The sets of a folder of the data by name."""
    return {
        file.name.split(".")[0]: load_problems(Source(path=str(file)), raw=True)
        for file in sorted((DATA / folder).glob("*.jsonl*"))
    }


def chunks(rows: Sequence[Problem]) -> Iterator[Sequence[Problem]]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def contaminated(rows: Sequence[Problem], held_out: HeldOut) -> list[Verdict]:
    spec = ContaminationFilter()
    return [one for part in chunks(rows) for one in contamination(part, spec, held_out)]


def duplicated(rows: Sequence[Problem]) -> list[Verdict]:
    spec = NearDuplicatesFilter()
    features = np.concatenate([text_and_bands(part, spec) for part in chunks(rows)])
    return near_duplicates(features, lambda at: [rows[row] for row in at], spec)


def found(pairs_file: str | None) -> dict[str, Any]:
    """Rows of each training set that are, or look like, a row of a benchmark; duplicates."""
    training, benchmarks = sets("train"), sets("benchmarks")
    held_out = HeldOut(benchmarks)
    held = {one.id: one for one in held_out.problems}
    counts: dict[str, dict[str, int]] = {}
    shown: list[str] = []
    for name, rows in training.items():
        verdicts = contaminated(rows, held_out)
        counts[name] = Counter(
            f"{'dropped' if isinstance(one, Drop) else 'noted'}: {one.reason}"
            for one in verdicts
            if one is not None
        )
        shown += [
            _pair(row, held[verdict.detail.split(", ")[0]], verdict)
            for row, verdict in zip(rows, verdicts, strict=True)
            if verdict is not None and not verdict.reason.startswith("copy of")
        ]
    together = [one for rows in training.values() for one in rows]
    by_id = {one.id: one for one in together}
    duplicates = duplicated(together)
    for row, verdict in zip(together, duplicates, strict=True):
        if verdict is not None and verdict.reason == "near duplicate":
            other = by_id[verdict.detail.removeprefix("of ").split(", ")[0]]
            shown.append(_pair(row, other, verdict))
    if pairs_file:
        Path(pairs_file).write_text("\n\n".join(shown) + "\n", encoding="utf-8")
    gsm8k = contaminated(training["gsm8k_r1zero"], HeldOut({"gsm8k": benchmarks["gsm8k_test"]}))
    copied = {one.detail for one in gsm8k if one is not None and one.reason.startswith("copy of")}
    return {
        "rows": {name: len(rows) for name, rows in training.items()},
        "held out": {name: len(rows) for name, rows in benchmarks.items()},
        "like held-out rows": counts,
        "GSM8K test problems copied in gsm8k_r1zero": len(copied),
        "duplicates in all training sets": Counter(
            one.reason for one in duplicates if one is not None
        ),
    }


def _pair(row: Problem, other: Problem, verdict: Verdict) -> str:
    texts = "\n".join(
        f"   {one.answer[:30]!r}: {' '.join(one.problem.split())[:600]}" for one in (row, other)
    )
    return f"{row.id} | {verdict}\n{texts}"


def recall() -> dict[str, Any]:
    """Altered copies of held-out and training problems that are found, in percent, and problems
    of another kind that are flagged.
    """
    training, benchmarks = sets("train"), sets("benchmarks")
    held_out = HeldOut(benchmarks)
    rng = random.Random(0)
    members = rng.sample(held_out.problems, ALTERED)
    own = [one for rows in training.values() for one in rows]
    own = list({wording(one.problem).text: one for one in own}.values())
    originals = rng.sample(own, ALTERED)
    rates: dict[str, dict[str, float]] = {}
    for change in (*SPELLINGS, *REWORDINGS):
        caught = contaminated(
            [replace(one, problem=change(one.problem, rng)) for one in members], held_out
        )
        copies = [replace(one, id="copy", problem=change(one.problem, rng)) for one in originals]
        dropped = duplicated([*originals, *copies])[ALTERED:]
        rates[change.__name__] = {
            "contamination": _percent(isinstance(one, Drop) for one in caught),
            "near_duplicates": _percent(isinstance(one, Drop) for one in dropped),
        }
    return {
        "problems": ALTERED,
        "found, %": rates,
        "other problems flagged": {
            f"{name} against {', '.join(against)}": _flagged(
                training[name], {one: benchmarks[one] for one in against}
            )
            for name, against in (
                ("gsm8k_r1zero", ("aime24", "amc23", "math500", "minerva", "olympiadbench")),
                ("deepscaler_math", ("gsm8k_test", "minerva", "aime24", "amc23")),
                ("deepscaler_aime", ("gsm8k_test", "minerva")),
            )
        },
    }


def _percent(hits: Iterator[bool]) -> float:
    found = list(hits)
    return round(100 * sum(found) / len(found), 2)


def _flagged(rows: Sequence[Problem], benchmarks: dict[str, list[Problem]]) -> dict[str, int]:
    verdicts = contaminated(rows, HeldOut(benchmarks))
    flagged = Counter(type(one).__name__.lower() for one in verdicts if one is not None)
    return {"rows": len(rows), **flagged}


def rules() -> dict[str, Any]:
    """Rows on which the rules for several parts, proofs and language speak: all sets here are
    English and were cleaned of the others; and rows made of two real ones as parts (a) and (b).
    """
    everything = {**sets("train"), **sets("benchmarks")}
    english = LanguageFilter(languages=("en",))
    with open_language(english, Setting(Recipe(), Path())) as language_of:
        foreign = [
            one
            for rows in everything.values()
            for one in language(rows, english, language_of)
            if one is not None
        ]
    rng = random.Random(0)
    gsm8k = everything["gsm8k_test"]
    joined = [
        replace(one, problem=f"(a) {one.problem} (b) {rng.choice(gsm8k).problem}") for one in gsm8k
    ]
    return {
        "rows": sum(map(len, everything.values())),
        "multi_part on them": sum(
            one is not None
            for rows in everything.values()
            for one in multi_part(rows, MultiPartFilter())
        ),
        "proof on them": sum(
            one is not None for rows in everything.values() for one in proof(rows, ProofFilter())
        ),
        "language on them": len(foreign),
        "two GSM8K problems as parts, found %": _percent(
            one is not None for one in multi_part(joined, MultiPartFilter())
        ),
    }


def signatures(count: int = 10_000, num_hashes: int = 128) -> dict[str, Any]:
    """CPU microseconds a row for 128 MinHash values of known words and pairs; median of five."""
    rows = [one for part in sets("train").values() for one in part][:count]
    wordings = [wording(one.problem) for one in rows]
    texts = [
        [key if isinstance(key, str) else " ".join(key) for key in one.counts] for one in wordings
    ]

    def ours() -> None:
        for start in range(0, count, CHUNK):
            minhash(*feature_hashes(wordings[start : start + CHUNK]), num_hashes)

    ways: dict[str, Callable[[], None]] = {"numpy": ours}
    if importlib.util.find_spec("rensa"):
        from rensa import RMinHash

        def rensa() -> None:
            for one in texts:
                sketch = RMinHash(num_perm=num_hashes, seed=1)
                sketch.update(one)
                sketch.digest()

        ways["rensa"] = rensa
    if importlib.util.find_spec("datasketch"):
        from datasketch import MinHash

        def datasketch() -> None:
            for one in texts:
                MinHash(num_perm=num_hashes).update_batch([text.encode() for text in one])

        ways["datasketch"] = datasketch

    def joining() -> None:  # what the libraries need first: a text for each pair
        for one in wordings:
            [key if isinstance(key, str) else " ".join(key) for key in one.counts]

    ways["texts of the pairs, which both libraries need"] = joining
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(5):
        for name, way in ways.items():
            seconds[name].append(_seconds(way)[0])
    return {
        "rows": count,
        "microseconds a row": {
            name: round(1e6 * float(np.median(taken)) / count, 1) for name, taken in seconds.items()
        },
    }


def varied(count: int) -> list[Problem]:
    """`count` rows: the real ones, then again and again with a fifth of the words and every number
    drawn anew, so that few are copies; one in twenty is a copy of the row before it.
    """
    real = [one for rows in sets("train").values() for one in rows]
    rng = random.Random(0)
    rows = real[:count]
    while len(rows) < count:
        one = real[len(rows) % len(real)]
        if rng.random() < 0.05:
            rows.append(replace(rows[-1], id=f"copy-{len(rows)}"))
            continue
        text = re.sub(
            r"\d+", lambda number: str(rng.randrange(1, 10 ** len(number[0]))), one.problem
        )
        text = WORD.sub(lambda word: rng.choice(FILLER) if rng.random() < 0.2 else word[0], text)
        rows.append(replace(one, id=f"varied-{len(rows)}", problem=text, answer=str(len(rows))))
    return rows


def speed(count: int) -> dict[str, Any]:
    """CPU seconds of each filter over `count` rows, one process."""
    rows = varied(count)
    held_out = HeldOut(sets("benchmarks"))
    near, exact = NearDuplicatesFilter(), ExactDuplicatesFilter()

    def fetch(at: Sequence[int]) -> list[Problem]:
        return [rows[row] for row in at]

    before = _memory()
    took: dict[str, float] = {}
    took["exact_duplicates, features"], hashes = _seconds(
        lambda: np.concatenate([text_hashes(part, exact) for part in chunks(rows)])
    )
    took["exact_duplicates, decide"], _ = _seconds(lambda: exact_duplicates(hashes, fetch, exact))
    took["near_duplicates, features"], features = _seconds(
        lambda: np.concatenate([text_and_bands(part, near) for part in chunks(rows)])
    )
    took["near_duplicates, decide"], verdicts = _seconds(
        lambda: near_duplicates(features, fetch, near)
    )
    took["contamination"], flagged = _seconds(lambda: contaminated(rows, held_out))
    took["multi_part, proof"], _ = _seconds(
        lambda: (multi_part(rows, MultiPartFilter()), proof(rows, ProofFilter()))
    )
    return {
        "rows": count,
        "CPU seconds": {name: round(seconds, 1) for name, seconds in took.items()},
        "pairs compared": len(candidate_pairs(features)),
        "near_duplicates": Counter(one.reason for one in verdicts if one is not None),
        "contamination dropped": sum(isinstance(one, Drop) for one in flagged),
        "peak memory above the rows, MB": round((_memory() - before) / 2**10),
    }


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds, which others on the machine hardly change, and what `work` returns."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def _memory() -> int:
    """KiB, the most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    kinds = ("found", "recall", "rules", "minhash", "speed")
    parser.add_argument("measures", nargs="*", default=kinds, help=", ".join(kinds))
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--pairs", help="a file for the pairs that `found` finds")
    chosen = parser.parse_args()
    print(json.dumps({"python": platform.python_version(), "load": os.getloadavg()[0]}))
    for measure in chosen.measures:
        if measure == "speed":
            for count in chosen.rows:
                print(json.dumps({"speed": speed(count)}), flush=True)
            continue
        run = {
            "found": lambda: found(chosen.pairs),
            "recall": recall,
            "rules": rules,
            "minhash": signatures,
        }[measure]
        print(json.dumps({measure: run()}, indent=1), flush=True)


if __name__ == "__main__":
    main()
