"""The one place where a filter is entered: what its `type` in a recipe stands for."""

from collections.abc import Mapping

from open_rs.curate import (
    answers,
    contamination,
    duplicates,
    filters,
    judge,
    pass_rates,
    sampling,
    text_rules,
)
from open_rs.curate.stages import GlobalStage, LocalStage, ModelStage, Stage

STAGES: Mapping[str, Stage] = {
    "boxed": LocalStage(filters.boxed),
    "gold": LocalStage(filters.gold, filters.open_gold, inputs=filters.grading_inputs),
    "custom": LocalStage(filters.custom, filters.open_custom, inputs=filters.custom_inputs),
    "multi_part": LocalStage(text_rules.multi_part),
    "proof": LocalStage(text_rules.proof),
    "language": LocalStage(text_rules.language, text_rules.open_language),
    "length": LocalStage(text_rules.length),
    "exact_duplicates": GlobalStage(duplicates.text_hashes, duplicates.exact_duplicates),
    "near_duplicates": GlobalStage(duplicates.text_and_bands, duplicates.near_duplicates),
    "contamination": LocalStage(
        contamination.contamination,
        contamination.open_held_out,
        inputs=contamination.held_out_inputs,
    ),
    "sample": GlobalStage(sampling.sample_features, sampling.sample),
    "mix": GlobalStage(
        sampling.mix_features,
        sampling.mix,
        sampling.open_strata,
        inputs=sampling.strata_inputs,
    ),
    "prompt_limit": ModelStage(pass_rates.open_prompt_limit, inputs=pass_rates.prompt_inputs),
    "pass_rate": ModelStage(
        pass_rates.open_pass_rate,
        journals=(answers.JOURNAL, "pass_rates"),
        inputs=pass_rates.sampling_inputs,
    ),
    "judge": ModelStage(judge.open_judge, journals=(answers.JOURNAL,), inputs=judge.judge_inputs),
}
