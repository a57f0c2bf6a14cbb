"""The one place where a filter is entered: what its `type` in a recipe stands for."""

from collections.abc import Mapping

from open_rs.curate import filters, pass_rates
from open_rs.curate.stages import GlobalStage, LocalStage, ModelStage, Stage

STAGES: Mapping[str, Stage] = {
    "boxed": LocalStage(filters.boxed),
    "gold": LocalStage(filters.gold, filters.open_gold, inputs=filters.grading_inputs),
    "custom": LocalStage(filters.custom, filters.open_custom, inputs=filters.custom_inputs),
    "exact_duplicates": GlobalStage(filters.text_hashes, filters.exact_duplicates),
    "contamination": LocalStage(
        filters.contamination, filters.open_contamination, inputs=filters.held_out_inputs
    ),
    "prompt_limit": ModelStage(pass_rates.open_prompt_limit, inputs=pass_rates.prompt_inputs),
    "pass_rate": ModelStage(
        pass_rates.open_pass_rate, journal="pass_rates", inputs=pass_rates.sampling_inputs
    ),
}
