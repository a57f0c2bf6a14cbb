"""The tokenizer: text there and back, and the tokens that end a completion."""

from typing import Any

from open_rs.plan.doctor.finding import Check, Verdict, fail, ok, warn
from open_rs.plan.doctor.model import VOCABULARY
from open_rs.plan.doctor.subject import Subject

TEXTS = (
    "1 + 1 = 2, and 3.14159 is not 22/7.",
    r"Let $f(x) = \frac{1}{2}x^2 - \sqrt{3}$; then \boxed{-7}.",
    "A line\nand another\n\n  two spaces  before, a\ttab ,  and don't . stop !",
    "naïve café, Σ αβγ, 3 ≤ 5, 求解方程, решение",
)
THOUGHT = "<think>a</think> b"


def loads(subject: Subject) -> Verdict:
    """The tokenizer loads."""
    tokenizer = subject.tokenizer
    return ok(f"{type(tokenizer).__name__}, {len(tokenizer)} tokens")


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """As prompts are encoded."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def round_trip(subject: Subject) -> Verdict:
    """Text that is encoded and decoded again is the same text."""
    for text in TEXTS:
        back = subject.tokenizer.decode(ids_of(subject.tokenizer, text))
        if back != text:
            place = next(
                (i for i, (one, other) in enumerate(zip(text, back, strict=False)) if one != other),
                min(len(text), len(back)),
            )
            shown = slice(max(place - 8, 0), place + 8)
            return warn(
                f"{text[shown]!r} comes back as {back[shown]!r}: answers are not read as written",
                "set clean_up_tokenization_spaces = false in tokenizer_config.json, or use a "
                "tokenizer that loses nothing",
            )
    return ok(f"{len(TEXTS)} texts with mathematics, spaces and other scripts")


def text_tokens(subject: Subject) -> Verdict:
    """No token of ordinary text counts as special, as a badly chosen pad token does."""
    tokenizer = subject.tokenizer
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for text in TEXTS:
        lost = special.intersection(ids_of(tokenizer, text))
        if lost:
            token = tokenizer.convert_ids_to_tokens(min(lost))
            return fail(
                f"{token!r} is a special token and part of ordinary text: completions lose it",
                "give the tokenizer another pad token (pad_token in tokenizer_config.json)",
            )
    return ok("none")


def think_tags(subject: Subject) -> Verdict:
    """<think> and </think> stay in a decoded completion, where rewards and the grader look."""
    tokenizer = subject.tokenizer
    back = tokenizer.decode(ids_of(tokenizer, THOUGHT), skip_special_tokens=True)
    if "<think>" not in back or "</think>" not in back:
        return fail(
            f"{THOUGHT!r} is decoded as {back!r}: no thought is seen, and the format reward is 0",
            'set "special": false for <think> and </think> in tokenizer.json and in '
            "tokenizer_config.json",
        )
    return ok("they stay")


def ends(subject: Subject) -> list[int]:
    """The tokens that end a completion."""
    from open_rs.rollout.stops import ending_tokens

    return ending_tokens(subject.model.generation_config.eos_token_id, subject.tokenizer)


def eos(subject: Subject) -> Verdict:
    """Some token ends a completion."""
    found = ends(subject)
    if not found:
        return fail(
            "neither the tokenizer nor the model names an EOS token, so every completion runs to "
            "the cap",
            "name it as eos_token in tokenizer_config.json",
        )
    return ok(", ".join(map(repr, subject.tokenizer.convert_ids_to_tokens(found))))


def eos_in_vocabulary(subject: Subject) -> Verdict:
    """The tokens that end a completion are tokens that the model can write."""
    rows = subject.model.get_input_embeddings().weight.shape[0]
    outside = [one for one in ends(subject) if not 0 <= one < rows]
    if outside:
        return fail(
            f"EOS token {outside[0]} is outside the model's vocabulary of {rows}",
            "correct eos_token_id in generation_config.json",
        )
    return ok(f"all below {rows}")


def eos_agrees(subject: Subject) -> Verdict:
    """Tokenizer and model name the same end: others stop by one of them alone."""
    named = subject.model.generation_config.eos_token_id
    stated = set(named if isinstance(named, list) else [named]) - {None}
    own = subject.tokenizer.eos_token_id
    pad = subject.tokenizer.pad_token_id
    if own is None or (stated and own not in stated):
        return warn(
            f"the tokenizer's EOS is {own}, and the model's generation config names "
            f"{sorted(stated)}: other engines end completions elsewhere",
            "put the tokenizer's eos_token_id into generation_config.json",
        )
    also = "; it is the pad token too, which does no harm here" if pad == own else ""
    return ok(f"{own}{also}")


CHECKS = (
    Check("tokenizer.loads", loads, needs=("model.found", "model.safetensors", "model.code")),
    VOCABULARY,
    Check("tokenizer.round_trip", round_trip, needs=("tokenizer.loads",)),
    Check("tokenizer.text", text_tokens, needs=("tokenizer.loads",)),
    Check("tokenizer.think", think_tags, needs=("tokenizer.loads",)),
    Check("tokenizer.eos", eos, needs=("tokenizer.loads", "model.loads")),
    Check("tokenizer.eos_known", eos_in_vocabulary, needs=("tokenizer.eos",)),
    Check("tokenizer.eos_agrees", eos_agrees, needs=("tokenizer.eos", "tokenizer.eos_known")),
)
