"""Write the tables of docs/experiments.md and docs/scale.md: what `open-rs plan` forecasts.

    python tools/plan_pages.py             writes them between their marks
    python tools/plan_pages.py --check     says whether they stand there as they would be written

Arithmetic from data sheets and assumptions (open_rs/plan/devices.py). Nothing of it was measured.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from open_rs.plan.cluster import cluster_of, exchange
from open_rs.plan.devices import DEVICES, SPREAD
from open_rs.plan.forecast import machine_of, make_plan
from open_rs.plan.gather import Wish, gather, lengths_for
from open_rs.plan.pace import device_pace
from open_rs.plan.schedule import Pass
from open_rs.plan.shapes import HALF, known_shape
from open_rs.plan.workload import Step, made_steps
from open_rs.recipe import Recipe, load_recipe, shipped_recipe
from open_rs.runs import open_run

ROOT = Path(__file__).parents[1]
GIB = 2**30
MARK = re.compile(r"(<!-- tools/plan_pages\.py (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

# Middles of the bands of completion lengths that arXiv 2503.16219 tells of experiments 1 (4,000
# falling to 3,000), 2 (2,000 to 3,500) and 3 (1,000 to 3,500), section 3.5; ours: not known.
MEAN_TOKENS = {"open_rs1": 3500.0, "open_rs2": 2750.0, "open_rs3": 2250.0, "open_rs_ours": None}
PUBLISHED_HOURS, PUBLISHED_STEPS = 24.0, 500  # of 4 x A40, sections 3.1 and 3.5.1
PUBLISHED_SAMPLES = 42_000  # "7000 samples with 6 outputs per step", section 3.6


# --- plans ---


def planned(recipe: Recipe, wish: Wish) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return make_plan(recipe, open_run(Path(folder) / "run", recipe), wish)


def stepped(recipe: Recipe, wish: Wish, *, packed: bool) -> tuple[Step, float]:
    """A step, and seconds in which gradients and weights are under way over the devices' links;
    `packed`: rows go through the model without padding, as ours do.
    """
    with tempfile.TemporaryDirectory() as folder:
        known = gather(recipe, open_run(Path(folder) / "run", recipe), wish)
    machine = machine_of(recipe, known, wish, 0.0)
    assert machine is not None
    lengths, cluster = lengths_for(recipe, known, wish), machine.cluster
    step = made_steps(recipe, lengths, replace(machine, packed=packed), problems=None)
    copied = HALF * machine.shape.parameters if cluster.engines_apart else 0
    moving = exchange(cluster, machine.shape).step + copied / cluster.rate(cluster.devices)
    return step, moving


def without_saves(plan: Mapping[str, Any]) -> float:
    """Seconds but for saves, which depend on the disk of who plans."""
    seconds: Mapping[str, float] = plan["seconds"]
    return seconds["total"] - seconds["save"]


# --- docs/experiments.md ---


@dataclass(frozen=True)
class Case:
    """A recipe on devices."""

    recipe: str
    device: str
    gpus: int = 1
    settings: tuple[str, ...] = ()


LORA = ("model.lora.rank=32", "train.learning_rate=1e-5")
TIGHT = ("train.micro_batch_tokens=4608",)  # one row of experiment 1
EXPERIMENTS = ("open_rs1", "open_rs2", "open_rs3")
CASES = [
    *(Case(name, "A40", 4) for name in (*EXPERIMENTS, "open_rs_ours")),
    *(
        Case(name, device, gpus, settings)
        for name in EXPERIMENTS
        for device, gpus, settings in (
            ("4090", 1, (*LORA, "budget.hours=72")),
            ("4090", 1, ()),
            ("A100-40GB", 1, LORA),
            ("A100-40GB", 1, TIGHT),
            ("A100", 1, LORA),
            ("A100", 1, ()),
            ("H100", 1, ()),
        )
    ),
    Case("open_rs2", "4090", 4, ("train.sharding=full", "loss.kl_coef=0", *TIGHT)),
    Case("open_rs_ours", "4090", 1, LORA),
    Case("open_rs_ours", "A100-40GB", 1),
    Case("open_rs_ours", "A100", 1),
    Case("open_rs_ours", "H100", 1),
]


def forecasts() -> str:
    rows = ["recipe|devices|overrides|a step|whole run|dollars|memory, at the cap, of"]
    for case in CASES:
        recipe = load_recipe(shipped_recipe(case.recipe), case.settings)
        device = DEVICES[case.device]
        plan = planned(recipe, Wish(device, case.gpus, mean_tokens=MEAN_TOKENS[case.recipe]))
        seconds, (low, high) = without_saves(plan), plan["seconds_range"]
        usual = plan["seconds"]["total"]
        share = [seconds * one / usual for one in (low, high)]
        price = plan["usd_per_hour"]
        usd = "" if price is None else money(seconds, share, price)
        errors = [one for one in plan["findings"] if one["severity"] == "error"]
        memory = (
            f"{plan['memory_bytes']['total'] / GIB:.1f}, {plan['memory_at_cap'] / GIB:.1f}, "
            f"{device.memory / GIB:.0f} GiB"
        )
        time = f"{plan['step_seconds']:.0f} s|{span(seconds, share)}|{usd}"
        if errors:
            time, memory = "||", f"refused: {memory}. {errors[0]['cure']}"
        settings = " ".join(f"`{one}`" for one in case.settings)
        rows.append(f"`{case.recipe}`|{case.gpus} x {case.device}|{settings}|{time}|{memory}")
    return table(rows)


def span(seconds: float, share: Sequence[float]) -> str:
    low, high = (one / 3600 for one in share)
    return f"{seconds / 3600:.1f} h ({low:.1f} to {high:.1f})"


def money(seconds: float, share: Sequence[float], price: float) -> str:
    usual, low, high = (price * one / 3600 for one in (seconds, *share))
    return f"{usual:.0f} ({low:.0f} to {high:.0f})"


THEIRS = "theirs: 3 train, 1 generates, in turn; 6 rows padded"
OURS = "open-rs: 4 do both in turn; rows packed"


def authors() -> str:
    """The paper's machine, in its layout and in ours, for the steps of one experiment."""
    rows = ["experiment|layout|rollout|update|gradients, weights|a step|500 steps|24 h over that"]
    for name in EXPERIMENTS:
        base = shipped_recipe(name)
        row = load_recipe(base).rollout.max_completion_tokens + 512
        for layout, apart, settings in (
            (THEIRS, 1, (f"train.micro_batch_tokens={6 * row}",)),
            (OURS, 0, ()),
        ):
            recipe = load_recipe(base, settings)
            wish = Wish(DEVICES["A40"], 4, apart, mean_tokens=MEAN_TOKENS[name])
            step, moving = stepped(recipe, wish, packed=not apart)
            seconds = step.rollout_s + step.update_s + moving
            hours = recipe.train.num_steps * seconds / 3600
            held = "in" if hours / SPREAD <= PUBLISHED_HOURS <= hours * SPREAD else "out of"
            rows.append(
                f"{name[-1]}|{layout}|{step.rollout_s:.0f} s|{step.update_s:.0f} s|"
                f"{moving:.1f} s|{seconds:.0f} s|{hours:.1f} h "
                f"({hours / SPREAD:.1f} to {hours * SPREAD:.1f})|"
                f"{PUBLISHED_HOURS / hours:.1f}, {held} range"
            )
    batch = 12 * 6
    whole = PUBLISHED_SAMPLES / batch
    second = PUBLISHED_HOURS * 3600
    rows.append(
        f"|published: {PUBLISHED_HOURS:g} h||||{second / whole:.0f} to "
        f"{second / PUBLISHED_STEPS:.0f} s|{PUBLISHED_HOURS:g} h for {PUBLISHED_STEPS} steps, or "
        f"for {PUBLISHED_SAMPLES:,} samples, {whole:.0f} steps|"
    )
    return table(rows)


