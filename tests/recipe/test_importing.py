"""Other trainers' recipes as ours: what carries over, and every mistake named."""

import tomllib
from pathlib import Path

import pytest

from open_rs.errors import InputError
from open_rs.recipe import load_recipe, recipe_from_dict
from open_rs.recipe.importing import import_recipe, read_notes, recipe_text


@pytest.fixture
def imported(tmp_path):
    """`imported(text, ...)` reads this YAML."""

    def read(text: str, **settings):
        path = tmp_path / "theirs.yaml"
        path.write_text(text, encoding="utf-8")
        return import_recipe(path, **settings)

    return read


def kinds(made, key):
    return [note.kind for note in made.notes if note.key == key]


def texts(made, key):
    return " ".join(note.text for note in made.notes if note.key == key)


def test_the_authors_recipe(data_dir):
    path = data_dir.parent / "paper" / "authors_grpo_recipe.yaml"
    if not path.is_file():
        pytest.skip(f"no recipe at {path}")
    made = import_recipe(path, processes=3)
    recipe = recipe_from_dict(made.settings)
    # 6 rows x 4 accumulation steps x 3 training GPUs = 72 completions, 12 prompts of G = 6
    assert (recipe.rollout.prompts_per_step, recipe.rollout.group_size) == (12, 6)
    assert (recipe.rollout.temperature, recipe.rollout.max_completion_tokens) == (0.7, 3584)
    assert (recipe.train.learning_rate, recipe.train.min_lr_ratio) == (1e-6, 0.1)
    assert (recipe.train.num_steps, recipe.train.save_every, recipe.seed) == (500, 50, 42)
    assert recipe.train.warmup_ratio == 0.1 and recipe.train.gradient_checkpointing
    assert [(one.type, one.weight) for one in recipe.rewards] == [("format", 1), ("cosine", 2)]
    assert recipe.loss.kl_coef == 0.04 and kinds(made, "beta") == ["default made plain"]
    assert recipe.loss.loss_norm == "sequence"
    assert "\\boxed{} ." in recipe.prompt.system and "{{" not in recipe.prompt.system
    for mistake in ("characters", "not clamped", "short wrong answer", "cannot be parsed"):
        assert mistake in texts(made, "reward_funcs.cosine")
    assert "loses its left end" in texts(made, "max_prompt_length")
    assert "not divided" in texts(made, "temperature")
    assert "no held-out set" in texts(made, "data.validation, data.test")
    assert not [note for note in made.notes if note.kind == "unknown"]
    again = recipe_from_dict(tomllib.loads(recipe_text(made, "theirs.yaml")))
    assert again == recipe


def test_every_key_gets_a_note(imported):
    made = imported(
        "model_name_or_path: a/b\nlearning_rate: 2.0e-6\nlogging_steps: 5\nvllm_mode: colocate\n"
        "brand_new_key: 7\n"
    )
    assert kinds(made, "learning_rate") == ["carried over"]
    assert kinds(made, "logging_steps") == kinds(made, "vllm_mode") == ["no counterpart"]
    assert kinds(made, "brand_new_key") == ["unknown"] and "7" in texts(made, "brand_new_key")
    assert recipe_from_dict(made.settings).train.learning_rate == 2e-6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("loss_type: dr_grpo\nscale_rewards: false", ("constant", "none", 0.2, 0.2, 0.0)),
        ("loss_type: dapo\nepsilon_high: 0.28", ("token", "group_std", 0.2, 0.28, 0.0)),
        ("beta: 0.001\nepsilon: 0.1", ("token", "group_std", 0.1, 0.1, 0.001)),
        ("max_prompt_length: 100", ("sequence", "group_std", 0.2, 0.2, 0.04)),  # an old trainer
    ],
)
def test_the_loss(imported, text, expected):
    loss = recipe_from_dict(imported(text).settings).loss
    found = (loss.loss_norm, loss.advantage_scale, loss.clip_low, loss.clip_high, loss.kl_coef)
    assert found == expected


