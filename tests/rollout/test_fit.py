"""What the native engine refuses: by name, and before it samples anything."""

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from tiny_models import build_model, byte_tokenizer, make_prompts
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from open_rs.errors import InputError
from open_rs.problems import Problem
from open_rs.rollout.fit import check_model
from open_rs.rollout.native import NativeEngine
from open_rs.rollout.protocol import Prompt, SamplingParams


@pytest.fixture(scope="module")
def engine():
    return NativeEngine(build_model("qwen2"), byte_tokenizer())


def small(kind, **settings):
    """A model of transformers' own configuration, for kinds that COMMON does not fit."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()


SIZES = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def test_encoder_decoder_is_refused():
    config = AutoConfig.for_model("t5", vocab_size=50, d_model=16, d_kv=4, d_ff=16, num_layers=1)
    with pytest.raises(InputError, match="T5ForConditionalGeneration is an encoder-decoder"):
        check_model(AutoModelForSeq2SeqLM.from_config(config))


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        ("openai-gpt", {"n_embd": 16, "n_layer": 1, "n_head": 2}, "OpenAIGPT.*past_key_values"),
        ("mamba", {**SIZES, "state_size": 4}, "MambaForCausalLM.*past_key_values"),
        ("bloom", SIZES, "BloomForCausalLM.*position_ids"),
        ("falcon", {**SIZES, "alibi": True}, "FalconForCausalLM.*ALiBi"),
        (
            "lfm2",
            {
                **SIZES,
                "intermediate_size": 32,
                "num_key_value_heads": 2,
                "layer_types": ["conv", "full_attention"],
            },
            "Lfm2ForCausalLM keeps a recurrent",
        ),
        (
            "bert",
            {**SIZES, "intermediate_size": 32},
            "BertLMHeadModel.*both directions.*is_decoder",
        ),
        (
            "gpt_neo",
            {
                "vocab_size": 300,
                "hidden_size": 32,
                "num_layers": 2,
                "num_heads": 4,
                "attention_types": [[["global", "local"], 1]],
            },
            "GPTNeoForCausalLM.*mask of its own",
        ),
    ],
)
def test_models_without_a_plain_cache_are_refused_by_name(kind, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        check_model(small(kind, **settings))


def test_bidirectional_gemma_is_refused():
    model = build_model("gemma3_text")
    model.config.use_bidirectional_attention = True
    with pytest.raises(InputError, match=r"Gemma3ForCausalLM.*both directions"):
        check_model(model)


def test_chunked_attention_is_refused():
    with pytest.raises(InputError, match=r"Llama4ForCausalLM attends in chunks"):
        check_model(build_model("llama4_text", num_local_experts=2, intermediate_size_mlp=16))


@pytest.mark.parametrize("attention", ["flash_attention_2", "flex_attention"])
def test_attention_without_an_explicit_mask_is_refused(attention):
    model = build_model("qwen2")
    model.config._attn_implementation_internal = attention
    with pytest.raises(InputError, match=f"attn_implementation='{attention}'.*'sdpa' or 'eager'"):
        check_model(model)


def test_adapters_of_virtual_tokens_are_refused():
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(InputError, match=r"virtual tokens.*use LoRA"):
        check_model(get_peft_model(build_model("qwen2"), config))


def test_facts_about_models_that_fit():
    fit = check_model(build_model("gemma2", sliding_window=8))
    assert fit.windows == {"sliding_attention": 8, "full_attention": None}
    assert (fit.context, fit.vocab_size, fit.keeps_logits) == (256, 264, True)
    assert check_model(build_model("qwen2")).windows == {"full_attention": None}
    assert check_model(build_model("mistral", sliding_window=16)).windows == {
        "sliding_attention": 16
    }


def test_context_ends_where_longrope_switches_its_frequencies():
    rope = {
        "rope_type": "longrope",
        "short_factor": [1.0] * 4,
        "long_factor": [2.0] * 4,
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "rope_theta": 10_000.0,
    }
    model = build_model("phi3", rope_parameters=rope, original_max_position_embeddings=64)
    assert check_model(model).context == 64


def test_max_slots_below_one_is_refused():
    with pytest.raises(InputError, match="max_slots is 0"):
        NativeEngine(build_model("qwen2"), byte_tokenizer(), max_slots=0)


def test_an_eos_outside_the_vocabulary_is_refused():
    with pytest.raises(InputError, match=r"EOS token 264 .*vocabulary of 264"):
        NativeEngine(build_model("qwen2"), byte_tokenizer(), eos_token_ids=[264]).generate(
            make_prompts([2]), group_size=1, params=SamplingParams(2), seed=0
        )


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"max_completion_tokens": 0}, "max_completion_tokens is 0; it must be at least 1"),
        ({"temperature": -0.1}, r"temperature is -0\.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_p": 0.0}, r"top_p is 0\.0; it must be above 0 and at most 1"),
        ({"top_p": 1.01}, r"top_p is 1\.01"),
        ({"top_p": float("nan")}, "top_p is nan"),
        ({"top_k": -1}, "top_k is -1; it must be 0 .off. or above"),
        ({"stop": ("a", "")}, "stop is .*non-empty"),
    ],
)
def test_sampling_parameters_out_of_range(engine, settings, sentence):
    params = SamplingParams(**{"max_completion_tokens": 4, **settings})
    with pytest.raises(InputError, match=sentence):
        engine.generate(make_prompts([2]), group_size=1, params=params, seed=0)


def test_group_size_below_one(engine):
    with pytest.raises(InputError, match="group_size is 0; it must be at least 1"):
        engine.generate(make_prompts([2]), group_size=0, params=SamplingParams(4), seed=0)


def refused(engine, prompts, sentence, cap=4):
    with pytest.raises(InputError, match=sentence):
        engine.generate(prompts, group_size=1, params=SamplingParams(cap), seed=0)


def named(name, ids):
    return Prompt(Problem(name, "?", "!"), ids)


def test_prompts_that_do_not_fit(engine):
    good = named("good", [1, 2])
    refused(engine, [good, named("one", [])], "problem 'one': the prompt is empty")
    refused(engine, [good, named("good", [3])], "problem 'good' occurs twice")
    refused(engine, [good, named("big", [1, 264, 2])], "'big': prompt token 264 .* of 264")
    refused(engine, [good, named("minus", [5, -1])], "'minus': prompt token -1 ")


def test_context_too_short_names_the_problem_and_what_fits(engine):
    long = named("long", [1] * 250)
    refused(engine, [named("a", [1]), long], "'long': 250 prompt tokens .* = 7 exceed .* 256", 7)
    refused(engine, [long], "lower rollout.max_completion_tokens to 6", 7)
    groups = engine.generate([long], group_size=1, params=SamplingParams(6), seed=0)
    assert len(groups[0].rollouts[0].completion_ids) == 6  # the last position is used


def test_nothing_is_sampled_when_a_prompt_is_refused(engine):
    calls = []
    handle = engine.model.register_forward_pre_hook(lambda *args: calls.append(1))
    refused(engine, [named("a", [1]), named("a", [1])], "twice")
    handle.remove()
    assert not calls
    assert torch.is_grad_enabled()