def explained() -> str:
    """Hours of the authors' layout with one assumption changed at a time."""
    a40 = DEVICES["A40"]
    half, slow = replace(a40, bandwidth=a40.bandwidth / 2), replace(a40, flops=a40.flops / 2)
    both = replace(half, flops=slow.flops)
    changes = {
        "as above": (a40, False),
        "decoding at half of the assumed rate": (half, False),
        "updates and prefill at half of theirs": (slow, False),
        "every completion at its cap": (a40, True),
        "all three": (both, True),
    }
    rows = ["changed|" + "|".join(f"experiment {name[-1]}" for name in EXPERIMENTS)]
    for told, (device, at_cap) in changes.items():
        cells = []
        for name in EXPERIMENTS:
            base = shipped_recipe(name)
            cap = load_recipe(base).rollout.max_completion_tokens
            recipe = load_recipe(base, [f"train.micro_batch_tokens={6 * (cap + 512)}"])
            mean = float(cap) if at_cap else MEAN_TOKENS[name]
            step, moving = stepped(recipe, Wish(device, 4, 1, mean_tokens=mean), packed=False)
            hours = recipe.train.num_steps * (step.rollout_s + step.update_s + moving) / 3600
            cells.append(f"{hours:.1f} h ({PUBLISHED_HOURS / hours:.1f})")
        rows.append(f"{told}|" + "|".join(cells))
    return table(rows)


