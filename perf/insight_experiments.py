"""The experiments of recipes/insights: by the name of the recipe, what is measured and claimed."""

from insight_claims import (
    Claim,
    Experiment,
    drift,
    early,
    early_share,
    fallen,
    final,
    hard_final,
    last_third,
    more,
    of,
    overstated,
    script_final,
    thousand_tokens,
    true_gain,
    unsteady,
    untrue_gain,
)
from insight_runs import DRAWS, SMALL_TEST

EARLY = ("score, first quarter", early, 3)
FINAL = ("score, end", final, 3)
LENGTH = ("length", last_third("length"), 1)
BAND = ("band of lengths", last_third("band"), 1)
SCORES = ("score", "score")

EXPERIMENTS = {
    "1_cap": Experiment(
        "Early gains, and a tight cap",
        "Insight 1: gains come within 50 to 100 of 500 steps, and long training under a strict cap "
        "degrades. Caps of 80 tokens (no careful thought is cut), 32 (those of four operations "
        "and more are) and 20 (all are: only guesses fit). Scores are always taken under a cap of "
        "96, as the paper scored under a far larger one than it trained with.",
        (EARLY, FINAL, LENGTH),
        (
            Claim(
                "Under a cap of 80, more is gained in the first quarter of the steps than in the "
                "other three",
                "more is gained after it",
                of("cap-80", early_share),
            ),
            Claim(
                "Under a cap of 32, the score falls from the first quarter to the end",
                "it goes on rising",
                of("cap-32", fallen),
            ),
            Claim(
                "Under a cap of 20, the score falls from the first quarter to the end",
                "it goes on rising",
                of("cap-20", fallen),
            ),
            Claim(
                "A cap of 20 ends below a cap of 80",
                "it ends above",
                more("cap-80", "cap-20", final),
            ),
        ),
        (SCORES, ("length in training, tokens", "length")),
    ),
    "2_mix": Experiment(
        "Easy and hard problems, or hard ones alone",
        "Insight 2: a mix of easy and hard problems under a reduced cap improves early performance "
        "and steadies the training. Two to six operations a problem against five and six, under "
        "a cap of 32 tokens, at which a careful thought of five does not fit.",
        (EARLY, FINAL, ("score on hard problems, end", hard_final, 3)),
        (
            Claim(
                "The mix is ahead after the first quarter",
                "hard problems alone are ahead",
                more("mix", "hard", early),
            ),
            Claim(
                "The mix is ahead at the end",
                "hard problems alone are ahead",
                more("mix", "hard", final),
            ),
            Claim(
                "The mix ends ahead on the hard problems themselves",
                "hard problems alone end ahead on these",
                more("mix", "hard", hard_final),
            ),
            Claim(
                "The mix keeps the mean length steadier from step to step",
                "hard problems alone keep it steadier",
                more("hard", "mix", unsteady),
                places=2,
            ),
        ),
        (SCORES, ("score on hard problems", "hard_score")),
    ),
    "3_cosine": Experiment(
        "Cosine reward, or accuracy",
        "Insight 3: the cosine reward steadies the lengths of completions; the paper's scores with "
        "it stay below those with the accuracy reward at their peak. The band is the distance of "
        "the 10th and 90th percentile of a step's completions, over the last third of the steps. "
        "Completions of some 37 tokens under a cap of 80 leave this reward less to do than the "
        "paper's near their cap.",
        (FINAL, LENGTH, BAND),
        (
            Claim(
                "The cosine reward steadies the mean length from step to step",
                "it makes it less steady",
                more("accuracy", "cosine", unsteady),
                places=2,
            ),
            Claim(
                "The cosine reward narrows the band of lengths",
                "it widens the band",
                more("accuracy", "cosine", last_third("band")),
                places=1,
            ),
            Claim(
                "The cosine reward makes completions shorter",
                "it makes them longer",
                more("accuracy", "cosine", last_third("length")),
                places=1,
            ),
            Claim(
                "The cosine reward costs score",
                "it adds score",
                more("accuracy", "cosine", final),
            ),
        ),
        (SCORES, ("p90 - p10 of lengths, tokens", "band")),
    ),
    "4_language": Experiment(
        "Drift into another script",
        "The paper saw its model drift into other languages, with the instruction to reply in "
        "English as well, and left a language reward for later work. The shipped model thinks in "
        "Chinese numerals in a fifth of its traces, and was not made to follow instructions: the "
        "nearest to the paper's drift that it can show is the share of letters outside Latin, "
        "which an accuracy reward raises as long as these traces are right more often than the "
        "rest.",
        (("other scripts, end", script_final, 3), FINAL, LENGTH),
        (
            Claim(
                "With accuracy alone, the share of other scripts rises in the first quarter",
                "it falls",
                of("plain", drift),
            ),
            Claim(
                "With the instruction, the share is lower at the end",
                "it is higher",
                more("plain", "instruction", script_final),
            ),
            Claim(
                "With the language reward, the share is lower at the end",
                "it is higher",
                more("plain", "reward", script_final),
            ),
            Claim(
                "The language reward costs score",
                "it adds score",
                more("plain", "reward", final),
            ),
        ),
        (SCORES, ("letters in other scripts, share", "other_script")),
    ),
    "5_reference_cosine": Experiment(
        "The paper's cosine as it was coded",
        "In the published code the cosine reward counts characters against a cap in tokens, is not "
        "clamped, and loses least on short wrong answers. Here it stands beside the right one, "
        "with the cap of 80 for both.",
        (FINAL, LENGTH, BAND),
        (
            Claim(
                "The cosine as it was coded ends below the right one",
                "it ends above",
                more("cosine", "reference", final),
            ),
            Claim(
                "The cosine as it was coded makes completions longer than the right one",
                "it makes them shorter",
                more("reference", "cosine", last_third("length")),
                places=1,
            ),
            Claim(
                "The cosine as it was coded widens the band of lengths",
                "it narrows the band",
                more("reference", "cosine", last_third("band")),
                places=1,
            ),
        ),
        (SCORES, ("length in training, tokens", "length")),
    ),
    "6_loss": Experiment(
        "KL, DAPO, Dr. GRPO, LoRA",
        "The paper's trainer had a KL of 0.04 that no recipe states. DAPO here: clip 0.28 above, "
        "loss over all tokens, dynamic sampling, a penalty near the cap. Dr. GRPO: no division by "
        "the group's std or by length. LoRA: rank 16, at ten times the rate. No rate was tuned: "
        "what differs between all weights and LoRA is the rate as well.",
        (FINAL, LENGTH, ("1,000 tokens drawn", thousand_tokens, 1)),
        (
            Claim(
                "A KL of 0.04 ends below none",
                "it ends above",
                more("grpo", "kl", final),
            ),
            Claim("DAPO ends above GRPO", "it ends below", more("dapo", "grpo", final)),
            Claim("Dr. GRPO ends above GRPO", "it ends below", more("dr_grpo", "grpo", final)),
            Claim("All weights end above LoRA", "LoRA ends above", more("grpo", "lora", final)),
        ),
        (SCORES, ("share of other scripts", "other_script")),
    ),
    "7_winners_curse": Experiment(
        "The winner's curse",
        "The paper reports the best checkpoint by 30 problems with one sample each. Of the runs of "
        f"the first experiment (cap 80), {DRAWS:,} sets of {SMALL_TEST} problems are drawn; the "
        "best of the last m checkpoints is chosen by one sample of each, and scored on all samples "
        "of the problems outside the set. Intervals are over seeds, on the same 80 problems.",
        (FINAL,),
        (
            Claim(
                "The best checkpoint scores less on fresh problems than on those that chose it",
                "it scores more",
                of("grpo", overstated),
                sure=True,
            ),
            Claim(
                "What the choice seems to gain over the last checkpoint is more than what it gains",
                "it is less",
                of("grpo", untrue_gain),
                sure=True,
            ),
            Claim(
                "On fresh problems the checkpoint that was chosen is better than the last one",
                "it is worse",
                of("grpo", true_gain),
            ),
        ),
        (SCORES, ("score of the best of the last m", "chosen")),
    ),
}
