"""How long completions are: drawn by the probe, recorded by curation, or assumed.

What was cut off before the recipe's cap goes on with a constant chance of ending per token: that of
the later half of what was seen, whose posterior is Gamma(ends + 1/2, tokens).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path

from open_rs.plan.schedule import Group
from open_rs.runs import RunFolder, read_log

FEWEST = 32  # recorded completions that say more than a probe does
QUANTILE = 0.05  # of the interval
ASSUMED = (0.3, 0.6, 1.0)  # of the cap, where nothing is known: low, expected, high


@dataclass(frozen=True)
class Lengths:
    """`groups`: prompt tokens and the tokens of some completions of it, each problem once. Those of
    `cut` tokens were not seen to end; `cap` is where they have to.
    """

    groups: tuple[Group, ...]
    cut: int
    cap: int
    source: str
    assumed: float | None = None  # mean of completions, where there are none

    @property
    def seen(self) -> list[int]:
        return [length for group in self.groups for length in group.lengths]

    @property
    def cut_frac(self) -> float:
        """Of the completions that were seen, those that were not seen to end."""
        return sum(length >= self.cut for length in self.seen) / len(self.seen)

    def hazard(self) -> tuple[float, float, float]:
        """Chance of ending per token beyond `cut`: low, expected, high."""
        from scipy.special import gammaincinv

        middle = self.cut / 2
        late = [length for length in self.seen if length > middle]
        ends = sum(length < self.cut for length in late)
        tokens = sum(min(length, self.cut) - middle for length in late) or self.cut
        low, high = (gammaincinv(ends + 0.5, q) / tokens for q in (QUANTILE, 1 - QUANTILE))
        return float(low), (ends + 0.5) / tokens, float(high)

    def means(self) -> tuple[float, float, float]:
        """Mean completion tokens: low, expected, high."""
        if self.assumed is not None:
            low, expected, high = (self.assumed * part / ASSUMED[1] for part in ASSUMED)
            return low, expected, min(high, self.cap)
        seen = self.seen
        mean, error = sum(seen) / len(seen), 1.645 * _standard_error(self.groups)
        room, share = self.cap - self.cut, self.cut_frac
        few, some, many = (share * expected_rest(h, room) for h in reversed(self.hazard()))
        return max(mean - error, 1.0) + few, mean + some, min(mean + error + many, self.cap)

    def truncated_frac(self) -> float | None:
        """Of completions, those that will reach the cap."""
        if self.assumed is not None:
            return None
        return self.cut_frac * exp(-self.hazard()[1] * (self.cap - self.cut))

    def quantile(self, q: float) -> int:
        seen = sorted(self.seen)
        return seen[min(int(q * len(seen)), len(seen) - 1)]

    def draw(
        self, rng: random.Random, prompts: int, size: int, *, dead: float = 0.0
    ) -> list[Group]:
        """A batch: `prompts` problems, `size` completions of each; a share `dead` of the groups has
        no signal.
        """
        hazard = 0.0 if self.assumed is not None else self.hazard()[1]
        made = []
        for _ in range(prompts):
            group = rng.choice(self.groups)
            lengths = tuple(self._one(rng, group, hazard) for _ in range(size))
            made.append(Group(group.prompt, lengths, taught=rng.random() >= dead))
        return made

    def _one(self, rng: random.Random, group: Group, hazard: float) -> int:
        if self.assumed is not None:  # log-normal, as lengths of one model on one set are
            drawn = self.assumed * rng.lognormvariate(-0.125, 0.5)
            return max(1, min(round(drawn), self.cap))
        length = rng.choice(group.lengths)
        if length >= self.cut < self.cap:
            length += round(rng.expovariate(hazard))
        return min(length, self.cap)


def expected_rest(hazard: float, room: int) -> float:
    """Tokens to come of one that goes on, at most `room`."""
    return (1 - exp(-hazard * room)) / hazard if hazard * room > 1e-9 else float(room)


def _standard_error(groups: Sequence[Group]) -> float:
    """Of the mean over completions, with problems as clusters."""
    means = [sum(group.lengths) / len(group.lengths) for group in groups]
    if len(means) < 2:
        return 0.5 * means[0]
    centre = sum(means) / len(means)
    variance = sum((one - centre) ** 2 for one in means) / (len(means) - 1)
    return float((variance / len(means)) ** 0.5)


def recorded(run: RunFolder, prompts: dict[str, int], cap: int, sampling: str) -> Lengths | None:
    """What curation sampled of the training problems; `prompts`: their tokens by id; `sampling`:
    the key of what the recipe asks for now, since a folder may hold answers to another recipe. None
    where that leaves too little.
    """
    lengths: dict[str, list[int]] = {}
    for path in answers_of(run):
        for row in read_log(path):
            asked = row.get("sampling") == sampling and "correct" in row
            if asked and row.get("tokens") and row["problem_id"] in prompts:
                lengths.setdefault(row["problem_id"], []).append(min(row["tokens"], cap))
    if sum(map(len, lengths.values())) < FEWEST:
        return None
    groups = [Group(prompts[id], tuple(drawn)) for id, drawn in lengths.items()]
    return Lengths(tuple(groups), cap, cap, "curation's samples")


def answers_of(run: RunFolder) -> list[Path]:
    return sorted(run.curated.glob("answers*.jsonl"))


def assumed(prompt: int, cap: int, mean: float | None) -> Lengths:
    """Where no completion is known: a stated mean, or a share of the cap."""
    source = "assumption" if mean is None else "the mean that was given"
    return Lengths((Group(prompt, ()),), cap, cap, source, mean or ASSUMED[1] * cap)
