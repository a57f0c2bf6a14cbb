"""docs/insights.md from docs/insights.json: tables, verdicts in words, figures. No number in it is
typed in.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from insight_claims import (
    CONFIDENCE,
    FAILS,
    HOLDS,
    SURE,
    UNCLEAR,
    Arms,
    Claim,
    Experiment,
    Run,
    arm_rows,
    arms_of,
    final,
    judged,
    more,
)
from insight_experiments import EXPERIMENTS

from open_rs.evaluate.scores import expected_best
from open_rs.report.paper.facts import load_facts
from open_rs.sweep.summary import FEWEST, mean_difference, mean_over_seeds

Row = dict[str, Any]

HEAD = """# The insights as experiments

Seven experiments on the model that ships, each with arms and paired seeds: the paper's three
insights ([arXiv 2503.16219](https://arxiv.org/abs/2503.16219)), and what it could not try. A script
writes this page from the runs; the verdicts are computed.

    make insights                            # every run, then this page; killed, it goes on
    open-rs train recipes/insights/1_cap.toml --jobs 2        # one of them, with its own summary

{made}

{method}

| | claim | verdict |
|---|---|---|
{summary}

The same experiments on a real language model, overnight: [below](#the-same-on-smollm2-135m).
"""
TAIL = """## The same on SmolLM2-135M

    make models/smollm2-135m/config.json
    open-rs train recipes/insights/smollm2.toml --jobs 1           # overnight; it goes on if killed

One sweep: a tight cap, the cosine reward, KL and LoRA against GRPO, three seeds. It leaves out hard
problems alone, the language arms, the cosine as it was coded, DAPO, Dr. GRPO, the winner's curse.
This page has no results of it, and its cost is not measured.
"""
METHOD = (
    "A run: {steps} steps of 8 prompts x 8 completions on procedural arithmetic of two to six "
    "operations, scored at steps {scored} on {problems} held-out problems x {samples} samples. "
    "Seeds change the rollouts and the order of problems; the held-out problems and the noise of "
    "their samples are the same in all runs, and arms are compared seed by seed. The score is that "
    "of the last step: nothing is chosen. Intervals are of 95 % (t over seeds); p is Holm's over "
    "the claims of an experiment. Caps, rate and steps were set after single runs of seed 0, which "
    "is among the seeds. The rate rises over two steps and falls by a cosine to a tenth, so that "
    "late steps change less whatever the data. "
    "All of it is about this model, these problems and these settings."
)
SENTENCES = {
    HOLDS: "**{says}**: holds here, {number}.",
    FAILS: "**{says}**: fails here, {opposite}: {number}.",
    UNCLEAR: "**{says}**: not distinguishable here, {number}.",
    SURE: "**{says}**: so by construction; here by {number}.",
}
MARK = "<!-- perf/insights.py: seeds -->"
NO_SEEDS = f"**{{says}}**: not judged, which takes {FEWEST} seeds or more."


def written(data: Mapping[str, Any], page: Path, figures: Path) -> None:
    """The page and its figures, from the numbers of the runs."""
    from insight_figures import draw

    figures.mkdir(parents=True, exist_ok=True)
    for name, experiment in EXPERIMENTS.items():
        arms = arms_of(data, name)
        if all(arms.values()):
            draw(figures / f"insights_{name}.png", experiment, arms)
    page.write_text(text_of(data, figures.name), encoding="utf-8")


def text_of(data: Mapping[str, Any], figures: str) -> str:
    sections, summary = [], []
    for number, (name, experiment) in enumerate(EXPERIMENTS.items(), 1):
        arms = arms_of(data, name)
        rows = judged(experiment, arms)
        summary += [
            table_line([str(number), row["claim"].says, row["verdict"] or "–"]) for row in rows
        ]
        sections.append(section(number, name, experiment, arms, rows, figures))
    run = next(iter(data["runs"].values()))
    method = METHOD.format(
        steps=run["steps"][-1],
        scored=", ".join(map(str, run["steps"])),
        problems=run["problems"],
        samples=run["samples"],
    )
    head = HEAD.format(made=filled(made(data)), method=filled(method), summary="\n".join(summary))
    return "\n".join([head, *sections, TAIL])


def made(data: Mapping[str, Any]) -> str:
    """Date, machine, seeds, cost: as they were."""
    made, asked = data["made"], data["seeds_asked"]
    counts = [len(keys) for arms in data["experiments"].values() for keys in arms.values()]
    fewest, most = min(counts), max(counts)
    seeds = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    told = [
        f"Made on {made['date']}, {made['machine']}, no GPU, {versions}: {len(data['runs'])} runs, "
        f"**{seeds} seeds** an arm."
    ]
    if fewest < asked:
        told.append(f"The recipes ask for {asked} seeds: `make insights` makes the missing runs.")
    if made["runs"]:
        cpu, clock = (made[key] / made["runs"] for key in ("cpu_seconds", "seconds"))
        whole = cpu * data["runs_asked"] / 2 / 60
        told.append(
            f"Of {made['runs']} timed, a run took {cpu:.0f} CPU seconds and {clock:.0f} s by the "
            f"clock ({made['note']}); at that, all {data['runs_asked']} are {whole:.0f} minutes of "
            "two cores."
        )
    return " ".join(told)


def section(
    number: int,
    name: str,
    experiment: Experiment,
    arms: Arms,
    rows: Sequence[Row],
    figures: str,
) -> str:
    parts = [
        f"## {number}. {experiment.title}",
        filled(f"`recipes/insights/{name}.toml`. {experiment.about}"),
        arms_table(experiment, arms),
    ]
    if name == "7_winners_curse":
        parts += [choice_table(list(arms["grpo"].values())), authors_table()]
    if all(arms.values()):
        parts.append(f"![{experiment.title}]({figures}/insights_{name}.png)")
    parts += [claims_table(rows), filled(" ".join(map(sentence, rows)))]
    return "\n\n".join(parts) + "\n"


def arms_table(experiment: Experiment, arms: Arms) -> str:
    heads = ["arm", "seeds", *(head for head, _, _ in experiment.columns)]
    lines = [table_line(heads), table_line(["---"] * len(heads))]
    for arm, cells in arm_rows(experiment, arms).items():
        told = [
            estimate(cell, places)
            for cell, (_, _, places) in zip(cells, experiment.columns, strict=True)
        ]
        lines.append(table_line([f"`{arm}`", str(len(arms[arm])), *told]))
    return "\n".join(lines)


def claims_table(rows: Sequence[Row]) -> str:
    lines = [table_line(["claim", "difference", "p", "p (Holm)", "verdict"])]
    lines.append(table_line(["---"] * 5))
    for row in rows:
        claim = row["claim"]
        p_values = [p_text(row["p_value"]), p_text(row["p_holm"])]
        verdict = row["verdict"] or "–"
        lines.append(table_line([claim.says, estimate(row, claim.places, "+"), *p_values, verdict]))
    return "\n".join(lines)


def sentence(row: Row) -> str:
    """The verdict in words, with what the seeds leave open where they decide nothing."""
    claim: Claim = row["claim"]
    if row["verdict"] is None:
        return NO_SEEDS.format(says=claim.says)
    number = estimate(row, claim.places, "+")
    if not claim.sure:
        p_value = p_text(row["p_holm"])
        number += f", p {p_value if p_value.startswith('<') else f'= {p_value}'}"
    number += f" over {row['n']} seeds"
    return SENTENCES[row["verdict"]].format(says=claim.says, opposite=claim.opposite, number=number)


def choice_table(runs: Sequence[Run]) -> str:
    """The best of the last m checkpoints by what chose it and by fresh problems."""
    lines = [
        table_line(
            ["best of the last m", "on the 30 that chose it", "on fresh problems", "too high by"]
        ),
        table_line(["---"] * 4),
    ]
    for m in range(len(runs[0]["chosen"]) if runs else 0):
        told = [[run["chosen"][m][key] for run in runs] for key in ("seen", "fresh")]
        told.append([seen - fresh for seen, fresh in zip(*told, strict=True)])
        cells = [estimate(mean_over_seeds(values, CONFIDENCE), 3) for values in told]
        lines.append(table_line([str(m + 1), *cells]))
    return "\n".join(lines)


def authors_table() -> str:
    """The authors' own checkpoints: the best of m against what the best of m equals comes to."""
    by_set: dict[tuple[str, str], list[Any]] = {}
    for one in load_facts().checkpoints:
        by_set.setdefault((one.experiment, one.score.benchmark), []).append(one.score)
    about = filled(
        "The authors' checkpoints, as their repository keeps them, one sample a problem. The last "
        "column is the mean of the best of m scores that differ by chance alone, around the mean "
        "of the m (`open_rs.evaluate.scores:expected_best`): what a choice on the test set gives "
        "for nothing."
    )
    lines = [
        about,
        "",
        table_line(
            ["experiment", "benchmark", "problems", "m", "mean", "best", "best of m equals"]
        ),
        table_line(["---"] * 7),
    ]
    for (experiment, benchmark), scores in sorted(by_set.items()):
        if len(scores) < 2:
            continue
        mean = sum(score.mean for score in scores) / len(scores)
        best, problems = max(score.mean for score in scores), scores[0].problems
        cells = [mean, best, expected_best(mean, problems, len(scores))]
        told = [f"{100 * cell:.1f}" for cell in cells]
        lines.append(table_line([experiment, benchmark, str(problems), str(len(scores)), *told]))
    return "\n".join(lines)


def seeds_table(data: Mapping[str, Any]) -> str:
    """Differences at the last step seed by seed, for docs/sweeps.md."""
    pairs = (("1_cap", "cap-80", "cap-32"), ("1_cap", "cap-80", "cap-20"))
    pairs += (("3_cosine", "accuracy", "cosine"), ("6_loss", "grpo", "kl"))
    lines = []
    for name, base, other in pairs:
        arms = arms_of(data, name)
        values = more(other, base, final)(arms)
        row = mean_difference(values, CONFIDENCE)
        told = ", ".join(f"{value:+.3f}" for value in values)
        lines.append(table_line([f"`{other}` - `{base}`", told, estimate(row, 3, "+")]))
    heads = [table_line(["difference", "by seed", "mean [95 %]"]), table_line(["---"] * 3)]
    return "\n".join(heads + lines)


def placed(page: str, table: str) -> str:
    """`page` with the table behind its mark, in place of the one that is there."""
    head, mark, rest = page.partition(MARK)
    after = rest.lstrip("\n").split("\n\n", 1)
    kept = after[1] if after[0].startswith("|") else rest.lstrip("\n")
    return f"{head}{mark}\n\n{table}\n\n{kept}"


def estimate(row: Row, places: int, sign: str = "") -> str:
    """Mean and interval."""
    if row["mean"] is None:
        return "–"
    text = f"{row['mean']:{sign}.{places}f}"
    if row["low"] is None:
        return text
    return f"{text} [{row['low']:{sign}.{places}f}, {row['high']:{sign}.{places}f}]"


def p_text(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def filled(text: str) -> str:
    """A paragraph in lines."""
    return textwrap.fill(text, 110, break_long_words=False, break_on_hyphens=False)


def table_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
