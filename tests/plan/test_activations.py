"""train.gradient_checkpointing = "auto": by the memory of a device, in plan and training alike."""

import json

import pytest

from open_rs.models import load_policy
from open_rs.plan import activations, resident
from open_rs.plan.activations import decided, update_bytes
from open_rs.plan.fitting import SHARE
from open_rs.plan.forecast import make_plan
from open_rs.plan.gather import Wish
from open_rs.plan.memory import Setting, kept_per_token
from open_rs.plan.subject import shape_loaded
from open_rs.recipe import recipe_from_dict
from open_rs.runs import open_run
from open_rs.train.learner import load_learner

SIZES = {"group_size": 8, "prompts_per_step": 4, "max_completion_tokens": 256}
RECIPE = {
    "model": {"path": "tiny", "device": "cpu"},
    "prompt": {"max_prompt_tokens": 64},
    "rollout": SIZES,
    "train": {"micro_batch_tokens": 4096, "num_steps": 1, "save_every": 1},
}


def recipe_of(**train):
    return recipe_from_dict(RECIPE | {"train": RECIPE["train"] | train})


@pytest.fixture(scope="module")
def shape():
    recipe = recipe_of()
    return shape_loaded(load_policy(recipe.model), recipe.model)


def test_what_is_kept_is_what_decides(shape):
    recipe = recipe_of()
    kept = update_bytes(recipe, shape, cuda=False)
    # 4,096 tokens of a micro-batch, of which each keeps so many bytes
    activations_bytes = 4096 * kept_per_token(shape, gradient_checkpointing=False)
    weights = shape.parameters * 4
    assert kept > activations_bytes + 3 * weights  # and weights, two moments beside them
    enough = round(kept / SHARE) + 1
    assert not decided(recipe, shape, enough, cuda=False).train.recomputes
    assert decided(recipe, shape, enough - 2, cuda=False).train.recomputes
    # fewer tokens at a time fit without it
    small = recipe_of(micro_batch_tokens=512)
    assert not decided(small, shape, enough - 2, cuda=False).train.recomputes


@pytest.mark.parametrize("stated", [True, False])
def test_what_is_stated_stays(shape, stated):
    recipe = recipe_of(gradient_checkpointing=stated)
    assert decided(recipe, shape, 1, cuda=False) is recipe
    assert recipe.train.recomputes == stated


@pytest.mark.parametrize(("memory", "again"), [(10**6, True), (10**12, False)])
def test_training_recomputes_where_memory_is_short(memory, again, monkeypatch, capsys):
    monkeypatch.setattr(resident, "machine_memory", lambda: memory)
    learner = load_learner(recipe_of())
    policy = learner.layout.policy
    assert any(getattr(one, "gradient_checkpointing", False) for one in policy.modules()) == again
    assert ("activations are recomputed" in capsys.readouterr().err) == again


def test_the_plan_decides_alike_and_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(resident, "machine_memory", lambda: 64 * 2**20)
    problems = tmp_path / "problems.jsonl"
    rows = [{"problem": f"{one} + 1", "answer": str(one + 1)} for one in range(8)]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = recipe_from_dict(RECIPE | {"data": {"train": {"path": str(problems)}}})
    asked = []
    real = activations.update_bytes

    def told(recipe, shape, **kinds):
        asked.append(real(recipe, shape, **kinds))
        return asked[-1]

    monkeypatch.setattr(activations, "update_bytes", told)
    plan = make_plan(recipe, open_run(tmp_path / "run", recipe), Wish())
    notes = [one for one in plan["findings"] if one["key"] == "train.gradient_checkpointing"]
    assert asked and asked[0] > 64 * 2**20
    assert len(notes) == 1 and "activations are recomputed" in notes[0]["sentence"]


def test_checkpointing_keeps_less(shape):
    setting = Setting(with_reference=False, gradient_checkpointing=True)
    assert setting.gradient_checkpointing
    less = kept_per_token(shape, gradient_checkpointing=True)
    # one layer in full and the input of each of the 4: (8 x 128 + 4 x 512 + 4 x 128) x 4 bytes
    assert less == (8 * 128 + 4 * 512 + 4 * 128) * 4
