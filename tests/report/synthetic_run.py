"""A made-up run folder that is true to the schema of every file: seeded, no model needed."""

from pathlib import Path
from typing import Any

import numpy as np

from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.runs import RunFolder, append_jsonl, write_json, write_jsonl

GROUP_SIZE = 8
PROMPTS = 4
CAP = 256


def make_recipe(num_steps: int = 60) -> Recipe:
    return recipe_from_dict(
        {
            "name": "synthetic",
            "seed": 7,
            "sources": [{"task": "arithmetic_raw", "count": 400}],
            "filters": [{"type": "boxed"}, {"type": "gold"}, {"type": "exact_duplicates"}],
            "data": {"test": {"task": "arithmetic", "split": "test", "count": 100}},
            "rollout": {
                "group_size": GROUP_SIZE,
                "prompts_per_step": PROMPTS,
                "max_completion_tokens": CAP,
            },
            "rewards": [{"type": "accuracy"}, {"type": "format", "weight": 0.5}],
            "train": {"num_steps": num_steps, "learning_rate": 1e-4, "save_every": 10},
            "evaluate": {"every": 10},
        },
        where="synthetic recipe",
    )


def make_run(
    path: Path,
    *,
    num_steps: int = 60,
    curated: bool = True,
    evaluated: bool = True,
    finished: bool = True,
    completion: str | None = None,
    seed: int = 0,
) -> RunFolder:
    """A run of `num_steps` steps at `path`; `completion` replaces the text of every rollout."""
    random = np.random.default_rng(seed)
    run = RunFolder(path)
    recipe = make_recipe(max(num_steps, 10)).model_dump(mode="json")
    write_json(run.recipe, recipe)
    write_json(run.environment, _environment())
    write_json(run.plan, _plan(num_steps))
    _diary(run, num_steps, finished)
    if curated:
        _curation(run)
    rows = [_metrics(step, max(num_steps, 1), random) for step in range(num_steps + 1)]
    write_jsonl(run.metrics, [part for row in rows for part in _as_logged(row)])
    write_jsonl(run.ledger, list(_ledger(rows)))
    for step in range(1, num_steps + 1):
        write_jsonl(run.rollouts(step), _rollouts(step, num_steps, random, completion))
    if evaluated:
        _evaluations(run, num_steps, random)
    return run


def _environment() -> dict[str, Any]:
    return {
        "packages": {"open-rs": "0.1.0", "torch": "2.13.0", "peft": None},
        "python": "3.11.2",
        "platform": "Linux-6.1",
        "device": "cpu",
        "cpu_count": 2,
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "data_sha256": {"train": "ab" * 32, "test": "cd" * 32},
        "model_sha256": "ef" * 32,
        "command": ["open-rs", "train", "recipes/quickstart.toml"],
    }


def _plan(num_steps: int) -> dict[str, Any]:
    return {
        "steps": num_steps,
        "epochs": 1.6,
        "prompts": num_steps * PROMPTS,
        "completions": num_steps * PROMPTS * GROUP_SIZE,
        "completion_tokens": num_steps * PROMPTS * GROUP_SIZE * 90,
        "seconds": {"total": 150, "rollout": 70, "update": 45, "evaluate": 25, "curate": 10},
        "memory_bytes": {"weights": 8_400_000, "optimizer": 16_800_000, "total": 120_000_000},
        "probe": {},
        "findings": ["rollout.max_completion_tokens: 4 % of the probe's completions were cut off"],
    }


def _diary(run: RunFolder, num_steps: int, finished: bool) -> None:
    def log(event: str, step: int, seconds: float, **details: Any) -> None:
        row = {"event": event, "step": step, "time": 1.7e9 + seconds, **details}
        append_jsonl(run.events, row)

    log("start", 0, 0.0)
    for step in range(10, num_steps + 1, 10):
        log("save", step, 2.5 * step)
    if num_steps >= 30:
        log("skipped_step", 17, 42.0, reason="gradient not finite")
        log("resume", 20, 51.0)
        log("alarm", 25, 62.0, detector="truncation", sentence="truncation at step 25: ...")
        log("alarm", 25, 62.0, detector="length_up", sentence="length_up at step 25: ...")
        log("change", 26, 65.0, key="rollout.max_completion_tokens", value=256, cause="trigger")
        log("select", 50 if num_steps >= 50 else num_steps, 2.6 * num_steps, score=0.71)
    if finished:
        log("finish", num_steps, 2.7 * num_steps)


