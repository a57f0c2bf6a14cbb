"""Which problems a step draws, by what their groups taught before.

A group teaches nothing where its G rewards are all equal. For a problem that the policy solves with
probability p, answers differ within a group with probability

    signal(p) = 1 - p^G - (1 - p)^G

p is not known: it has a Beta posterior, from the right and wrong completions that the problem was
given lately. Problems come in turn, and those of which the posterior expects next to no signal are
passed over, as in GRESO (arXiv 2506.02177); among the others none is preferred. Everything here is
a function of (seed, step, history).
"""

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from open_rs.problems import Problem
from open_rs.recipe import Recipe
from open_rs.rollout.noise import stream_key
from open_rs.rollout.protocol import Prompt, RolloutGroup
from open_rs.train.schedule import ProblemSampler

DEAD = 0.4  # one dead group of 8 is below it for one and a half half-lives, two for two and a half
PRIOR = 0.4  # Beta(0.4, 0.4): a problem not seen yet is likelier very easy or very hard than not

Floats = NDArray[np.float64]
# Right and wrong completions, the step up to which, and the tokens of one in its latest group
Counts = tuple[float, float, int, float] | tuple[float, float, int]


class History:
    """How many completions of each problem were right and wrong, older ones counting less, and how
    long they were.

    A count halves in `half_life` steps, so what is known of a problem is forgotten and the problem
    comes again, later where more was known of it.
    """

    def __init__(self, half_life: float, counts: Mapping[str, Counts] | None = None) -> None:
        self.half_life = half_life
        self.counts: dict[str, Counts] = dict(counts or {})

    def note(self, step: int, groups: Iterable[RolloutGroup]) -> None:
        """Add the outcomes of a step's groups. One that could not be judged is none."""
        for group in groups:
            grades = [one.grade for one in group.rollouts if one.grade and one.grade.decided]
            solved = sum(grade.correct for grade in grades)
            right, wrong = self._at(group.problem.id, step)
            counts = right + solved, wrong + len(grades) - solved
            tokens = sum(one.num_tokens for one in group.rollouts) / max(len(group.rollouts), 1)
            self.counts[group.problem.id] = (*counts, step, tokens)

    def expecting(self, prompts: Iterable[Prompt]) -> list[Prompt]:
        """The prompts with the tokens of a completion that the latest group of each had."""
        return [
            replace(one, expected_tokens=next(iter(self.counts.get(one.problem.id, ())[3:]), None))
            for one in prompts
        ]

    def _at(self, id: str, step: int) -> tuple[float, float]:
        right, wrong, noted = self.counts.get(id, (0.0, 0.0, step))[:3]
        kept = 0.5 ** ((step - noted) / self.half_life)
        return right * kept, wrong * kept

    def posterior(self, problems: Sequence[Problem], step: int) -> tuple[Floats, Floats]:
        """The parameters (a, b) [N] of each problem's Beta posterior at `step`."""
        counts = np.array([self._at(problem.id, step) for problem in problems]).reshape(-1, 2)
        return counts[:, 0] + PRIOR, counts[:, 1] + PRIOR

    def expected_signal(self, problems: Sequence[Problem], step: int, group_size: int) -> Floats:
        """Of each problem, the probability that the answers of its next group differ [N].

        E[1 - p^G - (1 - p)^G] = 1 - B(a + G, b) / B(a, b) - B(a, b + G) / B(a, b)
        """
        a, b = self.posterior(problems, step)
        all_right = np.exp(betaln(a + group_size, b) - betaln(a, b))
        all_wrong = np.exp(betaln(a, b + group_size) - betaln(a, b))
        return np.clip(1 - all_right - all_wrong, 0, 1)


def next_ids(
    recipe: Recipe,
    stream: ProblemSampler,
    history: History,
    *,
    step: int,
    missing: int,
    most: int,
    exclude: Set[str],
) -> list[str]:
    """The problems of a step's next batch, none of `exclude`, for `missing` groups that teach.

    As many as are missing; with loss.oversample so many that as many groups as are missing are
    expected to teach something, but no more than `most`. Fewer where there are no more. What is
    predicted dead is passed over, and taken only where nothing else is left.
    """
    size = recipe.rollout.screen_size or recipe.rollout.group_size
    passed_over = predicted_dead(recipe, stream.problems, history, step) - exclude
    chosen, expected = list[str](), 0.0
    while expected < missing and len(chosen) < most:
        found = stream.take(1, exclude | passed_over) or stream.take(1, exclude)
        if not found:
            break
        exclude = exclude | {found[0].id}
        chosen.append(found[0].id)
        [signal] = history.expected_signal(found, step, size)
        expected += float(signal) if recipe.loss.oversample else 1.0
    return chosen


def predicted_dead(
    recipe: Recipe, problems: Sequence[Problem], history: History, step: int
) -> set[str]:
    """The problems that a step passes over with data.select = "history".

    They are those whose next group is expected to teach something with less than the probability
    DEAD. Each is spared with probability data.explore all the same.
    """
    if recipe.data.select == "stream":
        return set()
    known = [problem for problem in problems if problem.id in history.counts]
    signals = history.expected_signal(known, step, recipe.rollout.group_size)
    return {
        problem.id
        for problem, signal in zip(known, signals, strict=True)
        if signal < DEAD and uniform(recipe.seed, step, problem.id) >= recipe.data.explore
    }


def uniform(seed: int, step: int, name: str) -> float:
    """A number in (0, 1) of its own for each name; no rollout's noise has such a stream."""
    return (stream_key(seed, step, f"select\0{name}")[0] + 0.5) * 2.0**-32


def rewards_differ(group: RolloutGroup) -> bool:
    """Whether two decided rollouts of a group were rewarded differently."""
    return len({rollout.reward for rollout in group.rollouts if rollout.reward is not None}) > 1


def kept_probability(rewards: Sequence[float | None], screen_size: int) -> float:
    """The probability that a group passes its screen, given the rewards that it ended up with.

    The samples of a group are exchangeable: any `screen_size` of its G could have been the first.
    Those that fail hold one value only, beside undecided ones (None):

        1 - (sum_v C(n_v + n_u, s) - (m - 1) C(n_u, s)) / C(G, s)

    for m values v, n_v of each and n_u undecided. Dividing a kept group's advantages by it makes
    the mean over screens that of groups drawn in full (Horvitz and Thompson 1952).
    """
    values = [reward for reward in rewards if reward is not None]
    undecided = len(rewards) - len(values)
    failing = [math.comb(values.count(v) + undecided, screen_size) for v in set(values)]
    twice = (len(failing) - 1) * math.comb(undecided, screen_size)
    return 1 - (sum(failing) - twice) / math.comb(len(rewards), screen_size)
