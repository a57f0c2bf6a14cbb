"""Loading, wrapping and hashing models, and the sentence for each folder that cannot be used."""

import json
import pickle
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config, dynamic_module_utils

from open_rs.errors import InputError
from open_rs.models import (
    add_lora,
    check_context,
    context_length,
    folder_hash,
    load_model,
    load_tokenizer,
    load_weights,
    mixed_precision,
    model_path,
    pick_device,
    pick_dtype,
    training_model,
)
from open_rs.recipe import LoraRecipe, ModelRecipe

CPU = torch.device("cpu")


def random_model(seed=0, **changes):
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": 60,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 32,
        "bos_token_id": None,
        "eos_token_id": 1,
    }
    return AutoModelForCausalLM.from_config(Qwen2Config(**{**sizes, **changes}))


@pytest.fixture
def folder(tmp_path):
    """A saved model of random weights."""
    random_model().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def refuse(sentence, path, **settings):
    with pytest.raises(InputError, match=sentence) as caught:
        load_model(ModelRecipe(path=str(path), **settings))
    assert "\n" not in str(caught.value)


# --- loading ---------------------------------------------------------------------------------


def test_the_shipped_model_and_its_tokenizer_belong_together():
    recipe = ModelRecipe()
    model, tokenizer = load_model(recipe), load_tokenizer(recipe)
    assert not model.training and model.dtype == torch.float32
    assert len(tokenizer) <= model.get_input_embeddings().weight.shape[0]
    assert tokenizer.eos_token_id is not None and tokenizer.chat_template
    assert 1e6 <= sum(p.numel() for p in model.parameters()) <= 3e6


def test_a_folder_gives_the_saved_weights(folder):
    model, saved = load_model(ModelRecipe(path=str(folder))), random_model()
    for name, tensor in saved.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    assert load_model(ModelRecipe(path=str(folder), dtype="bfloat16")).dtype == torch.bfloat16


def test_the_tokenizer_is_what_its_file_says():
    """AutoTokenizer puts Qwen2's own pre-tokenizer in the place of the one that was trained."""
    tokenizer = load_tokenizer(ModelRecipe())
    file = Tokenizer.from_file(f"{model_path('tiny')}/tokenizer.json")
    for text in ("Compute 3 * 9 + 8.", "12 - 7 = 5\n\n\\boxed{5}", "三十二加五", " a  b\n"):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == file.encode(text).ids
        assert tokenizer.decode(file.encode(text).ids) == text


