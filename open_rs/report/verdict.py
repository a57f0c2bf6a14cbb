"""The first screen: what was run, what came of it, how far to trust that."""

from collections import Counter, defaultdict
from typing import Any

from open_rs.report.format import count, cut, duration, number, p_text, percent, points
from open_rs.report.load import Row, RunData

SIGNS = {"improved": "▲", "worse": "▼", "not distinguishable from noise": "≈"}
CLASSES = {"improved": "good", "worse": "bad", "not distinguishable from noise": "unsure"}


def status(data: RunData) -> Row:
    """How the run ended, from its last event of that kind."""
    last = data.last_step
    of = f" of {data.num_steps}" if data.num_steps else ""
    ending = next(
        (
            row
            for row in reversed(data.events)
            if row["event"] in ("start", "resume", "stop", "finish")
            and row.get("stage", "train") == "train"  # an evaluation can be stopped, too
        ),
        {},
    )
    if ending.get("event") == "finish":
        return {"kind": "good", "text": f"finished, {count(last)} steps"}
    if ending.get("event") == "stop":
        reason = ending.get("reason") or ending.get("message") or "no reason recorded"
        return {"kind": "bad", "text": f"stopped at step {last}{of}: {cut(str(reason), 200)}"}
    if not data.metrics:
        return {"kind": "unsure", "text": "no training step recorded"}
    return {
        "kind": "unsure",
        "text": f"step {last}{of}, no end recorded: still running, or killed",
    }


def facts(data: RunData) -> list[tuple[str, str]]:
    """What was run, in a few pairs."""
    recipe = data.recipe
    pairs: list[tuple[str, str]] = []
    if recipe:
        rollout, train = recipe["rollout"], recipe["train"]
        group, prompts = rollout["group_size"], rollout["prompts_per_step"]
        pairs = [
            ("Model", recipe["model"]["path"]),
            ("Method", method(recipe)),
            ("Rewards", rewards(recipe["rewards"])),
            (
                "Each step",
                f"{prompts} prompts × {group} completions, up to "
                f"{count(rollout['max_completion_tokens'])} tokens, temperature "
                f"{number(rollout['temperature'])}",
            ),
            ("Steps", f"{count(data.last_step)} of {count(train['num_steps'])}"),
            ("Seed", str(recipe["seed"])),
        ]
        if recipe.get("schedules"):
            pairs.append(("Schedules", ", ".join(one["key"] for one in recipe["schedules"])))
    alarms = Counter(row.get("detector") for row in data.events if row["event"] == "alarm")
    if alarms:
        listed = (f"{name} {times}" for name, times in alarms.most_common())
        pairs.append(("Alarms", ", ".join(listed)))
    if data.environment.get("device"):
        pairs.append(("Device", data.environment["device"]))
    if data.ledger:
        seconds = sum(row.get("seconds") or 0 for row in data.ledger)
        tokens = sum(row.get("tokens") or 0 for row in data.ledger)
        pairs.append(("Took", duration(seconds)))
        if tokens:
            pairs.append(("Sampled", f"{count(tokens)} tokens"))
    return pairs


def method(recipe: Row) -> str:
    """The loss in words: the name of the family, then whatever is not its plainest form."""
    loss = recipe["loss"]
    parts = ["CISPO" if loss["objective"] == "cispo" else "GRPO"]
    if loss["ratio_level"] == "sequence":
        parts.append("sequence ratio")
    parts.append(f"clip −{number(loss['clip_low'])} +{number(loss['clip_high'])}")
    parts.append(f"{loss['loss_norm']} norm")
    if loss["advantage_scale"] == "none":
        parts.append("advantages not scaled")
    parts.append(f"KL {number(loss['kl_coef'])}" if loss["kl_coef"] else "no KL")
    if loss["dynamic_sampling"]:
        parts.append("dynamic sampling")
    if loss["mask_truncated"]:
        parts.append("truncated masked")
    if recipe["model"].get("lora"):
        parts.append(f"LoRA rank {recipe['model']['lora']['rank']}")
    return ", ".join(parts)


def rewards(specs: list[Row]) -> str:
    return " + ".join(
        f"{factor(spec.get('weight', 1))}{spec.get('function') or spec['type']}" for spec in specs
    )


def factor(weight: float) -> str:
    """A reward's weight before its name."""
    return "" if weight == 1 else f"{number(weight)} × "


def verdict(data: RunData) -> Row | None:
    """The run's own paired comparison as sentence, table and picture; None without one."""
    comparison = data.comparison
    if not comparison:
        return None
    before, after = (comparison["scores"][side]["pass@1"] for side in ("before", "after"))
    sentence = _sentence(comparison["verdict"], percent(before["value"]), percent(after["value"]))
    old, new = (pass_rates(data, comparison[side]) for side in ("before", "after"))
    return card(comparison, ("before", "after"), sentence) | {"flips": flips(old, new)}


