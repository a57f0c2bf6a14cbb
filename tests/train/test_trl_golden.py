"""Our loss and gradient against those of TRL 1.16, recorded by `tools/record_trl_golden.py`.

TRL and we start from the same float64 weights and rows and share nothing else: TRL pads prompts on
the left and runs one batch, we pad on the right and split it.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from open_rs.train.batches import Row, make_batches, pad_right
from open_rs.train.grpo import policy_loss
from open_rs.train.logprobs import completion_logprobs

FOLDER = Path(__file__).parent.parent / "golden" / "trl_grpo"
GOLDEN = json.loads((FOLDER / "golden.json").read_text())
GRADIENTS = np.load(FOLDER / "gradients.npz")
ROWS = GOLDEN["rows"]
TOKENS = sum(len(row["completion_ids"]) for row in ROWS)
LIVE = sum(row["advantage"] != 0 for row in ROWS)

# TRL's loss -> our parameters. `dapo` divides by the tokens of the step, `bnpo` by those of the
# micro-batch, which here is the whole step.
LOSS_NORM = {
    "grpo": "sequence",
    "bnpo": "token",
    "dapo": "token",
    "dr_grpo": "constant",
    "cispo": "token",
}

# TRL casts its LM head to float32 even in a float64 model, so each of its logits (up to 9) may be
# off by 2^-24 x 9 = 5e-7 and more; ours are float64 throughout. Measured: losses differ by 1e-7 at
# most, gradients by 6e-7 of their size.
TOLERANCE = 1e-6

# padded tokens per micro-batch
SPLITS = {"whole": 10**6, "a few rows": 30, "row by row": 1}


@pytest.fixture(scope="module")
def model():
    config = dict(GOLDEN["config"])
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(config.pop("model_type"), **config), dtype=torch.float64
    )
    weights = np.load(FOLDER / "weights.npz")
    keys = model.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights}, False)
    assert (keys.missing_keys, keys.unexpected_keys) == (["lm_head.weight"], [])  # tied
    return model


def run_ours(model, trl: dict, micro_batch_tokens: int):
    """(loss, flat gradient, the metrics of each micro-batch) of one case."""
    cispo = trl["loss_type"] == "cispo"
    batches = make_batches(
        [
            Row(row["prompt_ids"], row["completion_ids"], row["old_logprobs"], row["advantage"])
            for row in ROWS
        ],
        micro_batch_tokens=micro_batch_tokens,
        loss_norm=LOSS_NORM[trl["loss_type"]],
        max_completion_tokens=GOLDEN["max_completion_tokens"],
        kl_coef=trl["beta"],
    )
    model.zero_grad(set_to_none=True)
    loss_sum, metrics = 0.0, []
    for batch in batches:
        logprobs, _ = completion_logprobs(
            model,
            batch.input_ids,
            batch.attention_mask,
            batch.completion_mask,
            temperature=GOLDEN["temperature"],
            chunk_tokens=7,
        )
        reference = pad_right([ROWS[place]["ref_logprobs"] for place in batch.rows], 0.0)
        loss, sums = policy_loss(
            logprobs,
            batch.old_logprobs,
            batch.advantages,
            batch.loss_mask,
            clip_low=1.0 if cispo else trl["epsilon"],
            clip_high=trl["epsilon_high"] - cispo,
            denominators=batch.denominators,
            ratio_level=trl.get("importance_sampling_level", "token"),
            objective="cispo" if cispo else "clip",
            ref_logprobs=reference if trl["beta"] else None,
            kl_coef=trl["beta"],
        )
        loss.backward()
        loss_sum += loss.item()
        metrics.append({name: value.item() for name, value in sums.items()})
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    return loss_sum, gradient, metrics


def test_the_golden_file_covers_every_loss_with_and_without_kl_and_clipping():
    assert GOLDEN["trl_version"] == "1.16.0"
    names = {
        f"{loss}-beta{beta}-{clip}"
        for loss in ("grpo", "bnpo", "dapo", "dr_grpo", "cispo", "gspo")
        for beta in (0.0, 0.04)
        for clip in ("clipped", "free")
    }
    assert set(GOLDEN["cases"]) == set(GRADIENTS) == names


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", GOLDEN["cases"])
def test_loss_gradient_and_metrics_equal_trls(model, name, split):
    case = GOLDEN["cases"][name]
    loss, gradient, metrics = run_ours(model, case["trl"], SPLITS[split])
    rows = len(ROWS) if case["trl"]["beta"] else LIVE  # without KL, the others are skipped
    assert {
        "whole": len(metrics) == 1,
        "a few rows": 1 < len(metrics) < rows,
        "row by row": len(metrics) == rows,
    }[split]

    assert loss == pytest.approx(case["loss"], rel=0, abs=TOLERANCE)
    theirs = torch.from_numpy(GRADIENTS[name])
    assert (gradient - theirs).norm() <= TOLERANCE * theirs.norm()
    assert (gradient - theirs).abs().max() <= TOLERANCE * theirs.abs().max()

    by_row = "importance_sampling_level" in case["trl"]  # TRL then counts clipped rows, not tokens
    for key in ("clip_low", "clip_high"):
        clipped = [sums[f"{key}_tokens"] for sums in metrics]
        if key in case and not by_row:  # rows that were skipped have no clipped token
            assert sum(clipped) / TOKENS == pytest.approx(case[key], abs=1e-7)
        elif key in case and split == "row by row":
            assert sum(map(bool, clipped)) / len(ROWS) == pytest.approx(case[key], abs=1e-7)
    if "kl" in case:
        kl = sum(sums["kl_sum"] for sums in metrics) / TOKENS
        assert kl == pytest.approx(case["kl"], abs=1e-8)


def test_the_clipped_cases_clip_on_both_sides_and_the_free_ones_nowhere():
    # a golden case that never clips would prove nothing about clipping
    for name, case in GOLDEN["cases"].items():
        if name.startswith("cispo"):  # TRL records no clip fractions here: see the losses instead
            continue
        assert (case["clip_low"] > 0) == name.endswith("clipped"), name
        assert (case["clip_high"] > 0) == (name.endswith("clipped") and "gspo" not in name), name
    losses = {name: case["loss"] for name, case in GOLDEN["cases"].items()}
    for name in losses:
        if name.endswith("clipped"):
            assert abs(losses[name] - losses[name.replace("clipped", "free")]) > 1e-3, name