def test_devices_and_dtypes(monkeypatch):
    assert pick_device(ModelRecipe(device="cpu")) == CPU
    with pytest.raises(InputError, match=r"model.device = 'gpu': unknown; use auto, cpu or cuda"):
        pick_device(ModelRecipe(device="gpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device(ModelRecipe()) == CPU
    for device in ("cuda", "cuda:1"):
        with pytest.raises(InputError, match=rf"model.device = '{device}': .*no CUDA.*auto or cpu"):
            pick_device(ModelRecipe(device=device))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_device(ModelRecipe()).type == "cuda"
    assert pick_device(ModelRecipe(device="cuda:0")).index == 0
    with pytest.raises(InputError, match=r"model.device = 'cuda:1': .*1 CUDA device"):
        pick_device(ModelRecipe(device="cuda:1"))
    assert pick_dtype(ModelRecipe(), CPU) == torch.float32
    for native, dtype in ((True, torch.bfloat16), (False, torch.float32)):  # Volta, Turing: none
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda native=native, **_: native)
        assert pick_dtype(ModelRecipe(), torch.device("cuda")) == dtype
        assert pick_dtype(ModelRecipe(dtype="bfloat16"), torch.device("cuda")) == torch.bfloat16
        assert isinstance(mixed_precision(ModelRecipe()), torch.autocast) == native
    assert pick_dtype(ModelRecipe(dtype="float32"), torch.device("cuda")) == torch.float32
    assert pick_dtype(ModelRecipe(dtype="bfloat16"), CPU) == torch.bfloat16


def test_masters_are_float32_unless_said_otherwise():
    assert training_model(ModelRecipe()).dtype == "float32"
    assert training_model(ModelRecipe(dtype="bfloat16")).dtype == "bfloat16"
    assert training_model(ModelRecipe(lora=LoraRecipe())).dtype == "auto"


# --- folders that cannot be used -------------------------------------------------------------


@pytest.mark.parametrize("path", ["./none", "/none/such", "~/none", "a/b/c", "tinny"])
def test_no_such_folder(path):
    refuse(rf"model.path {path}: no such folder; give a model folder, a hub id, or tiny", path)


def test_a_hub_id_without_a_network():
    refuse(r"model.path no-such-org/no-such-model: cannot be loaded", "no-such-org/no-such-model")
    with pytest.raises(InputError, match=r"model.path no-such-org/x: cannot be loaded"):
        load_tokenizer(ModelRecipe(path="no-such-org/x"))
    refuse(r"model.path some org/x y: cannot be loaded", "some org/x y")


def test_a_folder_without_config_or_weights(folder):
    (folder / "model.safetensors").unlink()
    refuse(r"holds no model.safetensors; give a whole model folder", folder)
    (folder / "config.json").unlink()
    refuse(r"holds no config.json; give a Hugging Face model folder", folder)


class Payload:
    """What a pickle may hold: code that runs while it is read."""

    def __init__(self, trap):
        self.trap = trap

    def __reduce__(self):
        return Path.touch, (self.trap,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt"])
def test_pickled_weights_are_refused_with_the_cure_and_not_read(folder, tmp_path, name):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Payload(tmp_path / "trap")))
    refuse(rf"{name} is pickled, .* convert it to safetensors .*save_pretrained", folder)
    shutil.copy(folder / name, folder / "model.safetensors")  # under a false name
    refuse(r"cannot be loaded", folder)
    shutil.copy(folder / name, folder / "adapter_model.safetensors")
    (folder / "model.safetensors").unlink()
    refuse(rf"{name} is pickled", folder)
    assert not (tmp_path / "trap").exists()
    pickle.loads((folder / name).read_bytes())
    assert (tmp_path / "trap").exists()  # the trap is one


def test_pickled_weights_of_the_hub_are_refused_with_the_cure(folder, tmp_path, monkeypatch):
    repository = tmp_path / "hub" / "models--some--pickled"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "trap")))
    shutil.copytree(folder, repository / "snapshots" / ("a" * 40))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    refuse(r"some/pickled: what it has for weights is pickled, .* convert it", "some/pickled")
    assert not (tmp_path / "trap").exists()


OWN_CODE = """
from pathlib import Path
from transformers import Qwen2Config, Qwen2ForCausalLM
Path({trap!r}).touch()
class OwnConfig(Qwen2Config):
    model_type = "own_of_a_test"
class OwnForCausalLM(Qwen2ForCausalLM):
    config_class = OwnConfig
"""


def test_code_of_a_model_runs_only_where_the_recipe_says_so_and_then_loudly(
    folder, tmp_path, monkeypatch, capsys
):
    trap, path = tmp_path / "trap", str(folder)
    (folder / "own.py").write_text(OWN_CODE.format(trap=str(trap)))
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "own_of_a_test"
    config["auto_map"] = {
        "AutoConfig": "own.OwnConfig",
        "AutoModelForCausalLM": "own.OwnForCausalLM",
    }
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    refuse(r"needs Python code of its own, .* set model.trust_remote_code = true", path)
    assert not trap.exists() and capsys.readouterr().err == ""
    model = load_model(ModelRecipe(path=path, trust_remote_code=True))
    assert trap.exists() and type(model).__name__ == "OwnForCausalLM"
    load_model(ModelRecipe(path=path, trust_remote_code=True))
    warning = f"WARNING: model.trust_remote_code = true: Python code that comes with {path} runs"
    assert capsys.readouterr().err.count(warning) == 1


def test_a_pickle_is_never_opened(folder, monkeypatch):
    shutil.move(folder / "model.safetensors", folder / "adapter_model.safetensors")
    torch.save(random_model().state_dict(), folder / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("a pickle was opened"))
    refuse(r"pytorch_model.bin is pickled", folder)


def test_damaged_weights(folder):
    whole = (folder / "model.safetensors").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"\xff" * 100):
        (folder / "model.safetensors").write_bytes(content)
        refuse(r"cannot be loaded", folder)


