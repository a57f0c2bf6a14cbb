"""Prompts through the model once each, in batches under a token budget; their keys and values kept
until the last rollout of the group has its copy.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

ModuleRun = Callable[[Sequence[Sequence[int]]], DynamicCache]
Located = tuple[list[int], Any, list[int]]  # of what was asked for; a stored batch; rows of it

PREFILL_TOKENS = 4096  # in one batch, padding included; a longer prompt goes alone


class Prefill:
    """Prefills prompts in order, as they are asked for and as far ahead as the budget reaches.

    All of a prompt but its last token: that one is fed as each rollout's first decoding step, which
    gives the first token's logits in the same way as all others'.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        copies: Sequence[int],
        run: Callable[[Sequence[Sequence[int]]], Any],
    ) -> None:
        """`prompts`: token ids; `copies`: how often each will be asked for; `run` makes of a batch
        what is kept of it.
        """
        self.prompts, self.run = prompts, run
        self.done = 0  # prompts prefilled
        self.to_copy = list(copies)
        self.places: dict[int, tuple[Any, int]] = {}  # prompt -> batch and row in it

    def locate(self, asked: Sequence[int]) -> Iterator[Located]:
        """Where to copy each of these prompts from, batch by batch.

        Yields (indices into `asked`, batch, rows of that batch). Prompts of one token have nothing
        to copy and are left out.
        """
        by_batch: dict[int, Located] = {}
        for index, prompt in enumerate(asked):
            while self.done <= prompt:
                self._run_batch()
            if prompt in self.places:
                cache, row = self.places[prompt]
                picks, _, rows = by_batch.setdefault(id(cache), ([], cache, []))
                picks.append(index)
                rows.append(row)
            self.to_copy[prompt] -= 1
            if self.to_copy[prompt] == 0:
                self.places.pop(prompt, None)
        yield from by_batch.values()

    def _run_batch(self) -> None:
        """Prefill the next prompts, as many as fit the budget and at least one."""
        first, longest = self.done, 0
        while self.done < len(self.prompts):
            longest = max(longest, len(self.prompts[self.done]) - 1)
            if self.done > first and longest * (self.done + 1 - first) > PREFILL_TOKENS:
                break
            self.done += 1
        batch = [index for index in range(first, self.done) if len(self.prompts[index]) > 1]
        if not any(self.to_copy[index] for index in batch):
            return  # a batch runs whole or not: its shape moves the last bits of what it holds
        stored = self.run([self.prompts[index][:-1] for index in batch])
        self.places.update({index: (stored, row) for row, index in enumerate(batch)})


def run_module(model: Any, extra: dict[str, Any], heads: Sequence[Sequence[int]]) -> DynamicCache:
    """Keys and values of these token ids by the module; `extra`: arguments of its forward.

    Right-padded, without a mask: a token attends to what comes before it and the padding comes
    after, so the causal or sliding mask that the model makes by itself is right.
    """
    longest = max(map(len, heads))
    padded = [[*head, *[head[0]] * (longest - len(head))] for head in heads]  # any valid id
    cache = DynamicCache()  # keeps all positions, those of sliding layers too
    model(
        input_ids=torch.tensor(padded, device=model.device),
        position_ids=torch.arange(longest, device=model.device).expand(len(heads), -1),
        past_key_values=cache,
        use_cache=True,
        **extra,
    )
    return cache