def settings() -> str:
    """What the recipes say where they differ."""
    recipes = {name: load_recipe(shipped_recipe(name)) for name in (*EXPERIMENTS, "open_rs_ours")}
    said: dict[str, Callable[[Recipe], str]] = {
        "problems": lambda one: (one.data.train or one.sources[0]).label,
        "rewards": lambda one: ", ".join(f"{r.type} {r.weight:g}" for r in one.rewards),
        "cap": lambda one: f"{one.rollout.max_completion_tokens:,}",
        "prompts a step x G": lambda one: (
            f"{one.rollout.prompts_per_step} x {one.rollout.group_size}"
        ),
        "steps": lambda one: str(one.train.num_steps),
        "temperature": lambda one: f"{one.rollout.temperature:g}",
        "learning rate": lambda one: f"{one.train.learning_rate:g}",
        "KL": lambda one: f"{one.loss.kl_coef:g}",
        "clip": lambda one: f"{one.loss.clip_low:g}, {one.loss.clip_high:g}",
        "loss averaged over": lambda one: one.loss.loss_norm,
        "validation": lambda one: (
            "none"
            if one.data.validation is None
            else f"{one.data.validation.count} x {one.evaluate.validation_samples}"
        ),
        "sentinel": lambda one: one.sentinel.action,
        "budget": lambda one: (
            f"{one.budget.hours:g} h" if one.budget.hours else f"${one.budget.usd:g}"
        ),
    }
    rows = ["|" + "|".join(f"`{name}`" for name in recipes)]
    rows += [f"{key}|" + "|".join(map(tell, recipes.values())) for key, tell in said.items()]
    return table(rows)


# --- docs/scale.md ---

MODELS = {
    "1.5B": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
    "7B": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    "32B": "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
}
SCALE_DEVICE = "H100"
EACH, SHARES, APART = "all weights each", "a share each", "apart"
LAYOUTS = {"1.5B": (EACH, APART), "7B": (SHARES, APART), "32B": (APART,)}
FIXED, GROWING = (1, 8, 16, 32, 64, 128), (8, 32, 128, 512, 1024)
GENERATE = {"1.5B": 0.75, "7B": 0.625, "32B": 0.5}  # of GPUs, so that both parts take as long
SPLIT = {"32B": 4}  # GPUs that share an engine, where one cannot hold the weights


def scaled(model: str, gpus: int, layout: str, prompts: int) -> tuple[Recipe, Wish]:
    """Our recipe at another size, 64 rows side by side for each GPU that generates."""
    apart = round(gpus * GENERATE[model]) if layout == APART else 0
    split = SPLIT.get(model, 1)
    sharded = gpus - apart > 1 and model != "1.5B"
    recipe = load_recipe(
        shipped_recipe("open_rs_ours"),
        [
            f"model.path={MODELS[model]}",
            "sources.0.hub=knoveleng/open-deepscaler",  # more problems than the largest batch
            "schedules=[]",
            f"rollout.prompts_per_step={prompts}",
            "rollout.max_completion_tokens=4096",
            f"rollout.max_slots={64 * split}",
            f"train.sharding={'full' if sharded else 'none'}",
        ],
    )
    return recipe, Wish(DEVICES[SCALE_DEVICE], gpus, apart, split, overlapped=apart > 0)


def told(layout: str, wish: Wish) -> str:
    if layout != APART:
        return layout
    training = wish.gpus - wish.rollout_gpus
    return f"{wish.rollout_gpus:,} generate, {training:,} train, one step off (not built)"


HEAD = (
    "model|GPUs|layout|completions a step|rollout|update|gradients, weights|a step|"
    "tokens a second and GPU|GiB at the cap, each"
)


