"""Finished evaluations written from verdicts alone, for tests of what reads them."""

from pathlib import Path
from typing import Any

from open_rs.evaluate.records import scores_of, write_evaluation

FINGERPRINT = {
    "problems": "aa",
    "prompt": "bb",
    "sampling": {"temperature": 0.6, "top_p": 0.95},
    "num_samples": 4,
    "seed": 0,
    "engine": "native",
    "dtype": "float32",
    "device": "cpu",
    "grader_policy": "1",
    "versions": {"torch": "2.13.0"},
}


def evaluation(folder: Path, samples: dict[str, list[bool | None]], **fingerprint: Any) -> Path:
    """A finished evaluation with these verdicts by problem."""
    held = FINGERPRINT | fingerprint
    rows = [
        {
            "problem_id": problem,
            "sample": sample,
            "completion": "",
            "num_tokens": 1,
            "finish_reason": "stop",
            "outcome": {True: "correct", False: "wrong", None: "timeout"}[correct],
            "extracted": "1",
            "correct": correct,
            "seed": held["seed"],
            "policy_version": held["grader_policy"],
        }
        for problem, verdicts in samples.items()
        for sample, correct in enumerate(verdicts)
    ]
    k = len(next(iter(samples.values())))
    summary = {
        "name": folder.name,
        "step": 0,
        "num_problems": len(samples),
        "num_samples": k,
        "scores": scores_of(rows, num_samples=k, confidence=0.95),
        "fingerprint": held,
    }
    write_evaluation(folder, rows, summary)
    return folder
