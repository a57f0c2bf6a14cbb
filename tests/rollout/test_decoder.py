"""The decoder of Llama-like models: samples are those of the module; dropped when it is wrong."""

import pytest
import torch
from tiny_models import EOS, VOCAB, build_model, byte_tokenizer, make_prompts

from open_rs.models import add_lora
from open_rs.recipe import LoraRecipe
from open_rs.rollout import native
from open_rs.rollout.decoder import PACKED_TOKENS, Decoder, Product, decoder_of
from open_rs.rollout.native import NativeEngine
from open_rs.rollout.protocol import SamplingParams
from open_rs.rollout.slots import Slots

FULL = {"full_attention": None}


@pytest.fixture
def module_steps(monkeypatch):
    """Counts the steps in which the module's own forward was asked."""
    steps, plain = [], Slots._module_logits
    monkeypatch.setattr(Slots, "_module_logits", lambda self, n: steps.append(n) or plain(self, n))
    return steps


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


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("qwen2", {}),
        ("llama", {}),
        ("llama", {"attention_bias": True, "num_key_value_heads": 4}),
        ("qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    ],
)
def test_samples_are_those_of_the_module(kind, changes, monkeypatch, module_steps):
    model = build_model(kind, **changes)
    for name, parameter in model.named_parameters():  # fresh biases are zero, fresh norms one
        if name.endswith(("bias", "norm.weight")):
            parameter.data += 0.1 * (1 + parameter.data.flatten().argsort().view_as(parameter) % 3)
    ours, logprobs = samples(model)
    with_decoder = len(module_steps)
    monkeypatch.setattr(native, "decoder_of", lambda *_: None)
    expected, expected_logprobs = samples(model)
    assert with_decoder < (len(module_steps) - with_decoder) / 2  # the decoder was at work
    assert ours == expected
    assert logprobs == pytest.approx(expected_logprobs, abs=1e-5)


def test_a_decoder_that_disagrees_is_dropped(monkeypatch):
    model = build_model("qwen2")
    expected, _ = samples(model)

    def wrong(*args):
        decoder = decoder_of(*args)
        decoder.scale *= 1.01
        return decoder

    monkeypatch.setattr(native, "decoder_of", wrong)
    assert samples(model)[0] == expected


def test_weights_are_read_anew_at_each_call(monkeypatch):
    model = build_model("qwen2")
    before, _ = samples(model)
    for parameter in model.parameters():
        parameter.data *= 0.9  # in place, as an optimizer does it
    after, _ = samples(model)
    monkeypatch.setattr(native, "decoder_of", lambda *_: None)
    assert after == samples(model)[0]
    assert after != before


def test_only_models_of_the_family_get_a_decoder():
    assert isinstance(decoder_of(build_model("llama"), FULL, 32, 8), Decoder)
    assert decoder_of(build_model("gemma2"), FULL, 32, 8) is None
    assert decoder_of(build_model("llama", hidden_act="gelu"), FULL, 32, 8) is None
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    assert decoder_of(build_model("llama", rope_parameters=dynamic), FULL, 32, 8) is None
    two = {"full_attention": None, "sliding_attention": 8}
    assert decoder_of(build_model("qwen2"), two, 32, 8) is None
    adapted = add_lora(build_model("qwen2", eos_token_id=EOS), LoraRecipe())
    assert decoder_of(adapted, FULL, 32, 8) is None
    assert decoder_of(adapted.get_base_model(), FULL, 32, 8) is None


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
    packed, plain = (Product(weight, bias, packed=packed) for packed in (True, False))
    assert packed.packed is not None
    whole, added = packed(rows), packed.add_to(hidden, rows)
    torch.testing.assert_close(whole, plain(rows), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(added, plain.add_to(hidden, rows), rtol=1e-5, atol=1e-3)
    for count in (4 * threads, 12 * threads, 32):
        assert torch.equal(packed(rows[:count]), whole[:count])
        assert torch.equal(packed.add_to(hidden[-count:], rows[-count:]), added[-count:])


def test_weights_are_packed_where_a_call_is_long_enough_for_it():
    model = build_model("qwen2", intermediate_size=2048)  # 2048 x 32 is the smallest to be packed
    short, long = (decoder_of(model, FULL, 64, PACKED_TOKENS - less) for less in (1, 0))
    assert [layer.gate.packed is None for layer in short.layers] == [True, True]
    assert [layer.gate.packed is None for layer in long.layers] == [False, False]
    assert long.layers[0].output.packed is None
    assert decoder_of(model.bfloat16(), FULL, 64, PACKED_TOKENS).layers[0].gate.packed is None
