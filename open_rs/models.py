"""Load, build and save a causal LM and its tokenizer; device, dtype, LoRA."""

import hashlib
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from open_rs.console import say
from open_rs.errors import InputError
from open_rs.recipe import LoraRecipe, ModelRecipe
from open_rs.runs import read_json, sha256
from open_rs.text import brief

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
PICKLED = (
    "pickled, which can run any code when it is loaded; where you trust it, convert it to "
    "safetensors (AutoModelForCausalLM.from_pretrained(...).save_pretrained(FOLDER)) and give that"
)
CPUINFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86, x86, ARM
GENERIC_TOKENIZERS = ("PreTrainedTokenizerFast", "TokenizersBackend")

transformers_logging.disable_progress_bar()  # what a person sees comes from `console`


def model_path(path: str) -> str:
    """`tiny` is the model that ships with the package; anything else is a folder or a hub id."""
    return str(resources.files("open_rs") / "assets" / "tiny") if path == "tiny" else path


def unwrap(model: Any) -> Any:
    """The causal LM inside a peft model (its adapters stay in place); any other model as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def pick_device(recipe: ModelRecipe) -> torch.device:
    if recipe.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(recipe.device)
    except RuntimeError:
        raise InputError(
            f"model.device = {recipe.device!r}: unknown; use auto, cpu or cuda"
        ) from None
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= devices:
        have = f"there is {devices} CUDA device" if devices else "torch sees no CUDA device"
        raise InputError(f"model.device = {recipe.device!r}: {have}; use auto or cpu")
    return device


def pick_dtype(recipe: ModelRecipe, device: torch.device) -> torch.dtype:
    if recipe.dtype == "auto":
        half = device.type == "cuda" and has_bfloat16(device)
        return torch.bfloat16 if half else torch.float32
    return torch.float32 if recipe.dtype == "float32" else torch.bfloat16


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself, and not by way of float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(BFLOAT16_FLAGS & set(CPUINFO.read_text().split())) if CPUINFO.exists() else True


def ran_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or the machine itself, had no memory left to give."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def training_model(recipe: ModelRecipe) -> ModelRecipe:
    """Master weights are float32 unless bfloat16 is asked for: in bfloat16 an update of a relative
    size below 2^-9, such as lr 1e-6 makes, would be rounded away. Adapters have masters of their
    own.
    """
    if recipe.dtype == "auto" and recipe.lora is None:
        return recipe.model_copy(update={"dtype": "float32"})
    return recipe


def mixed_precision(recipe: ModelRecipe) -> AbstractContextManager[Any]:
    """bfloat16 arithmetic over float32 weights on CUDA; nothing on CPU or where a dtype was set."""
    if recipe.dtype == "auto" and pick_dtype(recipe, pick_device(recipe)) == torch.bfloat16:
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def load_tokenizer(recipe: ModelRecipe) -> Any:
    """The tokenizer alone (enough for prompts and lengths).

    A folder that declares the generic class holds its whole pipeline in tokenizer.json. For some
    architectures (Qwen2) AutoTokenizer would put another pre-tokenizer in its place.
    """
    settings = Path(model_path(recipe.path)) / "tokenizer_config.json"
    declared = read_json(settings) if settings.is_file() else {}
    generic = isinstance(declared, dict) and declared.get("tokenizer_class") in GENERIC_TOKENIZERS
    tokenizer = _from_pretrained(PreTrainedTokenizerFast if generic else AutoTokenizer, recipe)
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise InputError(
            f"model.path {recipe.path}: cannot be loaded (no tokenizer files); copy the "
            "tokenizer into the folder"
        )
    return tokenizer


def load_model(recipe: ModelRecipe) -> nn.Module:
    """The model on its device, in eval mode, without adapters."""
    device = pick_device(recipe)
    if device.type == "cuda" and recipe.dtype == "auto" and not has_bfloat16(device):
        say(f"model.dtype: {device} has no bfloat16 of its own, so weights are float32")
    model, report = _from_pretrained(
        AutoModelForCausalLM,
        recipe,
        dtype=pick_dtype(recipe, device),
        use_safetensors=True,
        output_loading_info=True,
    )
    if missing := sorted(report["missing_keys"]):
        raise InputError(
            f"model.path {recipe.path}: cannot be loaded ({len(missing)} tensors are missing, "
            f"{missing[0]} among them); give a whole model"
        )
    return model.to(device).eval()


def check_found(path: str) -> None:
    """Refuse what is neither a model folder nor, by its looks, a hub id."""
    if Path(path).is_dir():
        if not (Path(path) / "config.json").is_file():
            raise InputError(
                f"model.path {path}: holds no config.json; give a Hugging Face model folder"
            )
    elif path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise InputError(
            f"model.path {path}: no such folder; give a model folder, a hub id, or tiny"
        )


def check_safetensors(path: str) -> None:
    """Refuse a folder whose weights are pickled, or missing."""
    if not Path(path).is_dir() or list(Path(path).glob("model*.safetensors")):
        return
    pickles = sorted(file.name for kind in PICKLES for file in Path(path).glob(kind))
    if pickles:
        raise InputError(f"model.path {path}: {pickles[0]} is {PICKLED}")
    raise InputError(f"model.path {path}: holds no model.safetensors; give a whole model folder")


def _from_pretrained(auto_class: Any, recipe: ModelRecipe, **settings: Any) -> Any:
    path = model_path(recipe.path)
    check_found(path)
    check_safetensors(path)
    if recipe.trust_remote_code:
        warn_of_remote_code(path)
    try:
        return auto_class.from_pretrained(
            path, revision=recipe.revision, trust_remote_code=recipe.trust_remote_code, **settings
        )
    except Exception as error:  # whatever the library raises, the cure is the same
        reason = " ".join(str(error).split()) or type(error).__name__
        if "use_safetensors" in reason:
            raise InputError(f"model.path {path}: what it has for weights is {PICKLED}") from error
        cure = "give a model folder or a hub id"
        if "trust_remote_code" in reason:
            reason = "it needs Python code of its own, which would run with your rights"
            cure = "read that code, and where you trust it set model.trust_remote_code = true"
        raise InputError(
            f"model.path {path}: cannot be loaded ({brief(reason)}); {cure}"
        ) from error


@cache
def warn_of_remote_code(path: str) -> None:
    """Once per model, loudly: from here on code that nobody here has read runs."""
    say(
        f"WARNING: model.trust_remote_code = true: Python code that comes with {path} runs on this "
        "machine with your rights, and can read your files and keys"
    )


def load_weights(model: nn.Module, folder: Path) -> None:
    """Copy the weights of a saved folder into `model`, in place: an optimizer keeps its tensors."""
    remote = type(model).__module__.startswith("transformers_modules")  # allowed when it was loaded
    saved = AutoModelForCausalLM.from_pretrained(
        folder, dtype=next(model.parameters()).dtype, trust_remote_code=remote
    )
    model.load_state_dict(saved.state_dict())


def load_policy(recipe: ModelRecipe) -> Any:
    """The model that is trained: the recipe's own, with adapters where it asks for them."""
    model = load_model(training_model(recipe))
    return model if recipe.lora is None else add_lora(model, recipe.lora)


