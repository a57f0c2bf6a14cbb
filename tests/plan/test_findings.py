"""Each finding is there where its cause is, and not in a sound recipe."""

from dataclasses import replace

import pytest

from open_rs.plan.findings import Facts, Finding, checkpoint_steps, find, from_row
from open_rs.plan.run_checks import expected_dead
from open_rs.recipe import recipe_from_dict

SOUND = {
    "prompt": {"system": "open_rs"},
    "data": {
        "train": {"path": "train.jsonl"},
        "validation": {"path": "held_out.jsonl"},
        "test": {"path": "math500.jsonl"},
    },
    "rollout": {"group_size": 8, "prompts_per_step": 16, "max_slots": 128, "temperature": 0.8},
    "train": {"num_steps": 100, "learning_rate": 1e-6, "save_every": 50},
    "evaluate": {"temperature": 0.8, "top_p": 1.0, "num_samples": 16, "validation_samples": 8},
}
FACTS = Facts(
    parameters=1_500_000_000,
    context=32_768,
    opens_think=False,
    problems=2000,
    longest_prompt=300,
    held_out={"validation": 200, "test": 500},
    pass_rates=(0.4, 0.5),
    lengths={"p10": 200, "p50": 400, "p90": 700, "mean": 420, "truncated_frac": 0.0},
    dead_frac=0.1,
    reward_ranges={"accuracy": (0.0, 1.0), "format": (0.0, 1.0)},
    no_answer_frac=0.1,
    step_seconds=10.0,
    checkpoint_bytes=2**30,
    free_disk=2**40,
    memory=2**30,
    device_memory=2**34,
    device="NVIDIA A40",
    usd_per_hour=0.44,
)


def changed(**sections):
    settings = {key: dict(value) for key, value in SOUND.items()}
    for section, values in sections.items():
        if isinstance(values, dict) and section != "sweep":
            settings.setdefault(section, {}).update(values)
        else:
            settings[section] = values
    return recipe_from_dict(settings)


def told(recipe, facts=FACTS):
    return {(one.severity, one.key): one for one in find(recipe, facts)}


def test_a_sound_recipe_has_no_finding():
    assert find(recipe_from_dict(SOUND), FACTS) == []


COSINE = [{"type": "cosine"}]
FORMAT = [{"type": "accuracy"}, {"type": "format"}]
BY_RECIPE = {
    "no validation set": ({"data": {"validation": None}}, "warning", "data.validation"),
    "no test set": ({"data": {"test": None}}, "warning", "data.test"),
    "test set selects": (
        {"data": {"validation": {"path": "math500.jsonl"}}}, "error", "data.validation"),
    "benchmark selects": (
        {"data": {"validation": {"hub": "HuggingFaceH4/aime_2024"}}}, "warning", "data.validation"),
    "one sample at the test": ({"evaluate": {"num_samples": 1}}, "warning", "evaluate.num_samples"),
    "one sample at validation": (
        {"evaluate": {"validation_samples": 1}}, "note", "evaluate.validation_samples"),
    "temperature": ({"evaluate": {"temperature": 0.6}}, "note", "evaluate.temperature"),
    "top-p": ({"evaluate": {"top_p": 0.95}}, "note", "evaluate.top_p"),
    "scored shorter": (
        {"evaluate": {"max_completion_tokens": 512}}, "warning", "evaluate.max_completion_tokens"),
    "scored longer": (
        {"evaluate": {"max_completion_tokens": 4096}}, "note", "evaluate.max_completion_tokens"),
    "trained on a part": ({"rollout": {"top_p": 0.9}}, "note", "rollout.top_p"),
    "doubled braces": (
        {"prompt": {"system": "put it in \\boxed{{}} <think>"}}, "warning", "prompt.system"),
    "answer tags": (
        {"prompt": {"system": "\\boxed{} in <answer>"}, "rewards": FORMAT},
        "note", "prompt.system"),
    "rate too high": ({"train": {"learning_rate": 1e-3}}, "warning", "train.learning_rate"),
    "rate too low": ({"train": {"learning_rate": 1e-9}}, "warning", "train.learning_rate"),
    "rate of adapters": (
        {"model": {"lora": {"rank": 8}}, "train": {"learning_rate": 1e-7}},
        "warning", "train.learning_rate"),
    "bfloat16 weights": ({"model": {"dtype": "bfloat16"}}, "warning", "model.dtype"),
    "unchosen KL": ({"loss": {"kl_coef": 0.04}}, "warning", "loss.kl_coef"),
    "KL costs": ({"loss": {"kl_coef": 0.01}}, "note", "loss.kl_coef"),
    "overlong from the start": (
        {"rewards": [{"type": "accuracy"}, {"type": "overlong", "overlong_buffer": 1024}]},
        "warning", "rewards"),
    "flat cosine": (
        {"rewards": COSINE, "rollout": {"max_completion_tokens": 4096}},
        "note", "rollout.max_completion_tokens"),
    "context": (
        {"rollout": {"max_completion_tokens": 32_700}}, "error", "rollout.max_completion_tokens"),
    "context of the engine": (
        {"rollout": {"engine": {"type": "vllm", "max_model_len": 1000}}},
        "error", "rollout.max_completion_tokens"),
    "slots": ({"rollout": {"prompts_per_step": 17}}, "note", "rollout.max_slots"),
    "scores apart from saves": ({"evaluate": {"every": 30}}, "note", "evaluate.every"),
    "sentinel off": ({"sentinel": {"action": "off"}}, "warning", "sentinel.action"),
    "a detector off": (
        {"sentinel": {"actions": {"entropy_up": "off"}}}, "warning", "sentinel.actions"),
    "long run": ({"train": {"num_steps": 500}}, "note", "sentinel.action"),
    "few problems": ({"train": {"num_steps": 250}}, "note", "train.num_steps"),
    "many epochs": ({"train": {"num_steps": 2500}}, "warning", "train.num_steps"),
    "save after the budget": ({"budget": {"hours": 0.1}}, "error", "train.save_every"),
    "refills": ({"loss": {"dynamic_sampling": True}}, "note", "loss.dynamic_sampling"),
}  # fmt: skip


