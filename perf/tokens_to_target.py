"""Generated tokens until a held-out score is reached: plain GRPO against chosen prompts.

    OMP_NUM_THREADS=1 python perf/tokens_to_target.py run --seeds 10 --out runs/tokens.jsonl
    python perf/tokens_to_target.py table --out runs/tokens.jsonl

The model is the shipped one, the reward accuracy alone. Two pools of 120 problems: in `half`, a
quarter is solved by the model at once (level 0), a quarter lies beyond it (level 6, 3 % solved) and
half is what it can learn from; in `three quarters`, three of eight are solved, three beyond it. The
arms that fill a step by dynamic sampling ask for two groups that teach, which is what plain GRPO's
four prompts come to where half of the groups are dead: so all arms learn from about as many groups
a step, and what differs is what these cost. Each seed trains every arm from the same start, paired.
`run` appends a row for each run that ends and passes over those that are in the file.

A run's tokens to the target are the completion tokens that were drawn for training up to where the
held-out score, averaged over three neighbours in time, first reaches it, between two scores by a
straight line. Targets: 0.6, and 0.7, which nobody reaches by levels 1 to 4 alone. A ratio is that
of plain GRPO to another arm, both of one seed; means of logarithms, Student intervals.
"""

import argparse
import math
import statistics
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise, product
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from open_rs.models import load_policy
from open_rs.problems import load_problems
from open_rs.recipe import Recipe, Source, recipe_from_dict
from open_rs.rollout.build import evaluation_params, open_sampler
from open_rs.runs import RunFolder, append_jsonl, open_run, read_log, read_metrics
from open_rs.train import loop

POOLS = {  # levels in turn: 0 is solved at once, 6 lies beyond the model
    "half": [0, 1, 6, 2, 0, 3, 6, 4],
    "three quarters": [0, 6, 2, 6, 0, 6, 0, 4],
}
HELD_OUT = [1, 6, 2, 3, 6, 4]  # level 0 has too few problems for three splits, and is solved
NUM_STEPS, EVERY = 160, 10
TEST = Source(task="arithmetic", split="test", count=400, levels=HELD_OUT)
TARGETS = (0.6, 0.7)
FILLED = {"dynamic_sampling": True, "oversample": True}
ARMS: dict[str, dict[str, dict[str, Any]]] = {
    "plain": {},
    "dynamic": {"loss": {"dynamic_sampling": True}, "rollout": {"prompts_per_step": 2}},
    "history": {
        "data": {"select": "history"},
        "loss": FILLED,
        "rollout": {"prompts_per_step": 2},
    },
    "history, screen": {
        "data": {"select": "history"},
        "loss": FILLED,
        "rollout": {"prompts_per_step": 2, "screen_size": 4},
    },
}


def recipe_of(arm: str, pool: str, seed: int) -> Recipe:
    settings: dict[str, Any] = {
        "name": "tokens",
        "seed": seed,
        "data": {
            "train": {"task": "arithmetic", "count": 120, "levels": POOLS[pool]},
            "validation": {
                "task": "arithmetic", "split": "validation", "count": 120, "levels": HELD_OUT,
            },
        },
        "rollout": {"group_size": 8, "prompts_per_step": 4, "max_completion_tokens": 96},
        "rewards": [{"type": "accuracy"}],
        "train": {
            "num_steps": NUM_STEPS, "save_every": NUM_STEPS, "learning_rate": 2e-4,
            "warmup_ratio": 0.05, "keep_last": 1,
        },
        "evaluate": {"every": EVERY, "validation_samples": 2, "temperature": 1.0, "top_p": 1.0},
        "sentinel": {"action": "off"},
    }  # fmt: skip
    for section, changes in ARMS[arm].items():
        settings[section] = settings.get(section, {}) | changes
    return recipe_from_dict(settings)


def run_arm(arm: str, pool: str, seed: int) -> dict[str, Any]:
    """One run: its score curve over tokens, and its score on the test set at the end."""
    recipe = recipe_of(arm, pool, seed)
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(Path(folder) / "run", recipe)
        loop.train(recipe, run)
        rows = read_metrics(run)
        drawn = list(accumulate(row.get("tokens/completion", 0.0) for row in rows))
        scores = [
            (tokens, row["validation/pass@1"])
            for tokens, row in zip(drawn, rows, strict=True)
            if "validation/pass@1" in row
        ]
        steps = [row for row in rows if "groups/dead_frac" in row]
        return {
            "pool": pool,
            "arm": arm,
            "seed": seed,
            "scores": scores,
            "tokens": drawn[-1],
            "dead": [row["groups/dead_frac"] for row in steps],
            "effective": [row["groups/effective"] for row in steps],
            "dead_tokens": dead_tokens(run),
            "seconds": sum(row["time/step_s"] for row in steps),
            "test": test_score(recipe, run.checkpoint(NUM_STEPS)),
        }


def dead_tokens(run: RunFolder) -> int:
    """Completion tokens of groups in which every advantage is 0."""
    tokens: Counter[tuple[int, str]] = Counter()
    alive = set()
    for step in range(1, NUM_STEPS + 1):
        for row in read_log(run.rollouts(step)):
            group = step, row["problem_id"]
            tokens[group] += len(row["completion_ids"])
            if row["advantage"]:
                alive.add(group)
    return sum(count for group, count in tokens.items() if group not in alive)


