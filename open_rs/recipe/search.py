"""How an evaluation searches for its answers, in place of single samples."""

from typing import Literal

from pydantic import Field

from open_rs.recipe.section import Section


class BeamSearch(Section):
    """Beam search over steps, guided by the model's own log-probs."""

    type: Literal["beam"] = "beam"
    width: int = Field(4, ge=1, le=64, description="partial completions that are kept")
    branch: int = Field(4, ge=1, le=64, description="next steps drawn for each of them")
    step_tokens: int = Field(32, ge=1, description="the longest step")
    step_end: str = Field("\n", description="text that ends a step before that; empty: none")
