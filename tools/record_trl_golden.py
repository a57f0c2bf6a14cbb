"""Record TRL's losses and gradients as golden files for `tests/train/test_trl_golden.py`.

    python tools/record_trl_golden.py            # in an environment with trl==1.16.0

Nothing of TRL is re-implemented: each case builds a real `GRPOTrainer` around the same tiny random
Qwen2 and calls its `_compute_loss` on one fixed batch, padded as TRL pads (prompts left,
completions right). Old and reference log-probs are the policy's own plus fixed noise, rounded to
float32, so that ratios leave the clip range on both sides. TRL's LM head accumulates in float32
even for a float64 model, which bounds how closely anyone can agree with these numbers.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer
from trl import __version__ as trl_version

FOLDER = Path(__file__).parent.parent / "tests" / "golden" / "trl_grpo"
VOCABULARY, PAD, TEMPERATURE, MAX_COMPLETION_TOKENS = 40, 0, 0.7, 16
LOSSES = {  # the case's name -> what it asks of TRL
    "grpo": {"loss_type": "grpo"},
    "bnpo": {"loss_type": "bnpo"},
    "dapo": {"loss_type": "dapo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "cispo": {"loss_type": "cispo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence"},
}
METRICS = {"kl": "kl", "clip_low": "clip_ratio/low_mean", "clip_high": "clip_ratio/high_mean"}


def tiny_model() -> Qwen2ForCausalLM:
    """Two layers, float64, weights large enough that log-probs differ between tokens."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    return Qwen2ForCausalLM(config).double()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    words = {f"w{number}": number for number in range(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w1"))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="w0", unk_token="w1", eos_token="w2"
    )


def fixed_rows(model: Qwen2ForCausalLM) -> list[dict]:
    """P = 3 prompts, G = 4 rollouts each; the second group teaches nothing, one more row is 0."""
    noise = np.random.default_rng(7)
    advantages = [1.2, -0.7, 0.0, -0.5, 0.0, 0.0, 0.0, 0.0, -1.4, 0.9, 0.8, -0.3]
    rows = []
    for place, advantage in enumerate(advantages):
        group = np.random.default_rng(100 + place // 4)
        prompt = group.integers(3, VOCABULARY, size=(3, 6, 4)[place // 4]).tolist()
        completion = noise.integers(3, VOCABULARY, size=noise.integers(1, 12)).tolist()
        logprobs = plain_logprobs(model, prompt, completion)
        length = len(completion)
        old = logprobs + noise.normal(0, 0.4) + noise.normal(0, 0.3, size=length)
        ref = logprobs + noise.normal(0, 0.3, size=length)
        rows.append(
            {
                "prompt_ids": prompt,
                "completion_ids": completion,
                "old_logprobs": old.astype(np.float32).tolist(),
                "ref_logprobs": ref.astype(np.float32).tolist(),
                "advantage": float(np.float32(advantage)),
            }
        )
    return rows


@torch.no_grad()
def plain_logprobs(model, prompt: list[int], completion: list[int]) -> np.ndarray:
    logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    logprobs = (logits / TEMPERATURE).log_softmax(-1)
    return logprobs[torch.arange(len(completion)), torch.tensor(completion)].numpy()


def trl_inputs(rows: list[dict]) -> dict[str, torch.Tensor]:
    """The batch as TRL's own collation leaves it."""

    def padded(key: str, value: float, left: bool = False) -> torch.Tensor:
        longest = max(len(row[key]) for row in rows)
        fill = [[value] * (longest - len(row[key])) for row in rows]
        both = zip(fill, rows, strict=True)
        return torch.tensor([f + row[key] if left else row[key] + f for f, row in both])

    ones = [
        {"prompt": [1] * len(row["prompt_ids"]), "completion": [1] * len(row["completion_ids"])}
        for row in rows
    ]
    inputs = {
        "prompt_ids": padded("prompt_ids", PAD, left=True),
        "completion_ids": padded("completion_ids", PAD),
        "old_per_token_logps": padded("old_logprobs", 0.0).double(),
        "ref_per_token_logps": padded("ref_logprobs", 0.0).double(),
        "advantages": torch.tensor([row["advantage"] for row in rows]).double(),
    }
    rows = ones
    inputs["prompt_mask"] = padded("prompt", 0, left=True)
    inputs["completion_mask"] = padded("completion", 0)
    inputs["num_items_in_batch"] = inputs["completion_mask"].sum()
    return inputs


def cases() -> dict[str, dict]:
    """Every loss, with and without a KL term, with and without clipping taking effect."""
    found = {}
    for name, loss in LOSSES.items():
        for beta in (0.0, 0.04):
            for clipped in (True, False):
                epsilon, above = (0.2, 0.28) if clipped else (1e3, 1e3)
                if name == "cispo":  # here epsilon_high is the bound itself, not what is added to 1
                    above += 1
                found[f"{name}-beta{beta}-{'clipped' if clipped else 'free'}"] = {
                    **loss,
                    "beta": beta,
                    "epsilon": epsilon,
                    "epsilon_high": above,
                }
    return found


def compute(folder: str, rows: list[dict], settings: dict) -> tuple[dict, np.ndarray]:
    """Loss, metrics and flat gradient of one case, by a fresh trainer."""
    model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float64)
    args = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=len(rows),
        num_generations=4,
        gradient_accumulation_steps=1,
        steps_per_generation=1,
        max_completion_length=MAX_COMPLETION_TOKENS,
        temperature=TEMPERATURE,
        gradient_checkpointing=False,
        use_bias_correction_kl=False,  # TRL would multiply the KL by the ratio (arXiv 2512.02556)
        bf16=False,
        use_cpu=True,
        report_to="none",
        **settings,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=args,
        train_dataset=Dataset.from_dict({"prompt": ["w3 w4"] * len(rows)}),
        processing_class=tiny_tokenizer(),
    )
    trainer.current_gradient_accumulation_steps = 1  # what the training loop would set
    trainer.model.train()
    loss = trainer._compute_loss(trainer.model, trl_inputs(rows))
    loss.backward()
    logged = trainer._metrics["train"]
    metrics = {ours: logged[key][0] for ours, key in METRICS.items() if key in logged}
    gradient = torch.cat([parameter.grad.flatten() for parameter in trainer.model.parameters()])
    return {"loss": loss.item(), **metrics}, gradient.numpy()


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    model, found, gradients = tiny_model(), {}, {}
    rows = fixed_rows(model)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        for name, settings in cases().items():
            results, gradients[name] = compute(folder, rows, settings)
            found[name] = {"trl": settings, **results}
            print(name, results)
    FOLDER.mkdir(parents=True, exist_ok=True)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    weights.pop("lm_head.weight")  # tied
    np.savez_compressed(FOLDER / "weights.npz", **weights)
    np.savez_compressed(FOLDER / "gradients.npz", **gradients)
    golden = {
        "trl_version": trl_version,
        "config": {
            key: value
            for key, value in model.config.to_diff_dict().items()
            if not key.startswith("_") and key not in ("architectures", "dtype")
        },
        "temperature": TEMPERATURE,
        "max_completion_tokens": MAX_COMPLETION_TOKENS,
        "rows": rows,
        "cases": found,
    }
    (FOLDER / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
