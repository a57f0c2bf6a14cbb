"""Shapes of known models: weights as their model cards count them."""

import pytest

from open_rs.models import load_model
from open_rs.plan.shapes import known_shape, with_lora
from open_rs.plan.subject import shape_loaded, shape_of
from open_rs.recipe import LoraRecipe, ModelRecipe

CARDS = {  # safetensors' count on the hub
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-Math-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-14B": 14_770_033_664,
    "Qwen/Qwen2.5-32B-Instruct": 32_763_876_352,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": 7_615_616_512,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": 14_770_033_664,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": 32_763_876_352,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
}


@pytest.mark.parametrize(("path", "weights"), CARDS.items())
def test_weights_of_known_models(path, weights):
    shape = known_shape(path)
    assert shape is not None and shape.parameters == weights


def test_a_model_that_is_not_known():
    assert known_shape("somebody/else-1B") is None


def test_the_shipped_model_by_its_config_and_loaded():
    recipe = ModelRecipe(path="tiny", device="cpu")
    model = load_model(recipe)
    weights = sum(one.numel() for one in model.parameters())
    assert shape_of(recipe).parameters == weights
    assert shape_loaded(model, recipe).parameters == weights


def test_adapters_on_every_linear_layer():
    # peft's own count for Qwen2.5-1.5B, rank 16, all-linear
    shape = with_lora(known_shape("Qwen/Qwen2.5-1.5B"), LoraRecipe(rank=16))
    # per layer: q 1536+1536, o the same, k and v 1536+256 each, gate, up 1536+8960, down the same
    by_hand = 16 * 28 * (2 * 3072 + 2 * 1792 + 3 * 10496)
    assert shape.trained_parameters == by_hand == 18_464_768
