"""The ways around the module's forward: samples are those of the module; dropped when wrong."""

import shutil
from math import inf

import pytest
import torch
from tiny_models import EOS, VOCAB, build_model, byte_tokenizer, make_prompts

from open_rs.models import add_lora
from open_rs.recipe import LoraRecipe
from open_rs.rollout import forward, kernels
from open_rs.rollout.compiled import CompiledForward
from open_rs.rollout.forward import DecoderForward, ModuleForward
from open_rs.rollout.native import NativeEngine
from open_rs.rollout.protocol import SamplingParams
from open_rs.rollout.weights import PACKED_TOKENS, Product, weights_of

FULL = {"full_attention": None}
WAYS = ["compiled", "decoder"]
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.fixture
def steps(monkeypatch):
    """The way that took each decoding step, but for those on which a way is tried."""
    taken = []

    def spy(kind, name):
        plain = kind.logits

        def logits(self, token, position, longest):
            taken.append(name)
            return plain(self, token, position, longest)

        monkeypatch.setattr(kind, "logits", logits)

    for kind, name in (
        (ModuleForward, "module"), (DecoderForward, "decoder"), (CompiledForward, "compiled"),
    ):  # fmt: skip
        spy(kind, name)
    return taken


def only(way, monkeypatch):
    """Leave no way but this one."""
    if way != "compiled":
        monkeypatch.setattr(forward, "kernels_of", lambda weights: None)
    if way == "module":
        monkeypatch.setattr(forward, "weights_of", lambda *_: None)


def samples(model):
    """Ids and log-probs of 6 problems x 3 samples in 3 slots; one prompt is a single token."""
    engine = NativeEngine(
        model, byte_tokenizer(), max_slots=3, eos_token_ids=list(range(0, VOCAB, 8))
    )
    groups = engine.generate(
        make_prompts((1, 2, 5, 17, 40, 9)), group_size=3, params=SamplingParams(24), seed=1
    )
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    logprobs = [p for rollout in rollouts for p in rollout.engine_logprobs]
    return [rollout.completion_ids for rollout in rollouts], logprobs


@needs_compiler
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("qwen2", {}),
        ("llama", {}),
        ("llama", {"attention_bias": True, "num_key_value_heads": 4}),
        ("qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
        ("qwen3", {"head_dim": 16}),
        ("mistral", {"sliding_window": None}),
    ],
)
def test_samples_are_those_of_the_module(way, kind, changes, monkeypatch, steps):
    model = build_model(kind, **changes)
    for name, parameter in model.named_parameters():  # fresh biases are zero, fresh norms one
        if name.endswith(("bias", "norm.weight")):
            parameter.data += 0.1 * (1 + parameter.data.flatten().argsort().view_as(parameter) % 3)
    only(way, monkeypatch)
    ours, logprobs = samples(model)
    assert set(steps) == {way}
    only("module", monkeypatch)
    expected, expected_logprobs = samples(model)
    assert steps[-1] == "module"
    assert ours == expected
    assert logprobs == pytest.approx(expected_logprobs, abs=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_adapters_are_merged_and_the_module_left_alone(way, monkeypatch, steps):
    model = build_model("qwen2")
    plain, _ = samples(model)
    adapted = add_lora(model, LoraRecipe(rank=4))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1, generator=generator)
    before = {name: value.clone() for name, value in adapted.state_dict().items()}
    only(way, monkeypatch)
    ours, logprobs = samples(adapted)
    assert steps[-1] == way
    with adapted.disable_adapter():
        assert samples(adapted)[0] == plain
    assert all(torch.equal(before[name], value) for name, value in adapted.state_dict().items())
    only("module", monkeypatch)
    expected, expected_logprobs = samples(adapted)
    assert ours == expected != plain
    assert logprobs == pytest.approx(expected_logprobs, abs=5e-5)


