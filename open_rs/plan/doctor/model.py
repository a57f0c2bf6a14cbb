"""The model: found, whole, loadable, of an architecture that the engine and the trainer can run."""

from typing import Any

from open_rs.errors import InputError
from open_rs.plan.doctor import folder, machine
from open_rs.plan.doctor.finding import Check, Verdict, fail, ok, refused, skipped, warn
from open_rs.plan.doctor.hub import is_offline
from open_rs.plan.doctor.subject import Subject
from open_rs.plan.doctor.weights import num_bytes, open_shards, parameters
from open_rs.runs import read_json

READ_BYTES_PER_S = 150e6  # of weights, that a slow disk and the copy to float32 allow


def found(subject: Subject) -> Verdict:
    """The model is here: a folder with a config.json, or one of the hub that is in its cache."""
    from open_rs.models import check_found, model_path

    if not subject.needs_tokenizer:
        return skipped("the server has the model")
    path = subject.recipe.model.path
    check_found(model_path(path))
    try:
        folder = subject.model_folder
    except InputError as error:
        verdict = refused(error)
        if is_offline():
            return fail(
                f"{verdict.sentence}, and HF_HUB_OFFLINE lets nothing be fetched", verdict.cure
            )
        return skipped(f"{verdict.sentence}: it will be fetched at the start", verdict.cure)
    kind = config(subject).get("model_type", "of no stated type")
    return ok(f"{path} ({kind})" if str(folder) == path else f"{path} ({kind}) in {folder}")


def config(subject: Subject) -> dict[str, Any]:
    held = read_json(subject.model_folder / "config.json")
    if not isinstance(held, dict):
        raise InputError(f"{subject.model_folder / 'config.json'}: no JSON object; get it anew")
    return held


def code(subject: Subject) -> Verdict:
    """The model needs no Python code of its own, or the recipe allows it."""
    stated = subject.recipe.model.trust_remote_code
    if "auto_map" not in config(subject):
        return ok("no code comes with it")
    if stated:
        return warn(
            "code that comes with the model runs with your rights",
            "read it, or take a model of an architecture that transformers knows",
        )
    return fail(
        "the model needs Python code of its own, which would run with your rights",
        "read that code, and where you trust it set model.trust_remote_code = true",
    )


def safetensors(subject: Subject) -> Verdict:
    """Its weights are safetensors, and not pickles, which can run any code."""
    from open_rs.models import check_safetensors

    check_safetensors(str(subject.model_folder))
    return ok("safetensors")


def whole(subject: Subject) -> Verdict:
    """Every file of weights is there and whole: none torn, none a pointer of git-lfs."""
    files = sum(1 for _ in open_shards(subject.model_folder))
    count, size = parameters(subject.model_folder), num_bytes(subject.model_folder)
    return ok(f"{count / 1e6:,.1f} million weights, {size / 2**30:.2f} GiB in {files} files")


def unquantised(subject: Subject) -> Verdict:
    """Its weights are not quantised: those of GPTQ, AWQ and their like cannot be trained."""
    held = config(subject).get("quantization_config")
    if held is None:
        return ok("not quantised")
    method = held.get("quant_method", "unknown") if isinstance(held, dict) else "unknown"
    return fail(
        f"the weights are quantised ({method}), and cannot be trained",
        "give the model that it was made from",
    )


def loads(subject: Subject) -> Verdict:
    """It loads as a causal language model, with no tensor missing."""
    if not subject.native:
        return skipped("the engine loads the model itself")
    need = num_bytes(subject.model_folder) / READ_BYTES_PER_S
    if need > subject.seconds_left:
        return skipped(
            f"reading the weights may take {need:.0f} s, and {subject.seconds_left:.0f} s are left",
            f"give --seconds {int(subject.seconds + need) + 10}",
        )
    dtype = str(subject.model.dtype).removeprefix("torch.")
    return ok(f"{type(subject.model).__name__}, {dtype} on {subject.device}")


