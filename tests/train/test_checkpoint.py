"""Checkpoints: bit for bit, complete or absent, never a pickle."""

import errno
import json
import os
import resource
import shutil
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import build_model, byte_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from open_rs.errors import InputError
from open_rs.models import add_lora
from open_rs.recipe import LoraRecipe
from open_rs.runs import RunFolder
from open_rs.train import checkpoint
from open_rs.train.checkpoint import (
    TrainState,
    checkpoint_steps,
    damage,
    newest_valid,
    remove_leftovers,
    restore,
    save_checkpoint,
)

IDS = torch.arange(24).view(2, 12)
KINDS = {"full": {}, "tied": {"tie_word_embeddings": True}, "lora": {}}


def build(kind):
    """(policy, AdamW) as a run would start with."""
    policy = build_model("qwen2", **KINDS[kind])
    if kind == "lora":
        torch.manual_seed(1)
        policy = add_lora(policy, LoraRecipe(rank=4, alpha=8))
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    return policy, torch.optim.AdamW(trained, lr=1e-2)


def move(policy, optimizer, steps=1):
    """A few real steps, so that there are moments."""
    for _ in range(steps):
        optimizer.zero_grad()
        policy(input_ids=IDS).logits.square().mean().backward()
        optimizer.step()


def weights_of(policy):
    return {name: value.clone() for name, value in policy.state_dict().items()}