@pytest.mark.parametrize("way", WAYS)
def test_a_way_that_disagrees_is_dropped(way, monkeypatch, steps):
    model = build_model("qwen2")
    expected, _ = samples(model)
    plain = forward.weights_of

    def wrong(*args):
        weights = plain(*args)
        object.__setattr__(weights, "scale", weights.scale * 1.01)
        return weights

    monkeypatch.setattr(forward, "weights_of", wrong)
    only(way, monkeypatch)
    forward.TRIED.clear()
    assert samples(model)[0] == expected
    assert steps[-1] == "module"


def test_weights_are_read_anew_at_each_call(monkeypatch):
    model = build_model("qwen2")
    before, _ = samples(model)
    for parameter in model.parameters():
        parameter.data *= 0.9  # in place, as an optimizer does it
    after, _ = samples(model)
    only("module", monkeypatch)
    assert after == samples(model)[0]
    assert after != before


@pytest.mark.parametrize("trouble", ["no compiler", "does not compile"])
def test_without_a_compiler_it_is_said_and_torch_decodes(
    trouble, monkeypatch, steps, capsys, tmp_path
):
    kernels.compiled.cache_clear()
    if trouble == "no compiler":
        monkeypatch.setattr(shutil, "which", lambda name: None)
    else:
        (tmp_path / "kernels.c").write_text("int main(")
        monkeypatch.setattr(kernels, "SOURCE", tmp_path / "kernels.c")
    try:
        samples(build_model("qwen2"))
        samples(build_model("qwen2"))
    finally:
        kernels.compiled.cache_clear()
    assert steps[-1] == "decoder"
    said = capsys.readouterr().err
    assert said.count("without compiled kernels") == 1


def test_only_models_of_the_family_have_weights():
    def known(model, windows=FULL):
        return weights_of(model, windows, 32, 8) is not None

    assert known(build_model("llama"))
    assert not known(build_model("gemma2"))
    assert not known(build_model("llama", hidden_act="gelu"))
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    assert not known(build_model("llama", rope_parameters=dynamic))
    assert not known(build_model("qwen2"), {"full_attention": None, "sliding_attention": 8})
    assert not known(build_model("mistral"), {"sliding_attention": 8})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not known(build_model("llama"))
    assert known(add_lora(build_model("qwen2", eos_token_id=EOS), LoraRecipe()))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("inputs", "outputs"), [(576, 192), (1536, 96), (130, 515)])
def test_a_packed_product_is_the_product_and_each_row_is_its_own(inputs, outputs, threads):
    torch.set_num_threads(threads)
    draw = torch.Generator().manual_seed(0)
    rows, hidden = torch.randn(96, inputs, generator=draw), torch.randn(96, outputs, generator=draw)
    weight, bias = (
        torch.randn(outputs, inputs, generator=draw),
        torch.randn(outputs, generator=draw),
    )
    packed, plain = (Product(weight, bias, pack_from=least) for least in (0, inf))
    assert packed.packed is not None
    whole, added = packed(rows), packed.add_to(hidden, rows)
    torch.testing.assert_close(whole, plain(rows), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(added, plain.add_to(hidden, rows), rtol=1e-5, atol=1e-3)
    for count in (4 * threads, 12 * threads, 32):
        assert torch.equal(packed(rows[:count]), whole[:count])
        assert torch.equal(packed.add_to(hidden[-count:], rows[-count:]), added[-count:])


def test_weights_are_packed_where_a_call_is_long_enough_for_it():
    model = build_model("qwen2", intermediate_size=1024)  # 2 x 1024 x 32: the smallest packed
    short, long = (weights_of(model, FULL, 64, PACKED_TOKENS - less) for less in (1, 0))
    assert [layer.gate_up.packed is None for layer in short.layers] == [True, True]
    assert [layer.gate_up.packed is None for layer in long.layers] == [False, False]
    assert long.layers[0].output.packed is None
    half = weights_of(model.bfloat16(), FULL, 64, PACKED_TOKENS)
    assert half.layers[0].gate_up.packed is None