def add_lora(model: nn.Module, recipe: LoraRecipe) -> nn.Module:
    """Wrap `model` so that only low-rank adapters train (arXiv 2106.09685)."""
    from peft import LoraConfig, get_peft_model

    modules = recipe.target_modules
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        reason = brief(error)
        raise InputError(f"model.lora.target_modules = {modules!r}: {reason}") from None


def generation_facts(recipe: ModelRecipe) -> tuple[int | list[int] | None, int, bool]:
    """(the tokens that end a completion, how many the vocabulary has, whether the LM head is tied
    to the embeddings), from the model's files without its weights.
    """
    path, revision = model_path(recipe.path), recipe.revision or "main"
    config = AutoConfig.from_pretrained(
        path, revision=revision, trust_remote_code=recipe.trust_remote_code
    ).get_text_config(decoder=True)
    try:
        named = GenerationConfig.from_pretrained(path, revision=revision).eos_token_id
    except OSError:  # it has none
        named = None
    ending = config.eos_token_id if named is None else named
    return ending, config.vocab_size, bool(config.tie_word_embeddings)


def context_length(model: nn.Module) -> int | None:
    """The positions that a row may use, None where the model's config does not say.

    Under "longrope" the frequencies of the whole batch change once one row passes the original
    context, so a row's text would depend on its neighbours: the limit is there.
    """
    whole: Any = model.config
    config = whole.get_text_config(decoder=True)
    limit = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        limit = rope.get("original_max_position_embeddings", limit)
    return limit


def check_context(
    model: nn.Module, prompt_tokens: int, max_completion_tokens: int, *, section: str = "rollout"
) -> None:
    """Refuse a completion budget that cannot fit behind the longest prompt."""
    limit = context_length(model)
    if limit is not None and prompt_tokens + max_completion_tokens > limit:
        fitting = max(limit - prompt_tokens, 0)
        raise InputError(
            f"{section}.max_completion_tokens = {max_completion_tokens}: with a prompt of "
            f"{prompt_tokens} tokens this exceeds the model's context of {limit}; at most "
            f"{fitting} fit"
        )


def model_hash(recipe: ModelRecipe) -> str:
    """What identifies the weights: a hash of the folder's content, or hub id and revision."""
    found = folder_hash(recipe.path)
    return f"{found}@{recipe.revision}" if found == recipe.path and recipe.revision else found


def folder_hash(path: str) -> str:
    """Hash of a model folder's config and weights; the id itself for a model from the hub."""
    folder = Path(model_path(path))
    if not folder.is_dir():
        return path
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.json"), *folder.glob("*.jinja")])
    own = [file for file in files if file.name != "manifest.json"]  # a checkpoint's: it holds times
    joined = "\n".join(f"{file.name} {sha256(file)}" for file in own)
    return hashlib.sha256(joined.encode()).hexdigest()
