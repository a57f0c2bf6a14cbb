"""Whether updates recompute activations, where a recipe leaves that to the memory of the device.

Decided from shapes and counts alone, so that a plan, a training and every rank of it come to the
same. It moves time and memory, never a gradient.
"""

from open_rs.plan.cluster import ALONE, Cluster, as_asked, phases_in, split_parts
from open_rs.plan.fitting import CUDA_PROCESS, SHARE
from open_rs.plan.memory import Setting, parts_of
from open_rs.plan.shapes import ModelShape
from open_rs.plan.workload import sizes_at_cap
from open_rs.recipe import Recipe
from open_rs.recipe.moving import largest_cap
from open_rs.train.settings import uses_kl


def decided(
    recipe: Recipe, shape: ModelShape, memory: int, *, cuda: bool, cluster: Cluster = ALONE
) -> Recipe:
    """The recipe with train.gradient_checkpointing true or false: "auto" is true where the largest
    micro-batch does not fit into `memory`, bytes of a device, otherwise.
    """
    if recipe.train.gradient_checkpointing != "auto":
        return recipe
    again = update_bytes(recipe, shape, cuda=cuda, cluster=cluster) > SHARE * memory
    train = recipe.train.model_copy(update={"gradient_checkpointing": again})
    return recipe.model_copy(update={"train": train})


def update_bytes(recipe: Recipe, shape: ModelShape, *, cuda: bool, cluster: Cluster = ALONE) -> int:
    """The peak of an update on one device with every prompt and completion at its limit, where
    activations are kept.
    """
    cluster = as_asked(cluster, recipe)
    rows = recipe.rollout.prompts_per_step * recipe.rollout.group_size
    sizes = sizes_at_cap(recipe, largest_cap(recipe), recipe.prompt.max_prompt_tokens, rows)
    setting = Setting(
        with_reference=uses_kl(recipe) and recipe.model.lora is None,
        gradient_checkpointing=False,
        autocast=cuda and recipe.model.dtype == "auto",
        eight_bit=recipe.train.optimizer == "adamw_8bit",
    )
    parts = split_parts(parts_of(shape, sizes, setting), shape, cluster)
    return phases_in(parts, shape, cluster)["update"] + CUDA_PROCESS
