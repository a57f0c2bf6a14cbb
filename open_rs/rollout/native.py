"""The embedded engine: samples from the very module that is being trained, on CPU or one GPU.

Each prompt is prefilled once and its keys and values are copied to the slots of its rollouts. A row
that finishes hands its slot to the next pending rollout at once, so nothing waits for the longest
row, and when nothing is pending the live rows are packed into fewer slots. What a rollout says is a
pure function of (weights, seed, step, problem id, sample index): see `noise`. On a CPU this holds
to the last bit for models that attend by sdpa and prompts of 9 tokens or more (`slots.blocks`).
Elsewhere the shape of a batch moves logits by about 1e-6, so a token can differ where the uniform
lies that close to a border between two tokens.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from open_rs.errors import GuardStop, InputError
from open_rs.interrupt import poll
from open_rs.models import ran_out_of_memory
from open_rs.rollout.exact import refuse_inexact
from open_rs.rollout.fit import check_model, check_params, check_prompts
from open_rs.rollout.forward import blocks, open_forward
from open_rs.rollout.groups import expected_tokens, gather, wanted_samples
from open_rs.rollout.noise import NoiseAhead, stream_key
from open_rs.rollout.prefill import Prefill
from open_rs.rollout.protocol import EngineStats, Prompt, Rollout, RolloutGroup, SamplingParams
from open_rs.rollout.slots import BROKEN, ENDED, ENDER, Row, Slots
from open_rs.rollout.stops import StopStrings, ending_tokens


class NativeEngine:
    """Continuous batching over any causal LM of transformers that has a plain KV cache.

    `max_slots` rows are decoded at a time; it bounds memory, never changes the samples. The EOS set
    is `eos_token_ids`, or what the model's generation config and the tokenizer name. Log-probs
    returned are those of log_softmax(logits / temperature) before top-k and top-p. With `exact`
    they are those of training, to the last bit (see `exact`).
    """

    name = "native"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_slots: int = 64,
        eos_token_ids: Sequence[int] | None = None,
        exact: bool = False,
    ) -> None:
        """An InputError names what the engine cannot run."""
        if max_slots < 1:
            raise InputError(f"max_slots is {max_slots}; the engine needs at least 1")
        self.tokenizer = tokenizer
        self.max_slots, self.exact = max_slots, exact
        self.stats: EngineStats | None = None
        self._given_eos = eos_token_ids
        self._stops: StopStrings | None = None
        self.load_weights(model)

    def load_weights(self, model: Any) -> None:
        """Sample from `model` from now on; in-place updates of the module need no call."""
        self.fit = check_model(model)
        self.model = model
        if self.exact:
            refuse_inexact(model)

    @property
    def harness(self) -> dict[str, Any]:
        dtype = str(self.model.dtype).removeprefix("torch.")
        return {"engine": self.name, "dtype": dtype, "device": self.model.device.type}

    @property
    def eos_token_ids(self) -> list[int]:
        """The tokens that end a completion."""
        if self._given_eos is not None:
            return sorted(set(self._given_eos))
        named = getattr(self.model.generation_config, "eos_token_id", None)
        return ending_tokens(named, self.tokenizer)

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        group_size: int,
        params: SamplingParams,
        seed: int,
        step: int = 0,
        on_finished: Callable[[Prompt, Rollout], None] | None = None,
        skip: Container[tuple[str, int]] = (),
        keep: bool = True,
    ) -> list[RolloutGroup]:
        """Draw `group_size` completions for each prompt; `on_finished` is called as each ends.

        Samples in `skip`, (problem id, sample index), are not drawn. Without `keep` the groups come
        back empty.
        """
        check_params(group_size, params)
        check_prompts(prompts, params, self.fit)
        started = time.perf_counter()
        with sampling_mode(self.model), refusing_too_many(self.max_slots, prompts, params):
            rows = longest_first(prompts, pending_rows(prompts, group_size, skip))
            ended = self._rollouts(prompts, rows, params, seed, step)
            groups, tokens = gather(prompts, ended, on_finished=on_finished, keep=keep)
        self.stats = EngineStats(
            prompt_tokens=sum(len(prompt.prompt_ids) for prompt in prompts),
            completion_tokens=tokens,
            seconds=time.perf_counter() - started,
        )
        return groups

    def _rollouts(
        self,
        prompts: Sequence[Prompt],
        rows: Iterable[Row],
        params: SamplingParams,
        seed: int,
        step: int,
    ) -> Generator[tuple[int, Rollout]]:
        """(prompt index, rollout) as they end: fill the slots, decode, refill."""
        pending = deque(rows)
        if not pending:
            return
        noise = NoiseAhead(
            [stream_key(seed, step, prompts[row.prompt].problem.id) for row in pending],
            [row.sample for row in pending],
            params.max_completion_tokens,
            self.model.device,
        )
        stops = self._stop_strings(params.stop)
        count = blocks(min(self.max_slots, len(pending)), self.model.device)
        forward = open_forward(
            self.model,
            self.fit,
            slots=count,
            longest=max(len(p.prompt_ids) for p in prompts),
            tokens=params.max_completion_tokens,
            exact=self.exact,
        )
        copies = Counter(row.prompt for row in pending)
        prefill = Prefill(
            [prompt.prompt_ids for prompt in prompts],
            [copies[index] for index in range(len(prompts))],
            forward.prefill,
        )
        meanings = self._token_codes(stops).to(self.model.device)
        slots = Slots(forward, slots=count, params=params, codes=meanings)
        free = list(range(min(self.max_slots, len(pending))))
        while True:
            refilled = free[: len(pending)]
            if refilled:
                slots.put(refilled, [pending.popleft() for _ in refilled], prefill, noise)
            slots.remove(free[len(refilled) :])
            if not slots.rows:
                return
            poll()
            codes = slots.step()
            if (codes & BROKEN).any():
                raise GuardStop(
                    f"rollout: the model's logits at step {step} are not finite; its weights hold "
                    "NaN or inf, go back to an earlier checkpoint and lower the learning rate"
                )
            free = []
            over = slots.host_written[: len(codes)] >= params.max_completion_tokens
            looked_at = np.flatnonzero((codes != 0) | over).tolist()
            for slot, (row, ids, logprobs) in zip(looked_at, slots.take(looked_at), strict=True):
                stopped = codes[slot] & ENDED or (stops is not None and stops.reached(ids))
                if stopped or over[slot]:
                    free.append(slot)
                    text = self.tokenizer.decode(ids, skip_special_tokens=True)
                    yield (
                        row.prompt,
                        Rollout(
                            completion_ids=ids,
                            engine_logprobs=logprobs,
                            completion=text if stops is None else stops.cut(text),
                            finish_reason="stop" if stopped else "length",
                            sample=row.sample,
                        ),
                    )

    def _stop_strings(self, stop: tuple[str, ...]) -> StopStrings | None:
        """The tester of these strings, kept between calls since it reads the whole vocabulary."""
        if not stop:
            return None
        if self._stops is None or self._stops.stop != stop:
            self._stops = StopStrings(self.tokenizer, stop, self.fit.vocab_size)
        return self._stops

    def _token_codes(self, stops: StopStrings | None) -> Tensor:
        """What sampling each token means to the host, uint8 [V]."""
        codes = torch.zeros(self.fit.vocab_size, dtype=torch.uint8)
        if stops is not None:
            codes[stops.enders] = ENDER
        for token in self.eos_token_ids:
            if not 0 <= token < self.fit.vocab_size:
                raise InputError(
                    f"EOS token {token} is outside the model's vocabulary of "
                    f"{self.fit.vocab_size}; use the model's own tokenizer"
                )
            codes[token] = ENDED
        return codes


def pending_rows(
    prompts: Sequence[Prompt], group_size: int, skip: Container[tuple[str, int]] = ()
) -> Iterator[Row]:
    """The rollouts to draw, problem by problem."""
    for index, sample in wanted_samples(prompts, group_size, skip):
        ids = prompts[index].prompt_ids
        yield Row(index, sample, ids[-1], len(ids))


def longest_first(prompts: Sequence[Prompt], rows: Iterable[Row]) -> list[Row]:
    """Those of which the most tokens are expected start first, so that slots stay filled to the
    end; no expectation counts as the mean one. Rows of equal expectation keep their order.
    """
    tokens = expected_tokens(prompts)
    return sorted(rows, key=lambda row: -tokens[row.prompt])


@contextmanager
def refusing_too_many(
    slots: int, prompts: Sequence[Prompt], params: SamplingParams
) -> Iterator[None]:
    """Inside, memory that does not suffice for the rows in flight is an InputError."""
    try:
        yield
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
        cap = params.max_completion_tokens
        longest = max(len(one.prompt_ids) for one in prompts) + cap
        raise InputError(
            f"rollout.max_slots = {slots}: keys and values of {slots} rows of up to {longest} "
            f"tokens do not fit into memory; lower it to {slots // 2}"
            if slots > 1
            else f"rollout.max_completion_tokens = {cap}: keys and values of a row of {longest} "
            f"tokens do not fit into memory; lower it to {cap // 2}, or use a smaller model"
        ) from error


@contextmanager
def sampling_mode(model: Any) -> Iterator[None]:
    """Eval mode without gradients; afterwards every module is back in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
