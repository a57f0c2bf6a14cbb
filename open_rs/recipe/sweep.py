"""Several runs of one recipe: seeds, and arms that differ in a few settings."""

from typing import Any, Self

from pydantic import Field, model_validator

from open_rs.recipe.section import Section


class Arm(Section):
    """One variant of the recipe."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", description="as in the summary")
    settings: tuple[str, ...] = Field(
        (), description='what it changes, as on the command line: ["loss.kl_coef=0.04"]'
    )


class SweepRecipe(Section):
    """`train` runs every arm with every seed; the first arm is what the others are held against."""

    seeds: int = Field(1, ge=1, description="runs of each arm: seed, seed + 1, ...")
    arms: tuple[Arm, ...] = Field((), description="variants by name")
    grid: dict[str, tuple[Any, ...]] = Field(
        {},
        description='variants by value, as in { "train.learning_rate" = [1e-6, 3e-6] }: every '
        "combination is an arm",
    )

    @model_validator(mode="after")
    def arms_or_grid(self) -> Self:
        if self.arms and self.grid:
            raise ValueError("sweep: give arms or a grid, not both")
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError("sweep.arms: two arms have one name; names must differ")
        if any(not values for values in self.grid.values()):
            raise ValueError("sweep.grid: a setting has no values; list some, or take it out")
        return self

    @property
    def asked(self) -> bool:
        return self.seeds > 1 or bool(self.arms or self.grid)
