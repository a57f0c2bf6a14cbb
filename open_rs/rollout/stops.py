"""Stop strings: does a completion's text contain one? Without decoding it at every token."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class StopStrings:
    """Tests completions for `stop`, and cuts their text.

    Only a token whose own text holds the last character of a stop string, or a part of a character,
    can complete one: `enders` marks these, so that nothing is decoded at other tokens. Special
    tokens are not part of the decoded text and cannot be matched: name them as EOS.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str], vocab_size: int) -> None:
        self.tokenizer = tokenizer
        self.stop = tuple(stop)
        self.special = frozenset(tokenizer.all_special_ids)
        # A character is one token at least in byte-level vocabularies; the margin covers a first
        # token that starts inside a character and decoders that treat the first token differently.
        self.window = max(len(string.encode()) for string in stop) + 8
        self.enders = self._enders(vocab_size)

    def _enders(self, vocab_size: int) -> Tensor:
        """bool [V]: the tokens after which the text has to be looked at."""
        last = {string[-1] for string in self.stop}
        if any(character.isspace() for character in last):
            return torch.ones(vocab_size, dtype=torch.bool)  # decoding one token may strip spaces
        marks = torch.zeros(vocab_size, dtype=torch.bool)
        known = min(vocab_size, len(self.tokenizer))
        texts = self.tokenizer.batch_decode([[token] for token in range(known)])
        last.add("\N{REPLACEMENT CHARACTER}")
        for token, text in enumerate(texts):
            marks[token] = not last.isdisjoint(text)
        return marks

    def reached(self, completion_ids: Sequence[int]) -> bool:
        """Whether the text of these tokens contains a stop string that the last one completed."""
        tail = [token for token in completion_ids if token not in self.special][-self.window :]
        text = self.tokenizer.decode(tail, skip_special_tokens=True)
        if not any(string in text for string in self.stop):
            return False
        text = self.tokenizer.decode(completion_ids, skip_special_tokens=True)
        return any(string in text for string in self.stop)

    def cut(self, text: str) -> str:
        """`text` up to the end of the stop string that ends first, all of it without one."""
        ends = [text.find(string) + len(string) for string in self.stop if string in text]
        return text[: min(ends)] if ends else text


def ending_tokens(named: int | Sequence[int] | None, tokenizer: Any) -> list[int]:
    """The tokens that end a completion: those that the model names, and the tokenizer's own."""
    several = [named] if named is None or isinstance(named, int) else [*named]
    return sorted({one for one in [*several, tokenizer.eos_token_id] if one is not None})