def moments_of(policy, optimizer):
    return {
        f"{name}/{key}": value.clone()
        for name, parameter in policy.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def same_bits(left, right):
    return left.keys() == right.keys() and all(
        torch.equal(left[key], right[key]) and left[key].dtype == right[key].dtype for key in left
    )


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


def save(run, step, kind="full", steps=2):
    """A checkpoint of a policy that has moved; returns (folder, policy, optimizer)."""
    policy, optimizer = build(kind)
    move(policy, optimizer, steps)
    state = TrainState(step=step, sampler_position=7 * step, nonfinite_in_a_row=1)
    return save_checkpoint(run, policy, byte_tokenizer(), optimizer, state), policy, optimizer


@pytest.mark.parametrize("kind", KINDS)
def test_restore_gives_back_every_bit_and_training_goes_on_the_same(run, kind):
    folder, policy, optimizer = save(run, 3, kind)
    other, fresh = build(kind)
    move(other, fresh)  # somewhere else
    state = restore(folder, other, fresh)
    assert state == TrainState(step=3, sampler_position=21, nonfinite_in_a_row=1)
    assert same_bits(weights_of(policy), weights_of(other))
    assert same_bits(moments_of(policy, optimizer), moments_of(other, fresh))
    assert moments_of(policy, optimizer)
    move(policy, optimizer, 2)
    move(other, fresh, 2)
    assert same_bits(weights_of(policy), weights_of(other))
    assert same_bits(moments_of(policy, optimizer), moments_of(other, fresh))


@pytest.mark.parametrize("kind", KINDS)
def test_restoring_a_start_forgets_the_moments_of_later_steps(run, kind):
    folder, _, _ = save(run, 0, kind, steps=0)
    other, used = build(kind)
    move(other, used)
    restore(folder, other, used)
    assert moments_of(other, used) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_saving_leaves_the_policy_and_its_moments_bit_for_bit(run, kind):
    policy, optimizer = build(kind)
    move(policy, optimizer, 2)
    before, moments = weights_of(policy), moments_of(policy, optimizer)
    logits = policy(input_ids=IDS).logits
    gradients = {name: p.grad.clone() for name, p in policy.named_parameters() if p.requires_grad}
    save_checkpoint(run, policy, byte_tokenizer(), optimizer, TrainState(step=2))
    assert same_bits(before, weights_of(policy))
    assert same_bits(moments, moments_of(policy, optimizer))
    assert torch.equal(logits, policy(input_ids=IDS).logits)
    for name, parameter in policy.named_parameters():
        assert parameter.requires_grad == (name in gradients)
        if name in gradients:
            assert torch.equal(gradients[name], parameter.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_is_a_hugging_face_model(run, kind):
    folder, policy, _ = save(run, 3, kind)
    loaded, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    with torch.no_grad():
        theirs, ours = loaded(input_ids=IDS).logits, policy(input_ids=IDS).logits
        start = build(kind)[0](input_ids=IDS).logits
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5 if kind == "lora" else 0)
    assert (ours - start).abs().max() > 0.05
    assert not any("lora" in name or "base_layer" in name for name in loaded.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "What is 2 + 2?"
    assert tokenizer(text)["input_ids"] == byte_tokenizer()(text)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_in_it_is_a_pickle_and_everything_is_in_the_manifest(run, kind):
    folder, _, _ = save(run, 3, kind)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {os.path.splitext(name)[1] for name in files} <= {
        ".json",
        ".jsonl",
        ".safetensors",
        ".jinja",
    }
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    assert set(listed) == files - {"manifest.json"}
    assert {"model.safetensors", "trainer/optimizer.safetensors", "trainer/state.json"} < files
    assert ("trainer/adapter.safetensors" in files) == (kind == "lora")
    for name, facts in listed.items():
        assert facts["bytes"] == (folder / name).stat().st_size
    assert damage(folder) is None


def test_the_same_state_gives_the_same_bytes(run, tmp_path):
    first, _, _ = save(run, 3)
    second, _, _ = save(RunFolder(tmp_path / "other"), 3)
    assert (first / "manifest.json").read_bytes() == (second / "manifest.json").read_bytes()


# --- damage ---

FILES = ["model.safetensors", "config.json", "trainer/optimizer.safetensors", "trainer/state.json"]


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def grow(path):
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    return save(RunFolder(tmp_path_factory.mktemp("run")), 3)[0]


@pytest.fixture
def folder(intact, tmp_path):
    """A checkpoint of its own to do harm to."""
    return shutil.copytree(intact, tmp_path / "000003")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("harm", [cut_short, flip_a_bit, grow])
def test_a_changed_file_is_found(folder, file, harm):
    assert damage(folder) is None
    harm(folder / file)
    assert damage(folder) == f"{file} was changed or cut short"


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_found(folder, file):
    (folder / file).unlink()
    assert damage(folder) == f"{file} is missing"


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"files": {',
        b'{"files": []}',
        b'{"files": {}}',
        b'{"files": {"config.json": 3}}',
        b'{"files": {"config.json": {"bytes": 1}}}',
    ],
)
def test_an_unusable_manifest_is_found(folder, content):
    (folder / "manifest.json").unlink()
    if content is not None:
        (folder / "manifest.json").write_bytes(content)
    assert damage(folder).startswith("no usable manifest")


def test_newest_valid_skips_the_damaged_and_says_why(run):
    for step in (2, 4, 6):
        save(run, step)
    assert newest_valid(run) == (6, [])
    cut_short(run.checkpoint(6) / "model.safetensors")
    (run.checkpoint(4) / "trainer" / "state.json").unlink()
    assert newest_valid(run) == (
        2,
        [
            "checkpoint 000006 skipped: model.safetensors was changed or cut short",
            "checkpoint 000004 skipped: trainer/state.json is missing",
        ],
    )
    (run.checkpoint(2) / "manifest.json").write_text("")
    with pytest.raises(InputError, match=r"no intact checkpoint .*000006.*000004.*000002"):
        newest_valid(run)


def test_newest_valid_without_any(run):
    with pytest.raises(InputError, match="none was saved yet"):
        newest_valid(run)


def test_steps_are_numbers_and_what_else_lies_there_is_left_alone(run):
    for step in (2, 10, 1_000_000):
        run.checkpoint(step).mkdir(parents=True)
    (run.checkpoints / "best").mkdir()
    (run.checkpoints / ".000012.tmp").mkdir()
    (run.checkpoints / "000013").write_text("a file")
    assert checkpoint_steps(run) == [1_000_000, 10, 2]
    remove_leftovers(run)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [
        "000002",
        "000010",
        "000013",
        "1000000",
        "best",
    ]


def test_temporary_files_of_a_killed_write_are_removed_but_not_those_of_a_report(run):
    kept = [run.path / ".report.html.77.tmp", run.rollouts(1)]
    gone = [
        run.path / ".recipe.json.77.tmp",
        run.rollouts(1).with_name(".000001.jsonl.gz.77.tmp"),
        run.evaluation("validation-000002") / ".records.jsonl.77.tmp",
    ]
    for path in (*kept, *gone):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    remove_leftovers(run)
    assert all(path.exists() for path in kept) and not any(path.exists() for path in gone)


# --- a write that fails ---


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def files_limited_to(size):
    """The kernel refuses every write beyond `size` bytes of a file, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("size", [0, 2_000, 60_000])
def test_a_disk_that_fills_up_leaves_the_earlier_checkpoint_and_no_leftovers(run, kind, size):
    save(run, 2, kind)
    before = snapshot(run.path)
    policy, optimizer = build(kind)
    move(policy, optimizer, 2)
    held = weights_of(policy)
    with files_limited_to(size), pytest.raises(InputError, match=r"000004.*step 2 is intact") as e:
        save_checkpoint(run, policy, byte_tokenizer(), optimizer, TrainState(step=4))
    assert "open-rs train --resume" in str(e.value)
    assert snapshot(run.path) == before
    assert [path.name for path in run.checkpoints.iterdir()] == ["000002"]
    assert newest_valid(run) == (2, [])
    assert same_bits(held, weights_of(policy))
    save_checkpoint(run, policy, byte_tokenizer(), optimizer, TrainState(step=4))  # space again
    assert newest_valid(run) == (4, [])


def test_a_disk_that_fills_up_with_the_tokenizer(run):
    save(run, 2)
    policy, optimizer = build("full")
    large = byte_tokenizer()
    large.add_tokens([f"<token {number}>" for number in range(5000)])
    with files_limited_to(400_000), pytest.raises(InputError, match="step 2 is intact"):
        save_checkpoint(run, policy, large, optimizer, TrainState(step=4))
    assert (run.checkpoint(2) / "model.safetensors").stat().st_size < 400_000
    assert [path.name for path in run.checkpoints.iterdir()] == ["000002"]


@pytest.mark.parametrize("step_of_save", ["_write_parts", "write_json", "_fsync_tree", "rename"])
def test_no_space_at_any_moment_of_a_save(run, monkeypatch, step_of_save):
    save(run, 2)
    before = snapshot(run.path)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, step_of_save, full)
    with pytest.raises(InputError, match=r"No space left.*step 2 is intact"):
        save(run, 4)
    assert snapshot(run.path) == before
    assert [path.name for path in run.checkpoints.iterdir()] == ["000002"]


def test_the_first_save_that_fails_says_that_there_is_none_before(run, monkeypatch):
    monkeypatch.setattr(checkpoint, "_fsync_tree", lambda path: (_ for _ in ()).throw(OSError()))
    with pytest.raises(InputError, match="there is none before it"):
        save(run, 4)
    assert list(run.checkpoints.iterdir()) == []


def test_a_save_that_was_killed_half_way_hinders_nothing(run):
    folder, _, _ = save(run, 2)
    half = run.checkpoints / ".000004.tmp"
    shutil.copytree(folder, half)
    (half / "model.safetensors").write_bytes(b"half")
    assert newest_valid(run) == (2, [])
    save(run, 4)
    assert damage(run.checkpoint(4)) is None
    assert not half.exists()


def test_a_step_that_is_saved_again_replaces_the_old_one(run):
    folder, _, _ = save(run, 2, steps=1)
    (folder / "stray.bin").write_bytes(b"left over")
    _, policy, _ = save(run, 2, steps=3)
    assert not (folder / "stray.bin").exists()
    saved = load_file(folder / "model.safetensors")
    assert same_bits(saved, {k: v for k, v in policy.state_dict().items() if k in saved})
