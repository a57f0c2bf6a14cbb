"""The same pipeline on a CUDA device: `make test-gpu`."""

import pytest
import torch

from open_rs.recipe import recipe_from_dict
from open_rs.runs import open_run, read_metrics
from open_rs.train import loop

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

BASE = {
    "name": "cuda",
    "data": {"train": {"task": "arithmetic", "count": 16, "levels": [1, 2]}},
    "rollout": {"group_size": 4, "prompts_per_step": 4, "max_completion_tokens": 48},
    "train": {"num_steps": 3, "save_every": 2, "learning_rate": 1e-3},
}


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"dtype": "float32"}},
        {"model": {"dtype": "auto"}},
        {"model": {"lora": {"rank": 4}}, "loss": {"kl_coef": 0.04}},
    ],
    ids=["float32", "mixed", "lora_kl"],
)
def test_sampler_and_trainer_agree_and_a_run_resumes(changes, tmp_path):
    recipe = recipe_from_dict(BASE | changes)
    run = open_run(tmp_path / "run", recipe)
    loop.train(recipe, run)
    rows = read_metrics(run)
    assert [row["step"] for row in rows] == [1, 2, 3]
    # k3 between the sampler's log-probs and the trainer's: rounding alone, of bfloat16 at most
    bound = 1e-6 if changes["model"].get("dtype") == "float32" else 1e-2
    assert all(abs(row["policy/engine_kl"]) < bound for row in rows if "policy/engine_kl" in row)
    loop.train(recipe, run)  # finished: loads the last checkpoint and has nothing to do
    assert read_metrics(run) == rows
