"""Does the largest step fit the device, and if not, which setting makes it fit."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from open_rs.plan.cluster import as_asked, phases_in, split_parts
from open_rs.plan.memory import Setting, parts_of, total_of
from open_rs.plan.shapes import ModelShape
from open_rs.plan.subject import shape_elsewhere
from open_rs.plan.workload import Machine, sizes_at_cap
from open_rs.recipe import Recipe, recipe_from_dict

if TYPE_CHECKING:
    from open_rs.plan.gather import Known

CUDA_PROCESS = 700 * 2**20  # context, libraries' workspaces, what the allocator leaves between
SHARE = 0.97  # of a device's memory that can be used


@dataclass(frozen=True)
class Room:
    """What the memory of other settings is computed from."""

    recipe: Recipe
    known: "Known"
    machine: Machine

    @property
    def setting(self) -> Setting:
        return self.setting_of(self.recipe)

    def setting_of(self, recipe: Recipe) -> Setting:
        """What the probe counted holds for the recipe that it ran."""
        probe = self.known.probe
        same = recipe.train.recomputes == self.recipe.train.recomputes
        same = same and recipe.model == self.recipe.model
        counted = probe if same and self.here else None
        return Setting(
            with_reference=recipe.loss.kl_coef > 0 and recipe.model.lora is None,
            gradient_checkpointing=recipe.train.recomputes,
            kept=counted.kept_per_token if counted else None,
            decode_copies=counted.decode_copies if counted else None,
            autocast=self.known.cuda and recipe.model.dtype == "auto",
            eight_bit=recipe.train.optimizer == "adamw_8bit",
        )

    @property
    def here(self) -> bool:
        """Whether the machine is the one that was probed."""
        probe = self.known.probe
        return probe is not None and self.machine.pace == probe.pace

    @property
    def process(self) -> dict[str, int]:
        """By phase, what is held beside what shapes say."""
        if self.known.probe is not None and self.here:
            found = self.known.probe.process_bytes
            return {**found, "save": max(found.values())}
        return dict.fromkeys(("rollout", "update", "save"), CUDA_PROCESS)

    def at_cap(self, recipe: Recipe) -> int:
        """The peak where every completion runs to its cap."""
        held, evaluate = self.known.subject.held_out, recipe.evaluate
        rollout = recipe.rollout
        rows = max(
            rollout.prompts_per_step * rollout.group_size,
            held.get("validation", 0) * evaluate.validation_samples,
            held.get("test", 0) * evaluate.num_samples,
        )
        rows = -(-rows // self.machine.cluster.engines)
        longest = self.known.longest or recipe.prompt.max_prompt_tokens
        cap = max(rollout.max_completion_tokens, recipe.evaluation_cap)
        sizes = sizes_at_cap(recipe, cap, longest, rows)
        shape = self.shape_of(recipe)
        cluster = as_asked(self.machine.cluster, recipe)
        parts = split_parts(parts_of(shape, sizes, self.setting_of(recipe)), shape, cluster)
        phases = phases_in(parts, shape, cluster, copies_on_host=self.known.cuda)
        return total_of(phases, self.process)

    def shape_of(self, recipe: Recipe) -> ModelShape:
        if recipe.model == self.recipe.model:
            return self.machine.shape
        base = self.known.subject.shape or self.machine.shape
        return shape_elsewhere(base, recipe.model, cuda=self.known.cuda)


def what_fits(recipe: Recipe, room: Room, memory: int) -> tuple[str, str]:
    """(the key, what to set): the mildest change first, each on top of those before it."""
    settings = recipe.model_dump(mode="json")
    changed: dict[str, str] = {}

    def fits() -> bool:
        return room.at_cap(recipe_from_dict(settings)) <= SHARE * memory

    def lower(section: str, key: str, least: int) -> bool:
        """Halve a number until it fits or is at its least."""
        while settings[section][key] > least:
            settings[section][key] = max(settings[section][key] // 2, least)
            changed[f"{section}.{key}"] = str(settings[section][key])
            if fits():
                return True
        return False

    def switch(section: str, key: str, value: Any, text: str) -> bool:
        if settings[section][key] == value:
            return False
        settings[section][key] = value
        changed[f"{section}.{key}"] = text
        return fits()

    def adapters() -> bool:
        """They are not sharded."""
        if settings["train"]["sharding"] != "none":
            settings["train"]["sharding"] = "none"
            changed["train.sharding"] = '"none"'
        return switch("model", "lora", {"rank": 16}, "{ rank = 16 }")

    several = room.machine.cluster.trainers > 1 and recipe.model.lora is None
    longest = room.known.longest or recipe.prompt.max_prompt_tokens
    row = longest + recipe.rollout.max_completion_tokens
    found = (
        lower("train", "micro_batch_tokens", row)
        or switch("train", "gradient_checkpointing", True, "true")
        or (several and switch("train", "sharding", "full", '"full"'))
        or lower("rollout", "max_slots", 8)
        or (recipe.loss.kl_coef > 0 and switch("loss", "kl_coef", 0.0, "0"))
        or (recipe.model.lora is None and adapters())
        or lower("rollout", "max_completion_tokens", 64)
    )
    if not found:
        weights = room.shape_of(recipe).parameters * room.shape_of(recipe).bytes_per_weight
        return "model.path", (
            f"take a smaller model: no setting makes {weights / 2**30:.1f} GiB of weights fit"
        )
    key = next(reversed(changed))
    return key, "set " + ", ".join(f"{name} = {value}" for name, value in changed.items())
