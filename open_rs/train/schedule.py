"""What changes with the step, as pure functions of it: nothing here has to be saved."""

import math
import random
from collections.abc import Sequence, Set

from open_rs.problems import Problem
from open_rs.recipe import Recipe, TrainRecipe


def learning_rate(step: int, recipe: TrainRecipe) -> float:
    """Linear warm-up to the peak, then a cosine down to min_lr_ratio x peak at the last step.

    Steps count from 1, and the first one moves already: peak / warm-up steps, not 0.
    """
    warmup = round(recipe.warmup_ratio * recipe.num_steps)
    if step <= warmup:
        return recipe.learning_rate * step / warmup
    progress = (step - warmup) / max(recipe.num_steps - warmup, 1)
    low = recipe.min_lr_ratio
    return recipe.learning_rate * (low + (1 - low) * (1 + math.cos(math.pi * progress)) / 2)


def save_is_due(step: int, recipe: Recipe) -> bool:
    """At every save, at the last step, and wherever the weights are scored."""
    return (
        step % recipe.train.save_every == 0
        or step == recipe.train.num_steps
        or score_is_due(step, recipe)
    )


def score_is_due(step: int, recipe: Recipe) -> bool:
    """At the start, every so many steps, and at the last one, where there is a validation set."""
    on_time = step % recipe.evaluate.every == 0 or step == recipe.train.num_steps
    return recipe.data.validation is not None and on_time


class ProblemSampler:
    """An endless stream of problems, each epoch in an order that is a function of (seed, epoch).

    Its whole state is `position`, the number of problems that the stream has given so far.
    """

    def __init__(self, problems: Sequence[Problem], seed: int, position: int = 0) -> None:
        self.problems = problems
        self.seed = seed
        self.position = position
        self._epoch = -1
        self._order: list[int] = []

    def take(self, count: int, exclude: Set[str] = frozenset()) -> list[Problem]:
        """The next `count` problems, no id twice and none of `exclude`; fewer if there are not so
        many. A problem that is passed over here comes again in the next epoch."""
        taken: dict[str, Problem] = {}
        available = len({problem.id for problem in self.problems} - exclude)
        while len(taken) < min(count, available):
            problem = self._next()
            if problem.id not in exclude:
                taken[problem.id] = problem
        return list(taken.values())

    def _next(self) -> Problem:
        epoch, index = divmod(self.position, len(self.problems))
        if epoch != self._epoch:
            self._order = list(range(len(self.problems)))
            random.Random(f"{self.seed}/{epoch}").shuffle(self._order)
            self._epoch = epoch
        self.position += 1
        return self.problems[self._order[index]]
