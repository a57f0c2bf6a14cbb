"""The typed recipe: every setting, its default and its doc, once. No torch.

`schema` holds the sections; `sources`, `filters`, `rewards` and `engines` what comes in kinds;
`load` reads TOML and overrides.
"""

from open_rs.recipe.engines import EngineSpec, NativeEngineSpec, OpenAIEngineSpec
from open_rs.recipe.filters import (
    BoxedFilter,
    ContaminationFilter,
    CustomFilter,
    ExactDuplicatesFilter,
    FilterSpec,
    GoldFilter,
    LanguageFilter,
    LengthFilter,
    MixFilter,
    MultiPartFilter,
    NearDuplicatesFilter,
    PassRateFilter,
    PromptLimitFilter,
    ProofFilter,
    SampleFilter,
)
from open_rs.recipe.load import load_recipe, override, recipe_from_dict, shipped_recipe
from open_rs.recipe.model import LoraRecipe, ModelRecipe
from open_rs.recipe.rewards import (
    SCRIPTS,
    AccuracyReward,
    CosineReward,
    CustomReward,
    FormatReward,
    GroupLengthReward,
    LanguageReward,
    OverlongReward,
    RepetitionReward,
    RewardSpec,
    Weight,
)
from open_rs.recipe.schedules import Change, Schedule, SentinelChange, SentinelRecipe, Trigger
from open_rs.recipe.schema import (
    DataRecipe,
    EvaluateRecipe,
    GradeRecipe,
    LossRecipe,
    PromptRecipe,
    Recipe,
    RolloutRecipe,
    TrainRecipe,
)
from open_rs.recipe.sources import Source

__all__ = [
    "SCRIPTS",
    "AccuracyReward",
    "BoxedFilter",
    "Change",
    "ContaminationFilter",
    "CosineReward",
    "CustomFilter",
    "CustomReward",
    "DataRecipe",
    "EngineSpec",
    "EvaluateRecipe",
    "ExactDuplicatesFilter",
    "FilterSpec",
    "FormatReward",
    "GoldFilter",
    "GradeRecipe",
    "GroupLengthReward",
    "LanguageFilter",
    "LanguageReward",
    "LengthFilter",
    "LoraRecipe",
    "LossRecipe",
    "MixFilter",
    "ModelRecipe",
    "MultiPartFilter",
    "NativeEngineSpec",
    "NearDuplicatesFilter",
    "OpenAIEngineSpec",
    "OverlongReward",
    "PassRateFilter",
    "PromptLimitFilter",
    "PromptRecipe",
    "ProofFilter",
    "Recipe",
    "RepetitionReward",
    "RewardSpec",
    "RolloutRecipe",
    "SampleFilter",
    "Schedule",
    "SentinelChange",
    "SentinelRecipe",
    "Source",
    "TrainRecipe",
    "Trigger",
    "Weight",
    "load_recipe",
    "override",
    "recipe_from_dict",
    "shipped_recipe",
]
