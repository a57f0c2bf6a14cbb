"""Evaluations that another harness has run: its per-sample files, read where a folder of open-rs is
expected. No grading is done again: what counts as correct is what that harness called so, and the
fingerprint says which one it was.

    details_*.parquet   lighteval
    samples_*.jsonl     lm-evaluation-harness (--log_samples)
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_rs.errors import InputError
from open_rs.evaluate.records import read_records, read_summary, scores_of
from open_rs.problems import read_jsonl

Row = dict[str, Any]

LM_HARNESS = "lm-evaluation-harness"

# In order of preference where a file holds several.
METRICS = ("extractive_match", "exact_match", "pass@1", "math_pass@1", "acc")


# maj@8, pass@4, math_pass@8:8_samples, pass@k:k=16&n=16; not pass@1, pass@1:4_samples, pass@k:k=1
NO_MEAN = re.compile(r"maj@|pass@(k:k=)?(?!1(\D|$))\d")


@dataclass(frozen=True)
class Sampled:
    """One problem as another harness has recorded it: k completions and what they scored."""

    problem_id: str
    question: str
    gold: str
    completions: list[str]
    extracted: list[str | None]
    num_tokens: list[int]
    scores: Mapping[str, float]


def read_evaluation(path: Path, metric: str | None = None) -> tuple[Row, list[Row]]:
    """(summary, records) of an evaluation folder, or of a file of samples from another harness.

    `metric` names the one to read where a file of samples holds several; of lm-evaluation-harness
    in its own way, as in exact_match,strict-match.
    """
    if not path.is_file():
        summary = read_summary(path)
        return summary, read_records(path, summary)
    if path.suffix == ".parquet":
        return _evaluation(path, _lighteval(path), metric, {"harness": "lighteval"})
    if path.suffix == ".jsonl":
        samples, facts = _lm_evaluation_harness(path, metric)
        return _evaluation(path, samples, metric, facts)
    raise InputError(
        f"{path}: not a file of samples; give a folder of open-rs evaluate, lighteval's "
        "details_*.parquet or lm-evaluation-harness's samples_*.jsonl (aggregates without samples "
        "can be judged by open-rs compare --published)"
    )


def _evaluation(
    path: Path, samples: Sequence[Sampled], metric: str | None, facts: Row
) -> tuple[Row, list[Row]]:
    """Records and summary of these samples under one metric, `facts` in the fingerprint."""
    if not samples:
        raise InputError(f"{path}: holds no samples; export it anew")
    name = _metric_name(path, samples, metric)
    num_samples = len(samples[0].completions)
    rows: list[Row] = []
    for one in samples:
        where = f"{path}, problem {one.problem_id}"
        if len(one.completions) != num_samples:
            raise InputError(
                f"{where}: {len(one.completions)} samples where others have {num_samples}; export "
                "a whole run"
            )
        rows += _records(where, one, one.scores.get(name, math.nan))
    repeated = len(samples) - len({one.problem_id for one in samples})
    if repeated:
        raise InputError(f"{path}: {repeated} problems occur twice; export one run alone")
    asked = sorted((one.problem_id, one.question, one.gold) for one in samples)
    summary = {
        "name": path.stem,
        "model": None,
        "step": 0,
        "num_problems": len(samples),
        "num_samples": num_samples,
        "scores": scores_of(rows, num_samples=num_samples, confidence=0.95),
        "mean_tokens": _mean_tokens(samples),
        "untold": [*([] if facts.get("sampling") else ["sampling settings"]), "model"],
        "fingerprint": {
            "problems": hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16],
            "num_samples": num_samples,
            "metric": name,
            **facts,
        },
    }
    return summary, rows


def _records(where: str, one: Sampled, score: float) -> list[Row]:
    """A row per sample. Which of the k are right is not in such files, only how many: the first
    are called so.
    """
    total = len(one.completions)
    right = score * total
    if not 0 <= score <= 1 or abs(right - round(right)) > 1e-6:
        raise InputError(
            f"{where}: score {score:g} of {total} samples is not a number of correct ones; name "
            "another --metric"
        )
    tokens = one.num_tokens or [0] * total
    return [
        {
            "problem_id": one.problem_id,
            "sample": number,
            "completion": one.completions[number],
            "num_tokens": tokens[number],
            "finish_reason": "stop",
            "outcome": "correct" if number < round(right) else "wrong",
            "extracted": one.extracted[number] if total == 1 else None,
            "correct": number < round(right),
            "seed": None,
            "policy_version": None,
        }
        for number in range(total)
    ]


def _metric_name(path: Path, samples: Sequence[Sampled], wanted: str | None) -> str:
    name = _named_metric(path, samples, wanted)
    if NO_MEAN.search(name):
        raise InputError(
            f"{path}: {name} is no mean over samples, so it does not tell how many of them are "
            "right; name another --metric, such as pass@1"
        )
    return name


def _named_metric(path: Path, samples: Sequence[Sampled], wanted: str | None) -> str:
    known = sorted({name for one in samples for name in one.scores})
    if wanted is not None:
        name = wanted.partition(",")[0]
        if name in known:
            return name
    elif len(known) == 1:
        return known[0]
    else:
        preferred = [name for name in METRICS if name in known]
        if preferred:
            return preferred[0]
    asked = f"no metric {wanted!r}" if wanted else "several metrics"
    raise InputError(f"{path}: {asked}; name one by --metric: {', '.join(known) or 'none there'}")


def _mean_tokens(samples: Iterable[Sampled]) -> float | None:
    counts = [count for one in samples for count in one.num_tokens]
    return sum(counts) / len(counts) if counts else None


def _lighteval(path: Path) -> list[Sampled]:
    """Rows of details_*.parquet: doc, metric and model_response since lighteval 0.10, before that
    example, metrics and predictions.
    """
    import pyarrow.parquet  # only these files need it

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: not a readable parquet file ({error}); copy it anew") from None
    columns = set(table.column_names)
    rows = table.to_pylist()
    if columns >= {"doc", "metric", "model_response"}:
        return _each(path, rows, _new_detail, "lighteval")
    if columns >= {"metrics", "predictions"}:
        return _each(path, rows, _old_detail, "lighteval")
    raise InputError(
        f"{path}: columns {', '.join(sorted(columns))} are not those of lighteval's details; give "
        "details_*.parquet as lighteval writes it"
    )


def _each(
    path: Path, rows: Sequence[Row], read: Callable[[int, Row], Sampled], harness: str
) -> list[Sampled]:
    """Every row read; one that is not as its harness writes it is named."""
    found = []
    for number, row in enumerate(rows):
        try:
            found.append(read(number, row))
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}, row {number}: not as {harness} writes it ({error}); export it anew"
            ) from None
    return found


def _new_detail(number: int, row: Row) -> Sampled:
    doc, response = row["doc"], row["model_response"]
    texts = [str(text) for text in response["text"]]
    tokens = [len(one) for one in response.get("output_tokens") or []]
    return Sampled(
        problem_id=str(doc["id"]) if doc.get("id") not in (None, "") else str(number),
        question=str(doc["query"]),
        gold=_gold(doc),
        completions=texts,
        extracted=[None] * len(texts),
        num_tokens=tokens if len(tokens) == len(texts) else [],
        scores=_numbers(row["metric"]),
    )


def _old_detail(number: int, row: Row) -> Sampled:
    texts = row["predictions"]
    texts = [str(text) for text in (texts if isinstance(texts, list) else [texts])]
    tokens = [len(one) for one in row.get("cont_tokens") or [] if isinstance(one, list)]
    return Sampled(
        problem_id=str(number),
        question=str(row.get("example") or row.get("full_prompt")),
        gold=str(row.get("gold")),
        completions=texts,
        extracted=[None] * len(texts),
        num_tokens=tokens if len(tokens) == len(texts) else [],
        scores=_numbers(row["metrics"]),
    )


def _gold(doc: Row) -> str:
    choices, index = doc.get("choices") or [], doc.get("gold_index")
    places = index if isinstance(index, list) else [index]
    return json.dumps([choices[one] for one in places if isinstance(one, int)])


def _numbers(scores: Mapping[str, Any] | None) -> dict[str, float]:
    """The metrics that are numbers; bool counts as 0 or 1."""
    return {
        name: float(value)
        for name, value in (scores or {}).items()
        if isinstance(value, int | float) and not name.endswith("_stderr")
    }


def _lm_evaluation_harness(path: Path, metric: str | None) -> tuple[list[Sampled], Row]:
    """Rows of samples_*.jsonl under one filter, and what they tell of the harness: the generation
    settings and a hash of the prompts.
    """
    rows = list(read_jsonl(path))
    for number, row in rows:
        missing = [key for key in ("doc_id", "target", "filtered_resps") if key not in row]
        if missing:
            raise InputError(
                f"{path}, line {number}: {', '.join(missing)} missing, so it is no sample of "
                "lm-evaluation-harness; run it with --log_samples"
            )
    filters = list(dict.fromkeys(str(row.get("filter", "none")) for _, row in rows))
    chosen = metric.partition(",")[2] if metric else ""
    if not chosen:
        chosen = filters[0] if filters else "none"
    if filters and chosen not in filters:
        raise InputError(
            f"{path}: no filter {chosen!r}; name one by --metric NAME,FILTER: {', '.join(filters)}"
        )
    kept = [row for _, row in rows if str(row.get("filter", "none")) == chosen]
    prompts = sorted((str(row["doc_id"]), str(_argument(row, 0))) for row in kept)
    settings = _argument(kept[0], 1) if kept else None
    facts = {
        "harness": LM_HARNESS,
        "filter": chosen,
        "sampling": settings,
        "prompt": hashlib.sha256(json.dumps(prompts).encode()).hexdigest()[:16],
    }
    return _each(path, kept, _logged_sample, LM_HARNESS), facts


def _argument(row: Row, place: int) -> Any:
    """The prompt (0) or generation settings (1) of a request, in either spelling of the file."""
    arguments = row.get("arguments")
    if isinstance(arguments, dict) and arguments:
        return next(iter(arguments.values())).get(f"arg_{place}")
    if isinstance(arguments, list) and arguments and len(arguments[0]) > place:
        return arguments[0][place]
    return None


def _logged_sample(number: int, row: Row) -> Sampled:
    filtered = row["filtered_resps"][0]
    answers = filtered if isinstance(filtered, list) else [filtered]
    raw = (row.get("resps") or [[]])[0]
    texts = raw if isinstance(raw, list) and len(raw) == len(answers) else answers
    names = row.get("metrics") or [key for key in METRICS if key in row]
    return Sampled(
        problem_id=str(row["doc_id"]),
        question=json.dumps(row.get("doc"), sort_keys=True, default=str),
        gold=str(row["target"]),
        completions=[str(text) for text in texts],
        extracted=[str(text) for text in answers],
        num_tokens=[],
        scores=_numbers({name: row.get(name) for name in names}),
    )