def finite(subject: Subject) -> Verdict:
    """No weight is NaN or infinite."""
    named = [*subject.model.named_parameters(), *subject.model.named_buffers()]
    broken = [name for name, tensor in named if not tensor.isfinite().all()]
    if broken:
        return fail(
            f"{len(broken)} tensors hold NaN or inf, {broken[0]} among them",
            "get the weights anew, or go back to an earlier checkpoint",
        )
    return ok(f"{len(named)} tensors")


def tied(subject: Subject) -> Verdict:
    """The head is tied to the embedding where the config says so."""
    model = subject.model
    stated = bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None:
        return skipped("the model has no head of its own")
    shared = head.weight is embedding.weight
    if stated and not shared:
        return warn(
            "the config ties the head to the embedding, and the files hold a head of its own: "
            "engines differ in which one they use",
            "set tie_word_embeddings = false in the model's config.json",
        )
    return ok("tied" if shared else "a head of its own")


def dropout(subject: Subject) -> Verdict:
    """It drops nothing out: dropout moves the trainer's log-probs away from the sampler's."""
    stated = {
        name: value
        for name, value in subject.model.config.get_text_config().to_dict().items()
        if ("dropout" in name or name.endswith("pdrop")) and isinstance(value, float) and value
    }
    unused = ("classifier_dropout", "summary_first_dropout")
    stated = {name: value for name, value in stated.items() if name not in unused}
    if stated:
        told = ", ".join(f"{name} = {value:g}" for name, value in stated.items())
        return warn(
            f"{told} in the model's config: trained log-probs are noisy, and ratios are not 1",
            "set it to 0 in the model's config.json",
        )
    return ok("none")


def vocabulary(subject: Subject) -> Verdict:
    """The embedding has a row for every token of the tokenizer."""
    rows = subject.model.get_input_embeddings().weight.shape[0]
    highest = max(subject.tokenizer.get_vocab().values())
    if highest >= rows:
        return fail(
            f"the tokenizer's highest id is {highest}, and the model has {rows} embeddings",
            "use the model's own tokenizer, or model.resize_token_embeddings",
        )
    return ok(f"{highest + 1} tokens, {rows} embeddings")


def architecture(subject: Subject) -> Verdict:
    """The native engine can sample from it."""
    from open_rs.rollout.fit import check_model

    fit = check_model(subject.policy)
    return ok(f"{type(subject.model).__name__}, attention {', '.join(fit.windows)}")


def adapters(subject: Subject) -> Verdict:
    """Adapters can be put on the layers that the recipe names."""
    if subject.recipe.model.lora is None:
        return ok("none: all weights are trained")
    trained = sum(one.numel() for one in subject.policy.parameters() if one.requires_grad)
    return ok(f"{trained / 1e6:.2f} million weights in adapters")


def checkpointing(subject: Subject) -> Verdict:
    """It can recompute activations where the recipe asks for it."""
    asked = subject.recipe.train.gradient_checkpointing
    if not asked:
        return skipped("activations are kept")
    if not subject.model.supports_gradient_checkpointing:
        if asked == "auto":
            return skipped(f"{type(subject.model).__name__} keeps activations, whatever they take")
        return fail(
            f"{type(subject.model).__name__} cannot recompute activations",
            "set train.gradient_checkpointing = false",
        )
    return ok(f"{type(subject.model).__name__} recomputes activations")


CHECKS = (
    Check("model.found", found),
    Check("model.code", code, needs=("model.found",)),
    Check("model.safetensors", safetensors, needs=("model.found",)),
    Check("model.whole", whole, needs=("model.safetensors",)),
    Check("model.unquantised", unquantised, needs=("model.found",)),
    machine.MEMORY,
    folder.SPACE,
    Check(
        "model.loads",
        loads,
        needs=("model.code", "model.whole", "model.unquantised", "device.usable", "device.memory"),
    ),
    Check("model.finite", finite, needs=("model.loads",)),
    Check("model.tied", tied, needs=("model.loads",)),
    Check("model.dropout", dropout, needs=("model.loads",)),
    Check("model.adapters", adapters, needs=("model.loads",)),
    Check("model.checkpointing", checkpointing, needs=("model.loads",)),
    Check("model.architecture", architecture, needs=("model.loads", "model.adapters")),
)
VOCABULARY = Check("model.vocabulary", vocabulary, needs=("model.loads", "tokenizer.loads"))