def test_defaults_of_the_trainer_that_is_named(imported):
    old = recipe_from_dict(imported("seed: 1", trl="0.15").settings)
    new = recipe_from_dict(imported("seed: 1", trl="1.x").settings)
    assert (old.loss.kl_coef, old.rollout.temperature, old.loss.loss_norm) == (
        0.04, 0.9, "sequence",
    )  # fmt: skip
    assert (new.loss.kl_coef, new.rollout.temperature, new.loss.loss_norm) == (0.0, 1.0, "token")


def test_schedules(imported):
    def train(text):
        return recipe_from_dict(imported(text).settings).train

    assert train("lr_scheduler_type: constant\nwarmup_steps: 5\nmax_steps: 50").min_lr_ratio == 1
    assert train("lr_scheduler_type: constant\nwarmup_steps: 5\nmax_steps: 50").warmup_ratio == 0.1
    low = "lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 1.0e-7}\n"
    assert train(low + "learning_rate: 1.0e-6").min_lr_ratio == pytest.approx(0.1)
    assert kinds(imported("lr_scheduler_type: linear"), "lr_scheduler_type") == ["read differently"]


def test_lora(imported):
    made = imported("use_peft: true\nlora_r: 8\nlora_alpha: 16")
    assert recipe_from_dict(made.settings).model.lora.rank == 8
    assert recipe_from_dict(imported("use_peft: false").settings).model.lora is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1, 2]", "holds no table of settings"),
        ("a: [", "not valid YAML"),
        ("per_device_train_batch_size: 3\nnum_generations: 2", "3 completions, no multiple of"),
        ("reward_funcs: [accuracy]\nreward_weights: [1, 2]", "2 reward_weights for 1 reward_funcs"),
        ("per_device_train_batch_size: six", "per_device_train_batch_size = 'six': a number"),
        ("num_generations: 0", "num_generations = 0: a whole number from 1"),
        ("reward_funcs: accuracy", "reward_funcs = 'accuracy': a list of names"),
        ("reward_funcs: [[1]]", "reward_funcs = [[1]]: a list of names"),
        ("reward_weights: [a, b]", "reward_weights = ['a', 'b']: a list of numbers"),
        ("lr_scheduler_kwargs: 5", "lr_scheduler_kwargs = 5: a table"),
        ("epsilon: x", "epsilon = 'x': a number"),
        ("beta: [1]", "beta = [1]: a number"),
        ("warmup_steps: a", "warmup_steps = 'a': a number"),
    ],
)
def test_bad_input_is_one_sentence(imported, text, sentence):
    with pytest.raises(InputError) as caught:
        imported(text)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_rate_of_zero_has_no_share(imported):
    made = imported("learning_rate: 0\nlr_scheduler_type: cosine_with_min_lr")
    assert made.settings["train"]["min_lr_ratio"] == 0.0


def test_an_unknown_key_is_told_with_the_nearest_known_one(imported):
    made = imported("learnin_rate: 1e-5\nwibble: 3")
    assert texts(made, "learnin_rate").startswith("did you mean learning_rate? its value is '1e-5'")
    assert texts(made, "wibble").startswith("its value is 3")


def test_keys_of_any_text_leave_a_recipe_that_can_be_read(imported, tmp_path):
    made = imported('"a\\nname = 1\\e[31m\\u202e": 3\nlong: ' + "x" * 10_000)
    path = tmp_path / "ours.toml"
    path.write_text(recipe_text(made, "their\ns.yaml"), encoding="utf-8")
    assert load_recipe(path).name == "theirs"
    [key] = [note.key for note in read_notes(path) if note.text.startswith("its value is 3")]
    assert key == "a name = 1\u241b[31m<U+202E>"
    assert max(map(len, path.read_text(encoding="utf-8").splitlines())) < 400


def test_a_missing_file():
    with pytest.raises(InputError, match="cannot be read"):
        import_recipe(Path("nowhere.yaml"))
