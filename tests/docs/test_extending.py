"""docs/extending.md: its files are written out, its commands are read, and both do what it says."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from open_rs.curate import curate
from open_rs.errors import InputError
from open_rs.grade import Grade
from open_rs.plugins import load_function
from open_rs.problems import Problem, load_problems, read_jsonl
from open_rs.recipe import LossRecipe, Recipe, load_recipe, shipped_recipe
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.runs import RunFolder, read_json, read_metrics
from open_rs.train.rewards import build_rewards, score

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
FILES = {name: text for _, name, text in BLOCKS if name}
COMMANDS = [line for kind, _, text in BLOCKS if kind == "sh" for line in text.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with every file of the page and the shipped recipes."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "recipes").symlink_to(shipped_recipe("quickstart").parent)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def recipe_of(command: str) -> Recipe:
    program, stage, path, *overrides = shlex.split(command)
    assert program == "open-rs" and stage in ("train", "curate")
    return load_recipe(path, overrides)


def command_with(text: str) -> str:
    found = [command for command in COMMANDS if text in command]
    assert len(found) == 1, (text, found)
    return found[0]


def test_the_page_has_blocks_of_every_kind() -> None:
    assert {kind for kind, _, _ in BLOCKS} == {"python", "toml", "sh", "jsonl", "jinja"}
    assert len(COMMANDS) >= 14 and PAGE.count("```") == 2 * len(BLOCKS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_a_valid_recipe(command: str, folder: Path) -> None:
    recipe = recipe_of(command)
    build_rewards(recipe.rewards, max_completion_tokens=256, template_opens_think=True)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".toml")])
def test_each_recipe_is_valid(name: str, folder: Path) -> None:
    assert load_recipe(name).name == name.removesuffix(".toml")


def test_a_mistyped_setting_of_the_page_would_be_found(folder: Path) -> None:
    with pytest.raises(InputError, match="did you mean clip_high"):
        recipe_of(command_with("name=dapo").replace("clip_high", "clip_hihg"))


def scored(recipe: Recipe, outcome: str, tokens: int) -> Rollout:
    grade = Grade(outcome, "2", 0.0)  # type: ignore[arg-type]
    rollout = Rollout([0] * tokens, [0.0] * tokens, "</think>2", "stop", grade=grade)
    rewards = build_rewards(recipe.rewards, max_completion_tokens=100, template_opens_think=True)
    score([RolloutGroup(Problem("a", "1 + 1", "2"), [0], [rollout])], rewards)
    return rollout


def test_own_reward_counts_by_its_weight(folder: Path) -> None:
    # 50 tokens of 200: brevity 1 - 50 / 200 = 0.75; 1 + 0.5 * 0.75 = 1.375
    rollout = scored(load_recipe("brief.toml"), "correct", 50)
    assert rollout.reward_breakdown == {"accuracy": 1.0, "brevity": 0.75}
    assert rollout.reward == 1.375
    assert scored(load_recipe("brief.toml"), "wrong", 50).reward == 0.0
    assert scored(recipe_of(command_with("weight=0.2")), "correct", 50).reward == 1.15
    (measured,) = [command for command in COMMANDS if command.endswith("weight=0")]
    off = scored(recipe_of(measured), "correct", 50)
    assert off.reward == 1.0 and off.reward_breakdown["brevity"] == 0.75


def test_reward_list_given_anew(folder: Path) -> None:
    recipe = recipe_of(command_with('"cosine"'))
    assert [(one.type, one.weight) for one in recipe.rewards] == [("cosine", 2.0), ("format", 1.0)]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("grpo", {"kl_coef": 0.04}),
        ("dapo", {"clip_high": 0.28, "loss_norm": "token", "dynamic_sampling": True}),
        ("dr_grpo", {"advantage_scale": "none", "loss_norm": "constant"}),
        ("gspo", {"ratio_level": "sequence", "clip_low": 3e-4, "clip_high": 4e-4}),
        (
            "cispo",
            {"objective": "cispo", "loss_norm": "token", "clip_low": 0.999, "clip_high": 4.0},
        ),
    ],
)
def test_variants_are_these_settings_and_no_others(
    name: str, settings: dict[str, object], folder: Path
) -> None:
    recipe = recipe_of(command_with(f"name={name} "))
    assert recipe.loss == LossRecipe(**settings)  # type: ignore[arg-type]


def test_own_benchmark_is_read(folder: Path) -> None:
    recipe = load_recipe("bench.toml")
    assert recipe.data.test is not None
    first, second = load_problems(recipe.data.test)
    assert (first.answer, second.problem) == ("16", "What is a third of 1,260?")


def test_own_filter_drops_with_its_reason(folder: Path) -> None:
    row = '{"question": "' + "word " * 61 + '", "gold": "1"}\n'
    (folder / "my_benchmark.jsonl").write_text(FILES["my_benchmark.jsonl"] + row, encoding="utf-8")
    summary = curate(load_recipe("filtered.toml"), folder / "out")
    assert summary["kept"] == 2
    assert summary["funnel"][0]["reasons"] == {"more than 60 words": 1}
    assert read_json(folder / "out" / "summary.json") == summary


def test_own_task_makes_disjoint_splits(folder: Path) -> None:
    recipe = recipe_of(command_with("products.toml"))
    assert recipe.data.test is not None and load_function("my_tasks:products")
    train, held_out = load_problems(recipe.sources[0]), load_problems(recipe.data.test)
    assert (len(train), len(held_out)) == (500, 200)
    assert not {one.problem for one in train} & {one.problem for one in held_out}
    for one in train[:20]:
        a, b = re.findall(r"\d+", one.problem)
        assert int(one.answer) == int(a) * int(b)


def test_own_chat_template_shapes_the_prompt(folder: Path) -> None:
    from open_rs.prompts import Prompter

    class Tokenizer:
        chat_template = None

        def apply_chat_template(self, messages: list, chat_template: str, **kwargs: bool) -> str:
            from jinja2 import Environment

            template = Environment(trim_blocks=True).from_string(chat_template)
            return template.render(messages=messages, add_generation_prompt=True)

    recipe = recipe_of(command_with("plain.jinja"))
    assert Prompter(Tokenizer(), recipe.prompt).text("1 + 1") == "1 + 1\n\nAnswer: "


SMALL = (
    "sources.0.count=4 data.validation.count=2 data.test.count=2 rollout.group_size=3 "
    "rollout.prompts_per_step=2 rollout.max_completion_tokens=12 train.num_steps=1 "
    "evaluate.every=1 evaluate.validation_samples=1"
)


def test_a_command_of_the_page_trains(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from open_rs.cli import main

    command = command_with("brief.toml train.num_steps=20")
    monkeypatch.setattr(sys, "argv", [*shlex.split(command), *SMALL.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    rollouts = list(read_jsonl(folder / "runs" / "brief" / "rollouts" / "000001.jsonl.gz"))
    assert len(rollouts) == 6
    assert all(row["reward_breakdown"].keys() == {"accuracy", "brevity"} for _, row in rollouts)
    (_, step) = read_metrics(RunFolder(folder / "runs" / "brief"))
    assert 0 <= step["reward/brevity"] <= 1
