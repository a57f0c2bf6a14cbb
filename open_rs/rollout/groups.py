"""From completions as they end to groups in the order of their prompts, for every engine."""

from collections.abc import Callable, Container, Generator, Iterator, Sequence
from contextlib import closing

from open_rs.rollout.protocol import Prompt, Rollout, RolloutGroup


def wanted_samples(
    prompts: Sequence[Prompt], group_size: int, skip: Container[tuple[str, int]]
) -> Iterator[tuple[int, int]]:
    """(prompt index, sample) to draw, problem by problem; `skip`: (problem id, sample)."""
    for index, prompt in enumerate(prompts):
        for sample in range(group_size):
            if (prompt.problem.id, sample) not in skip:
                yield index, sample


def expected_tokens(prompts: Sequence[Prompt]) -> list[float]:
    """Tokens that a completion of each prompt is expected to have; where nothing is known, the
    mean of the others, or 1.
    """
    known = [one.expected_tokens for one in prompts if one.expected_tokens is not None]
    mean = sum(known) / len(known) if known else 1.0
    return [mean if one.expected_tokens is None else one.expected_tokens for one in prompts]


def gather(
    prompts: Sequence[Prompt],
    ended: Generator[tuple[int, Rollout]],
    *,
    on_finished: Callable[[Prompt, Rollout], None] | None,
    keep: bool,
) -> tuple[list[RolloutGroup], int]:
    """(the groups, completion ids in all) of (prompt index, rollout) as they end.

    `on_finished` is told of each before the next is asked for. Without `keep` the groups are empty.
    `ended` is closed however this ends.
    """
    groups = [RolloutGroup(p.problem, list(p.prompt_ids), []) for p in prompts]
    tokens = 0
    with closing(ended):
        for index, rollout in ended:
            tokens += len(rollout.completion_ids)
            if keep:
                groups[index].rollouts.append(rollout)
            if on_finished is not None:
                on_finished(prompts[index], rollout)
    for group in groups:
        group.rollouts.sort(key=lambda rollout: rollout.sample)
    return groups, tokens
