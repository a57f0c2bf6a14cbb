"""rollouts/STEP.jsonl.gz: everything that one rollout batch said, one row a rollout."""

from collections.abc import Iterator, Sequence
from typing import Any

from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.protocol import RolloutGroup
from open_rs.runs import RunFolder, write_jsonl


def write_rollouts(
    run: RunFolder, step: int, groups: Sequence[RolloutGroup], sampler: GradedSampler
) -> None:
    write_jsonl(run.rollouts(step), rollout_rows(step, groups, sampler))


def rollout_rows(
    step: int, groups: Sequence[RolloutGroup], sampler: GradedSampler
) -> Iterator[dict[str, Any]]:
    for group in groups:
        prompt = sampler.prompter.text(group.problem.problem)
        for rollout in group.rollouts:
            drawn_by = rollout.weights_step
            yield {
                "step": step,
                "problem_id": group.problem.id,
                "problem": group.problem.problem,
                "answer": group.problem.answer,
                "prompt": prompt,
                "prompt_ids": group.prompt_ids,
                "sample": rollout.sample,
                "completion": rollout.completion,
                "completion_ids": rollout.completion_ids,
                "engine_logprobs": rollout.engine_logprobs,
                "reward": rollout.reward,
                "reward_breakdown": rollout.reward_breakdown,
                "advantage": rollout.advantage,
                "finish_reason": rollout.finish_reason,
                "outcome": rollout.grade.outcome if rollout.grade else None,
                "extracted": rollout.grade.extracted if rollout.grade else None,
                "policy_version": sampler.grader.policy_version,
                **({} if drawn_by is None else {"weights_step": drawn_by}),
            }