def test_weights_that_lack_a_tensor_are_not_filled_with_noise(folder):
    tensors = load_file(folder / "model.safetensors")
    gone = "model.layers.1.mlp.up_proj.weight"
    save_file({k: v for k, v in tensors.items() if k != gone}, folder / "model.safetensors")
    refuse(rf"cannot be loaded .*{gone}", folder)


def test_weights_of_another_size(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 32}))
    refuse(r"cannot be loaded", folder)


def test_tied_weights_are_not_missing(tmp_path):
    random_model(tie_word_embeddings=True).save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    load_model(ModelRecipe(path=str(tmp_path)))


@pytest.mark.parametrize(
    "config", ["{", "[]", "{}", '{"model_type": "no_such_model"}', '{"model_type": "t5"}']
)
def test_configs_that_name_no_causal_lm(folder, config):
    (folder / "config.json").write_text(config)
    refuse(r"cannot be loaded", folder)


def test_a_folder_without_a_tokenizer_or_with_a_damaged_one(folder):
    with pytest.raises(InputError, match=r"model.path .*: cannot be loaded"):
        load_tokenizer(ModelRecipe(path=str(folder)))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"model.path .*: cannot be loaded"):
        load_tokenizer(ModelRecipe(path=str(folder)))


# --- weights, adapters, context, hash --------------------------------------------------------


def test_load_weights_keeps_the_tensors_and_takes_the_values(folder):
    model = random_model(seed=1)
    before = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    load_weights(model, folder)
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == before
    for name, tensor in random_model(seed=0).state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_lora_trains_adapters_alone_and_starts_as_the_base():
    base = random_model().eval()
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        expected = base(input_ids=ids).logits
    wrapped = add_lora(base, LoraRecipe(rank=3, alpha=6)).eval()
    trained = {n: p for n, p in wrapped.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    # all-linear: seven layers of each block, not the head; A is [3, in], B is [out, 3]
    assert len(trained) == 2 * 7 * 2
    assert all(3 in parameter.shape for parameter in trained.values())
    with torch.no_grad():
        assert torch.equal(wrapped(input_ids=ids).logits, expected)


def test_lora_on_named_layers():
    wrapped = add_lora(random_model(), LoraRecipe(target_modules=("q_proj", "v_proj")))
    names = [n for n, p in wrapped.named_parameters() if p.requires_grad]
    assert len(names) == 2 * 2 * 2
    assert all(".q_proj." in name or ".v_proj." in name for name in names)


@pytest.mark.parametrize("modules", [("no_such_layer",), ()])
def test_lora_on_layers_that_are_not_there(modules):
    with pytest.raises(InputError, match=r"model.lora.target_modules = \(") as caught:
        add_lora(random_model(), LoraRecipe(target_modules=modules))
    assert "\n" not in str(caught.value)


def test_context_check_says_what_fits():
    model = random_model()
    check_context(model, 20, 12)  # 20 + 12 = 32 positions
    with pytest.raises(
        InputError, match=r"max_completion_tokens = 13: .* 20 tokens .* 32; at most 12 fit"
    ):
        check_context(model, 20, 13)
    with pytest.raises(InputError, match=r"at most 0 fit"):
        check_context(model, 40, 1)
    sizes = {"vocab_size": 60, "hidden_size": 16, "n_layer": 1, "n_head": 2}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("bloom", **sizes))  # ALiBi
    assert context_length(model) is None
    check_context(model, 10**6, 10**6)


def test_context_of_a_model_with_a_nested_text_config():
    class Model:
        config = AutoConfig.for_model(
            "gemma3", text_config={"max_position_embeddings": 48, "model_type": "gemma3_text"}
        )

    assert context_length(Model()) == 48


def test_folder_hash_follows_the_content(folder, tmp_path):
    first = folder_hash(str(folder))
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert folder_hash(str(copy)) == first and len(first) == 64
    (copy / "notes.txt").write_text("no part of the model")
    assert folder_hash(str(copy)) == first
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert folder_hash(str(copy)) != first
    random_model(seed=5).save_pretrained(folder)
    assert folder_hash(str(folder)) != first
    assert folder_hash("org/model") == "org/model"
    assert folder_hash("tiny") == folder_hash(model_path("tiny"))
