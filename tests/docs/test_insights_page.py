"""recipes/insights and the script of docs/insights.md: what it reads, computes and writes."""

import json
import re
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from open_rs.evaluate.scores import expected_best
from open_rs.recipe import Recipe, load_recipe, recipe_from_dict
from open_rs.sweep.summary import FEW_SEEDS

ROOT = Path(__file__).parents[2]
MODULES = ("insight_runs", "insight_claims", "insight_experiments", "insight_page")


@pytest.fixture
def insights(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(ROOT / "perf"))
    made = {}
    for name in MODULES:
        sys.modules.pop(name, None)
        made[name.removeprefix("insight_")] = __import__(name)
    return SimpleNamespace(**made)


def test_the_seven_experiments_are_variants_of_one_recipe(insights: SimpleNamespace) -> None:
    recipes = insights.runs.load_recipes()
    assert list(recipes) == list(insights.experiments.EXPERIMENTS)
    base = {"name", "sweep", "rollout.max_completion_tokens", "data.train.levels", "rewards"}
    first = flat(recipes["1_cap"])
    for recipe in recipes.values():
        assert recipe.sweep.seeds == 8
        own = flat(recipe)
        assert {key for key in own if own[key] != first[key]} <= base
    cells = insights.runs.cells_by_experiment(recipes, Path("runs"))
    runs = {cell.run.path for one in cells.values() for cell in one}
    assert len(runs) == 8 * 12  # cap 3, mix 1, cosine 1, language 2, reference 1, loss 4
    for name, experiment in insights.experiments.EXPERIMENTS.items():
        assert {cell.recipe.seed for cell in cells[name]} == set(range(8))
        assert len(experiment.panels) == 2


def flat(recipe: Recipe) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in recipe.model_dump(mode="json").items():
        if key in ("rollout", "data"):
            for inner, part in value.items():
                if inner == "train":
                    found |= {f"data.train.{k}": v for k, v in part.items()}
                else:
                    found[f"{key}.{inner}"] = part
        else:
            found[key] = value
    return found


def test_the_overnight_recipe_loads() -> None:
    recipe = load_recipe(ROOT / "recipes" / "insights" / "smollm2.toml")
    assert recipe.model.path == "models/smollm2-135m" and len(recipe.sweep.arms) == 5


SMALL = {
    "name": "small",
    "data": {
        "train": {"task": "arithmetic", "count": 8},
        "validation": {"task": "arithmetic", "split": "validation", "count": 2},
    },
    "train": {"num_steps": 4, "save_every": 4},
    "evaluate": {"every": 1, "validation_samples": 2},
    "sweep": {"seeds": 3, "arms": [{"name": "a"}, {"name": "b", "settings": ["threads=1"]}]},
}
PROBLEMS = [
    {"id": "easy", "problem": "1", "answer": "1", "source": "arithmetic/level1"},
    {"id": "hard", "problem": "2", "answer": "2", "source": "arithmetic/level4"},
]


def make_run(path: Path, correct: list[list[list[bool]]]) -> None:
    """A finished run folder; `correct` by step 0 .. 4, problem and sample."""
    rows: list[dict[str, Any]] = []
    for step, by_problem in enumerate(correct):
        folder = path / "evaluations" / f"validation-{step:06d}"
        folder.mkdir(parents=True)
        records = [
            {"problem_id": PROBLEMS[i]["id"], "sample": j, "correct": right}
            for i, samples in enumerate(by_problem)
            for j, right in enumerate(samples)
        ]
        write_lines(folder / "records.jsonl", records)
        write_lines(folder / "problems.jsonl", PROBLEMS)
        summary = dict.fromkeys(("name", "num_problems", "num_samples", "scores", "fingerprint"), 0)
        summary |= {"step": step, "other_script_frac": 0.1 * step, "mean_tokens": 30 + step}
        (folder / "summary.json").write_text(json.dumps(summary))
        if step:
            rows.append(
                {
                    "step": step,
                    "completion/mean_tokens": 20.0 + step,
                    "completion/p10_tokens": 10.0,
                    "completion/p90_tokens": 30.0 + step,
                    "groups/dead_frac": 0.25,
                    "tokens/completion": 1000.0,
                }
            )
        rows.append({"step": step, "validation/pass@1": 0.5})
    write_lines(path / "metrics.jsonl", rows)
    (path / "checkpoints" / "000004").mkdir(parents=True)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_run_is_read_from_its_folder(insights: SimpleNamespace, tmp_path: Path) -> None:
    wrong, half, right = [[False] * 2] * 2, [[True, False]] * 2, [[True] * 2, [True, False]]
    make_run(tmp_path / "small" / "a" / "seed-0", [wrong, half, right, right, half])
    insights.runs.SMALL_TEST = 1
    data = insights.runs.collect({"small": recipe_from_dict(SMALL)}, tmp_path)
    assert data["experiments"] == {"small": {"a": ["small/a/seed-0"], "b": []}}
    assert (data["seeds_asked"], data["runs_asked"]) == (3, 6)
    run = data["runs"]["small/a/seed-0"]
    assert run["score"] == [0, 0.5, 0.75, 0.75, 0.5]
    assert run["hard_score"] == [0, 0.5, 0.5, 0.5, 0.5]
    assert run["other_script"] == [0, 0.1, 0.2, 0.3, 0.4] and run["drawn"] == 4000
    claims = insights.claims
    assert claims.series(run, "band") == [21, 22, 23, 24]
    assert claims.last_third("length")(run) == 24  # of four steps the last
    assert claims.early(run) == 0.5  # step 1 of 4
    assert claims.early_share(run) == 0.5  # 0.5 in the first quarter, 0.5 - 0.5 in the others
    assert claims.fallen(run) == 0 and claims.drift(run) == pytest.approx(0.1)
    assert [one["of"] for one in run["chosen"]] == [1, 2, 3, 4]


