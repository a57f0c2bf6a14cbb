"""The typed recipe: defaults, sparse TOML, overrides, and the sentence for each thing wrong."""

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from open_rs.errors import InputError
from open_rs.recipe import (
    AccuracyReward,
    CosineReward,
    PassRateFilter,
    Recipe,
    load_recipe,
    override,
    recipe_from_dict,
)

ROOT = Path(__file__).parents[2]


def refuse(sentence, settings, overrides=()):
    with pytest.raises(InputError, match=sentence) as caught:
        recipe_from_dict(override(settings, overrides))
    assert "\n" not in str(caught.value)


# --- reading ---------------------------------------------------------------------------------


def test_a_sparse_recipe_changes_what_it_states_and_nothing_else(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(
        """
        name = "smoke"
        [train]
        num_steps = 7
        [model.lora]
        rank = 4
        [[rewards]]
        type = "cosine"
        weight = 2
        [[filters]]
        type = "pass_rate"
        below = 0.9
        [data.test]
        path = "x.jsonl"
        columns = { problem = "question" }
        """
    )
    recipe = load_recipe(path, ["train.learning_rate=1e-4"])
    expected = Recipe().model_dump()
    expected["name"] = "smoke"
    expected["train"] |= {"num_steps": 7, "learning_rate": 1e-4}
    expected["model"]["lora"] = {
        "rank": 4,
        "alpha": 32,
        "dropout": 0.0,
        "target_modules": "all-linear",
    }
    expected["rewards"] = (CosineReward(weight=2).model_dump(),)
    expected["filters"] = (PassRateFilter(below=0.9).model_dump(),)
    dumped = recipe.model_dump()
    test = dumped["data"].pop("test")
    assert (test["path"], test["columns"]) == ("x.jsonl", {"problem": "question"})
    expected["data"].pop("test")
    assert dumped == expected


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "a.toml").write_text("")
    assert load_recipe(tmp_path / "a.toml") == Recipe()


def test_the_resolved_recipe_comes_back_from_json(tmp_path):
    recipe = recipe_from_dict(
        {
            "seed": 3,
            "model": {"lora": {"target_modules": ["q_proj", "v_proj"]}},
            "sources": [{"task": "arithmetic", "count": 5, "levels": [2]}],
            "filters": [{"type": "contamination", "against": ["test"]}, {"type": "gold"}],
            "rewards": [{"type": "overlong"}, {"type": "custom", "function": "a:b"}],
            "train": {"learning_rate": 1 / 3},
        }
    )
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.model_dump(mode="json")))
    assert load_recipe(path) == recipe
    changed = load_recipe(path, ["train.num_steps=9", "rewards.0.weight=0.5"])
    assert changed.train.num_steps == 9 and changed.rewards[0].weight == 0.5


@pytest.mark.parametrize("path", sorted(ROOT.glob("recipes/*.toml")), ids=lambda path: path.stem)
def test_the_shipped_recipes_load(path):
    load_recipe(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"recipe .*none.toml: no such file"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(InputError, match=r"cannot be read"):
        load_recipe(tmp_path)
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(InputError, match=r"bad.toml: not valid TOML: .*line 1"):
        load_recipe(tmp_path / "bad.toml")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match=r"bad.json: not valid JSON"):
        load_recipe(tmp_path / "bad.json")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(InputError, match=r"latin.toml: cannot be read"):
        load_recipe(tmp_path / "latin.toml")
    (tmp_path / "list.json").write_text("[1]")
    for overrides in ([], ["seed=1"]):
        with pytest.raises(InputError, match=r"list.json: .*table"):
            load_recipe(tmp_path / "list.json", overrides)


# --- overrides -------------------------------------------------------------------------------


def test_overrides_reach_every_depth_and_leave_the_original_alone():
    settings = {"rewards": [{"type": "accuracy"}, {"type": "format"}]}
    given = json.dumps(settings)
    recipe = recipe_from_dict(
        override(
            settings,
            [
                "train.num_steps=50",
                "rewards.1.weight=0.25",
                "model.lora.rank=4",
                "model.path=some-org/some-model",  # no TOML: text
                "prompt.system=think, then answer = box",
                'name="2024"',
                "loss.mask_truncated=true",
                "filters=[{type = 'gold'}]",
                "data.test.path=a=b.jsonl",
                "train.num_steps=60",  # the last one counts
            ],
        )
    )
    assert json.dumps(settings) == given
    assert recipe.train.num_steps == 60
    assert [reward.weight for reward in recipe.rewards] == [1.0, 0.25]
    assert recipe.model.lora.rank == 4 and recipe.model.path == "some-org/some-model"
    assert recipe.prompt.system == "think, then answer = box"
    assert recipe.name == "2024" and recipe.loss.mask_truncated is True
    assert recipe.filters[0].type == "gold" and recipe.data.test.path == "a=b.jsonl"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train.num_steps", r"'train.num_steps': write it as key=value"),
        ("=3", r"'=3': write it as key=value"),
        ("train..num_steps=3", r"write it as key=value"),
        ("name.x=3", r"override name.x: name is a value and holds no keys"),
        ("rewards.2.weight=3", r"rewards.2.weight: '2' is no index of a list with 1 entries"),
        ("rewards.-1.weight=3", r"'-1' is no index"),
        ("rewards.²=3", r"'²' is no index"),
        ("filters.0.type=gold", r"override filters.0.type: the recipe writes no such list"),
        ("filters.0=gold", r"override filters.0: the recipe writes no such list"),
        ("train.num_step=3", r"unknown key train.num_step; did you mean num_steps\?"),
        ("seed=2024-01-01", r"seed = datetime.*integer"),
    ],
)
def test_bad_overrides(text, sentence):
    refuse(sentence, {"name": "a", "rewards": [{"type": "accuracy"}]}, [text])


