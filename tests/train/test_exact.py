"""Exact mode: training's log-probs are those that the engine sampled by, to the last bit; their
gradient is that of the usual pass."""

import shutil
from collections import defaultdict
from contextlib import nullcontext

import pytest
import torch
from test_resume import recipe_with, start

from open_rs.errors import InputError
from open_rs.models import add_lora, load_model, load_tokenizer
from open_rs.problems import Problem
from open_rs.recipe import LoraRecipe, LossRecipe, ModelRecipe
from open_rs.rollout.native import NativeEngine
from open_rs.rollout.protocol import Prompt, SamplingParams
from open_rs.runs import read_metrics
from open_rs.train.batches import Row, make_batches
from open_rs.train.exact import is_exact, make_exact
from open_rs.train.update import learn_from

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


def small(kind, **changes):
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {
        "vocab_size": 520,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 1,
    }
    config = AutoConfig.for_model(kind, **{**sizes, **changes})
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():  # fresh biases are zero, fresh norms one
        if name.endswith(("bias", "norm.weight")):
            parameter.data += torch.rand_like(parameter)
    return model


def adapted():
    model = add_lora(small("qwen2"), LoraRecipe(rank=4))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


MODELS = {
    "shipped": lambda: load_model(ModelRecipe(path="tiny")),
    "llama": lambda: small("llama", num_key_value_heads=4),
    "qwen2": lambda: small("qwen2", tie_word_embeddings=True, num_key_value_heads=1),
    "qwen3": lambda: small("qwen3", head_dim=16),
    "lora": adapted,
}


def sampled(model, *, slots=13, prompts=9, group=3, cap=32, temperature=0.9):
    """Rows drawn with `exact`, prompts of 1 to 60 tokens."""
    engine = NativeEngine(model, load_tokenizer(ModelRecipe(path="tiny")), max_slots=slots,
                          eos_token_ids=range(1, 500, 40), exact=True)  # fmt: skip
    draw = torch.Generator().manual_seed(1)
    lengths = [1, 2, 60, 7, 16, 17, 33, 9, 8, 24][:prompts]
    ids = [torch.randint(3, 500, (length,), generator=draw).tolist() for length in lengths]
    asked = [Prompt(Problem(f"p{index}", "?", "!"), one) for index, one in enumerate(ids)]
    params = SamplingParams(cap, temperature=temperature)
    groups = engine.generate(asked, group_size=group, params=params, seed=3, step=1)
    return [
        Row(one.prompt_ids, rollout.completion_ids, rollout.engine_logprobs, 1.0 - place % 3)
        for one in groups
        for place, rollout in enumerate(one.rollouts)
    ]


def learnt(model, rows, *, budget=300, temperature=0.9, loss=None):
    """(largest difference to the engine, tokens, gradient)."""
    batches = make_batches(rows, micro_batch_tokens=budget, loss_norm="sequence",
                           max_completion_tokens=64, kl_coef=1.0, packed=True)  # fmt: skip
    model.zero_grad(set_to_none=True)
    largest, tokens = 0.0, 0
    for batch in batches:
        ours = learn_from(model, batch, defaultdict(float), loss or LossRecipe(), temperature,
                          True, nullcontext())  # fmt: skip
        largest = max(largest, (ours - batch.old_logprobs)[batch.loss_mask].abs().max().item())
        tokens += int(batch.loss_mask.sum())
    trained = [one.grad for one in model.parameters() if one.requires_grad]
    return largest, tokens, torch.cat([one.flatten() for one in trained])


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("threads", [1, 2])
def test_training_gives_the_bits_of_sampling_and_the_usual_gradient(kind, threads):
    torch.set_num_threads(threads)
    model = MODELS[kind]().train()
    rows = sampled(model)
    usual, tokens, gradient = learnt(model, rows)
    make_exact(model)
    assert learnt(model, rows[:6], budget=1)[0] == 0.0  # a row at a time
    for budget in (300, 5000):  # some, all
        difference, counted, exact_gradient = learnt(model, rows, budget=budget)
        assert (difference, counted) == (0.0, tokens)
        error = (exact_gradient - gradient).norm() / gradient.norm()
        assert error < 2e-5
    assert 0 < usual < 1e-3  # so that the difference of 0 says something
    assert learnt(model, rows[::-1])[0] == 0.0


def test_the_whole_sequence_loss_and_recomputed_layers_give_the_same_bits():
    model = small("qwen2").train()
    rows = sampled(model)
    make_exact(model)
    kept = learnt(model, rows)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    again = learnt(model, rows)
    assert (kept[0], again[0]) == (0.0, 0.0)
    assert torch.equal(kept[2], again[2])
    assert learnt(model, rows, loss=LossRecipe(ratio_level="sequence"))[0] == 0.0


def test_the_batch_of_sampling_changes_no_bit():
    model = small("llama")
    first, *others = (
        [(row.completion_ids, row.engine_logprobs) for row in sampled(model, slots=slots)]
        for slots in (64, 1, 7)
    )
    assert all(one == first for one in others)


def test_other_weights_are_seen():
    """A sampler that kept old weights does not pass for the trained model."""
    model = small("qwen2")
    rows = sampled(model)
    make_exact(model)
    assert learnt(model, rows)[0] == 0.0
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] += 1e-3
    assert learnt(model, rows)[0] > 0.0


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: small("llama").bfloat16(), "bfloat16 on cpu"),
        (lambda: small("gemma"), "no kernels for this GemmaForCausalLM"),
        (lambda: add_lora(small("qwen2"), LoraRecipe(rank=2, dropout=0.1)), "lora.dropout = 0"),
        (lambda: small("llama", attention_dropout=0.1), "attention_dropout"),
        (lambda: small("llama", head_dim=6), "nothing compiles its kernels"),
    ],
)
def test_a_model_that_cannot_be_exact_is_refused(model, says):
    refused = model()
    with pytest.raises(InputError, match=says) as caught:
        make_exact(refused)
    assert "\n" not in str(caught.value)
    assert not is_exact(refused)


def test_a_run_counts_no_token_with_other_bits(tmp_path):
    run = start(recipe_with(rollout={"exact": True}, train={"num_steps": 2}), tmp_path / "run")
    rows = [row for row in read_metrics(run) if "policy/loss" in row]
    assert [row["policy/inexact_tokens"] for row in rows] == [0.0, 0.0]
    assert [row["policy/engine_kl"] for row in rows] == [0.0, 0.0]
    assert sum(row["tokens/completion"] for row in rows) > 100


@pytest.mark.parametrize(
    "changes",
    [
        {"rollout": {"exact": True, "engine": {"type": "vllm"}}},
        {"rollout": {"exact": True}, "train": {"sharding": "full"}},
    ],
)
def test_a_recipe_that_cannot_be_exact_is_refused(changes):
    with pytest.raises(InputError, match=r"rollout\.exact = true"):
        recipe_with(**changes)
