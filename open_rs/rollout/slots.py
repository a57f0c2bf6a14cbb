"""The rows that are being decoded: one per slot, all state in tensors, one forward per token.

S slots, n live rows (always slots 0..n-1), T completion tokens at most, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from open_rs.rollout.forward import Forward, blocks
from open_rs.rollout.noise import NoiseAhead
from open_rs.rollout.prefill import Prefill
from open_rs.rollout.protocol import SamplingParams
from open_rs.rollout.sampling import draw

# Why a row is looked at after a step; a row with code 0 just goes on.
ENDED, ENDER, BROKEN = 1, 2, 4  # EOS; a token that may complete a stop string; logits not finite


@dataclass(frozen=True)
class Row:
    """Which sample of which prompt sits in a slot."""

    prompt: int
    sample: int
    last_token: int  # of the prompt: it is fed as the first decoding step
    prompt_length: int


class Slots:
    """The live rows of one `generate` call."""

    def __init__(
        self,
        forward: Forward,
        *,
        slots: int,
        params: SamplingParams,
        codes: Tensor,
    ) -> None:
        """`slots`: those of `forward`; `codes` [V], uint8: what a sampled token means, of ENDED and
        ENDER.
        """
        self.forward, self.params, self.codes = forward, params, codes
        self.device, self.slots = codes.device, slots
        cap = params.max_completion_tokens
        self.token = self._zeros(slots)  # what is fed next
        self.position = self._zeros(slots)  # ... at this position
        self.written = self._zeros(slots)  # completion tokens so far
        self.uniform = torch.zeros(slots, cap, dtype=torch.float64, device=self.device)
        self.ids = self._zeros(slots, cap)
        self.logprobs = torch.zeros(slots, cap, device=self.device)
        self.all_rows = torch.arange(slots, device=self.device)
        self.rows: list[Row] = []
        # What the host knows without asking the device.
        self.host_written = np.zeros(slots, dtype=np.int64)
        self.host_position = np.zeros(slots, dtype=np.int64)

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=torch.long, device=self.device)

    def _index(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)

    def put(
        self, slot_list: Sequence[int], rows: Sequence[Row], prefill: Prefill, noise: NoiseAhead
    ) -> None:
        """Start `rows` in the given slots: all at first, freed ones later. A slot that was removed
        does not come back, since its part of the cache is no longer kept clean.
        """
        assert max(slot_list) < self.slots
        for slot, row in zip(slot_list, rows, strict=True):
            if slot == len(self.rows):
                self.rows.append(row)
            self.rows[slot] = row
        slots = self._index(slot_list)
        starts = [row.prompt_length - 1 for row in rows]
        self.token[slots] = self._index([row.last_token for row in rows])
        self.position[slots] = self._index(starts)
        if self.params.temperature > 0:  # argmax needs no noise
            self.uniform[slots] = noise.take(len(rows))
        self.written[slots] = 0
        self.host_position[slot_list] = starts
        self.host_written[slot_list] = 0
        self.forward.put(slot_list, starts, prefill.locate([row.prompt for row in rows]))

    def step(self) -> np.ndarray:
        """Feed every live row's token and draw the next one. Returns the code of each row [n]."""
        n = len(self.rows)
        positions, written, rows = self.position[:n], self.written[:n], self.all_rows[:n]
        ids, logprobs, finite = draw(
            self._logits(blocks(n, self.device))[:n],
            self.uniform[rows, written],
            temperature=self.params.temperature,
            top_k=self.params.top_k,
            top_p=self.params.top_p,
            log_probs=self.forward.log_probs,
        )
        self.ids[rows, written] = ids
        self.logprobs[rows, written] = logprobs
        self.token[:n] = ids
        positions += 1
        written += 1
        self.host_position[:n] += 1
        self.host_written[:n] += 1
        codes = torch.where(finite, self.codes[ids], BROKEN)
        return codes.cpu().numpy()  # the only wait for the device in a step

    def _logits(self, n: int) -> Tensor:
        """Logits [n, V] of the next token of every live row, and of what fills the block up."""
        longest = int(self.host_position[:n].max())
        return self.forward.logits(self.token[:n], self.position[:n], longest)

    def take(self, slot_list: Sequence[int]) -> list[tuple[Row, list[int], list[float]]]:
        """(row, completion ids, log-probs) of these slots."""
        if not slot_list:
            return []
        slots = self._index(slot_list)
        longest = int(self.host_written[slot_list].max())
        ids, logprobs = self.ids[slots, :longest].tolist(), self.logprobs[slots, :longest].tolist()
        lengths = self.host_written[slot_list].tolist()
        return [
            (self.rows[slot], ids[k][:length], logprobs[k][:length])
            for k, (slot, length) in enumerate(zip(slot_list, lengths, strict=True))
        ]

    def remove(self, slot_list: Sequence[int]) -> None:
        """Free these slots: the last live rows move into the holes, so that the tail of a call does
        not pay for slots that nobody uses."""
        if not slot_list:
            return
        left = len(self.rows) - len(slot_list)
        gone = set(slot_list)
        target_list = [slot for slot in slot_list if slot < left]
        source_list = [slot for slot in range(left, len(self.rows)) if slot not in gone]
        if target_list:
            source, target = self._index(source_list), self._index(target_list)
            for state in (self.token, self.position, self.written, self.uniform):
                state[target] = state[source]
            longest = int(self.host_written[source_list].max())
            self.ids[target, :longest] = self.ids[source, :longest]
            self.logprobs[target, :longest] = self.logprobs[source, :longest]
            for host in (self.host_written, self.host_position):
                host[target_list] = host[source_list]
            farthest = int(self.host_position[target_list].max())
            self.forward.move(source_list, target_list, farthest)
            for slot, source_slot in zip(target_list, source_list, strict=True):
                self.rows[slot] = self.rows[source_slot]
        del self.rows[left:]
        self.slots = blocks(left, self.device)
        self.forward.keep(left)
        self.position[left:] = 0  # what fills a block up stays at its slot's first position
        self.host_position[left:] = 0
