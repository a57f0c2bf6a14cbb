"""The collapse sentinel: has a series of the run left the course that it was on?

Every detector watches one metric by a one-sided CUSUM (Page 1954) of its standardised steps:

    z_t = (x_t - m_t) / max(s_t, floor),  S_t = max(0, S_(t-1) + min(z_t, CLIP) - SLACK)

and raises an alarm where S_t passes LIMIT. m is the mean of the series itself and s its standard
deviation, forgotten exponentially (`SPAN` steps), so that nothing has to be known about the run.
s is told by the differences of successive steps (von Neumann 1941),

    s^2 = NOISE E[(x_t - x_(t-1))^2] / 2,

since a mean that lags behind a drift makes deviations from it grow with the drift, which would hide
it. So a drift well below SLACK / SPAN standard deviations a step, as of a reward that is being
learnt, is followed; a faster one, and a change of course, is not. CLIP makes a single odd step
harmless: no alarm comes before the third one. A detector's whole state is a
function of the metrics rows before it, so it needs no place in a checkpoint: a resumed run reads
its metrics again. No torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

SPAN = 30  # steps over which mean and spread are forgotten
WARM_UP = 10  # steps of which mean and spread are learnt before anything is judged
NOISE = 1.15  # 30 differences tell a variance less exactly than 30 deviations: some of them too low
CLIP = 4.0  # standard deviations that one step may count
SLACK = 1.0  # standard deviations that are tolerated for ever
LIMIT = 8.0  # of the sum
DOUBT = 2.0  # of the sum: above it, mean and spread are learnt half as fast
QUIET = 20  # steps after an alarm in which the same detector keeps silent

UPDATE_SIZE = "optim/update_per_rate"  # `with_plan` adds it to a row

Direction = Literal["up", "down"]


@dataclass(frozen=True)
class Detector:
    """What is watched, and what to tell the user when it moves."""

    name: str
    series: str  # a key of metrics.jsonl
    direction: Direction
    floor: float  # the least standard deviation that counts, in the unit of the series
    meaning: str
    cure: str
    log: bool = False  # of a positive series: its logarithm, so that the floor is a relative one
    increments: bool = False  # of a series that grows by nature: its steps
    span: int = SPAN  # over which the mean is forgotten: few steps follow a quick course, whose
    # drift then counts as spread

    def value(self, row: Mapping[str, float]) -> float | None:
        """The number that is watched; None where the row does not have it."""
        value = row.get(self.series)
        if value is None or not math.isfinite(value):
            return None
        return math.log(max(value, 1e-12)) if self.log else value


@dataclass(frozen=True)
class Alarm:
    """A detector's finding at a step."""

    step: int
    detector: Detector
    value: float  # what was watched: a logarithm where the detector takes one
    expected: float  # by the series' own recent past

    def sentence(self) -> str:
        one = self.detector
        value, expected = (
            math.exp(number) if one.log else number for number in (self.value, self.expected)
        )
        return (
            f"{one.name} at step {self.step}: {one.series} is {value:.3g}, expected {expected:.3g} "
            f"by its own past; {one.meaning}; {one.cure}"
        )


DETECTORS = (
    Detector(
        "reward_drop", "reward/mean", "down", 0.02,
        "the policy earns less than it did", "lower train.learning_rate, or look at the data",
    ),
    Detector(
        "reward_jump", "reward/mean", "up", 0.1,
        "the reward rises faster than anything is learnt: it pays for something else now",
        "look at the rollouts that earn most, and at the rewards", span=6,
    ),
    Detector(
        "dead_groups", "groups/unsolved_dead_frac", "up", 0.05,
        "groups are equal in reward without being solved, so they teach nothing",
        "easier problems, a larger rollout.group_size, or a finer reward",
    ),
    Detector(
        "length_up", "completion/mean_tokens", "up", 0.07,
        "completions grow", "an overlong or cosine reward, or a lower cap", log=True,
    ),
    Detector(
        "length_down", "completion/mean_tokens", "down", 0.07,
        "completions shrink: the thought is being left out",
        "a smaller weight on rewards that do not need a right answer", log=True,
    ),
    Detector(
        "truncation", "completion/truncated_frac", "up", 0.04,
        "more completions end at the cap",
        "a larger rollout.max_completion_tokens, or an overlong reward",
    ),
    Detector(
        "repetition", "completion/repetition_frac", "up", 0.03,
        "completions repeat themselves", "a repetition reward, or a lower train.learning_rate",
    ),
    Detector(
        "language", "completion/other_script_frac", "up", 0.02,
        "letters of other scripts appear", "a language reward, or prompt.system = open_rs_english",
    ),
    Detector(
        "entropy_up", "policy/entropy", "up", 0.1,
        "the policy becomes random", "a lower train.learning_rate or tighter clips", log=True,
    ),
    Detector(
        "kl", "policy/kl", "up", 0.002,
        "the policy leaves its start ever faster",
        "a lower train.learning_rate or a larger loss.kl_coef", increments=True,
    ),
    Detector(
        "engine_kl", "policy/engine_kl", "up", 2e-6,
        "the sampler's log-probs are not the trainer's: it may hold old weights, or rows are mixed "
        "up", "look at the engine's weight update",
    ),
    Detector(
        "gradient_norm", "optim/grad_norm", "up", 0.25,
        "gradients grow", "a lower train.learning_rate", log=True,
    ),
    Detector(
        "update_size", UPDATE_SIZE, "up", 0.7,  # AdamW's momentum alone moves it to and fro by e
        "one step moves the weights further than the plan of the learning rate accounts for",
        "look at who sets the learning rate; a lower train.learning_rate", log=True,
    ),
    Detector(
        "clipping", "policy/clip_frac", "up", 0.01,
        "more tokens are clipped", "fewer train.updates_per_batch or a lower learning rate",
    ),
    Detector(
        "undecided", "reward/undecided_frac", "up", 0.03,
        "the grader or a reward fails on more rollouts", "look at the event `undecided` for rows",
    ),
)  # fmt: skip


