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
    """Prefills a prompt when it is first asked for, and with it the others of its batch.

    All of a prompt but its last token: that one is fed as each rollout's first decoding step, which
    gives the first token's logits in the same way as all others'. Which prompts make a batch does
    not depend on what is asked for, nor in which order: the shape of a batch moves the last bits of
    what it holds.
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
        self.to_copy = list(copies)
        self.places: dict[int, tuple[Any, int]] = {}  # prompt -> batch and row in it
        self.to_run: dict[int, list[int]] = {}  # prompt -> its batch
        for batch in batches([len(prompt) - 1 for prompt in prompts]):
            members = [index for index in batch if len(prompts[index]) > 1]
            self.to_run |= dict.fromkeys(members, members)

    def locate(self, asked: Sequence[int]) -> Iterator[Located]:
        """Where to copy each of these prompts from, batch by batch.

        Yields (indices into `asked`, batch, rows of that batch). Prompts of one token have nothing
        to copy and are left out.
        """
        by_batch: dict[int, Located] = {}
        for index, prompt in enumerate(asked):
            if prompt in self.to_run:
                self._run_batch(self.to_run[prompt])
            if prompt in self.places:
                cache, row = self.places[prompt]
                picks, _, rows = by_batch.setdefault(id(cache), ([], cache, []))
                picks.append(index)
                rows.append(row)
            self.to_copy[prompt] -= 1
            if self.to_copy[prompt] == 0:
                self.places.pop(prompt, None)
        yield from by_batch.values()

    def _run_batch(self, batch: Sequence[int]) -> None:
        stored = self.run([self.prompts[index][:-1] for index in batch])
        for row, index in enumerate(batch):
            del self.to_run[index]
            if self.to_copy[index]:
                self.places[index] = stored, row


def batches(lengths: Sequence[int]) -> Iterator[range]:
    """Neighbours, as many as fit the budget and at least one."""
    first, longest = 0, 0
    for index, length in enumerate(lengths):
        longest = max(longest, length)
        if index > first and longest * (index + 1 - first) > PREFILL_TOKENS:
            yield range(first, index)
            first, longest = index, length
    if lengths:
        yield range(first, len(lengths))


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
