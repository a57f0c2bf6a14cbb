"""How long the page of a large run takes to be built and to open, and how large it is.

    python perf/report.py [--steps 500] [--prompts 8] [--group 8] [--tokens 450] [--repeats 3]

Writes a run folder in the real formats with made-up content (nothing is trained): completions of
random words with Zipf's frequencies, a little harder to compress than prose, of log-normal length,
each with token ids, log-probs and a tokenizer that spells it. Then builds report.html, opens it in
headless Chromium (where there is one) and prints seconds, bytes and a search through all texts.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from open_rs.recipe import recipe_from_dict
from open_rs.report import build_report
from open_rs.runs import RunFolder, append_jsonl, write_json, write_jsonl

CAP = 2048
LETTERS = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
SHARES = np.array([12.7, 9, 8.2, 7.5, 7, 6.7, 6.3, 6, 6, 4.3, 4, 2.8, 2.8, 2.4, 2.2, 2.4, 2, 1.9])


def vocabulary(random: np.random.Generator, size: int = 6000) -> list[str]:
    """Words with their space before them, numbers and signs: some four characters a token."""
    shares = np.concatenate([SHARES, np.linspace(1.5, 0.1, len(LETTERS) - len(SHARES))])
    signs = [" ", "\n", "\n\n", ".", ",", " =", " +", " -", "(", ")", "\\boxed{", "}", "</think>"]
    numbers = [f" {number}" for number in range(300)]
    words = {
        " " + "".join(random.choice(LETTERS, random.integers(1, 9), p=shares / shares.sum()))
        for _ in range(size)
    }
    return signs + numbers + sorted(words)


def write_tokenizer(path: Path, tokens: list[str]) -> None:
    from open_rs.report.tokens import byte_of_character

    character = {byte: one for one, byte in byte_of_character().items()}
    spelt = ["".join(character[byte] for byte in token.encode()) for token in tokens]
    vocab = {token: place for place, token in enumerate(spelt)}
    write_json(path, {"model": {"vocab": vocab}, "decoder": {"type": "ByteLevel"}})


def write_run(path: Path, steps: int, prompts: int, group: int, median: int) -> RunFolder:
    """The run folder; a fixed seed, so that it is the same each time."""
    random = np.random.default_rng(0)
    run = RunFolder(path)
    recipe = {
        "name": "large",
        "rollout": {
            "prompts_per_step": prompts,
            "group_size": group,
            "max_completion_tokens": CAP,
        },
        "train": {"num_steps": steps},
    }
    write_json(run.recipe, recipe_from_dict(recipe, where="recipe").model_dump(mode="json"))
    tokens = vocabulary(random)
    write_tokenizer(run.checkpoint(steps) / "tokenizer.json", tokens)
    frequencies = 1 / np.arange(2, len(tokens) + 2)
    frequencies /= frequencies.sum()
    append_jsonl(run.events, {"event": "start", "step": 0, "time": 1.7e9})
    metrics = []
    for step in range(1, steps + 1):
        rows = [
            row
            for place in range(prompts)
            for row in group_rows(random, step, place, group, median, tokens, frequencies)
        ]
        write_jsonl(run.rollouts(step), rows)
        metrics.append(metrics_of(random, step, steps, rows))
        if step % 50 == 0:
            append_jsonl(run.events, {"event": "save", "step": step, "time": 1.7e9 + 60 * step})
    write_jsonl(run.metrics, metrics)
    phases = [("rollout", 40.0), ("update", 20.0)]
    ledger = [
        {"phase": name, "step": row["step"], "seconds": seconds, "usd": None}
        for row in metrics
        for name, seconds in phases
    ]
    write_jsonl(run.ledger, ledger)
    return run


def group_rows(
    random: np.random.Generator,
    step: int,
    place: int,
    group: int,
    median: int,
    tokens: list[str],
    frequencies: np.ndarray,
) -> list[dict[str, Any]]:
    def text(count: int) -> tuple[str, list[int]]:
        ids = random.choice(len(tokens), count, p=frequencies).tolist()
        return "".join([tokens[one] for one in ids]), ids

    problem, prompt_ids = text(60)
    lengths = np.minimum(random.lognormal(np.log(median), 0.6, group), CAP).astype(int)
    right = random.random(group) < 0.5
    advantages = (right - right.mean()) / (right.std() + 1e-6)
    rows = []
    for sample in range(group):
        completion, ids = text(int(lengths[sample]))
        sure = random.random(len(ids)) < 0.7
        logprobs = np.where(sure, -0.01 * random.random(len(ids)), -random.exponential(1, len(ids)))
        rows.append(
            {
                "step": step,
                "problem_id": f"p{(step * 8 + place) % 2000:05d}",
                "problem": problem,
                "answer": "7",
                "prompt": f"<|user|>{problem}<|assistant|><think>\n",
                "prompt_ids": prompt_ids,
                "sample": sample,
                "completion": completion,
                "completion_ids": ids,
                "engine_logprobs": logprobs.tolist(),
                "reward": float(right[sample]),
                "reward_breakdown": {"accuracy": float(right[sample])},
                "advantage": float(advantages[sample]),
                "finish_reason": "length" if len(ids) == CAP else "stop",
                "outcome": "correct" if right[sample] else "wrong",
                "extracted": "7",
            }
        )
    return rows


def metrics_of(
    random: np.random.Generator, step: int, steps: int, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    lengths = np.array([len(row["completion_ids"]) for row in rows])
    noise = random.normal(0, 0.02, 8)
    return {
        "step": step,
        "reward/mean": float(np.mean([row["reward"] for row in rows])),
        "reward/accuracy": float(np.mean([row["reward"] for row in rows])),
        "completion/mean_tokens": float(lengths.mean()),
        "completion/p10_tokens": float(np.quantile(lengths, 0.1)),
        "completion/p50_tokens": float(np.median(lengths)),
        "completion/p90_tokens": float(np.quantile(lengths, 0.9)),
        "completion/truncated_frac": float((lengths == CAP).mean()),
        "groups/dead_frac": float(abs(noise[0])),
        "policy/entropy": float(0.5 - 0.3 * step / steps + noise[1]),
        "policy/engine_kl": float(abs(noise[2]) * 1e-4),
        "policy/clip_low_frac": float(abs(noise[3])),
        "policy/clip_high_frac": float(abs(noise[4])),
        "optim/grad_norm": float(0.5 + noise[5]),
        "optim/learning_rate": 1e-6,
        "time/rollout_s": float(40 + noise[6]),
        "time/update_s": float(20 + noise[7]),
    }


def opened(page: Path, repeats: int) -> dict[str, Any]:
    """Seconds from the start of loading until all is drawn and the first group is open (median of
    `repeats`), and seconds of a search through all texts.
    """
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "report"))
    from headless_browser import CHROMIUM, Browser

    if CHROMIUM is None:
        return {"open_s": None, "why": "no Chromium on this machine"}
    with tempfile.TemporaryDirectory() as profile, Browser(Path(profile)) as browser:
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            browser.open(page, width=1280)
            browser.wait("document.querySelector('#rollouts').dataset.ready === 'yes'")
            browser.settle()
            seconds.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        browser.evaluate(
            "(() => { const one = document.querySelector('#search'); one.value = 'boxed'; "
            "one.dispatchEvent(new Event('input')); })()"
        )
        browser.wait("document.querySelector('#search-status').textContent.endsWith('hold it')")
        return {
            "open_s": statistics.median(seconds),
            "open_s_all": seconds,
            "search_s": time.perf_counter() - begin,
            "complaints": browser.complaints,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in (("steps", 500), ("prompts", 8), ("group", 8), ("tokens", 450)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", type=Path, help="folder to keep the run in, written once")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = options.run or Path(scratch) / "run"
        run = RunFolder(path)
        if not run.ledger.exists():
            run = write_run(path, options.steps, options.prompts, options.group, options.tokens)
        built = []
        for _ in range(options.repeats):
            begin = time.perf_counter()
            page = build_report(run)
            built.append(time.perf_counter() - begin)
        held = sum(file.stat().st_size for file in (path / "rollouts").iterdir())
        told = {
            "rollouts": options.steps * options.prompts * options.group,
            "rollouts_bytes": held,
            "build_s": statistics.median(built),
            "build_s_all": built,
            "page_bytes": page.stat().st_size,
            "peak_memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            **opened(page, options.repeats),
        }
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
