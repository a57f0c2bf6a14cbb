"""What the paper's own recipe shows, item by item, through import and plan."""

from pathlib import Path

import pytest

from open_rs.plan.devices import DEVICES
from open_rs.plan.findings import from_row
from open_rs.plan.forecast import make_plan
from open_rs.plan.gather import Wish
from open_rs.recipe import load_recipe
from open_rs.recipe.importing import import_recipe, read_notes, recipe_text
from open_rs.runs import open_run


@pytest.fixture(scope="module")
def authors():
    path = Path(__file__).parents[3] / "shared" / "paper" / "authors_grpo_recipe.yaml"
    if not path.is_file():
        pytest.skip(f"no recipe of the authors at {path}")
    return path


@pytest.fixture(scope="module")
def planned(authors, tmp_path_factory):
    """Imported to a file, and that file planned for the authors' machine."""
    folder = tmp_path_factory.mktemp("authors")
    made = import_recipe(authors, processes=3)
    path = folder / "authors.toml"
    path.write_text(recipe_text(made, authors.name), encoding="utf-8")
    recipe = load_recipe(path)
    notes = tuple((one.kind, one.key, one.text) for one in read_notes(path))
    return make_plan(
        recipe,
        open_run(folder / "run", recipe),
        Wish(device=DEVICES["A40"], gpus=4, mean_tokens=2800, imported=notes),
    )


VISIBLE = {  # of shared/BRIEF.md, section 6, what a recipe shows
    "length in characters": ("reward_funcs.cosine", "counted in characters"),
    "cosine not clamped": ("reward_funcs.cosine", "not clamped"),
    "sign of the wrong branch reversed": ("reward_funcs.cosine", "ends of the wrong branch"),
    "format reward that asks for no answer": ("reward_funcs.format", "no answer asked for"),
    "prompt that shows doubled braces": ("system_prompt", "literally shows \\boxed{{}}"),
    "prompt cut on the left": ("max_prompt_length", "loses its left end"),
    "template that opens <think>": ("prompt.system", "the chat template has opened already"),
    "format reward always 0 under it": ("rewards", "is always 0"),
    "logits not divided by the temperature": ("temperature", "not divided by it"),
    "KL that no recipe states": ("beta", "no KL weight is stated"),
    "KL on without being chosen": ("loss.kl_coef", "without being chosen"),
    "checkpoint chosen on the test set": ("data.validation", "only the test set is left to choose"),
    "evaluation left out of the cost": ("data.test", "the cost of evaluation is not in this"),
    "temperature of evaluation": ("evaluate.temperature", "training samples at 0.7"),
    "weights in bfloat16": ("torch_dtype", "small updates are lost"),
    "no sentinel that acts": ("sentinel.action", "went astray after step 150"),
    "model not here": ("model.path", "not on this machine"),
    "memory of the reference": ("loss.kl_coef", "frozen copy of the model of 6.62 GiB"),
}


@pytest.mark.parametrize(("key", "words"), VISIBLE.values(), ids=VISIBLE)
def test_the_recipe_shows_it(planned, key, words):
    found = [from_row(one) for one in planned["findings"]]
    assert [one for one in found if one.key == key and words in one.sentence]


def test_its_counts_and_dollars(planned):
    assert (planned["steps"], planned["prompts"], planned["completions"]) == (500, 6000, 36_000)
    assert planned["epochs"] == pytest.approx(6 / 7)
    assert [one["step"] for one in planned["checkpoints"]] == list(range(50, 501, 50))
    assert planned["usd_per_hour"] == pytest.approx(4 * 0.44)
    low, high = planned["usd_range"]
    assert low < high


def test_what_an_import_noted_is_read_back(authors, tmp_path):
    made = import_recipe(authors, processes=3)
    path = tmp_path / "authors.toml"
    path.write_text(recipe_text(made, authors.name), encoding="utf-8")
    assert read_notes(path) == [one for one in made.notes if one.kind != "carried over"]
    path.write_text('name = "own"\n# read differently: a: b\n', encoding="utf-8")
    assert read_notes(path) == []