def test_a_date_in_the_file_is_a_wrong_value_and_no_crash():
    import datetime

    refuse(r"seed = datetime.*integer", {"seed": datetime.date(2024, 1, 1)}, ["name=a"])


# --- sentences -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"trian": {}}, r"unknown key trian; did you mean train\?"),
        ({"train": {"num_step": 3}}, r"unknown key train.num_step; did you mean num_steps\?"),
        ({"group_size": 4}, r"unknown key group_size; did you mean rollout.group_size\?"),
        ({"train": {"group_size": 4}}, r"unknown key train.group_size; did you mean rollout"),
        ({"model": {"lora": {"rnk": 3}}}, r"unknown key model.lora.rnk; did you mean rank\?"),
        ({"data": {"test": {"pth": "x"}}}, r"unknown key data.test.pth; did you mean path\?"),
        ({"sources": [{"colums": {}, "path": "x"}]}, r"unknown key sources.0.colums; .*columns"),
        (
            {"rewards": [{"type": "accuracy"}, {"type": "cosine", "max_corect": 1}]},
            r"unknown key rewards.1.max_corect; did you mean max_correct\?",
        ),
        ({"zzz": 1}, r"unknown key zzz$"),
        # a mistyped key of a required one: the key is the cause, not that the other is missing
        ({"filters": [{"type": "custom", "functoin": "a:b"}]}, r"unknown key filters.0.functoin"),
    ],
)
def test_unknown_keys_name_the_path_and_the_nearest_key(settings, sentence):
    refuse(sentence, settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rollout": {"group_size": 1}}, r"rollout.group_size = 1: .* 2 .*within a group"),
        ({"rollout": {"temperature": 0}}, r"rollout.temperature = 0: .*greater than 0"),
        ({"loss": {"clip_low": -0.1}}, r"loss.clip_low = -0.1: .*to 0"),
        ({"loss": {"clip_low": 1.0}}, r"loss.clip_low = 1.0: .*less than 1"),
        ({"loss": {"clip_high": -1e-9}}, r"loss.clip_high"),
        ({"loss": {"clip_high": float("inf")}}, r"loss.clip_high = inf: .*finite"),
        ({"train": {"learning_rate": float("nan")}}, r"train.learning_rate = nan: .*finite"),
        ({"train": {"learning_rate": 0}}, r"train.learning_rate = 0"),
        ({"train": {"num_steps": 0}}, r"train.num_steps = 0: .*\(optimizer updates\)"),
        ({"train": {"num_steps": "many"}}, r"train.num_steps = 'many': .*integer"),
        ({"train": {"num_steps": 2.5}}, r"train.num_steps = 2.5"),
        ({"train": {"num_steps": True}}, r"train: num_steps should not be true or false"),
        ({"evaluate": {"temperature": -1}}, r"evaluate.temperature = -1"),
        ({"evaluate": {"confidence": 1.0}}, r"evaluate.confidence = 1.0"),
        ({"evaluate": {"confidence": 0.6}}, r"evaluate.confidence = 0.6"),  # a verdict of noise
        ({"rollout": {"top_p": 0}}, r"rollout.top_p = 0"),
        ({"rollout": {"top_k": -1}}, r"rollout.top_k = -1"),
        ({"loss": {"loss_norm": "tokens"}}, r"loss.loss_norm = 'tokens': .*'token'"),
        ({"seed": -1}, r"seed = -1"),
        ({"seed": 2**32}, r"seed = 4294967296"),
        ({"name": ".."}, r"name = '..': .*runs/NAME"),
        ({"name": "a/b"}, r"name = 'a/b'"),
        ({"name": ""}, r"name = ''"),
        ({"model": {"path": ""}}, r"model.path = ''"),
        ({"model": {"lora": {"rank": 0}}}, r"model.lora.rank = 0: .*rank of the update"),
        ({"prompt": {"user": "Solve it."}}, r"prompt: user must contain \{problem\}"),
        ({"train": 5}, r"train = 5: input should be a valid table$"),
        ({"rewards": {"type": "accuracy"}}, r"rewards: input should be a valid list"),
        ({"rewards": []}, r"rewards: list should have at least 1"),
        ({"rewards": ["accuracy"]}, r"rewards.0 = 'accuracy': input should be a valid table"),
        ({"rewards": [{"type": "format", "weight": 0}]}, r"rewards: every weight is 0"),
        (
            {"rewards": [{"type": "cosine", "min_wrong": 0.7}]},
            r"rewards.0: .*min_wrong <= max_wrong <= min_correct <= max_correct",
        ),
        ({"filters": [{"type": "custom"}]}, r"filters.0.function: missing \(module:function\)"),
        (
            {"filters": [{"type": "pass_rate", "above": 0.5, "below": 0.5}]},
            r"filters.0: above must be smaller than below",
        ),
        ({"data": {"test": {}}}, r"data.test: a source needs exactly one of path, hub, task"),
        ({"data": {"test": {"path": "a", "hub": "b"}}}, r"data.test: .*exactly one"),
        ({"data": {"test": {"path": ""}}}, r"data.test.path = ''"),
        ({"sources": [{"task": "arithmetic"}]}, r"sources.0: .*set count"),
        ({"sources": [{"path": "x", "columns": {"promblem": "q"}}]}, r"'promblem' is none of ours"),
        ({"sources": [{"path": "x", "count": 0}]}, r"sources.0.count = 0"),
    ],
)
def test_wrong_values_name_the_key(settings, sentence):
    refuse(sentence, settings)


