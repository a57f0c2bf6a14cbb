"""Where each token of a completion lies in its text, and how likely it was, in one character each.

The page shades a completion by the log-probs that the engine recorded. A rollout keeps token ids;
their bytes come from tokenizer.json, read as the plain file that it is, and count only where they
spell the recorded text exactly.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open_rs.text import visible

FIRST = 35  # the character that stands for 0: printable, and no digit of JSON's own
NATS = 0.2  # of log-prob per level
MAX_LEVEL = 45  # 9 nats and more


@dataclass(frozen=True)
class Vocabulary:
    """Bytes of every token by id, b"" for special ones, and their lengths."""

    pieces: list[bytes]
    lengths: NDArray[np.int64]  # [V] bytes

    def lengths_in(self, ids: list[int], text: str) -> NDArray[np.int64] | None:
        """UTF-16 units of visible(`text`) that each token ends; None where the ids do not spell it.

        A stop string may have cut the text, so that the last tokens have nothing left of it. A
        character of several tokens goes to the one that ends it.
        """
        content = text.encode("utf-8", "surrogatepass")
        if not ids or max(ids) >= len(self.pieces) or min(ids) < 0:
            return None
        spelt = b"".join([self.pieces[one] for one in ids])
        lead = int(spelt[:1] == b" " != content[:1])  # decoders may strip the first space
        if not spelt.startswith(content, lead):
            return None
        ends = np.clip(np.cumsum(self.lengths[np.asarray(ids)]) - lead, 0, len(content))
        if not (text.isascii() and visible(text) == text):
            ends = units_by_byte(text)[ends]
        return np.diff(ends, prepend=0)


def units_by_byte(text: str) -> NDArray[np.int64]:
    """UTF-16 units of visible(`text`) that are whole after each number of bytes of it, from 0."""
    units = [0]
    done = 0
    for character in text:
        size = len(character.encode("utf-8", "surrogatepass"))
        units += [done] * (size - 1)
        done += sum(1 + (ord(one) > 0xFFFF) for one in visible(character))
        units.append(done)
    return np.array(units)


def coded(values: NDArray[np.int64]) -> str:
    """A character per value, chr(FIRST) for 0. A text in the page is far shorter than the first
    surrogate.
    """
    return (values + FIRST).astype("<u4").tobytes().decode("utf-32-le")


def coded_levels(logprobs: list[float]) -> str:
    """Log-probs as levels of `NATS`: level 0 is a probability above 0.9."""
    nats = -np.nan_to_num(np.asarray(logprobs, dtype=np.float64), nan=0.0)
    return coded(np.rint(np.clip(nats, 0, MAX_LEVEL * NATS) / NATS).astype(np.int64))


def vocabulary_of(run: Path, model: str | None) -> Vocabulary | None:
    """The tokenizer of a run: that of its last checkpoint, else of its model where that is a
    folder; None without, or where its kind is not known here.
    """
    places = sorted(run.glob("checkpoints/*/tokenizer.json"), reverse=True)
    if model == "tiny":
        places.append(Path(str(resources.files("open_rs") / "assets" / "tiny" / "tokenizer.json")))
    elif model:
        places.append(Path(model) / "tokenizer.json")
    for place in places:
        try:
            tokenizer = json.loads(place.read_text(encoding="utf-8"))
            if (pieces := pieces_of(tokenizer)) is not None:
                return Vocabulary(pieces, np.array([len(one) for one in pieces]))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the page shows the text without shading, and says so
    return None


def pieces_of(tokenizer: dict[str, Any]) -> list[bytes] | None:
    """The bytes of each id by a tokenizer.json, for byte-level and for SentencePiece-like ones."""
    held = tokenizer["model"]["vocab"]
    tokens = {one: place for place, (one, _) in enumerate(held)} if isinstance(held, list) else held
    decoders = decoders_of(tokenizer.get("decoder") or {})
    if "ByteLevel" in decoders:
        spell = _byte_level
    elif decoders & {"Metaspace", "ByteFallback"}:
        spell = _with_spaces
    else:
        return None
    added = tokenizer.get("added_tokens") or []
    size = max([*tokens.values(), *(one["id"] for one in added)]) + 1
    pieces = [b""] * size
    for token, place in tokens.items():
        pieces[place] = spell(token)
    for one in added:
        pieces[one["id"]] = b"" if one.get("special") else one["content"].encode()
    return pieces


def decoders_of(decoder: dict[str, Any]) -> set[str]:
    inside = [decoders_of(one) for one in decoder.get("decoders", [])]
    return {str(decoder.get("type"))}.union(*inside)


def _byte_level(token: str) -> bytes:
    table = byte_of_character()
    try:
        return bytes([table[character] for character in token])
    except KeyError:
        return token.encode()


def _with_spaces(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()


@lru_cache(maxsize=1)
def byte_of_character() -> dict[str, int]:
    """The byte for which each character stands in byte-level BPE (GPT-2): printable ones for
    themselves, the others for what lies above 255, in order.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    moved = {chr(256 + place): byte for place, byte in enumerate(rest)}
    return {chr(byte): byte for byte in plain} | moved
