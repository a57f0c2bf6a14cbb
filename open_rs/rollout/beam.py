"""Beam search over steps of thought, as an engine: it draws with the native one and keeps the best.

A step is what the model writes up to a line break, or `step_tokens` tokens. Each round draws
`branch` next steps for each of the `width` partial completions (the first round draws width x
branch from the prompt), drops repeated ones, and keeps the `width` of the highest mean log-prob per
token, ended completions among them (the stochastic beam search of arXiv 2305.00633 without its
self-evaluation). When all that are kept have ended, the best is the answer. The log-probs are
the engine's, those of softmax(logits / temperature).

What is drawn is a pure function of (weights, seed, step, problem id, sample, round, beam), as in
the engine below. With temperature 0 and branch 1 the answer is the greedy completion.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from open_rs.errors import InputError
from open_rs.recipe.search import BeamSearch
from open_rs.rollout.groups import gather, wanted_samples
from open_rs.rollout.protocol import (
    Engine,
    EngineStats,
    FinishReason,
    Prompt,
    Rollout,
    RolloutGroup,
    SamplingParams,
    SearchedRollout,
)


class StepEngine(Engine, Protocol):
    """What a beam search asks of the engine below it: token ids, log-probs, and which tokens end a
    completion.
    """

    tokenizer: Any
    max_slots: int
    fit: Any

    @property
    def eos_token_ids(self) -> list[int]: ...


@dataclass(frozen=True)
class Beam:
    """A completion so far; `finish_reason` is None while it goes on."""

    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish_reason: FinishReason | None = None

    @property
    def score(self) -> float:
        """Mean log-prob per token."""
        return sum(self.logprobs) / len(self.logprobs)


@dataclass
class Search:
    """One search under way: of a prompt and sample; what it has kept, drawn and read."""

    prompt: int
    sample: int
    beams: list[Beam] = field(default_factory=lambda: [Beam()])
    drawn: list[list[int]] = field(default_factory=list)  # tokens of each candidate, by round
    read_tokens: int = 0  # prompts and completions so far that later rounds read again

    @property
    def open(self) -> list[int]:
        """The places of the beams that go on."""
        return [place for place, one in enumerate(self.beams) if one.finish_reason is None]


class BeamEngine:
    """An engine whose every sample is the best completion of a beam search."""

    name = "beam"

    def __init__(self, engine: StepEngine, spec: BeamSearch) -> None:
        self.engine, self.spec = engine, spec
        self.stats: EngineStats | None = None

    @property
    def fit(self) -> Any:
        return self.engine.fit

    @property
    def harness(self) -> dict[str, Any]:
        return {**self.engine.harness, "search": self.spec.model_dump(mode="json")}

    def load_weights(self, model: Any) -> None:
        self.engine.load_weights(model)

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
        """The best completion of `group_size` searches for each prompt, as `SearchedRollout`."""
        if params.stop:
            raise InputError("beam search: stop strings end steps here; remove them")
        started, drawn = time.perf_counter(), 0

        def ended() -> Generator[tuple[int, Rollout]]:
            nonlocal drawn
            waiting = deque(wanted_samples(prompts, group_size, skip))
            under_way: list[Search] = []
            while waiting or under_way:
                while waiting and len(under_way) < self.at_once:
                    under_way.append(Search(*waiting.popleft()))
                self.advance(under_way, prompts, params, seed, step)
                for search in [one for one in under_way if not one.open]:
                    under_way.remove(search)
                    drawn += sum(map(sum, search.drawn))
                    yield search.prompt, self.rollout(search)

        groups, _ = gather(prompts, ended(), on_finished=on_finished, keep=keep)
        self.stats = EngineStats(
            prompt_tokens=sum(len(prompt.prompt_ids) for prompt in prompts),
            completion_tokens=drawn,
            seconds=time.perf_counter() - started,
        )
        return groups

    @property
    def at_once(self) -> int:
        """Searches under way: their candidates fill the slots about twice."""
        return max(1, 2 * self.engine.max_slots // (self.spec.width * self.spec.branch))

    def advance(
        self,
        searches: Sequence[Search],
        prompts: Sequence[Prompt],
        params: SamplingParams,
        seed: int,
        step: int,
    ) -> None:
        """One round of each search: draw next steps for its open beams, keep the best."""
        found: dict[tuple[int, int], list[Beam]] = {}
        calls: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for index, search in enumerate(searches):
            copies = self.spec.branch if search.drawn else self.spec.width * self.spec.branch
            for place in search.open:
                left = params.max_completion_tokens - len(search.beams[place].ids)
                limit = min(self.spec.step_tokens, left)
                calls.setdefault((copies, limit), []).append((index, place))
        for (copies, limit), asked in calls.items():
            groups = self.engine.generate(
                [self.asking(searches[index], place, prompts) for index, place in asked],
                group_size=copies,
                params=replace(
                    params,
                    max_completion_tokens=limit,
                    stop=(self.spec.step_end,) if self.spec.step_end else (),
                ),
                seed=seed,
                step=step,
            )
            for (index, place), group in zip(asked, groups, strict=True):
                before = searches[index].beams[place]
                found[index, place] = [self.longer(before, one, params) for one in group.rollouts]
        for index, search in enumerate(searches):
            self.keep_best(search, {place: found[index, place] for place in search.open}, prompts)

    def asking(self, search: Search, place: int, prompts: Sequence[Prompt]) -> Prompt:
        """What the engine reads: prompt and completion so far, under a name of its own, by which
        the noise of this round and beam is its own, too.
        """
        prompt = prompts[search.prompt]
        name = f"{prompt.problem.id}/{search.sample}.{len(search.drawn)}.{place}"
        ids = [*prompt.prompt_ids, *search.beams[place].ids]
        return Prompt(replace(prompt.problem, id=name), ids, prompt.text)

    def longer(self, beam: Beam, step: Rollout, params: SamplingParams) -> Beam:
        """A beam and its next step."""
        ids = (*beam.ids, *step.completion_ids)
        reason: FinishReason | None = None
        if step.finish_reason == "stop" and ids[-1] in self.engine.eos_token_ids:
            reason = "stop"
        elif len(ids) >= params.max_completion_tokens:
            reason = "length"
        return Beam(ids, (*beam.logprobs, *step.engine_logprobs), reason)

    def keep_best(
        self, search: Search, grown: dict[int, list[Beam]], prompts: Sequence[Prompt]
    ) -> None:
        """The `width` best of the ended beams and the grown ones; of equals the first drawn."""
        asked = prompts[search.prompt].prompt_ids
        if search.drawn:
            search.read_tokens += sum(len(asked) + len(search.beams[one].ids) for one in grown)
        search.drawn.append(
            [
                len(one.ids) - len(search.beams[place].ids)
                for place, several in grown.items()
                for one in several
            ]
        )
        pool: dict[tuple[int, ...], Beam] = {}
        for place, beam in enumerate(search.beams):
            for one in grown.get(place, [beam]):
                pool.setdefault(one.ids, one)
        search.beams = sorted(pool.values(), key=lambda one: -one.score)[: self.spec.width]

    def rollout(self, search: Search) -> SearchedRollout:
        best = search.beams[0]
        assert best.finish_reason is not None
        return SearchedRollout(
            completion_ids=list(best.ids),
            engine_logprobs=list(best.logprobs),
            completion=self.engine.tokenizer.decode(list(best.ids), skip_special_tokens=True),
            finish_reason=best.finish_reason,
            sample=search.sample,
            drawn=search.drawn,
            read_tokens=search.read_tokens,
            kept=[(len(one.ids), one.score) for one in search.beams],
        )