def runs_with(scores: list[float]) -> dict[int, dict[str, Any]]:
    measured = {"steps": [0, 40], "problems": 50, "samples": 2}
    return {seed: {"score": [0.4, score], **measured} for seed, score in enumerate(scores)}


def test_the_three_verdicts_by_hand(insights: SimpleNamespace) -> None:
    claims = insights.claims
    arms = {
        "base": runs_with([0.5, 0.6, 0.7]),
        "up": runs_with([0.6, 0.71, 0.82]),  # +0.10, +0.11, +0.12
        "down": runs_with([0.4, 0.49, 0.58]),
        "level": runs_with([0.6, 0.8, 1.0]),  # +0.1, +0.2, +0.3
    }
    experiment = claims.Experiment(
        "T",
        "A.",
        (("score", claims.final, 3),),
        tuple(
            claims.Claim(
                f"{arm} is ahead", f"{arm} is behind", claims.more(arm, "base", claims.final)
            )
            for arm in ("up", "down", "level")
        ),
        (),
    )
    rows = claims.judged(experiment, arms)
    # mean 0.11, s 0.01: 0.11 -+ 4.302653 x 0.01 / sqrt(3) = 0.0248414
    assert [rows[0][end] for end in ("low", "high")] == pytest.approx([0.0851586, 0.1348414])
    # t = 0.11 sqrt(3) / 0.01 = 19.05, 2 degrees of freedom: p = 1 - t / sqrt(t^2 + 2) = 0.002744
    assert rows[0]["p_value"] == pytest.approx(1 - 19.0526 / np.sqrt(19.0526**2 + 2), abs=1e-7)
    assert rows[0]["p_holm"] == pytest.approx(3 * rows[0]["p_value"])  # the smallest of three
    # mean 0.2, s 0.1: 0.2 -+ 0.248414
    assert [rows[2][end] for end in ("low", "high")] == pytest.approx(
        [-0.048414, 0.448414], abs=1e-6
    )
    told = [row["verdict"] for row in rows]
    assert told == [claims.HOLDS, claims.FAILS, claims.UNCLEAR]
    texts = [insights.page.sentence(row) for row in rows]
    assert texts[0] == (
        "**up is ahead**: holds here, +0.110 [+0.085, +0.135], p = 0.0082 over 3 seeds."
    )
    assert texts[1].startswith("**down is ahead**: fails here, down is behind: -0.110 [")
    assert texts[2].startswith("**level is ahead**: not distinguishable here, +0.200 [-0.048, ")


def test_few_seeds_are_not_judged(insights: SimpleNamespace) -> None:
    claims = insights.claims
    claim = claims.Claim("b is ahead", "a is", claims.more("b", "a", claims.final))
    for seeds in (1, 2):
        arms = {"a": runs_with([0.5] * seeds), "b": runs_with([0.9] * seeds)}
        (row,) = claims.judged(claims.Experiment("T", "A.", (), (claim,), ()), arms)
        assert row["verdict"] is None
        assert "takes 3 seeds" in insights.page.sentence(row)


def test_equal_values_count_as_spread_by_one_sample(insights: SimpleNamespace) -> None:
    claims = insights.claims
    arms = {"a": runs_with([0.5] * 3), "b": runs_with([0.51] * 3)}
    claim = claims.Claim("b is ahead", "a is", claims.more("b", "a", claims.final))
    (row,) = claims.judged(claims.Experiment("T", "A.", (), (claim,), ()), arms)
    # one sample of 100 in each: t = 0.01 sqrt(3) / 0.01, p = 1 - sqrt(3 / 5)
    assert row["p_value"] == pytest.approx(1 - np.sqrt(3 / 5)) and row["verdict"] == claims.UNCLEAR


