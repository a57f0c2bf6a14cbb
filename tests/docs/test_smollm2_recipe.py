"""recipes/smollm2_gsm8k.toml is valid, and its splits are apart on the real files."""

import sys
from pathlib import Path

import pytest

from open_rs.curate import curate
from open_rs.grade import Grade
from open_rs.problems import Problem, load_problems
from open_rs.prompts import Prompter
from open_rs.recipe import Recipe, Source, load_recipe, shipped_recipe
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.train.rewards import build_rewards, score


def recipe_for(data_dir: Path, *overrides: str) -> Recipe:
    train = data_dir / "train" / "gsm8k_r1zero.jsonl.gz"
    paths = [f"sources.0.path={train}", f"data.validation.path={train}"]
    paths.append(f"data.test.path={data_dir / 'benchmarks' / 'gsm8k_test.jsonl'}")
    return load_recipe(shipped_recipe("smollm2_gsm8k"), [*paths, *overrides])


def test_recipe_is_valid_without_its_files() -> None:
    recipe = load_recipe(shipped_recipe("smollm2_gsm8k"))
    assert recipe.train.num_steps >= 20
    assert [one.type for one in recipe.filters] == ["gold", "exact_duplicates", "contamination"]


def test_validation_and_test_leave_the_training_rows(data_dir: Path, tmp_path: Path) -> None:
    recipe = recipe_for(data_dir)
    summary = curate(recipe, tmp_path / "curated")
    funnel = {stage["filter"]: stage for stage in summary["funnel"]}
    assert funnel["contamination"]["reasons"] == {"copy of a row of validation": 40}
    assert recipe.data.validation is not None and recipe.data.test is not None
    kept = load_problems(Source(path=str(tmp_path / "curated")))
    sets = [kept, load_problems(recipe.data.validation), load_problems(recipe.data.test)]
    assert [len(one) for one in sets] == [250, 40, 100]
    assert len({problem.problem.strip() for one in sets for problem in one}) == 390


def test_the_whole_file_holds_the_whole_test_set(data_dir: Path, tmp_path: Path) -> None:
    # 8,792 rows, of which 1,319 are the test set: the README of the data says so.
    recipe = recipe_for(data_dir, "sources.0.count=8792", "data.test.count=1319")
    recipe = recipe.model_copy(update={"filters": recipe.filters[2:3]})
    summary = curate(recipe, tmp_path / "curated")
    reasons = summary["funnel"][0]["reasons"]
    assert reasons["copy of a row of test"] == 1319
    assert reasons["copy of a row of validation"] == 40


def test_the_prompt_is_what_a_person_would_write() -> None:
    recipe = load_recipe(shipped_recipe("smollm2_gsm8k"))

    class Tokenizer:
        chat_template = "x"

        def apply_chat_template(self, messages: list[dict[str, str]], **kwargs: object) -> str:
            return messages[-1]["content"]

    text = Prompter(Tokenizer(), recipe.prompt).text("How many?")
    assert text.endswith("Problem: How many?\nSolution:") and "\\boxed{10}" in text
    assert "{problem}" not in text and "{{" not in text


def test_its_rewards_pay_for_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])  # where examples/ lies
    monkeypatch.setattr(sys, "path", list(sys.path))
    recipe = load_recipe(shipped_recipe("smollm2_gsm8k"))
    rewards = build_rewards(recipe.rewards, max_completion_tokens=128, template_opens_think=False)
    outcomes = ("correct", "wrong", "no_answer", "timeout")
    rollouts = [
        Rollout([1], [0.0], "", "stop", grade=Grade(outcome, None, 0.0)) for outcome in outcomes
    ]
    score([RolloutGroup(Problem("a", "1 + 1", "2"), [0], rollouts)], rewards)
    # right and boxed 1 + 0.2, boxed 0.2, neither 0; a timeout says nothing
    assert [rollout.reward for rollout in rollouts] == [1.2, 0.2, 0.0, None]
