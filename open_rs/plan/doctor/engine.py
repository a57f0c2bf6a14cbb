"""Engine and trainer on one short prompt: they agree, and a gradient reaches every weight."""

import math
from collections import defaultdict
from dataclasses import dataclass, replace

from open_rs.plan.doctor.finding import Check, Verdict, fail, ok, skipped, warn
from open_rs.plan.doctor.machine import usable_cores
from open_rs.plan.doctor.subject import Subject
from open_rs.problems import Problem
from open_rs.recipe import VLLMEngineSpec
from open_rs.rollout.protocol import Prompt, RolloutGroup

PROMPT_TOKENS, COMPLETION_TOKENS = 48, 12  # the last of a real prompt; of each of two completions
ALLOWED = {"float32": 1e-3, "bfloat16": 0.2}  # nats, between two ways to the same log-prob


@dataclass(frozen=True)
class Lesson:
    """One step of learning, with no weight moved: log-probs of both sides, and what of the trained
    tensors got no gradient, or one that is not finite.
    """

    difference: float
    tokens: int
    norm: float
    without: list[str]
    not_finite: list[str]


def sampled(subject: Subject) -> RolloutGroup:
    """Two completions of the end of a real prompt."""
    if "sampled" not in subject.kept:
        from open_rs.rollout.build import native_engine, training_params

        recipe = subject.recipe
        problems = [one for sample in subject.samples.values() for one in sample.problems]
        problem = problems[0] if problems else Problem("doctor", "What is 2 + 3?", "5")
        ids = subject.prompter.encode(problem).prompt_ids[-PROMPT_TOKENS:]
        threads = min(recipe.threads, int(usable_cores())) if recipe.threads else None
        capped = recipe.model_copy(update={"threads": threads})  # cpu.threads tells of too many
        engine = native_engine(capped, recipe.model, subject.policy, subject.tokenizer)
        cap = min(COMPLETION_TOKENS, recipe.rollout.max_completion_tokens)
        params = replace(training_params(recipe), max_completion_tokens=cap)
        (group,) = engine.generate(
            [Prompt(problem, ids)], group_size=2, params=params, seed=recipe.seed, step=-2
        )
        subject.kept["sampled"] = group
    held: RolloutGroup = subject.kept["sampled"]
    return held


def samples(subject: Subject) -> Verdict:
    """The engine samples from the model, and every log-prob is a number."""
    group = sampled(subject)
    logprobs = [value for one in group.rollouts for value in one.engine_logprobs]
    if not all(math.isfinite(value) and value <= 0 for value in logprobs):
        return fail("a sampled token has no log-prob", "use another model, or float32")
    return ok(f"{len(logprobs)} tokens: {group.rollouts[0].completion[:40]!r}")


def head(subject: Subject) -> Verdict:
    """The trainer turns hidden states into logits as the model does, with padding beside it."""
    from open_rs.train.logprobs import check_lm_head

    check_lm_head(subject.policy)
    return ok("log-probs are the model's own")


def lesson(subject: Subject) -> Lesson:
    """Learn from the sampled completions, the first as if it were good."""
    if "lesson" not in subject.kept:
        subject.kept["lesson"] = _learn(subject)
    held: Lesson = subject.kept["lesson"]
    return held


def _learn(subject: Subject) -> Lesson:
    from open_rs.models import mixed_precision
    from open_rs.train.batches import Row, make_batches
    from open_rs.train.update import learn_from

    group, policy, recipe = sampled(subject), subject.policy, subject.recipe
    rows = [
        Row(group.prompt_ids, one.completion_ids, one.engine_logprobs, 1.0)
        for one in group.rollouts
    ]
    (batch,) = make_batches(
        rows,
        micro_batch_tokens=sum(row.length for row in rows) * 2,
        loss_norm="token",
        max_completion_tokens=COMPLETION_TOKENS,
    )
    loss = recipe.loss.model_copy(update={"kl_coef": 0.0, "loss_norm": "token"})
    ours = learn_from(
        policy,
        batch,
        defaultdict(float),
        loss,
        recipe.rollout.temperature,
        True,
        mixed_precision(recipe.model),
    ).cpu()
    difference = (ours - batch.old_logprobs)[batch.loss_mask].abs().max().item()
    trained = [(name, one) for name, one in policy.named_parameters() if one.requires_grad]
    without = [name for name, one in trained if one.grad is None]
    not_finite = [
        name for name, one in trained if one.grad is not None and not one.grad.isfinite().all()
    ]
    norms = [one.grad.norm().item() for _, one in trained if one.grad is not None]
    policy.zero_grad(set_to_none=True)
    tokens = int(batch.loss_mask.sum())
    return Lesson(difference, tokens, sum(n * n for n in norms) ** 0.5, without, not_finite)


def agree(subject: Subject) -> Verdict:
    """Engine and trainer give the sampled tokens the same log-probs."""
    learnt = lesson(subject)
    dtype = str(subject.model.dtype).removeprefix("torch.")
    told = f"they differ by {learnt.difference:.2g} nats at most, over {learnt.tokens} tokens"
    if not learnt.difference <= ALLOWED.get(dtype, 0.2):  # NaN, too
        return fail(told, 'use another architecture, or set model.dtype = "float32"')
    return ok(told)


def gradient(subject: Subject) -> Verdict:
    """A gradient reaches every weight that is trained, and is a number."""
    learnt = lesson(subject)
    if learnt.not_finite:
        return fail(
            f"the gradient of {len(learnt.not_finite)} tensors is not finite, "
            f"{learnt.not_finite[0]} among them",
            'set model.dtype = "float32", or use another model',
        )
    if not learnt.norm:
        return fail("the gradient is zero everywhere", "use another model")
    if learnt.without:
        return warn(
            f"{len(learnt.without)} trained tensors get no gradient, {learnt.without[0]} is one",
            "use another architecture, or train adapters on the others",
        )
    return ok(f"norm {learnt.norm:.3g}")


def vllm(subject: Subject) -> Verdict:
    """vLLM is installed where the recipe samples by it, with the devices that it is to use."""
    spec = subject.recipe.rollout.engine
    if not isinstance(spec, VLLMEngineSpec):
        return skipped("the recipe does not sample by vLLM")
    import torch

    from open_rs.rollout.vllm_rules import SUPPORTED, WANTED, installed_version

    have = installed_version()
    if have is None:
        return fail("vLLM is not installed", 'pip install "open-rs[vllm]"')
    if have not in SUPPORTED:
        return fail(f"vLLM {have} is not supported", f"install {WANTED}")
    if spec.tensor_parallel_size > 1 and spec.tensor_parallel_size > torch.cuda.device_count():
        return fail(
            f"rollout.engine.tensor_parallel_size = {spec.tensor_parallel_size}, and there are "
            f"{torch.cuda.device_count()} GPUs",
            "lower it",
        )
    return ok(f"vLLM {have}")


CHECKS = (
    Check("engine.vllm", vllm),
    Check(
        "engine.samples",
        samples,
        needs=(
            "model.architecture",
            "model.finite",
            "model.vocabulary",
            "tokenizer.eos_known",
            "template.renders",
        ),
    ),
    Check("trainer.head", head, needs=("engine.samples",)),
    Check("trainer.agrees", agree, needs=("engine.samples", "trainer.head")),
    Check("trainer.gradient", gradient, needs=("trainer.agrees",)),
)
