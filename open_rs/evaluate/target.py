"""What is evaluated: a model, or a checkpoint of a run under the settings of its run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_rs.benchmarks import BENCHMARKS
from open_rs.errors import InputError
from open_rs.recipe import Recipe, load_recipe, override, recipe_from_dict
from open_rs.runs import RunFolder

PAPER_TOKENS = 32_768  # of a completion, in the paper's evaluation
PROMPT_TOKENS = 4096


@dataclass(frozen=True)
class Target:
    """One set of weights and the settings under which they are scored.

    Attributes:
        path: a model folder, a hub id or "tiny"; of an endpoint, the tokenizer of its prompts.
        run, step: of a checkpoint, where it comes from.
        fitted: the limits on tokens are a default, to be lowered to what the model's context holds.
    """

    path: str
    recipe: Recipe
    run: RunFolder | None = None
    step: int = 0
    fitted: bool = False

    @property
    def home(self) -> Path:
        """The folder below which its scores are written where no other is given."""
        if self.run is not None:
            return self.run.path
        return Path("evaluations") / (Path(self.path).resolve().name or "model")


def run_of_checkpoint(path: Path) -> RunFolder | None:
    """The run in whose folder the checkpoint `path` lies; None for any other folder."""
    folder = path.resolve()
    run = RunFolder(folder.parents[1]) if len(folder.parents) > 1 else None
    if run is None or folder.parent != run.checkpoints or not folder.name.isdigit():
        return None
    return run if run.recipe.is_file() else None


def open_target(
    text: str, benchmarks: Sequence[str], recipe_path: Path | None, changes: Sequence[str]
) -> Target:
    """The target that `text` names, under its run's recipe, the one given, or the paper's protocol;
    `changes` are settings on top.
    """
    run = run_of_checkpoint(Path(text))
    step = int(Path(text).resolve().name) if run is not None else 0
    if recipe_path is None and run is not None:
        recipe_path = run.recipe
    if recipe_path is not None:
        return Target(text, load_recipe(recipe_path, changes), run, step)
    settings = override(paper_protocol(benchmarks), changes)
    return Target(text, recipe_from_dict(settings, where="--set"), fitted=True)


def paper_protocol(benchmarks: Sequence[str]) -> dict[str, Any]:
    """The paper's evaluation as settings; temperature 0.6 and top_p 0.95 are the recipe's defaults.

    The prompt is the user turn that the table names for these benchmarks.
    """
    from open_rs.prompts import USER_PROMPTS

    names = {BENCHMARKS[one].prompt for one in benchmarks if one in BENCHMARKS}
    names = names or {"final_answer"}
    if len(names) > 1:
        raise InputError(
            f"--benchmark: the prompts of these differ ({', '.join(sorted(names))}); evaluate them "
            "one by one, or set prompt.user"
        )
    return {
        "prompt": {"user": USER_PROMPTS[names.pop()], "max_prompt_tokens": PROMPT_TOKENS},
        "evaluate": {"max_completion_tokens": PAPER_TOKENS},
    }


def engine_changes(engine: str | None, model: str) -> list[str]:
    """--engine as settings; an endpoint serves the model under evaluation unless told otherwise."""
    if engine is None:
        return []
    if engine not in ("native", "vllm", "vllm_server", "openai"):
        raise InputError(
            f"--engine {engine}: unknown; use native, vllm, or for a server vllm_server or openai"
        )
    served = [f"rollout.engine.model={model}"] if engine == "openai" else []
    return [f"rollout.engine.type={engine}", *served]
