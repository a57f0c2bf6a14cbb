"""Handing the policy to an engine that holds a copy of its weights, and seeing that it took them.

Engines can fail at this without a word: a model that is half loaded, keys and values of the weights
before, a server that was started anew. So a probe is drawn after every hand-over and scored by the
trainer's own forward pass.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from open_rs.errors import EngineStop, InputError
from open_rs.problems import Problem
from open_rs.recipe import Recipe, VLLMServerEngineSpec
from open_rs.rollout.protocol import Prompt, SamplingParams
from open_rs.runs import log_event
from open_rs.train.logprobs import completion_logprobs

if TYPE_CHECKING:
    from open_rs.train.setup import Training

PROBE_TOKENS = 32
TOLERANCE = {"float32": 1e-4}  # nats, mean over the tokens of a probe, by the engine's dtype
ROUGH_TOLERANCE = 0.1  # of others
NOTICEABLE = {"float32": 1e-5}  # a move of the trainer's log-probs that an engine must follow
ROUGHLY_NOTICEABLE = 0.02


@dataclass(frozen=True)
class Probe:
    """A completion that one copy of the weights has drawn."""

    prompt_ids: list[int]
    ids: list[int]
    temperature: float
    engine: Tensor  # log-probs [T]
    trainer: Tensor  # log-probs [T], when it was drawn

    @property
    def distance(self) -> float:
        """Mean over tokens of |engine - trainer|, nats."""
        return (self.engine - self.trainer).abs().mean().item()

    def is_repeated(self, later: "Probe") -> bool:
        """Whether a later one is the same to the last bit, as the engine sees it."""
        same = self.ids == later.ids and self.temperature == later.temperature
        return same and torch.equal(self.engine, later.engine)


def hand_over(training: "Training") -> None:
    """Give the engine the weights of now. `EngineStop` where a probe shows that it samples from
    others; nothing to do for an engine that samples from the policy itself.
    """
    recipe, engine = training.recipe, training.sampler.engine
    if not recipe.rollout.engine.copies_weights:
        return
    step, started, layout = training.state.step, time.perf_counter(), training.layout
    if layout.is_sharded:
        layout.ranks.order("fill")
    with training.ledger.phase("hand_over", step), layout.filled() as whole:
        if layout.is_sharded:
            layout.ranks.wait()
        engine.load_weights(whole)
        probes = draw_probes(training)
        dtype = str(engine.harness["dtype"])
        moved = [movement(training, one) for one in training.probes]
        check_agreement(probes, recipe, dtype, step)
        check_movement(training.probes, probes, moved, dtype, step)
        training.probes = references(training.probes, probes)
    log_event(
        training.run,
        "hand_over",
        step,
        distance=max(one.distance for one in probes),
        moved=max(moved, default=None),
        seconds=round(time.perf_counter() - started, 3),
    )


def draw_probes(training: "Training") -> list[Probe]:
    """One completion of the first training prompt from each copy of the weights, drawn as in
    training by noise of its own, and scored by the trainer.
    """
    recipe, now = training.recipe, training.now.rollout
    spec = recipe.rollout.engine
    copies = len(spec.urls) if isinstance(spec, VLLMServerEngineSpec) else 1
    first = next(iter(training.prompts.values()))
    prompts = [
        Prompt(Problem(f"probe {place}", first.problem.problem, ""), first.prompt_ids)
        for place in range(copies)
    ]
    params = SamplingParams(
        min(PROBE_TOKENS, now.max_completion_tokens), temperature=now.temperature
    )
    groups = training.sampler.engine.generate(
        prompts, group_size=1, params=params, seed=recipe.seed, step=0
    )
    found = []
    for group in groups:
        [rollout] = group.rollouts
        if len(rollout.engine_logprobs) != len(rollout.completion_ids):
            raise InputError("rollout.engine: it tells no log-probs of what it draws")
        ids, engine = rollout.completion_ids, torch.tensor(rollout.engine_logprobs)
        trainer = trainer_logprobs(training, group.prompt_ids, ids, now.temperature)
        found.append(Probe(group.prompt_ids, ids, now.temperature, engine, trainer))
    return found


@torch.no_grad()
def trainer_logprobs(
    training: "Training", prompt_ids: Sequence[int], ids: Sequence[int], temperature: float
) -> Tensor:
    """log softmax(logits / temperature) [T] of the completion's tokens, on the host; where weights
    are shared out, inside `filled` of the layout.
    """
    policy: Any = training.layout.whole
    row = torch.tensor([[*prompt_ids, *ids]], device=policy.device)
    mask = torch.zeros_like(row, dtype=torch.bool)
    mask[:, len(prompt_ids) :] = True
    policy.eval()
    with training.autocast:
        logprobs, _ = completion_logprobs(
            policy, row, torch.ones_like(row), mask, temperature=temperature
        )
    return logprobs[0].float().cpu()


def movement(training: "Training", probe: Probe) -> float:
    """The most that the trainer's log-prob of a token has moved since the engine first drew it."""
    now = trainer_logprobs(training, probe.prompt_ids, probe.ids, probe.temperature)
    return (now - probe.trainer).abs().max().item()


def check_agreement(probes: Sequence[Probe], recipe: Recipe, dtype: str, step: int) -> None:
    """Engine and trainer have to give the tokens of a probe the same log-probs, up to rounding."""
    spec: Any = recipe.rollout.engine
    tolerance = spec.sync_tolerance or TOLERANCE.get(dtype, ROUGH_TOLERANCE)
    for place, probe in enumerate(probes):
        if not probe.distance <= tolerance:
            raise EngineStop(
                f"rollout.engine: {name_of(spec, place)} does not sample from the weights of step "
                f"{step}: its log-probs of {len(probe.ids)} tokens lie {probe.distance:.2g} from "
                f"the trainer's in the mean, above {tolerance:g} (rollout.engine.sync_tolerance)"
            )


def check_movement(
    before: Sequence[Probe],
    probes: Sequence[Probe],
    moved: Sequence[float],
    dtype: str,
    step: int,
) -> None:
    """An engine whose probe is the same to the last bit, though the trainer's log-probs of it have
    moved, has kept the weights before.
    """
    noticeable = NOTICEABLE.get(dtype, ROUGHLY_NOTICEABLE)
    for old, new, move in zip(before, probes, moved, strict=False):  # at first there is none
        if old.is_repeated(new) and move > noticeable:
            raise EngineStop(
                f"rollout.engine: it still samples from the weights before step {step}: the "
                f"trainer's log-probs of its probe have moved by {move:.2g}, its own by nothing"
            )


def references(before: Sequence[Probe], probes: Sequence[Probe]) -> list[Probe]:
    """From which the trainer's next moves are measured: the first of those that an engine has
    repeated to the last bit, so that moves too small to be noticed add up.
    """
    if not before:
        return list(probes)
    pairs = zip(before, probes, strict=True)
    return [old if old.is_repeated(new) else new for old, new in pairs]


def name_of(spec: Any, place: int) -> str:
    return spec.urls[place] if isinstance(spec, VLLMServerEngineSpec) else "vLLM"