@pytest.mark.parametrize(("sections", "severity", "key"), BY_RECIPE.values(), ids=BY_RECIPE)
def test_a_recipe_shows_it(sections, severity, key):
    found = told(changed(**sections))
    assert (severity, key) in found
    assert found[severity, key].cure


BY_FACTS = {
    "prompts over the limit": ({"too_long": 20}, "note", "prompt.max_prompt_tokens"),
    "many of them": ({"too_long": 900}, "warning", "prompt.max_prompt_tokens"),
    "fewer problems than a batch": ({"problems": 9}, "warning", "rollout.prompts_per_step"),
    "dead groups": ({"dead_frac": 0.3}, "note", "filters"),
    "most are dead": ({"dead_frac": 0.8}, "warning", "filters"),
    "some are cut": (
        {"lengths": {"p90": 900, "truncated_frac": 0.1}}, "note", "rollout.max_completion_tokens"),
    "many are cut": (
        {"lengths": {"p90": 1024, "truncated_frac": 0.4}},
        "warning", "rollout.max_completion_tokens"),
    "constant reward": ({"reward_ranges": {"format": (0.0, 0.0)}}, "warning", "rewards"),
    "template thinks": ({"opens_think": True}, "warning", "prompt.system"),
    "few validation problems": (
        {"held_out": {"validation": 10, "test": 500}}, "warning", "data.validation"),
    "few test problems": (
        {"held_out": {"validation": 200, "test": 12}}, "warning", "data.test"),
    "gpus": ({"gpus": 1000}, "warning", "rollout.prompts_per_step"),
    "far apart saves": ({"step_seconds": 100.0}, "note", "train.save_every"),
    "full disk": ({"free_disk": 2**30}, "error", "train.keep_last"),
    "no price": ({"usd_per_hour": None}, "note", "budget.usd_per_hour"),
    "memory": (
        {"memory": 2**35, "lower": ("rollout.max_slots", "set it to 8")},
        "error", "rollout.max_slots"),
    "not here": ({"missing": {"model.path": "x is not on this machine"}}, "note", "model.path"),
    "not curated": ({"uncurated": True}, "note", "sources"),
    "imported": (
        {"imported": (("read differently", "beta", "there it was on"),)}, "note", "beta"),
}  # fmt: skip


@pytest.mark.parametrize(("facts", "severity", "key"), BY_FACTS.values(), ids=BY_FACTS)
def test_the_facts_show_it(facts, severity, key):
    found = told(recipe_from_dict(SOUND), replace(FACTS, **facts))
    assert (severity, key) in found


def test_a_small_model_bears_a_larger_rate():
    recipe = changed(train={"learning_rate": 2e-4})
    assert ("warning", "train.learning_rate") in told(recipe)
    assert ("warning", "train.learning_rate") not in told(recipe, replace(FACTS, parameters=10**6))


def test_a_prompt_without_a_box_is_told_unless_the_probe_saw_answers():
    recipe = changed(prompt={"system": ""})
    assert ("note", "prompt.user") in told(recipe, replace(FACTS, no_answer_frac=None))
    assert ("warning", "prompt.user") in told(recipe, replace(FACTS, no_answer_frac=0.9))
    assert not told(recipe)


def test_dead_groups_by_pass_rates_count_for_accuracy_alone():
    facts = replace(FACTS, dead_frac=None, pass_rates=(0.0, 1.0, 0.0, 0.5))
    assert ("warning", "filters") in told(changed(rewards=[{"type": "accuracy"}]), facts)
    assert ("warning", "filters") not in told(changed(rewards=FORMAT), facts)
    # of 4 samples: 1, 1 and 2 / 16
    assert expected_dead((0.0, 1.0, 0.5), 4) == pytest.approx((1 + 1 + 0.125) / 3)


def test_checks_without_facts_say_nothing():
    keys = {one.key for one in find(recipe_from_dict(SOUND), Facts())}
    assert keys == {"budget.usd_per_hour"}


def test_checkpoints_come_at_saves_scores_and_the_end():
    recipe = changed(train={"num_steps": 100, "save_every": 40}, evaluate={"every": 30})
    assert checkpoint_steps(recipe) == [30, 40, 60, 80, 90, 100]
    alone = changed(train={"num_steps": 100, "save_every": 40}, data={"validation": None})
    assert checkpoint_steps(alone) == [40, 80, 100]


def test_findings_of_older_plans_are_sentences():
    assert from_row("something") == Finding("note", "", "something", "")
    one = {"severity": "error", "key": "a", "sentence": "b", "cure": "c"}
    assert str(from_row(one)) == "error: a: b; c"