def test_the_winners_curse_of_equal_checkpoints_is_that_of_the_formula(
    insights: SimpleNamespace,
) -> None:
    rng = np.random.default_rng(0)
    graded = [(rng.random((3000, 1)) < 0.5).astype(float) for _ in range(4)]
    insights.runs.DRAWS = 3000
    found = insights.runs.chosen_scores(graded, rng)
    for one in found:
        # 30 tries at 0.5: s = 0.091; over 3,000 draws the mean has an error of 0.0017
        assert one["seen"] == pytest.approx(expected_best(0.5, 30, one["of"]), abs=0.008)
        assert one["fresh"] == pytest.approx(0.5, abs=0.005)
    run = {"chosen": found}
    assert insights.claims.overstated(run) == pytest.approx(
        expected_best(0.5, 30, 4) - 0.5, abs=0.01
    )


def test_the_best_is_the_earliest_of_equals_among_the_last(insights: SimpleNamespace) -> None:
    ones, zeros = np.ones((40, 1)), np.zeros((40, 1))
    found = insights.runs.chosen_scores([ones, zeros, zeros], np.random.default_rng(0))
    assert [one["fresh"] for one in found] == [0, 0, 1]


def test_the_page_is_made_from_its_numbers(insights: SimpleNamespace) -> None:
    data = json.loads((ROOT / "docs" / "insights.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "insights.md").read_text(encoding="utf-8")
    assert insights.page.text_of(data, "figures") == page
    for place in re.findall(r"\]\((figures/[^)]+)\)", page):
        assert (ROOT / "docs" / place).read_bytes()[:4] == b"\x89PNG"
    counts = [len(keys) for arms in data["experiments"].values() for keys in arms.values()]
    seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
    assert f"**{seeds} seeds** an arm" in " ".join(page.split())


def test_the_authors_table(insights: SimpleNamespace) -> None:
    table = insights.page.authors_table()
    row = next(line for line in table.splitlines() if line.startswith("| 3 | aime24 "))
    # eight checkpoints of 30 problems: 32.1 on average, 46.7 at best
    assert row.startswith("| 3 | aime24 | 30 | 8 | 32.1 | 46.7 | ")
    assert f"{100 * expected_best(0.32083333, 30, 8):.1f} |" in row


def test_the_table_of_seeds_is_put_behind_its_mark(insights: SimpleNamespace) -> None:
    data = json.loads((ROOT / "docs" / "insights.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    assert insights.page.placed(page, insights.page.seeds_table(data)) == page
    mark = insights.page.MARK
    assert insights.page.placed(f"A\n\n{mark}\n\nB", "| t |") == f"A\n\n{mark}\n\n| t |\n\nB"
    again = insights.page.placed(f"A\n\n{mark}\n\n| t |\n\nB", "| u |")
    assert again == f"A\n\n{mark}\n\n| u |\n\nB"


def test_the_sweep_of_the_page_is_one() -> None:
    page = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    text = page.partition("```toml\n")[2].partition("```")[0]
    recipe = recipe_from_dict({**SMALL, "sweep": tomllib.loads(text)["sweep"]})
    assert recipe.sweep.seeds == 8 and [arm.name for arm in recipe.sweep.arms] == ["grpo", "kl"]
    assert f"\n{FEW_SEEDS}\n" in page
    for path in re.findall(r"open-rs train (recipes/\S+)", page):
        load_recipe(ROOT / path)


def test_a_figure_holds_every_seed_and_is_the_same_each_time(
    insights: SimpleNamespace, tmp_path: Path
) -> None:
    sys.modules.pop("insight_figures", None)
    figures = __import__("insight_figures")
    runs = {
        seed: {"steps": [0, 40], "score": [0.4, end], "length": [30.0 + seed] * 40}
        for seed, end in enumerate((0.5, 0.9))
    }
    canvas = figures.Figure()
    axes = canvas.subplots()
    figures.draw_arms(axes, {"a": runs}, "score")
    low, high = axes.get_ylim()
    assert low < 0.4 and 0.9 < high < 1  # the interval, 0.7 -+ 2.5, does not set the frame
    assert axes.get_xlim()[1] > 40
    panels = (("score", "score"), ("length", "length"))
    experiment = insights.claims.Experiment("T", "A.", (), (), panels)
    for name in ("one.png", "two.png"):
        figures.draw(tmp_path / name, experiment, {"a": runs, "b": runs})
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
