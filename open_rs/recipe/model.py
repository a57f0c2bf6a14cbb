"""The model and its adapters."""

from typing import Any, Literal, Self

from pydantic import Field

from open_rs.recipe.section import Section


class LoraRecipe(Section):
    """Low-rank adapters through peft."""

    rank: int = Field(16, ge=1, description="rank of the update")
    alpha: int = Field(32, ge=1, description="scale: the update counts alpha / rank")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="dropout on the adapter's input; 0 keeps ratios exact"
    )
    target_modules: str | tuple[str, ...] = Field(
        "all-linear", description="names of the layers, or all-linear"
    )


class ModelRecipe(Section):
    """The causal language model that is trained."""

    path: str = Field(
        "tiny",
        min_length=1,
        description='a folder, a hub id, or "tiny" for the model that ships with the package',
    )
    revision: str | None = Field(None, description="the commit of a hub model")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: float32 on CPU, bfloat16 on CUDA"
    )
    device: str = Field("auto", description="auto: CUDA where there is one, else CPU")
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model")
    lora: LoraRecipe | None = Field(None, description="train adapters instead of all weights")

    def at(self, path: str) -> Self:
        """The same device and dtype for another model, such as a checkpoint of the run; for the
        recipe's own path its own revision, so that a base is scored as it was trained from.
        """
        changes: dict[str, Any] = {"path": path, "lora": None}
        if path != self.path:
            changes["revision"] = None
        return self.model_copy(update=changes)
