"""Real benchmarks with two small models: the tables of docs/results.md, and greedy completions
against those of transformers.

    python perf/evaluate_real.py --data FOLDER --out FOLDER

FOLDER of --data holds aime24.jsonl and the others. Killed, it goes on: each score is resumable.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CAP = 256  # tokens of a completion


@dataclass(frozen=True)
class Score:
    """One row of the table."""

    model: str
    benchmark: str
    num_samples: int


SMOL = "models/smollm2-135m"
SCORES = (
    Score("tiny", "aime24", 16),
    Score("tiny", "amc23", 16),
    Score("tiny", "math500", 4),
    Score("tiny", "minerva", 4),
    Score("tiny", "olympiadbench", 4),
    Score("tiny", "gsm8k", 4),
    Score(SMOL, "aime24", 1),
    Score(SMOL, "amc23", 1),
)
GREEDY = (("tiny", "amc23", 40, 64), (SMOL, "amc23", 4, 64))  # problems, tokens


def evaluate(score: Score, data: Path, out: Path) -> dict[str, Any]:
    """The summary of one score, by the command that a user gives."""
    folder = out / Path(score.model).name / score.benchmark
    if not (folder / "summary.json").is_file():
        words = ["evaluate", score.model, "--benchmark", score.benchmark, "--out", str(folder)]
        words += ["--num-samples", str(score.num_samples)]
        words += ["--set", f"evaluate.max_completion_tokens={CAP}"]
        environment = os.environ | {"OPEN_RS_BENCHMARKS": str(data), "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-m", "open_rs.cli", *words], check=True, env=environment)
    return json.loads((folder / "summary.json").read_text())


def row(score: Score, summary: dict[str, Any]) -> str:
    """A line of the table in docs/results.md."""

    def told(name: str) -> str:
        one = summary["scores"].get(name)
        return "–" if one is None else f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"

    first, k = summary["scores"]["pass@1"], score.num_samples
    over_samples = f"[{first['samples_low']:.3f}, {first['samples_high']:.3f}]"
    cells = [
        Path(score.model).name,
        score.benchmark,
        f"{summary['num_problems']} (+{summary['too_long'] + summary['ungradable']})",
        str(k),
        told("pass@1"),
        over_samples,
        told(f"pass@{k}"),
        told(f"maj@{k}"),
        f"{summary['truncated_frac']:.0%}",
        f"{summary['no_answer_frac']:.0%}",
        f"{summary['other_script_frac']:.1%}",
        f"{summary['tokens_per_problem']:.0f}",
        f"{summary['seconds']:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def greedy_check(model_name: str, benchmark: str, count: int, tokens: int, data: Path) -> str:
    """Greedy completions of the engine against `generate`, one problem at a time, and their
    grades: how many are the same.
    """
    os.environ["OPEN_RS_BENCHMARKS"] = str(data)
    import torch

    from open_rs.benchmarks import load_benchmark
    from open_rs.evaluate.target import open_target
    from open_rs.rollout.build import evaluation_params, open_sampler

    changes = ["evaluate.temperature=0", f"evaluate.max_completion_tokens={tokens}"]
    target = open_target(model_name, [benchmark], None, changes)
    problems = load_benchmark(benchmark)[:count]
    started = time.perf_counter()
    with open_sampler(target.recipe, path=model_name) as sampler:
        prompts, _ = sampler.prompter.encode_all(problems)
        room = sampler.engine.fit.context - tokens
        prompts = [prompt for prompt in prompts if len(prompt.prompt_ids) <= room]
        groups = sampler.sample(
            prompts, group_size=1, params=evaluation_params(target.recipe), seed=0
        )
        tokenizer, model = sampler.prompter.tokenizer, sampler.engine.model
        same = graded_same = 0
        for prompt, group in zip(prompts, groups, strict=True):
            given = torch.tensor([prompt.prompt_ids])
            with torch.no_grad():
                ids = model.generate(
                    given,
                    attention_mask=torch.ones_like(given),
                    max_new_tokens=tokens,
                    do_sample=False,
                    eos_token_id=sampler.engine.eos_token_ids,
                    pad_token_id=tokenizer.pad_token_id,
                )[0, given.shape[1] :].tolist()
            ours = group.rollouts[0]
            text = tokenizer.decode(ids, skip_special_tokens=True)
            grade = sampler.grader.grade(
                text, prompt.problem.answer, opens_think=sampler.prompter.opens_think
            )
            same += ids == ours.completion_ids
            graded_same += grade.outcome == ours.grade.outcome
    return (
        f"{Path(model_name).name}, {benchmark}, {len(prompts)} problems, greedy, {tokens} tokens: "
        f"{same} of {len(prompts)} completions the same token by token, {graded_same} grades "
        f"({time.perf_counter() - started:.0f} s)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = [row(score, evaluate(score, given.data, given.out)) for score in SCORES]
    print(
        "| model | benchmark | problems (+ left out) | k | pass@1 | over samples | pass@k | maj@k "
        "| cut off | no answer | other scripts | tokens a problem | seconds |"
    )
    print("|" + "---|" * 13)
    print("\n".join(rows))
    for check in GREEDY:
        print(greedy_check(*check, given.data))


if __name__ == "__main__":
    main()
