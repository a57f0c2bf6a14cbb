"""The first screen: what was run, what came of it, how far to trust that."""

from collections import Counter, defaultdict
from typing import Any

from open_rs.evaluate.scores import expected_best
from open_rs.report.format import count, duration, number, percent, points
from open_rs.report.load import Row, RunData
from open_rs.runs import different_keys

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
        ),
        {},
    )
    if ending.get("event") == "finish":
        return {"kind": "good", "text": f"finished, {count(last)} steps"}
    if ending.get("event") == "stop":
        reason = ending.get("reason") or ending.get("message") or "no reason recorded"
        return {"kind": "bad", "text": f"stopped at step {last}{of}: {reason}"}
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
    """The paired comparison as sentence, table and picture; None without one."""
    comparison = data.comparison
    if not comparison:
        return None
    difference, word = comparison["difference"], comparison["verdict"]
    before, after = comparison["scores"]["before"], comparison["scores"]["after"]
    pass_1 = [scores["pass@1"] for scores in (before, after)]
    confidence = percent(difference.get("confidence", 0.95), 0)
    return {
        "word": word,
        "sign": SIGNS.get(word, "•"),
        "kind": CLASSES.get(word, "unsure"),
        "sentence": _sentence(word, *(percent(score["value"]) for score in pass_1)),
        "difference": f"{points(difference['value'])} points",
        "interval": f"{points(difference['low'])} to {points(difference['high'])}",
        "confidence": confidence,
        "p_value": number(comparison.get("p_value")),
        "n": count(comparison.get("num_problems")),
        "k": count(comparison.get("num_samples")),
        "method": difference.get("method", ""),
        "flips": flips(data, comparison["before"], comparison["after"]),
        "dots": [
            _dot("before", pass_1[0], "muted"),
            _dot("after", pass_1[1], "accent"),
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


def flips(data: RunData, before: str, after: str) -> Row | None:
    """Problems whose pass rate rose, fell, stayed; None without both sets of records."""
    old, new = pass_rates(data, before), pass_rates(data, after)
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


def cautions(data: RunData) -> list[str]:
    """What a careful reader would ask about the verdict, answered from the run's own files."""
    found = []
    if data.comparison:
        found.append(
            "One training run with one seed: the interval covers the draw of problems and "
            "completions, not the luck of training. Repeat with other seeds before you publish."
        )
        found += _harness_cautions(data)
        if data.comparison.get("left_out"):
            found.append(
                f"{count(data.comparison['left_out'])} problems are left out of the difference: "
                "the grader could not judge them on both sides."
            )
        found += _comparison_cautions(data.comparison)
    if (step := data.selected_step) is not None:
        found.append(f"The checkpoint of step {step} was chosen on validation problems.")
    found += _uses(data)
    skipped = sum(bool(row.get("optim/skipped")) for row in data.metrics)
    if skipped:
        steps = "1 step was" if skipped == 1 else f"{count(skipped)} steps were"
        found.append(f"{steps} skipped: loss or gradient was not finite.")
    for name, summary in data.evaluations.items():
        if name.startswith("validation"):
            continue
        if (summary.get("undecided_frac") or 0) > 0:
            found.append(
                f"{name}: {percent(summary['undecided_frac'], 2)} of the samples could not be "
                "graded; they count neither way in the score."
            )
        if (summary.get("truncated_frac") or 0) >= 0.1:
            found.append(
                f"{name}: {percent(summary['truncated_frac'])} of the completions hit the cap, "
                "so the score is also a score of brevity."
            )
        trained = summary.get("training_prompt")
        if trained is not None and trained != summary["fingerprint"]["prompt"]:
            found.append(f"{name}: the prompt was not the one of training.")
        if summary.get("too_long"):
            found.append(
                f"{name}: {count(summary['too_long'])} problems left out: prompt too long."
            )
    return found


def _comparison_cautions(comparison: Row) -> list[str]:
    """What the comparison itself says beside its numbers."""
    found = []
    one = comparison.get("undecided") or {}
    if one.get("before") or one.get("after"):
        found.append(
            f"Not judged: {count(one['before'])} samples before, {count(one['after'])} after. All "
            f"of them counted against the difference, its interval is {points(one['low'])} to "
            f"{points(one['high'])}; the verdict has to bear that."
        )
    if "smallest_gain" in comparison:
        found.append(
            f"A gain of {points(comparison['smallest_gain'])} points would be found in 80 % of "
            "such comparisons; a smaller one mostly not."
        )
    if comparison.get("untold"):
        found.append(f"Taken on trust, since no file tells it: {', '.join(comparison['untold'])}.")
    return found


def _uses(data: RunData) -> list[str]:
    """How often each held-out set that chooses nothing was used, from the run's own memory."""
    found = []
    for content in dict.fromkeys(row["problems"] for row in data.test_uses):
        uses = [row for row in data.test_uses if row["problems"] == content and row["step"]]
        steps = sorted({row["step"] for row in uses})
        if len(steps) == 1:
            times = "once" if len(uses) == 1 else f"{len(uses)} times"
            found.append(f"{uses[0]['set']}: used {times}, for the checkpoint of step {steps[0]}.")
        elif steps:
            listed = ", ".join(map(str, steps))
            found.append(
                f"{uses[0]['set']}: scored for the checkpoints of steps {listed}. To report the "
                f"best of them is to choose on the test set{_best_by_chance(data, content, steps)}."
            )
    return found


def _best_by_chance(data: RunData, content: str, steps: list[int]) -> str:
    """What the best of several equal checkpoints seems to gain (the winner's curse)."""
    scores = [
        summary["scores"]["pass@1"]
        for summary in data.evaluations.values()
        if summary.get("fingerprint", {}).get("problems") == content and summary["step"] in steps
    ]
    if not scores:
        return ""
    score = sum(one["value"] for one in scores) / len(scores)
    trials = scores[0]["n"] * scores[0]["k"]
    gain = expected_best(score, trials, len(steps)) - score
    return (
        f": of {len(steps)} that do not differ the best seems up to {points(gain)} points better "
        "than they are, by chance alone"
    )


def _harness_cautions(data: RunData) -> list[str]:
    """Settings in which the harness of the two compared evaluations differs: there must be none."""
    before, after = (
        data.evaluations.get(data.comparison[side], {}).get("fingerprint")
        for side in ("before", "after")
    )
    if before is None or after is None or before == after:
        return []
    differing = ", ".join(sorted(different_keys(before, after)))
    return [
        f"Before and after were not measured quite alike; they differ in: {differing}. "
        "Part of the difference may come from that."
    ]


def evaluation_absent(data: RunData) -> str:
    """Why there is no verdict, as far as the folder tells."""
    tests: list[Any] = [name for name in data.evaluations if not name.startswith("validation")]
    if len(tests) == 1:
        return f"Only {tests[0]} is there: a verdict needs the test set scored before and after."
    if tests:
        return "Test scores are there but evaluations/comparison.json is not: run open-rs compare."
    if data.recipe and not data.recipe["data"].get("test"):
        return "The recipe names no test set (data.test), so nothing can be said about a gain."
    return "The test set has not been scored, so nothing can be said about a gain."