@dataclass
class Watch:
    """A detector at work: mean, variance and the sum, from the values that it was shown."""

    detector: Detector
    seen: int = 0
    mean: float = 0.0
    variance: float = 0.0
    total: float = 0.0
    quiet_until: int = 0
    previous: float | None = None  # of the raw series, where increments are watched
    latest: float | None = None  # value that was watched

    def observe(self, step: int, row: Mapping[str, float]) -> Alarm | None:
        """Take in the row of a step."""
        value = self._watched(row)
        if value is None:
            return None
        sign = 1.0 if self.detector.direction == "up" else -1.0
        spread = max(math.sqrt(self.variance), self.detector.floor)
        alarm = None
        if self.seen >= WARM_UP:
            score = sign * (value - self.mean) / spread
            self.total = max(0.0, self.total + min(score, CLIP) - SLACK)
            if self.total > LIMIT:
                self.total = 0.0
                if step >= self.quiet_until:
                    raw = self.detector.value(row) or 0.0
                    alarm = Alarm(step, self.detector, raw, raw - value + self.mean)
                    self.quiet_until = step + QUIET
        self._learn(value, spread)
        return alarm

    def _watched(self, row: Mapping[str, float]) -> float | None:
        value = self.detector.value(row)
        if value is None or not self.detector.increments:
            return value
        before, self.previous = self.previous, value
        return None if before is None else value - before

    def _learn(self, value: float, spread: float) -> None:
        """Plain mean and variance at first, then exponentially forgotten ones.

        What is far off counts as CLIP standard deviations, so one odd step does not hide the next,
        and while the sum is in DOUBT a change of course is not soon taken for the course.
        """
        self.seen += 1
        doubt = 0.5 if self.total > DOUBT else 1.0
        most = CLIP * spread if self.seen > WARM_UP else math.inf
        off = max(-most, min(most, value - self.mean))
        self.mean += max(1 / self.seen, 1 / self.detector.span) * doubt * off
        if self.detector.span < SPAN:
            rate = max(1 / self.seen, 1 / SPAN) * doubt
            self.variance = (1 - rate) * (self.variance + rate * off * off)
        elif self.latest is not None:
            step = max(-most, min(most, value - self.latest))
            rate = max(1 / (self.seen - 1), 1 / SPAN)
            self.variance += rate * (NOISE * step * step / 2 - self.variance)
        self.latest = value


@dataclass
class Sentinel:
    """All detectors of a run."""

    watches: list[Watch] = field(default_factory=lambda: [Watch(one) for one in DETECTORS])
    best: tuple[float, float] | None = None  # (value, standard error) of the best held-out score

    def learn_anew(self) -> None:
        """Every series starts another course; the best held-out score stays."""
        self.watches = [Watch(one) for one in DETECTORS]

    def observe(self, row: Mapping[str, float]) -> list[Alarm]:
        """The alarms of one row of metrics, in the order of `DETECTORS`."""
        step = int(row["step"])
        alarms = [watch.observe(step, row) for watch in self.watches]
        alarms += [nonfinite(step, row), self._held_out(step, row)]
        return [alarm for alarm in alarms if alarm is not None]

    def _held_out(self, step: int, row: Mapping[str, float]) -> Alarm | None:
        """A validation score below the best one so far by more than 2.5 standard errors.

        Both answered the same problems, so an unpaired error is too wide and the rule careful.
        """
        value = row.get("validation/pass@1")
        if value is None:
            return None
        low, high = row["validation/pass@1_low"], row["validation/pass@1_high"]
        error = (high - low) / (2 * 1.96)
        if self.best is None or value > self.best[0]:
            self.best = (value, error)
            return None
        best, best_error = self.best
        if best - value > 2.5 * math.hypot(error, best_error):
            return Alarm(step, HELD_OUT, value, best)
        return None


def with_plan(row: Mapping[str, float], rate: float) -> Mapping[str, float]:
    """A row of metrics with its update of the weights per unit of the planned learning rate.

    Warm-up, cosine and schedules change the size of updates by intent, and none of them is to raise
    an alarm. The rate is the recipe's and not the one that the optimizer had.
    """
    if not rate or "optim/update_norm" not in row:
        return row
    return {**row, UPDATE_SIZE: row["optim/update_norm"] / rate}


HELD_OUT = Detector(
    "held_out_drop", "validation/pass@1", "down", 0.0,
    "the held-out score fell below the best one by more than noise explains",
    "go back to the best checkpoint",
)  # fmt: skip
NOT_A_NUMBER = "what was measured is not a finite number"
NONFINITE = Detector(
    "nonfinite", "optim/skipped", "up", 0.0,
    "loss or gradient was not finite and the step changed nothing",
    "lower train.learning_rate; look at the rewards for numbers that are not finite",
)  # fmt: skip


def nonfinite(step: int, row: Mapping[str, float]) -> Alarm | None:
    """No statistics are needed here: one such step is a fault, and so is one such number."""
    if row.get("optim/skipped"):
        return Alarm(step, NONFINITE, 1.0, 0.0)
    for key in dict.fromkeys(one.series for one in DETECTORS):
        value = row.get(key, 0.0)
        if not math.isfinite(value):
            return Alarm(step, replace(NONFINITE, series=key, meaning=NOT_A_NUMBER), value, 0.0)
    return None


def detector_names() -> Sequence[str]:
    return [one.name for one in (*DETECTORS, HELD_OUT, NONFINITE)]
