"""What a person should know before paying for a run: severity, key, one sentence, cure.

A check is a small pure function of the recipe and of the `Facts` around it, and says nothing where
it lacks a fact. Those that the recipe alone decides are in `recipe_checks`, those that need data, a
probe or a device in `run_checks`. No torch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from open_rs.recipe import Recipe

# error: the run will be refused, or cannot learn; warning: likely not what is wanted
Severity = Literal["error", "warning", "note"]
ORDER: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """`key` is the setting that the cure changes."""

    severity: Severity
    key: str
    sentence: str
    cure: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.key}: {self.sentence}; {self.cure}"


@dataclass(frozen=True)
class Facts:
    """What is known beside the recipe; None or empty: not known."""

    # the model
    parameters: int | None = None
    context: int | None = None  # positions that a row may use
    opens_think: bool | None = None  # the chat template ends the prompt with <think>
    missing: Mapping[str, str] = field(default_factory=dict)  # key: what is not on this machine
    # the data
    problems: int | None = None  # whose prompt is within the limit
    too_long: int = 0
    longest_prompt: int | None = None
    uncurated: bool = False  # counts are those of raw rows
    held_out: Mapping[str, int] = field(default_factory=dict)  # problems by set
    pass_rates: Sequence[float] = ()  # of training problems, as curation measured them
    # sampled completions: of the probe, or recorded
    lengths: Mapping[str, float] = field(
        default_factory=dict
    )  # p10, p50, p90, mean, truncated_frac
    lengths_from: str = "the probe"
    dead_frac: float | None = None  # of the groups, all rewards counted
    reward_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # by part
    no_answer_frac: float | None = None
    # the run
    gpus: int = 1
    recomputes: bool = False  # activations, since the plan found that they do not fit
    step_seconds: float | None = None
    save_seconds: float = 0.0
    checkpoint_bytes: int | None = None
    free_disk: int | None = None
    reference_bytes: int = 0
    memory: int | None = None  # what the run needs
    device_memory: int | None = None
    device: str = ""
    lower: tuple[str, str] | None = None  # the key that makes it fit, and what to do with it
    usd_per_hour: float | None = None
    imported: Sequence[tuple[str, str, str]] = ()  # kind, key, text of an importer's notes


Check = Callable[[Recipe, Facts], Iterator[Finding]]


def find(recipe: Recipe, facts: Facts) -> list[Finding]:
    """Every finding, the gravest first."""
    from open_rs.plan.recipe_checks import RECIPE_CHECKS
    from open_rs.plan.run_checks import RUN_CHECKS

    found = [one for check in (*RECIPE_CHECKS, *RUN_CHECKS) for one in check(recipe, facts)]
    return sorted(found, key=lambda one: ORDER.index(one.severity))


def as_rows(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """For plan.json."""
    return [asdict(one) for one in findings]


def from_row(row: Any) -> Finding:
    """A finding of a plan.json; what an older version wrote is a sentence alone."""
    if isinstance(row, dict):
        return Finding(**{key: row.get(key, "") for key in Finding.__dataclass_fields__})
    return Finding("note", "", str(row), "")


def steps_between_saves(recipe: Recipe) -> int:
    """Steps after which a checkpoint comes at the latest: scored weights are saved as well."""
    every = min(recipe.train.save_every, recipe.train.num_steps)
    return min(every, recipe.evaluate.every) if recipe.data.validation else every


def checkpoint_steps(recipe: Recipe) -> list[int]:
    """The steps of all checkpoints that the run writes."""
    last = recipe.train.num_steps
    due = {*range(recipe.train.save_every, last, recipe.train.save_every), last}
    if recipe.data.validation:
        due |= set(range(recipe.evaluate.every, last, recipe.evaluate.every))
    return sorted(due)
