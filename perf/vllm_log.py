"""What a training by vLLM did, step by step: the table of docs/engines.md.

open-rs train perf/vllm.toml rollout.engine.type=vllm ... --out RUN
python perf/vllm_log.py RUN
"""

import sys
from pathlib import Path

from open_rs.runs import RunFolder, read_log, read_metrics


def main(path: Path) -> None:
    run = RunFolder(path)
    handed = {row["step"]: row for row in read_log(run.events) if row["event"] == "hand_over"}
    rows = {row["step"]: row for row in read_metrics(run) if "policy/loss" in row}
    print("| step | reward | tokens | trainer moved | probe's distance | hand-over s |")
    print("|---|---|---|---|---|---|")
    for step, row in rows.items():
        after = handed[step]
        print(
            f"| {step} | {row['reward/mean']:.3f} | {row['tokens/completion']:.0f} "
            f"| {after['moved']:.4f} | {after['distance']:.1e} | {after['seconds']:.2f} |"
        )
    most = max(abs(row.get("policy/engine_kl", 0.0)) for row in rows.values())
    print(f"\nengine KL within {most:.1e}, ", end="")
    print(f"farthest probe {max(row['distance'] for row in handed.values()):.1e} nats, ", end="")
    moved = [row["moved"] for row in handed.values() if row["moved"] is not None]
    print(f"least movement {min(moved):.1e} nats, {len(handed)} hand-overs")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
