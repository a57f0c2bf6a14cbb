"""What is looked at: a recipe and its run folder, and what they name, loaded when a check asks.

A part that cannot be loaded raises in the check that is there for it; what needs that part names
that check among its `needs`. No torch until a model is asked for.
"""

import time
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from open_rs.grade import Grader
from open_rs.plan.doctor.sets import Sample, read_sample, sources_of
from open_rs.prompts import Prompter
from open_rs.recipe import ModelRecipe, OpenAIEngineSpec, Recipe
from open_rs.runs import RunFolder

SECONDS = 10.0  # that all checks may take together


class Subject:
    """A recipe under examination; a context manager that ends what it started."""

    def __init__(self, recipe: Recipe, folder: Path, *, seconds: float = SECONDS) -> None:
        self.recipe = recipe
        self.run = RunFolder(folder)
        self.seconds = seconds
        self.started = time.monotonic()
        self.kept: dict[str, Any] = {}  # what one check has made for the next ones
        self._stack = ExitStack()

    @property
    def seconds_left(self) -> float:
        return self.seconds - (time.monotonic() - self.started)

    @property
    def native(self) -> bool:
        """Whether the recipe samples from, and can train, the model itself."""
        return self.recipe.rollout.engine.type == "native"

    @property
    def needs_tokenizer(self) -> bool:
        """Whether prompts are made here, and not by a server."""
        spec = self.recipe.rollout.engine
        if not isinstance(spec, OpenAIEngineSpec):
            return True
        return spec.resolved(self.recipe.model.path).mode == "completions"

    @cached_property
    def model_recipe(self) -> ModelRecipe:
        """The recipe's model as a local folder: nothing is fetched from the hub."""
        from open_rs.plan.doctor.hub import local_folder

        folder = local_folder(self.recipe.model.path, self.recipe.model.revision)
        return self.recipe.model.model_copy(update={"path": str(folder), "revision": None})

    @property
    def model_folder(self) -> Path:
        return Path(self.model_recipe.path)

    @cached_property
    def device(self) -> Any:
        from open_rs.models import pick_device

        return pick_device(self.recipe.model)

    @cached_property
    def tokenizer(self) -> Any:
        from open_rs.models import load_tokenizer

        return load_tokenizer(self.model_recipe)

    @cached_property
    def prompter(self) -> Prompter:
        return Prompter(self.tokenizer, self.recipe.prompt)

    @cached_property
    def model(self) -> Any:
        """The model as training loads it, without adapters."""
        from open_rs.models import load_model, training_model

        return load_model(training_model(self.model_recipe))

    @cached_property
    def policy(self) -> Any:
        """The model that is trained."""
        from open_rs.models import add_lora

        lora = self.recipe.model.lora
        return self.model if lora is None else add_lora(self.model, lora)

    @cached_property
    def grader(self) -> Grader:
        grade = self.recipe.grade
        return self._stack.enter_context(
            Grader(
                workers=grade.workers,
                timeout_s=grade.timeout_s,
                unboxed_numbers=grade.unboxed_numbers,
            )
        )

    @cached_property
    def samples(self) -> dict[str, Sample]:
        """The first rows of every set that the recipe names and that lies here, by its key."""
        found = sources_of(self.recipe, self.run)
        return {key: read_sample(source, raw=raw) for key, source, raw in found}

    def open(self, resource: Any) -> Any:
        """Enter a context that ends with the examination."""
        return self._stack.enter_context(resource)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
