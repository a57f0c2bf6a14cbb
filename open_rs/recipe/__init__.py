"""The typed recipe: every setting, its default and its doc, once. No torch.

`schema` holds the sections, `specs` the tagged unions (sources, filters, rewards), `load` reads
TOML and overrides.
"""

from open_rs.recipe.load import load_recipe, override, recipe_from_dict, shipped_recipe
from open_rs.recipe.schema import (
    DataRecipe,
    EvaluateRecipe,
    GradeRecipe,
    LoraRecipe,
    LossRecipe,
    ModelRecipe,
    PromptRecipe,
    Recipe,
    RolloutRecipe,
    TrainRecipe,
)
from open_rs.recipe.specs import (
    AccuracyReward,
    BoxedFilter,
    ContaminationFilter,
    CosineReward,
    CustomFilter,
    CustomReward,
    ExactDuplicatesFilter,
    FilterSpec,
    FormatReward,
    GoldFilter,
    OverlongReward,
    PassRateFilter,
    RewardSpec,
    Source,
)

__all__ = [
    "AccuracyReward",
    "BoxedFilter",
    "ContaminationFilter",
    "CosineReward",
    "CustomFilter",
    "CustomReward",
    "DataRecipe",
    "EvaluateRecipe",
    "ExactDuplicatesFilter",
    "FilterSpec",
    "FormatReward",
    "GoldFilter",
    "GradeRecipe",
    "LoraRecipe",
    "LossRecipe",
    "ModelRecipe",
    "OverlongReward",
    "PassRateFilter",
    "PromptRecipe",
    "Recipe",
    "RewardSpec",
    "RolloutRecipe",
    "Source",
    "TrainRecipe",
    "load_recipe",
    "override",
    "recipe_from_dict",
    "shipped_recipe",
]