def _as_logged(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A validation score follows the step's other figures as a line of its own."""
    score = {key: one for key, one in row.items() if key.startswith("validation/")}
    rest = {key: one for key, one in row.items() if key not in score}
    lines = [rest] if len(rest) > 1 else []
    return [*lines, {"step": row["step"], **score}] if score else lines


def _metrics(step: int, num_steps: int, random: np.random.Generator) -> dict[str, Any]:
    row: dict[str, Any] = {"step": step}
    done = step / num_steps
    if step % 10 == 0:
        score = 0.42 + 0.3 * done + random.normal(0, 0.01)
        row |= {
            "validation/pass@1": score,
            "validation/pass@1_low": score - 0.05,
            "validation/pass@1_high": score + 0.05,
        }
    if step == 0:
        return row
    accuracy = float(np.clip(0.4 + 0.35 * done + random.normal(0, 0.07), 0, 1))
    form = float(np.clip(0.8 + 0.19 * done + random.normal(0, 0.04), 0, 1))
    median = 95 - 30 * done + random.normal(0, 5)
    return row | {
        "reward/mean": accuracy + 0.5 * form,
        "reward/std": 0.4,
        "reward/accuracy": accuracy,
        "reward/format": form,
        "reward/undecided_frac": float(step == 12) / 32,
        "completion/mean_tokens": median + 12,
        "completion/p10_tokens": 0.5 * median,
        "completion/p50_tokens": median,
        "completion/p90_tokens": min(CAP, 2.1 * median),
        "completion/max_tokens": CAP,
        "completion/truncated_frac": max(0.0, 0.12 * (1 - done) + random.normal(0, 0.02)),
        "groups/dead_frac": float(random.choice([0, 0.25, 0.5], p=[0.4, 0.4, 0.2])),
        "completion/repetition_frac": 0.03 * done,
        "completion/other_script_frac": max(0.0, 0.2 * (1 - done)),
        "groups/effective": 3.0,
        "policy/loss": float(random.normal(0, 0.01)),
        "policy/entropy": 0.6 - 0.3 * done + random.normal(0, 0.02),
        "policy/ratio": 1.0,
        "policy/clip_low_frac": abs(random.normal(0, 0.004)),
        "policy/clip_high_frac": abs(random.normal(0, 0.006)),
        "policy/engine_kl": abs(random.normal(0, 1e-6)),
        "optim/grad_norm": abs(random.normal(0.6, 0.2)),
        "optim/learning_rate": 1e-4 * min(1.0, step / (0.1 * num_steps)),
        "optim/skipped": float(step == 17),
        "time/rollout_s": 1.1 + random.normal(0, 0.1),
        "time/update_s": 0.8 + random.normal(0, 0.1),
        "time/step_s": 2.0,
        "tokens/completion": int(32 * median),
        "tokens/prompt": 32 * 30,
    }


def _ledger(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ledger = [{"phase": "curate", "step": 0, "seconds": 12.5, "tokens": 90_000, "usd": None}]
    ledger.append({"phase": "evaluate", "step": 0, "seconds": 6.0, "tokens": 40_000, "usd": None})
    for row in rows[1:]:
        base = {"step": row["step"], "usd": None}
        rollout = {"seconds": row["time/rollout_s"], "tokens": row["tokens/completion"]}
        ledger.append({"phase": "rollout", **base, **rollout})
        ledger.append({"phase": "update", **base, "seconds": row["time/update_s"]})
    return ledger


def _curation(run: RunFolder) -> None:
    reasons = {"no \\boxed answer": 18}
    stages = [("boxed", 18, reasons), ("gold", 9, {"gold does not parse": 9})]
    stages += [("exact_duplicates", 40, {"same text as an earlier row": 38, "answers differ": 2})]
    stages += [("contamination", 22, {"occurs in the test set": 22}), ("pass_rate", 121, {})]
    stages[-1][2].update({"solved 8 of 8": 70, "solved 0 of 8": 51})
    funnel, left = [], 400
    for name, dropped, why in stages:
        row = {"filter": name, "input": left, "dropped": dropped, "kept": left - dropped}
        funnel.append({**row, "reasons": why})
        left -= dropped
    sources = {"arithmetic_raw/train": 400}
    summary = {"input": 400, "kept": left, "funnel": funnel, "sources": sources, "too_long": 0}
    write_json(run.curated / "summary.json", summary)


def _completion(random: np.random.Generator, total: int, right: bool, truncated: bool) -> str:
    thought = " ".join(
        f"{a} + {b} = {a + b}, 加 {b}。"
        for a, b in random.integers(1, 60, (random.integers(2, 9), 2))
    )
    if truncated:
        return thought
    return f"{thought}\n</think>\nThe answer is \\boxed{{{total if right else total + 3}}}."


def _rollouts(
    step: int, num_steps: int, random: np.random.Generator, completion: str | None
) -> list[dict[str, Any]]:
    rows = []
    for place in range(PROMPTS):
        a, b = (int(one) for one in random.integers(2, 99, 2))
        problem = f"Compute {a} + {b}."
        rewards = []
        for sample in range(GROUP_SIZE):
            truncated = bool(random.random() < 0.08)
            right = not truncated and bool(random.random() < 0.4 + 0.4 * step / num_steps)
            text = completion or _completion(random, a + b, right, truncated)
            undecided = step == 12 and place == 0 and sample == 0
            parts = {
                "accuracy": None if undecided else float(right),
                "format": float(not truncated),
            }
            reward = None if undecided else float(right) + 0.5 * float(not truncated)
            rewards.append(reward)
            outcome = "correct" if right else "no_answer" if truncated else "wrong"
            rows.append(
                {
                    "step": step,
                    "problem_id": f"p{step:03d}{place}",
                    "problem": problem,
                    "answer": str(a + b),
                    "prompt": f"<|user|>{problem}<|assistant|><think>\n",
                    "prompt_ids": [1, 2, 3],
                    "sample": sample,
                    "completion": text,
                    "completion_ids": list(range(len(text.split()))),
                    "engine_logprobs": [-0.5] * len(text.split()),
                    "reward": reward,
                    "reward_breakdown": parts,
                    "advantage": 0.0,
                    "finish_reason": "length" if truncated else "stop",
                    "outcome": "timeout" if undecided else outcome,
                    "extracted": None if truncated else str(a + b if right else a + b + 3),
                }
            )
        known = np.array([reward for reward in rewards if reward is not None])
        for row in rows[-GROUP_SIZE:]:
            if row["reward"] is not None and known.std() > 0:
                row["advantage"] = float((row["reward"] - known.mean()) / known.std())
    return rows


def _score(value: float, half: float, k: int) -> dict[str, Any]:
    ends = {"value": value, "low": value - half, "high": value + half}
    return {**ends, "n": 100, "k": k, "confidence": 0.95, "method": "bootstrap over problems"}


def _evaluations(run: RunFolder, num_steps: int, random: np.random.Generator) -> None:
    """Test scores before (41 %) and after (64 %); a validation score every tenth step."""
    scores = {}
    after = f"test-{min(50, num_steps):06d}"
    for name, step, rate in (("test-000000", 0, 0.41), (after, min(50, num_steps), 0.64)):
        folder = run.evaluation(name)
        records = [
            {
                "problem_id": f"t{problem}",
                "sample": sample,
                "completion": "\\boxed{1}",
                "num_tokens": 60,
                "finish_reason": "stop",
                "outcome": "correct",
                "extracted": "1",
                "correct": bool(random.random() < rate),
                "seed": 0,
                "policy_version": "1",
            }
            for problem in range(100)
            for sample in range(4)
        ]
        write_jsonl(folder / "records.jsonl", records)
        summary = _summary(
            name, step, {"pass@1": _score(rate, 0.05, 4), "pass@4": _score(0.8, 0.06, 4)}
        )
        write_json(folder / "summary.json", summary)
        scores["before" if step == 0 else "after"] = summary["scores"]
    for step in range(0, num_steps + 1, 10):
        name = f"validation-{step:06d}"
        summary = _summary(name, step, {"pass@1": _score(0.42 + 0.3 * step / 60, 0.05, 4)})
        write_json(run.evaluation(name) / "summary.json", summary)
    difference = {"value": 0.23, "low": 0.17, "high": 0.29, "confidence": 0.95}
    write_json(
        run.path / "evaluations" / "comparison.json",
        {
            "before": "test-000000",
            "after": after,
            "num_problems": 100,
            "num_samples": 4,
            "difference": {**difference, "method": "paired bootstrap over problems"},
            "p_value": 0.0002,
            "verdict": "improved",
            "scores": scores,
        },
    )


def _summary(name: str, step: int, scores: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "model": "tiny" if step == 0 else f"checkpoints/{step:06d}",
        "step": step,
        "num_problems": 100,
        "num_samples": 4,
        "too_long": 0,
        "scores": scores,
        "truncated_frac": 0.08 if step == 0 else 0.02,
        "no_answer_frac": 0.09 if step == 0 else 0.03,
        "undecided_frac": 0.0,
        "mean_tokens": 104.2 if step == 0 else 71.9,
        "seconds": 6.0,
        "fingerprint": {"temperature": 0.6, "top_p": 0.95, "engine": "native", "prompt": "ab12"},
    }