def test_score(recipe: Recipe, checkpoint: Path) -> float:
    """pass@1 of a checkpoint on the test set, four samples a problem."""
    model = load_policy(recipe.model.at(str(checkpoint)))
    with open_sampler(recipe, model=model) as sampler:
        prompts, _ = sampler.prompter.encode_all(load_problems(TEST))
        groups = sampler.sample(prompts, group_size=4, params=evaluation_params(recipe), seed=0)
    grades = [one.grade for group in groups for one in group.rollouts]
    return statistics.mean(grade is not None and grade.correct for grade in grades)


def tokens_to_target(scores: Sequence[tuple[float, float]], target: float) -> float | None:
    """Where the curve, smoothed, first reaches `target`; None where it does not."""
    tokens = [one for one, _ in scores]
    smooth = [
        statistics.mean(score for _, score in scores[max(i - 1, 0) : i + 2])
        for i in range(len(scores))
    ]
    points = list(zip(tokens, smooth, strict=True))
    for (before, low), (after, high) in pairwise(points):
        if high >= target:
            return before + (after - before) * (target - low) / (high - low)
    return None


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % Student interval."""
    mean = statistics.mean(values)
    spread = statistics.stdev(values) / math.sqrt(len(values))
    half = float(student.ppf(0.975, len(values) - 1)) * spread
    return mean, mean - half, mean + half


def ratio(theirs: Sequence[float | None], ours: Sequence[float | None]) -> str:
    """The geometric mean of theirs / ours with its interval, over the pairs that have both."""
    logs = [math.log(a / b) for a, b in zip(theirs, ours, strict=True) if a and b]
    if len(logs) < 2:
        return "-"
    mean, low, high = (math.exp(one) for one in interval(logs))
    return f"{mean:.2f} ({low:.2f}-{high:.2f}), {len(logs)} pairs"


def price(row: dict[str, Any]) -> float:
    """Tokens drawn for each group that teaches."""
    return float(row["tokens"] / sum(row["effective"]))


def table(rows: Sequence[dict[str, Any]], pool: str) -> list[str]:
    """A line an arm: what a group that teaches costs, tokens to the targets, the final score."""
    by = {(row["arm"], row["seed"]): row for row in rows if row["pool"] == pool}
    lines = [
        f"pool: {pool}",
        "",
        "| arm | seeds | dead groups, first and last third | tokens in dead groups | groups that "
        "teach, a step | tokens for each | plain / this | "
        + " | ".join(f"tokens to {one}: reached, median | plain / this" for one in TARGETS)
        + " | tokens in all | final score | less plain, points |",
        "|" + "---|" * (10 + 2 * len(TARGETS)),
    ]
    for arm in ARMS:
        seeds = sorted(seed for name, seed in by if name == arm and ("plain", seed) in by)
        if len(seeds) < 2:
            continue
        mine, plain = [by[arm, seed] for seed in seeds], [by["plain", seed] for seed in seeds]
        third = NUM_STEPS // 3
        dead = [
            statistics.mean(statistics.mean(row["dead"][part]) for row in mine)
            for part in (slice(third), slice(-third, None))
        ]
        cells = [
            arm,
            str(len(seeds)),
            f"{dead[0]:.2f}, {dead[1]:.2f}",
            f"{statistics.mean(row['dead_tokens'] / row['tokens'] for row in mine):.2f}",
            f"{statistics.mean(statistics.mean(row['effective']) for row in mine):.2f}",
            f"{statistics.mean(map(price, mine)):,.0f}",
            ratio([price(row) for row in plain], [price(row) for row in mine]),
        ]
        for target in TARGETS:
            spent = [tokens_to_target(row["scores"], target) for row in mine]
            reached = [one for one in spent if one is not None]
            median = f"{statistics.median(reached):,.0f}" if reached else "-"
            theirs = [tokens_to_target(row["scores"], target) for row in plain]
            cells += [f"{len(reached)}, {median}", ratio(theirs, spent)]
        pairs = zip(mine, plain, strict=True)
        mean, low, high = interval([100 * (one["test"] - other["test"]) for one, other in pairs])
        cells += [
            f"{statistics.mean(row['tokens'] for row in mine):,.0f}",
            f"{100 * statistics.mean(row['test'] for row in mine):.1f}",
            f"{mean:+.1f} ({low:+.1f}, {high:+.1f})",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--pools", nargs="+", choices=list(POOLS), default=list(POOLS))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    done = read_log(given.out) if given.out.exists() else []
    if given.what == "table":
        print("\n".join(line for pool in given.pools for line in table(done, pool)))
        return
    held = {(row["pool"], row["arm"], row["seed"]) for row in done}
    for seed in range(given.first, given.first + given.seeds):
        for pool, arm in product(given.pools, given.arms):
            if (pool, arm, seed) not in held:
                append_jsonl(given.out, run_arm(arm, pool, seed))


if __name__ == "__main__":
    main()
