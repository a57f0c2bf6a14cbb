"""The engine of an OpenAI-compatible endpoint: vLLM, llama.cpp, a provider.

One request per completion, so that each has a seed and a place in the journal of its own. Requests
run in daemon threads, `max_concurrency` at a time; everything else (counting, `on_finished`)
happens in the calling thread, as with the native engine.
"""

import time
from collections.abc import Callable, Container, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from open_rs.errors import InputError
from open_rs.recipe import OpenAIEngineSpec
from open_rs.rollout.asking import answers
from open_rs.rollout.groups import gather
from open_rs.rollout.limits import Budget, Pacer, Undecided
from open_rs.rollout.openai_api import Answer, Client, Unusable, request_seed
from open_rs.rollout.protocol import EngineStats, Prompt, Rollout, RolloutGroup, SamplingParams


@dataclass(frozen=True)
class Job:
    """One request: which prompt, which sample, and the dollars that are held back for it."""

    index: int
    prompt: Prompt
    sample: int
    seed: int
    held_usd: float


@dataclass
class Counts:
    """Tokens and dollars of one call."""

    started: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0

    def add(self, outcome: Answer | Unusable, usd: float | None) -> None:
        self.prompt_tokens += outcome.prompt_tokens
        self.completion_tokens += outcome.completion_tokens
        self.usd += usd or 0.0

    def stats(self, *, priced: bool) -> EngineStats:
        seconds = time.perf_counter() - self.started
        usd = self.usd if priced else None
        return EngineStats(self.prompt_tokens, self.completion_tokens, seconds, usd)


class EndpointEngine:
    """Completions from the server of `spec`.

    A prompt with messages goes to /chat/completions, one with text to /completions. A request
    without a usable answer becomes a rollout with `error`: undecided, never dropped, never wrong.
    """

    name = "openai"

    def __init__(self, spec: OpenAIEngineSpec, *, spent_usd: float = 0.0) -> None:
        """`spent_usd` counts towards `max_usd`: what an earlier start of this work has cost."""
        self.spec = spec
        self.stats: EngineStats | None = None
        self.budget = Budget(spec, spent_usd)
        self.undecided = Undecided(
            spec.max_undecided,
            where="rollout.engine",
            what=f"requests to {spec.base_url} have no usable answer",
            cure="mend the cause and start again",
        )
        self._client = Client(spec, Pacer(spec.requests_per_minute).wait)

    @property
    def harness(self) -> dict[str, Any]:
        shaping = self.spec.shaping()
        return {
            "engine": self.name,
            "dtype": None,  # the server's affair
            "device": "endpoint",
            "endpoint": {key: shaping[key] for key in ("mode", "extra_body")},
        }

    def load_weights(self, model: Any) -> None:
        raise InputError(
            "rollout.engine: the weights of an endpoint cannot be replaced; train with the native "
            "engine"
        )

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

        Raises `GuardStop` where the cost would pass `max_usd` (what is under way still comes in) or
        too many requests fail.
        """
        counts = Counts(time.perf_counter())
        wanted = self._jobs(prompts, group_size, params, seed, step, skip)
        try:
            ended = self._rollouts(wanted, params, counts)
            groups, _ = gather(prompts, ended, on_finished=on_finished, keep=keep)
        finally:
            self.stats = counts.stats(priced=None not in self.spec.prices)
        return groups

    def _rollouts(
        self, wanted: Iterator[Job], params: SamplingParams, counts: Counts
    ) -> Generator[tuple[int, Rollout]]:
        """(prompt index, rollout) as they end; too many without a usable answer stop it."""
        refused = False

        def ask(job: Job, place: int) -> Answer | Unusable:
            try:
                return self._client.ask(job.prompt, params, job.seed)
            except Unusable as error:
                return error

        def may_send(job: Job) -> bool:
            nonlocal refused
            refused = not self.budget.hold(job.held_usd)
            return not refused

        at_once = self.spec.max_concurrency
        asked = answers(wanted, ask, at_once=at_once, may_send=may_send)
        try:
            with closing(asked) as outcomes:
                for job, _, outcome in outcomes:
                    yield job.index, self._rollout(job, outcome, counts)
                    self.undecided.check()
        finally:
            self.budget.held_usd = 0.0
        if refused:
            raise self.budget.stop()
        self.undecided.check(ended=True)

    def _jobs(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        params: SamplingParams,
        seed: int,
        step: int,
        skip: Container[tuple[str, int]],
    ) -> Iterator[Job]:
        """The requests to send, problem by problem. Samples that are known count as answered."""
        for index, prompt in enumerate(prompts):
            held_usd = self.budget.most(prompt, params)
            for sample in range(group_size):
                if (prompt.problem.id, sample) in skip:
                    self.undecided.count(None)
                    continue
                own_seed = request_seed(seed, step, prompt.problem.id, sample)
                yield Job(index, prompt, sample, own_seed, held_usd)

    def _rollout(
        self, job: Job, outcome: Answer | Unusable | BaseException, counts: Counts
    ) -> Rollout:
        """What came of a request; its tokens and dollars are counted here."""
        if not isinstance(outcome, Answer | Unusable):
            raise outcome
        usd = self.budget.cost(outcome.prompt_tokens, outcome.completion_tokens)
        self.budget.settle(job.held_usd, usd)
        counts.add(outcome, usd)
        tokens = outcome.completion_tokens
        if isinstance(outcome, Unusable):
            why = str(outcome)
            self.undecided.count(why)
            return Rollout(
                [], [], "", "error", job.sample, counted_tokens=tokens, usd=usd, error=why
            )
        self.undecided.count(None)
        text, logprobs, reason = outcome.completion, outcome.logprobs, outcome.finish_reason
        return Rollout([], logprobs, text, reason, job.sample, counted_tokens=tokens, usd=usd)
