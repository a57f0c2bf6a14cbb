"""Moments in 8 bits: as they are saved, sent, counted and gone on with."""

import shutil
import sys
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file
from test_update import build_model, same_bits, weights_of
from tiny_models import byte_tokenizer

from open_rs.errors import InputError
from open_rs.plan.memory import Setting, parts_of
from open_rs.plan.subject import shape_loaded
from open_rs.recipe import recipe_from_dict
from open_rs.runs import RunFolder
from open_rs.train.checkpoint import TrainState, restore, save_checkpoint
from open_rs.train.distributed_layout import Replicated
from open_rs.train.optimizer import flat_state, make_optimizer, moment_bytes, set_rate, state_of

needs_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")
KIND = {"optimizer": "adamw_8bit", "learning_rate": 0.01, "weight_decay": 0.1}


@pytest.fixture(autouse=True)
def eager():
    """torchao's step without compiling it, which takes a minute."""
    with torch.compiler.set_stance("force_eager"):
        yield


def big_model():
    """With tensors of more than 4,096 entries, and smaller ones."""
    return build_model("qwen2", hidden_size=64, intermediate_size=128)


def optimizer_of(model, **train):
    return make_optimizer(model, recipe_from_dict({"train": KIND | train}))


def step(model, optimizer, number, rate=0.01):
    generator = torch.Generator().manual_seed(number)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    set_rate(optimizer, rate)
    optimizer.step()


def saved(model, optimizer):
    """As a checkpoint has it: copies under flat names, and back by parameter."""
    moments = {}
    for flat, value in Replicated(model).moments(optimizer):
        name, key = flat.split("/", 1)
        moments.setdefault(name, {})[key] = value.clone()
    return moments


@needs_torchao
def test_the_first_step_is_nearly_that_of_adamw():
    plain, coded = big_model(), big_model()
    for model, kind in ((plain, "adamw"), (coded, "adamw_8bit")):
        optimizer = optimizer_of(model, optimizer=kind)
        for number in range(3):
            step(model, optimizer, number, rate=0.01 * (number + 1))
    moved = weights_of(big_model())
    for name, weight in weights_of(coded).items():
        change = (weights_of(plain)[name] - moved[name]).norm()
        assert (weight - weights_of(plain)[name]).norm() < 0.05 * change


@needs_torchao
def test_saved_and_put_back_it_goes_on_to_the_last_bit():
    whole, stopped = big_model(), big_model()
    one, two = optimizer_of(whole), optimizer_of(stopped)
    for number in range(2):
        step(whole, one, number)
        step(stopped, two, number)
    moments = saved(stopped, two)
    kinds = {key for values in moments.values() for key in values}
    assert {"step", "exp_avg/codes", "exp_avg/scale", "exp_avg_sq/codes", "exp_avg"} <= kinds
    again = optimizer_of(stopped)
    Replicated(stopped).set_moments(again, moments)
    step(whole, one, 9)
    step(stopped, again, 9)
    assert same_bits(weights_of(whole), weights_of(stopped))


@needs_torchao
def test_a_checkpoint_goes_on_to_the_last_bit(tmp_path):
    whole, loaded = big_model(), big_model()
    one, two = optimizer_of(whole), optimizer_of(loaded)
    step(whole, one, 0)
    run = RunFolder(tmp_path)
    folder = save_checkpoint(run, whole, byte_tokenizer(), one, TrainState(step=1))
    held = load_file(folder / "trainer" / "optimizer.safetensors")
    assert any(value.dtype == torch.uint8 for value in held.values())
    restore(folder, loaded, two)
    for number in (1, 2):
        step(whole, one, number)
        step(loaded, two, number)
    assert same_bits(weights_of(whole), weights_of(loaded))


@needs_torchao
def test_moments_of_the_other_kind_are_taken_over():
    model = big_model()
    plain = optimizer_of(model, optimizer="adamw")
    step(model, plain, 0)
    largest = max(model.parameters(), key=torch.numel)
    held = dict(flat_state(plain.state[largest]))
    coded = state_of(held, largest, optimizer_of(model))
    back = state_of(dict(flat_state(coded)), largest, plain)
    error = (back["exp_avg"] - held["exp_avg"]).abs().max() / held["exp_avg"].abs().max()
    assert 0 < error < 0.05  # a step of a code
    assert coded["exp_avg"].codes.dtype == torch.uint8 and type(back["exp_avg"]) is torch.Tensor


@needs_torchao
def test_memory_before_the_first_step_is_that_of_the_moments():
    model = big_model()
    trained, optimizer = list(model.parameters()), optimizer_of(model)
    taken = sum(one.nbytes for one in moment_bytes(trained, optimizer))
    assert taken == 2 * sum(one.numel() for one in trained)


def test_the_plan_counts_a_byte_and_a_scale_for_each():
    model = big_model()
    recipe = recipe_from_dict({})
    shape = shape_loaded(model, recipe.model)
    sizes = type("Sizes", (), {"slots": 1, "cap": 1, "positions": 1, "forwarded": 1, "scored": 1})
    counted = {
        bits: parts_of(shape, sizes, Setting(False, False, eight_bit=bits))["optimizer"]
        for bits in (False, True)
    }
    assert counted[False] == 2 * 4 * shape.trained_parameters
    assert counted[True] == round(2 * (1 + 4 / 256) * shape.trained_parameters)


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    with pytest.raises(InputError, match=r"needs torchao; pip install .open-rs\[eight-bit\]"):
        optimizer_of(big_model())


@needs_torchao
def test_without_a_compiler_it_is_refused(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="there is no C\\+\\+ compiler; install one, or"):
        optimizer_of(big_model())


def test_it_is_not_sharded():
    with pytest.raises(InputError, match="its moments are not sharded"):
        recipe_from_dict({"train": KIND | {"sharding": "full"}})
