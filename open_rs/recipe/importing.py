r"""GRPO recipes of other trainers (open-r1 and Open-RS, TRL's GRPOConfig) as recipes of ours.

Every key of the YAML ends in one of four ways, and a note says which: carried over; without a
counterpart here; a mistake there, with how it is read here; or unknown. Where their trainer fills
in a default that decides the maths (a KL weight of 0.04 that no recipe states), the value is
written out and said. Defaults are those of TRL 0.15, which the Open-RS code pinned, or of 1.x.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, cast, get_args

from open_rs.errors import InputError
from open_rs.recipe.theirs import LEFT_OUT, LOSSES, REWARDS, SAME, Settings, Theirs
from open_rs.text import visible

MOST_SHOWN = 200  # characters of a value

Kind = Literal[
    "carried over", "no counterpart", "read differently", "default made plain", "unknown"
]


@dataclass(frozen=True)
class Note:
    """What became of a key."""

    kind: Kind
    key: str
    text: str


@dataclass
class Imported:
    """Settings of ours, nested as in a recipe, and what became of theirs."""

    settings: Settings = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def put(self, key: str, value: Any) -> None:
        """Set the dotted key of ours."""
        *parents, last = key.split(".")
        place = self.settings
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = value

    def note(self, kind: Kind, key: str, text: str) -> None:
        """The file's own words become one line without controls: notes stand in comments."""
        self.notes.append(Note(kind, one_line(key), one_line(text)))


def cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def one_line(text: str) -> str:
    return " ".join(visible(text).split())


def import_recipe(
    path: Path, *, processes: int = 1, trl: Literal["0.15", "1.x"] | None = None
) -> Imported:
    """The YAML at `path`, trained there by `processes` training processes.

    `trl` says whose defaults fill what the file leaves out; None guesses by the keys in it.
    """
    theirs = read_yaml(path)
    old = (trl or guessed_version(theirs)) == "0.15"
    made = Imported()
    made.put("name", "".join(c if c.isalnum() or c in "._-" else "-" for c in path.stem))
    handled = set()
    for names, handler in HANDLERS.items():
        if set(names) & theirs.keys() or names[0] in ALWAYS:
            handler(made, theirs, Context(processes, old))
            handled |= set(names)
    for key, value in theirs.items():
        if key not in handled:
            carry(made, key, value)
    return made


@dataclass(frozen=True)
class Context:
    """What is not in the file."""

    processes: int
    old: bool  # TRL 0.15, whose defaults were others

    @property
    def trainer(self) -> str:
        return "TRL 0.15" if self.old else "TRL 1.x"


def read_yaml(path: Path) -> Theirs:
    import yaml

    try:
        theirs = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).replace("\n", " ")
        raise InputError(f"{path}: not valid YAML ({reason}); mend the file") from None
    if not isinstance(theirs, dict) or not all(isinstance(key, str) for key in theirs):
        raise InputError(
            f"{path}: holds no table of settings; give a GRPO recipe of TRL or open-r1"
        )
    return Theirs(theirs)


def guessed_version(theirs: Mapping[str, Any]) -> str:
    """`vllm_device` and the prompt limit were dropped from TRL before 1.0."""
    return "0.15" if {"vllm_device", "max_prompt_length"} & theirs.keys() else "1.x"