def scale_row(model: str, gpus: int, layout: str, prompts: int) -> str:
    recipe, wish = scaled(model, gpus, layout, prompts)
    plan = planned(recipe, wish)
    seconds, steps = plan["seconds"], plan["steps"]
    parts = [seconds.get(name, 0.0) / steps for name in ("rollout", "update", "exchange")]
    step = plan["step_seconds"]
    memory, room = plan["memory_at_cap"] / GIB, DEVICES[SCALE_DEVICE].memory / GIB
    fits = "" if memory <= room else ", too much"
    completions, rate = prompts * recipe.rollout.group_size, plan["step_tokens"] / step / gpus
    return (
        f"{model}|{gpus:,}|{told(layout, wish)}|{completions:,}|{parts[0]:.0f} s|{parts[1]:.0f} s|"
        f"{parts[2]:.1f} s|{step:.0f} s|{rate:,.0f}|{memory:.0f}{fits}"
    )


def scale_rows(counts: Sequence[int], prompts: Callable[[int], int]) -> str:
    found = [
        scale_row(model, gpus, layout, prompts(gpus))
        for model, layouts in LAYOUTS.items()
        for layout in layouts
        for gpus in counts
        if gpus > 1 or layout == EACH
    ]
    return table([HEAD, *found])


def fixed() -> str:
    """The same batch of 1,024 completions on more and more GPUs."""
    return scale_rows(FIXED, lambda gpus: 128)


def growing() -> str:
    """64 completions for each GPU."""
    return scale_rows(GROWING, lambda gpus: 8 * gpus)


def sizes() -> str:
    """What weights take, by model."""
    rows = [
        "model|weights|in float32|with gradients and moments|of that 1/8|1/64|an engine's copy|"
        "cache of 64 rows of 4,608"
    ]
    for name, path in MODELS.items():
        shape = known_shape(path)
        assert shape is not None
        weights, cache = shape.parameters, replace(shape, bytes_per_value=HALF).cache_per_token
        parts = (4 * weights, 16 * weights, 2 * weights, weights / 4, HALF * weights)
        cells = [f"{one / GIB:.1f}" for one in (*parts, cache * 64 * 4608)]
        rows.append(f"{name}|{weights:,}|{'|'.join(cells)}")
    return table(rows)


def network() -> str:
    """What devices say to each other, against what they compute."""
    rows = [
        "model|GPUs|gradients of a step, all weights each|shares: each micro-batch of 8,192 tokens|"
        "... which computes for|weights to engines apart, by a file"
    ]
    for device, names in (("A40", ("1.5B", "7B")), ("H100", tuple(MODELS))):
        for name in names:
            shape = known_shape(MODELS[name])
            assert shape is not None
            shape = replace(shape, bytes_per_value=HALF)
            pace = device_pace(DEVICES[device], shape, checkpointing=True)
            computing = pace.update_seconds([Pass(8192, 8000, 8192 * 2000)], shape, kl=False)
            for count in (8, 64):
                layouts: list[dict[str, Any]] = [
                    {},
                    {"sharded": True},
                    {"engines_apart": count // 2},
                ]
                each, shares, apart = (
                    exchange(cluster_of(DEVICES[device], count, **one), shape) for one in layouts
                )
                rows.append(
                    f"{name}|{count} x {device}|{each.step:.2f} s|{shares.micro_batch:.2f} s|"
                    f"{computing - pace.optimizer_s:.2f} s|{apart.weights:.2f} s"
                )
    return table(rows)


# --- pages ---


def table(rows: Sequence[str]) -> str:
    """Rows of `a|b|c` as a table in markdown, the first as its head."""
    lines = [f"| {' | '.join(part.strip() for part in row.split('|'))} |" for row in rows]
    return "\n".join([lines[0], "|---" * (rows[0].count("|") + 1) + "|", *lines[1:], ""])


BLOCKS: Mapping[str, Callable[[], str]] = {
    "settings": settings,
    "forecasts": forecasts,
    "authors": authors,
    "explained": explained,
    "sizes": sizes,
    "network": network,
    "fixed": fixed,
    "growing": growing,
}
PAGES = ("docs/experiments.md", "docs/scale.md")


def filled(text: str) -> str:
    """A page with every table as it is now."""
    return MARK.sub(lambda found: found[1] + BLOCKS[found[2]]() + found[3], text)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if stale")
    parser.add_argument("pages", nargs="*", default=PAGES, help="of these pages alone")
    asked = parser.parse_args(arguments)
    stale = []
    for name in asked.pages:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        if (made := filled(text)) != text:
            stale.append(name)
            if not asked.check:
                path.write_text(made, encoding="utf-8")
    print(
        "\n".join(f"{'stale' if asked.check else 'written'}: {name}" for name in stale) or "as is"
    )
    return int(asked.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
