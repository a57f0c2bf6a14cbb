"""A rollout is the same to the last bit whatever else is drawn beside it: what was journalled needs
not be drawn again for the rest to come out as it would have."""

import random
from dataclasses import replace

import pytest
import torch
from tiny_models import VOCAB, build_model, byte_tokenizer, make_prompts

from open_rs.models import add_lora, load_model, load_tokenizer
from open_rs.recipe import LoraRecipe, ModelRecipe
from open_rs.rollout import prefill
from open_rs.rollout.native import NativeEngine, longest_first, pending_rows
from open_rs.rollout.protocol import Prompt, SamplingParams

LENGTHS = [12, 30, 17, 25, 9, 40, 21, 33]
GROUP = 4
CAP = 32  # enough for packed weights in the shipped model


def lora_model():
    torch.manual_seed(1)
    model = add_lora(build_model("qwen2"), LoraRecipe(rank=4))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return model


def shipped():
    recipe = ModelRecipe(path="tiny")
    return load_model(recipe), load_tokenizer(recipe)


MODELS = {
    "qwen2": lambda: (build_model("qwen2"), byte_tokenizer()),  # through our decoder
    "qwen3": lambda: (build_model("qwen3"), byte_tokenizer()),  # through the module
    "lora": lambda: (lora_model(), byte_tokenizer()),
    "shipped": shipped,
}


def exact(groups):
    return {
        (group.problem.id, rollout.sample): (rollout.completion_ids, rollout.engine_logprobs)
        for group in groups
        for rollout in group.rollouts
    }


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_do_not_depend_on_their_company(kind, threads):
    torch.set_num_threads(threads)
    model, tokenizer = MODELS[kind]()
    prompts = make_prompts(LENGTHS)
    if kind == "shipped":
        prompts = [
            Prompt(p.problem, tokenizer(f"What is {i} + {7 * i}? " * (2 + i % 3))["input_ids"])
            for i, p in enumerate(prompts)
        ]
    settings = {"group_size": GROUP, "params": SamplingParams(CAP), "seed": 5, "step": 2}
    engine = NativeEngine(model, tokenizer, max_slots=24, eos_token_ids=range(0, VOCAB, 10))
    whole = exact(engine.generate(prompts, **settings))
    assert len(whole) == len(LENGTHS) * GROUP
    draw = random.Random(3)
    for left in (1, 3, 9, 17):
        wanted = set(draw.sample(sorted(whole), left))
        rest = exact(engine.generate(prompts, **settings, skip=whole.keys() - wanted))
        assert rest == {key: whole[key] for key in wanted}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("expected", [[9, 3, 7, None, 8, 1, 2, 30], list(range(8))])
def test_rows_do_not_depend_on_the_order_in_which_they_start(kind, expected, monkeypatch):
    monkeypatch.setattr(prefill, "PREFILL_TOKENS", 60)  # several batches of prompts
    torch.set_num_threads(1)
    model, tokenizer = MODELS[kind]()
    prompts = make_prompts(LENGTHS)
    settings = {"group_size": GROUP, "params": SamplingParams(CAP), "seed": 5, "step": 2}
    engine = NativeEngine(model, tokenizer, max_slots=12, eos_token_ids=range(0, VOCAB, 10))
    whole = exact(engine.generate(prompts, **settings))
    told = [replace(p, expected_tokens=e) for p, e in zip(prompts, expected, strict=True)]
    ended = []
    groups = engine.generate(
        told, **settings, on_finished=lambda prompt, rollout: ended.append(prompt.problem.id)
    )
    assert exact(groups) == whole
    assert [group.problem.id for group in groups] == [one.problem.id for one in prompts]
    assert "p7" in ended[: len(ended) // 2]  # the last of them started first


def test_the_longest_expected_start_first():
    prompts = make_prompts([5, 5, 5, 5])
    told = [replace(p, expected_tokens=e) for p, e in zip(prompts, [2, None, 8, 5], strict=True)]
    rows = longest_first(told, pending_rows(told, 2, skip={("p2", 0)}))
    # none of p1 is known: it counts as the mean, (2 + 8 + 5) / 3, and so as p3 does
    assert [(row.prompt, row.sample) for row in rows] == [
        (2, 1), (1, 0), (1, 1), (3, 0), (3, 1), (0, 0), (0, 1),
    ]  # fmt: skip