def carry(made: Imported, key: str, value: Any) -> None:
    """A key that needs no thought: the same here, left out, or unknown."""
    if key in SAME:
        made.put(SAME[key], value)
        made.note("carried over", key, f"{SAME[key]} = {value!r}")
        return
    for left_out, reason in LEFT_OUT.items():
        if fnmatchcase(key, left_out):
            made.note("no counterpart", key, reason)
            return
    known = [*SAME, *LEFT_OUT, *(name for names in HANDLERS for name in names)]
    near = difflib.get_close_matches(key, known, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    made.note("unknown", key, f"{meant}its value is {cut(repr(value))}; see whether it matters")


def model(made: Imported, theirs: Theirs, context: Context) -> None:
    revision = theirs.get("model_revision")
    if revision and revision != "main":
        made.put("model.revision", revision)
    dtype = str(theirs.get("dtype", theirs.get("torch_dtype", "auto")))
    made.note(
        "read differently",
        "torch_dtype",
        f"{dtype} there is the type of the trained weights, in which small updates are lost; here "
        "weights are float32 and the arithmetic is bfloat16 on CUDA (model.dtype = auto)",
    )


def data(made: Imported, theirs: Theirs, context: Context) -> None:
    made.put("data.train.hub", theirs["dataset_name"])
    made.note("carried over", "dataset_name", f"data.train.hub = {theirs['dataset_name']!r}")
    made.note(
        "no counterpart",
        "data.validation, data.test",
        "their recipe names no held-out set; name both, or the run can be compared with nothing",
    )


def prompt(made: Imported, theirs: Theirs, context: Context) -> None:
    system = str(theirs["system_prompt"])
    if "\\boxed{{}}" in system:
        system = system.replace("\\boxed{{}}", "\\boxed{}")
        made.note(
            "read differently",
            "system_prompt",
            "it literally shows \\boxed{{}}, an escape that nothing undoes; here it is \\boxed{}",
        )
    if "<answer>" in system and "format" in theirs.words("reward_funcs"):
        made.note(
            "read differently",
            "system_prompt",
            "it asks for <answer> tags, which their format reward does not look at; the format "
            "reward here wants one closed thought and then an answer",
        )
    made.put("prompt.system", system)
    made.note("carried over", "system_prompt", "prompt.system")


def prompt_limit(made: Imported, theirs: Theirs, context: Context) -> None:
    limit = theirs["max_prompt_length"]
    made.put("prompt.max_prompt_tokens", limit)
    made.note(
        "read differently",
        "max_prompt_length",
        f"there a longer prompt loses its left end; here problems over {limit} tokens are dropped "
        "and counted",
    )


def batch(made: Imported, theirs: Theirs, context: Context) -> None:
    """prompts_per_step = rows a device x accumulation x processes / group size."""
    rows = theirs.count("per_device_train_batch_size", 8)
    accumulation = theirs.count("gradient_accumulation_steps", 1)
    group = theirs.count("num_generations", 8)
    completions = rows * accumulation * context.processes
    if completions % group:
        raise InputError(
            f"{rows} rows x {accumulation} accumulation steps x {context.processes} processes are "
            f"{completions} completions, no multiple of num_generations = {group}; give the number "
            "of training processes by --processes"
        )
    made.put("rollout.prompts_per_step", completions // group)
    made.put("rollout.group_size", group)
    made.note(
        "carried over",
        "per_device_train_batch_size",
        f"rollout.prompts_per_step = {rows} x {accumulation} x {context.processes} processes / "
        f"{group} = {completions // group}",
    )


def loss(made: Imported, theirs: Theirs, context: Context) -> None:
    """Divisors, scales and the KL weight, with what their trainer takes where nothing is stated."""
    kind = str(theirs.get("loss_type", "grpo" if context.old else "dapo"))
    if kind not in LOSSES:
        made.note("unknown", "loss_type", f"{kind!r}; loss.* is left at our defaults")
    for key, value in LOSSES.get(kind, {}).items():
        made.put(f"loss.{key}", value)
    stated = "loss_type" in theirs
    made.note(
        "carried over" if stated else "default made plain",
        "loss_type",
        f"{kind} ({context.trainer})",
    )
    if theirs.get("scale_rewards", True) in (False, "none"):
        made.put("loss.advantage_scale", "none")
    if theirs.get("importance_sampling_level") == "sequence":
        made.put("loss.ratio_level", "sequence")
    low = theirs.number("epsilon", 0.2)
    made.put("loss.clip_high", theirs.number("epsilon_high", low))
    beta = theirs.number("beta", 0.04 if context.old else 0.0)
    if theirs.get("beta") is None:
        made.note(
            "default made plain",
            "beta",
            f"no KL weight is stated; {context.trainer} takes {beta}, and so does this recipe "
            "(loss.kl_coef)",
        )
    else:
        made.note("carried over", "beta", f"loss.kl_coef = {beta}")
    made.put("loss.kl_coef", beta)


def temperature(made: Imported, theirs: Theirs, context: Context) -> None:
    value = theirs.get("temperature")
    if value is None:
        value = 0.9 if context.old else 1.0
        made.note("default made plain", "temperature", f"{value} ({context.trainer})")
    made.put("rollout.temperature", value)
    if context.old:
        made.note(
            "read differently",
            "temperature",
            "there the logits of training were not divided by it, so the ratio was not 1 on "
            "policy; here they are",
        )


def learning_rate(made: Imported, theirs: Theirs, context: Context) -> None:
    kind = theirs.get("lr_scheduler_type", "linear")
    settings, rate = theirs.table("lr_scheduler_kwargs"), theirs.number("learning_rate", 1e-6)
    if kind == "cosine_with_min_lr":
        share = settings.number("min_lr", 0.0) / rate if rate else 0.0
        low = settings.number("min_lr_rate", share)
    elif kind in ("constant", "constant_with_warmup"):
        low = 1.0
    else:
        low = 0.0
    made.put("train.min_lr_ratio", low)
    exact = kind in ("cosine", "cosine_with_min_lr", "constant", "constant_with_warmup")
    made.note(
        "carried over" if exact else "read differently",
        "lr_scheduler_type",
        f"{kind}: a cosine to train.min_lr_ratio = {low:g} of the peak",
    )
    if "warmup_ratio" not in theirs:
        steps, total = theirs.number("warmup_steps", 0), theirs.number("max_steps", 0)
        made.put("train.warmup_ratio", steps / total if total > 0 and steps else 0.0)


def rewards(made: Imported, theirs: Theirs, context: Context) -> None:
    """The rewards by name, with the three mistakes of the reference code's cosine named."""
    names = theirs.words("reward_funcs", ("accuracy", "format"))
    weights = theirs.numbers("reward_weights", [1.0] * len(names))
    if len(weights) != len(names):
        raise InputError(
            f"{len(weights)} reward_weights for {len(names)} reward_funcs; give each its weight"
        )
    specs = []
    for name, weight in zip(names, weights, strict=True):
        if name not in REWARDS:
            made.note("unknown", f"reward_funcs.{name}", "write it as a function of your own")
            continue
        specs.append({**REWARDS[name], "weight": weight})
        made.note("carried over", f"reward_funcs.{name}", f"weight {weight}")
    if "cosine" in names:
        cosine_notes(made, theirs)
    if "format" in names:
        made.note(
            "read differently",
            "reward_funcs.format",
            "there one </think> line is counted and no answer asked for; here the whole completion "
            "is matched, aware of a template that opens <think>",
        )
    for name in ("accuracy", "cosine"):
        if name in names and context.old:
            made.note(
                "read differently",
                f"reward_funcs.{name}",
                "there a gold that cannot be parsed earns 1, and answer and gold are given to the "
                "comparison the wrong way round; here such a rollout is undecided and left out",
            )
    if specs:
        made.put("rewards", specs)


def cosine_notes(made: Imported, theirs: Theirs) -> None:
    key = "reward_funcs.cosine"
    length = theirs.get("cosine_max_len", 1000)
    made.note(
        "read differently", key,
        f"there length is counted in characters against cosine_max_len = {length}; here in tokens "
        "against rollout.max_completion_tokens",
    )  # fmt: skip
    made.note(
        "read differently", key,
        "there it is not clamped, so it repeats with the length and a very long answer earns what "
        "an empty one does; here it is constant beyond the cap",
    )  # fmt: skip
    made.note(
        "read differently", key,
        "there the ends of the wrong branch are exchanged, so a short wrong answer loses least; "
        "here a long one does",
    )  # fmt: skip


def lora(made: Imported, theirs: Theirs, context: Context) -> None:
    if not theirs["use_peft"]:
        made.note("carried over", "use_peft", "all weights are trained")
        return
    made.put("model.lora.rank", theirs.get("lora_r", 16))
    made.note("carried over", "use_peft", "model.lora")


Handler = Callable[[Imported, Theirs, Context], None]
# The first name of each is what starts it; those in ALWAYS are asked whatever the file holds
HANDLERS: dict[tuple[str, ...], Handler] = {
    ("torch_dtype", "dtype", "model_revision"): model,
    ("dataset_name",): data,
    ("system_prompt",): prompt,
    ("max_prompt_length",): prompt_limit,
    ("per_device_train_batch_size", "gradient_accumulation_steps", "num_generations"): batch,
    ("loss_type", "beta", "epsilon_high", "scale_rewards", "importance_sampling_level"): loss,
    ("temperature",): temperature,
    ("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"): learning_rate,
    (
        "reward_funcs", "reward_weights", "cosine_max_len", "cosine_min_value_wrong",
        "cosine_max_value_wrong", "cosine_min_value_correct", "cosine_max_value_correct",
    ): rewards,
    ("use_peft",): lora,
}  # fmt: skip
ALWAYS = (
    "per_device_train_batch_size", "loss_type", "temperature", "lr_scheduler_type", "reward_funcs"
)  # fmt: skip


def recipe_text(made: Imported, source: str) -> str:
    """The recipe as TOML, headed by the notes on all that was not simply carried over."""
    import tomlkit

    document = tomlkit.document()
    document.add(
        tomlkit.comment(f"Imported from {one_line(source)}. What is read differently here:")
    )
    for note in made.notes:
        if note.kind != "carried over":
            document.add(tomlkit.comment(note_line(note)))
    for key, value in made.settings.items():
        document.add(key, tomlkit.item(value))
    return tomlkit.dumps(document)


def note_line(note: Note) -> str:
    return f"{note.kind}: {note.key}: {note.text}"


def read_notes(path: Path) -> list[Note]:
    """The notes that `recipe_text` wrote at the head of a recipe; none where it wrote none."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0].startswith("# Imported from "):
        return []
    notes = []
    for line in lines[1:]:
        kind, key, text = [*line.removeprefix("# ").split(": ", 2), "", ""][:3]
        if not line.startswith("# ") or kind not in get_args(Kind):
            break
        notes.append(Note(cast(Kind, kind), key, text))
    return notes