def card(comparison: Row, labels: tuple[str, str], sentence: str) -> Row:
    """A comparison of `open_rs.evaluate.compare` as the template shows it."""
    difference, word = comparison["difference"], comparison["verdict"]
    p_value = comparison.get("p_adjusted", comparison.get("p_value"))
    scores = (comparison["scores"][side]["pass@1"] for side in ("before", "after"))
    return {
        "title": "",
        "word": word,
        "sign": SIGNS.get(word, "•"),
        "kind": CLASSES.get(word, "unsure"),
        "sentence": sentence,
        "difference": f"{points(difference['value'])} points",
        "interval": f"{points(difference['low'])} to {points(difference['high'])}",
        "confidence": percent(difference.get("confidence", 0.95), 0),
        "p_value": p_text(p_value),
        "n": count(comparison.get("num_problems")),
        "k": count(comparison.get("num_samples")),
        "method": difference.get("method", ""),
        "flips": None,
        "dots": [
            _dot(label, score, kind)
            for label, score, kind in zip(labels, scores, ("muted", "accent"), strict=True)
        ],
        "gap": _gap(difference),
    }


def _sentence(word: str, before: str, after: str) -> str:
    """The two scores; a direction is named only where the verdict bears it."""
    if word in ("improved", "worse"):
        return f"Test pass@1 {'rose' if word == 'improved' else 'fell'} from {before} to {after}."
    return f"Test pass@1 was {before} before training and {after} after it."


def _dot(label: str, score: Row, kind: str) -> Row:
    """A score with its interval on an axis from 0 to 100."""
    low, high = 100 * score["low"], 100 * score["high"]
    return {
        "label": label,
        "kind": kind,
        "value": round(100 * score["value"], 2),
        "low": round(low, 2),
        "width": round(high - low, 2),
        "text": percent(score["value"]),
    }


def _gap(difference: Row) -> Row:
    """The difference with its interval on an axis that is symmetric about zero, as shares of it."""
    reach = max(0.01, 1.25 * max(abs(difference["low"]), abs(difference["high"])))
    low, value, high = (50 + 50 * difference[name] / reach for name in ("low", "value", "high"))
    return {
        "low": round(low, 2),
        "value": round(value, 2),
        "width": round(high - low, 2),
        "text": points(difference["value"]),
        "left": points(-reach),
        "right": points(reach),
    }


def score_table(data: RunData) -> Row | None:
    """A row for each evaluation on test problems; None where there was none."""
    names = [name for name in data.evaluations if not name.startswith("validation")]
    summaries = [data.evaluations[name] for name in names]
    if not summaries:
        return None
    ks = sorted(
        {key for one in summaries for key in one["scores"] if key != "pass@1"},
        key=lambda key: (key.partition("@")[0] != "pass", int(key.partition("@")[2])),
    )
    roles = {data.comparison.get("before"): "before", data.comparison.get("after"): "after"}
    rows = []
    for name, summary in zip(names, summaries, strict=True):
        score = summary["scores"]["pass@1"]
        others = [summary["scores"].get(key) for key in ks]
        rows.append(
            {
                "role": roles.get(name, ""),
                "name": name,
                "step": count(summary.get("step")),
                "pass_1": percent(score["value"]),
                "interval": f"{percent(score['low'])} to {percent(score['high'])}",
                "others": [percent(one["value"]) if one else "–" for one in others],
                "n": count(score.get("n")),
                "k": count(score.get("k")),
                "truncated": percent(summary.get("truncated_frac")),
                "no_answer": percent(summary.get("no_answer_frac")),
                "undecided": percent(summary.get("undecided_frac")),
                "mean_tokens": number(summary.get("mean_tokens")),
            }
        )
    score = summaries[0]["scores"]["pass@1"]
    return {
        "ks": ks,
        "rows": rows,
        "confidence": percent(score.get("confidence", 0.95), 0),
        "method": score.get("method", ""),
    }


def flips(old: dict[str, float], new: dict[str, float]) -> Row | None:
    """Problems whose pass rate rose, fell, stayed; None where no problem is on both sides."""
    shared = old.keys() & new.keys()
    if not shared:
        return None
    rose = sum(new[key] > old[key] for key in shared)
    fell = sum(new[key] < old[key] for key in shared)
    same = len(shared) - rose - fell
    return {
        "rose": count(rose),
        "same": count(same),
        "fell": count(fell),
        "shares": [round(100 * part / len(shared), 2) for part in (rose, same, fell)],
    }


def pass_rates(data: RunData, name: str) -> dict[str, float]:
    """Share of decided samples that are correct, by problem."""
    path = data.run.evaluation(name) / "records.jsonl"
    decided: dict[str, list[bool]] = defaultdict(list)
    for row in data.log(path, ("problem_id", "correct")):
        if row.get("correct") is not None:
            decided[row["problem_id"]].append(row["correct"])
    return {key: sum(values) / len(values) for key, values in decided.items()}


def evaluation_absent(data: RunData) -> str:
    """Why there is no verdict, as far as the folder tells."""
    tests: list[Any] = [name for name in data.evaluations if not name.startswith("validation")]
    if len(tests) == 1:
        return f"Only {tests[0]} is there: a verdict needs the test set scored before and after."
    if tests:
        return (
            "Test scores are there, and no comparison of them that can be read "
            "(evaluations/comparison.json): run open-rs evaluate on the run folder."
        )
    if data.recipe and not data.recipe["data"].get("test"):
        return "The recipe names no test set (data.test), so nothing can be said about a gain."
    return "The test set has not been scored, so nothing can be said about a gain."
