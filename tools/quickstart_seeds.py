"""The quickstart over many seeds: does the gain on the held-out test split hold each time?

    python tools/quickstart_seeds.py                # ten seeds, two at a time, one thread each
    python tools/quickstart_seeds.py --seeds 3 --out runs/seeds

A seed changes everything that is drawn: raw rows, validation and test problems, rollouts, training
order and evaluation samples. Prints a Markdown table and keeps each run below --out.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def run_seed(seed: int, out: Path, overrides: list[str]) -> dict[str, Any]:
    """One quickstart in a process of its own; what it concluded, and what it cost."""
    command = [sys.executable, "-m", "open_rs.cli", "quickstart", "--json"]
    command += ["--out", str(out / f"seed{seed}"), f"seed={seed}", f"evaluate.seed={seed}"]
    command += [f"{key}.seed={seed}" for key in ("sources.0", "data.validation", "data.test")]
    started = time.perf_counter()
    with (out / f"seed{seed}.log").open("w") as log:
        process = subprocess.Popen(
            command + overrides, stdout=subprocess.PIPE, stderr=log, text=True
        )
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"seed {seed} failed; see {out / f'seed{seed}.log'}")
    return {
        "seed": seed,
        "comparison": json.loads(output)["comparison"],
        "seconds": time.perf_counter() - started,
        "peak_bytes": usage.ru_maxrss * 1024,
    }


def table(results: list[dict[str, Any]]) -> str:
    rows = [
        "| seed | before | after | step | difference (95 %) | verdict | seconds | peak memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
        comparison = one["comparison"]
        before, after = (
            comparison["scores"][name]["pass@1"]["value"] for name in ("before", "after")
        )
        gain = comparison["difference"]
        rows.append(
            f"| {one['seed']} | {before:.3f} | {after:.3f} | "
            f"{comparison['after'].rpartition('-')[2].lstrip('0') or '0'} | "
            f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}] | "
            f"{comparison['verdict']} | {one['seconds']:.0f} | {one['peak_bytes'] / 1e9:.2f} GB |"
        )
    above = sum(one["comparison"]["difference"]["low"] > 0 for one in results)
    return "\n".join([*rows, "", f"Lower end above 0: {above} of {len(results)} seeds."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    parser.add_argument("overrides", nargs="*", help="settings to change, as in loss.kl_coef=0.04")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // args.parallel)
    overrides = [f"threads={threads}", *args.overrides]
    with ThreadPoolExecutor(args.parallel) as pool:
        results = list(
            pool.map(lambda seed: run_seed(seed, args.out, overrides), range(args.seeds))
        )
    (args.out / "summary.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
