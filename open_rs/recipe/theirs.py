"""The keys of GRPO recipes elsewhere (TRL, open-r1, Open-RS) and what they are called here."""

from typing import Any

from open_rs.errors import InputError

Settings = dict[str, Any]


class Theirs(Settings):
    """What a file of theirs holds. The readers refuse a value of another kind, naming its key; a
    key that holds nothing is not there.
    """

    def number(self, key: str, default: float) -> float:
        value = self.get(key)
        try:
            return float(default if value is None else value)
        except (TypeError, ValueError):
            raise self.refusal(key, "a number") from None

    def count(self, key: str, default: int) -> int:
        """A whole number from 1."""
        value = self.number(key, default)
        if value < 1 or value != int(value):
            raise self.refusal(key, "a whole number from 1")
        return int(value)

    def words(self, key: str, default: tuple[str, ...] = ()) -> list[str]:
        value = self.get(key)
        if value is None:
            return list(default)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.refusal(key, "a list of names, such as [accuracy]")
        return value

    def numbers(self, key: str, default: list[float]) -> list[float]:
        value = self.get(key)
        if not value:
            return default
        try:
            return [float(one) for one in value]
        except (TypeError, ValueError):
            raise self.refusal(key, "a list of numbers") from None

    def table(self, key: str) -> "Theirs":
        value = self.get(key) or {}
        if not isinstance(value, dict):
            raise self.refusal(key, "a table of settings")
        return Theirs(value)

    def refusal(self, key: str, wanted: str) -> InputError:
        return InputError(f"{key} = {self[key]!r}: {wanted} is needed; mend it")


# Same meaning there and here
SAME = {
    "model_name_or_path": "model.path",
    "trust_remote_code": "model.trust_remote_code",
    "dataset_config": "data.train.config",
    "dataset_train_split": "data.train.split",
    "num_generations": "rollout.group_size",
    "max_completion_length": "rollout.max_completion_tokens",
    "temperature": "rollout.temperature",
    "top_p": "rollout.top_p",
    "epsilon": "loss.clip_low",
    "num_iterations": "train.updates_per_batch",
    "mask_truncated_completions": "loss.mask_truncated",
    "max_steps": "train.num_steps",
    "learning_rate": "train.learning_rate",
    "warmup_ratio": "train.warmup_ratio",
    "weight_decay": "train.weight_decay",
    "max_grad_norm": "train.max_grad_norm",
    "adam_beta1": "train.beta1",
    "adam_beta2": "train.beta2",
    "gradient_checkpointing": "train.gradient_checkpointing",
    "save_steps": "train.save_every",
    "seed": "seed",
    "lora_r": "model.lora.rank",
    "lora_alpha": "model.lora.alpha",
    "lora_dropout": "model.lora.dropout",
    "lora_target_modules": "model.lora.target_modules",
}

# No counterpart, with the reason; a key that ends in * stands for all that start so
LEFT_OUT = {
    "attn_implementation": "the library's own attention is used",
    "bf16": "on CUDA arithmetic is bfloat16 by autocast, with float32 weights (model.dtype)",
    "fp16": "on CUDA arithmetic is bfloat16 by autocast, with float32 weights (model.dtype)",
    "use_vllm": "the engine is rollout.engine",
    "vllm_*": "the engine is rollout.engine",
    "gradient_checkpointing_kwargs": "always without reentrance",
    "do_eval": "held-out scores come from data.validation and data.test",
    "eval_*": "held-out scores come from data.validation and data.test",
    "per_device_eval_batch_size": "the engine fills its slots by itself",
    "dataset_test_split": "name data.validation and data.test; a test set never picks anything",
    "log_*": "every step and every rollout is written to the run folder",
    "logging_*": "every step and every rollout is written to the run folder",
    "report_to": "metrics are files in the run folder",
    "wandb_*": "metrics are files in the run folder",
    "hub_*": "nothing is uploaded",
    "push_to_hub": "nothing is uploaded",
    "push_to_hub_revision": "nothing is uploaded",
    "overwrite_output_dir": "a run is never started afresh in silence",
    "save_strategy": "checkpoints are saved every train.save_every steps",
    "save_total_limit": "see train.keep_last",
    "output_dir": "a run lies in runs/NAME, or where --out says",
    "num_train_epochs": "the run ends at train.num_steps",
    "remove_unused_columns": "columns are named in data.train.columns",
    "ddp_*": "one process",
    "dataloader_*": "prompts are in memory",
    "use_liger_kernel": "the LM head is always applied in chunks",
}

REWARDS: dict[str, Settings] = {
    "accuracy": {"type": "accuracy"},
    "format": {"type": "format"},
    "cosine": {"type": "cosine"},
    "repetition_penalty": {"type": "repetition"},
    "length": {"type": "group_length"},
}

LOSSES: dict[str, Settings] = {
    "grpo": {"loss_norm": "sequence"},
    "bnpo": {"loss_norm": "token"},
    "dapo": {"loss_norm": "token"},
    "dr_grpo": {"loss_norm": "constant"},
    "cispo": {"loss_norm": "token", "objective": "cispo"},
}