@pytest.mark.parametrize("key", ["num_steps", "save_every"])
def test_updates_per_batch_must_divide_the_steps(key):
    train = {"num_steps": 10, "save_every": 10, "updates_per_batch": 5}
    train[key] = 12
    refuse(
        rf"train.{key} = 12 must be a multiple of train.updates_per_batch = 5",
        {"train": train, "evaluate": {"every": 10}},
    )
    refuse(
        r"evaluate.every = 9 must be a multiple",
        {"train": train | {key: 10}, "evaluate": {"every": 9}},
    )


def test_kinds_by_their_type():
    refuse(
        r'rewards.0: type "cosin" unknown; did you mean "cosine"\?',
        {"rewards": [{"type": "cosin"}]},
    )
    refuse(
        r'rewards.1: type "zzz" unknown; known: accuracy, format, cosine, overlong, repetition, '
        r"language, group_length, custom",
        {"rewards": [{"type": "format"}, {"type": "zzz"}]},
    )
    refuse(r"rewards.0: needs a type; known: accuracy", {"rewards": [{"weight": 1}]})
    refuse(
        r'filters.0: type "pass_rates" unknown; did you mean "pass_rate"\?',
        {"filters": [{"type": "pass_rates"}]},
    )


def test_where_comes_first():
    with pytest.raises(InputError, match=r"^recipes/a.toml: unknown key x"):
        recipe_from_dict({"x": 1}, where="recipes/a.toml")


# --- the types -------------------------------------------------------------------------------


def test_recipes_are_frozen():
    recipe = Recipe()
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        recipe.train.num_steps = 1
    with pytest.raises(ValidationError, match="frozen"):
        AccuracyReward().weight = 2.0


def sections(kind):
    """The models that are part of a type."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from sections(field.annotation)
    elif get_origin(kind) is not None or isinstance(kind, types.UnionType):
        for inner in get_args(kind):
            yield from sections(inner)


def test_every_setting_is_described_and_every_section_too():
    found = set(sections(Recipe))
    assert len(found) > 15
    undescribed = [
        f"{model.__name__}.{name}"
        for model in found
        for name, field in model.model_fields.items()
        if not field.description and name != "type" and not list(sections(field.annotation))
    ]
    assert not undescribed
    assert all(model.__doc__ for model in found)
    assert all(model.model_config["frozen"] for model in found)
    assert all(model.model_config["extra"] == "forbid" for model in found)


def test_evaluation_takes_the_cap_of_training_without_one_of_its_own():
    cap = {"max_completion_tokens": 77}
    assert recipe_from_dict({"rollout": cap}).evaluation_cap == 77
    assert (
        recipe_from_dict({"rollout": cap, "evaluate": {"max_completion_tokens": 9}}).evaluation_cap
        == 9
    )


def test_recipes_prompts_runs_and_plugins_need_no_torch():
    code = (
        "import sys, open_rs.recipe, open_rs.prompts, open_rs.runs, open_rs.plugins, "
        "open_rs.console, open_rs.rollout.protocol; "
        "sys.exit(' '.join({'torch', 'transformers'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
