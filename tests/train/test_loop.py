"""The loop: what is sampled, what is learned from, and when it stops."""

import json
import math

import pytest
import torch

from open_rs.errors import GuardStop, InputError
from open_rs.grade import Grade
from open_rs.recipe import recipe_from_dict
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.runs import open_run, read_log, read_metrics
from open_rs.train import loop
from open_rs.train.leaving import leaving_well
from open_rs.train.metrics import is_dead
from open_rs.train.setup import open_training

BASE = {
    "name": "loop",
    "data": {"train": {"task": "arithmetic", "count": 16, "levels": [1, 2]}},
    "rollout": {"group_size": 4, "prompts_per_step": 4, "max_completion_tokens": 40},
    "train": {"num_steps": 2, "save_every": 2, "learning_rate": 1e-3},
}


@pytest.fixture
def training(tmp_path):
    """Opens a training of BASE with sections changed, closed at the end of the test."""
    opened = []

    def make(**sections):
        recipe = recipe_from_dict(BASE | sections)
        context = open_training(recipe, open_run(tmp_path / "run", recipe))
        opened.append(context)
        return context.__enter__()

    yield make
    for context in opened:
        context.__exit__(None, None, None)


def scripted(training, rewards_by_call):
    """Put rewards in place of sampling: each inner list is one group's; None is undecided."""
    calls = iter(rewards_by_call)

    def sample(prompts, *, step, **_):
        groups = []
        for prompt in prompts:
            rollouts = [
                Rollout(
                    completion_ids=[5, 6, 1],
                    engine_logprobs=[-1.0, -1.0, -1.0],
                    completion=str(value),
                    finish_reason="length" if value == 0.5 else "stop",
                    sample=i,
                    grade=Grade("error" if value is None else "correct", None, 0.0),
                )
                for i, value in enumerate(next(calls))
            ]
            groups.append(RolloutGroup(prompt.problem, prompt.prompt_ids, rollouts))
        return groups

    training.sampler.sample = sample
    training.rewards[:] = [
        training.rewards[0]._replace(
            function=lambda rollout, problem: (
                None if rollout.completion == "None" else float(rollout.completion)
            )
        )
    ]


def test_advantages_leave_undecided_rollouts_out(training):
    t = training(rewards=[{"type": "accuracy"}])
    scripted(t, [[1.0, 0.0, None, 0.5]] + [[0.0] * 4] * 3)
    groups, metrics = loop.roll_out(t, 1)
    # mean of 1, 0, .5 is .5; std (n - 1) is .5; (1 - .5) / (.5 + 1e-4)
    expected = [0.5 / 0.5001, -0.5 / 0.5001, 0.0, 0.0]
    assert [r.advantage for r in groups[0].rollouts] == pytest.approx(expected, rel=1e-12)
    assert metrics["reward/undecided_frac"] == 1 / 16
    assert metrics["groups/dead_frac"] == 3 / 4
    batches = loop.training_batches(t, groups)
    # Two rows teach; the step has 16 - 1 undecided rows, which is their denominator: 15 * 3 tokens.
    assert sum(len(batch.rows) for batch in batches) == 2
    assert batches[0].denominators.tolist() == [45.0, 45.0]


def test_truncated_rows_can_be_left_out_of_the_loss(training):
    t = training(rewards=[{"type": "accuracy"}], loss={"mask_truncated": True})
    scripted(t, [[1.0, 0.0, 0.0, 0.5]] + [[0.0] * 4] * 3)
    groups, _ = loop.roll_out(t, 1)
    assert groups[0].rollouts[3].advantage == 0.0
    batches = loop.training_batches(t, groups)
    assert sum(len(batch.rows) for batch in batches) == 3
    assert batches[0].denominators[0] == 15 * 3


def test_dynamic_sampling_replaces_dead_groups_by_new_problems(training):
    t = training(
        rewards=[{"type": "accuracy"}], loss={"dynamic_sampling": True, "loss_norm": "token"}
    )
    live, dead = [1.0, 0.0, 0.0, 0.0], [0.0] * 4
    scripted(t, [live, dead, dead, live, dead, live, live])
    groups, metrics = loop.roll_out(t, 1)
    # 4 asked, 2 dead; 2 asked, 1 dead; 1 asked, live
    assert [is_dead(group) for group in groups] == [False, True, True, False, True, False, False]
    assert len({group.problem.id for group in groups}) == 7
    assert metrics["groups/effective"] == 4
    assert t.stream.position == 7
    batches = loop.training_batches(t, groups)
    assert batches[0].denominators[0] == 4 * 4 * 3  # tokens of the live groups alone


def test_dynamic_sampling_gives_up_after_max_refills(training):
    t = training(rewards=[{"type": "accuracy"}], loss={"dynamic_sampling": True, "max_refills": 2})
    scripted(t, [[0.0] * 4] * 12)
    groups, _ = loop.roll_out(t, 1)
    assert len(groups) == 12  # 4, and two refills of 4
    assert loop.training_batches(t, groups) == []


def test_reference_logprobs_are_those_of_the_start(training):
    t = training(rewards=[{"type": "accuracy"}], loss={"kl_coef": 0.04})
    scripted(t, [[1.0, 0.0, 0.0, 0.0]] * 8)
    groups, _ = loop.roll_out(t, 1)
    loop.learn(t, loop.training_batches(t, groups), first_of_batch=True)
    metrics = loop.learn(t, loop.training_batches(t, groups), first_of_batch=True)
    assert metrics["policy/kl"] > 0  # the policy has moved, the reference has not
    assert metrics["policy/ratio"] == 1.0


def test_lora_takes_its_own_base_as_the_reference(training):
    t = training(
        rewards=[{"type": "accuracy"}],
        loss={"kl_coef": 0.04},
        model={"lora": {"rank": 2}},
        train=BASE["train"] | {"learning_rate": 0.05, "warmup_ratio": 0.0},
    )
    assert t.reference is None
    scripted(t, [[1.0, 0.0, 0.0, 0.0]] * 8)
    groups, _ = loop.roll_out(t, 1)
    first = loop.learn(t, loop.training_batches(t, groups), first_of_batch=True)
    assert first["policy/kl"] == 0.0  # B starts at 0, so the policy is the base
    second = loop.learn(t, loop.training_batches(t, groups), first_of_batch=True)
    assert second["policy/kl"] > 0


def test_steps_without_a_finite_gradient_are_skipped_counted_and_stop_the_run(training):
    t = training(rewards=[{"type": "accuracy"}], train=BASE["train"] | {"max_nonfinite_steps": 2})
    scripted(t, [[1.0, 0.0, 0.0, 0.0]] * 8)
    groups, _ = loop.roll_out(t, 1)
    before = [parameter.clone() for parameter in t.policy.parameters()]
    batches = loop.training_batches(t, groups)
    batches[0].advantages[0] = math.inf
    assert loop.learn(t, batches, first_of_batch=True)["optim/skipped"] == 1.0
    stopped = pytest.raises(GuardStop, match="2 steps in a row up to step 2")
    with stopped, leaving_well(t, loop.save):
        loop.learn(t, batches, first_of_batch=True)
    for old, new in zip(before, t.policy.parameters(), strict=True):
        assert torch.equal(old, new)
    events = read_log(t.run.events)
    assert [one["event"] for one in events[-3:]] == ["skipped_step", "skipped_step", "stop"]
    assert events[-1]["reason"] == "nonfinite"


def test_metrics_of_a_run_have_one_row_a_step_with_their_scores(tmp_path):
    held_out = {"task": "arithmetic", "count": 3, "split": "validation", "levels": [1]}
    recipe = recipe_from_dict(
        BASE
        | {
            "data": BASE["data"] | {"validation": held_out},
            "evaluate": {"every": 2, "validation_samples": 2},
        }
    )
    run = open_run(tmp_path / "run", recipe)
    loop.train(recipe, run)
    rows = read_metrics(run)
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert ["validation/pass@1" in row for row in rows] == [True, False, True]
    assert rows[1]["optim/learning_rate"] == pytest.approx(1e-3 * (0.1 + 0.9 * 0.5))
    phases = {row["phase"] for row in read_log(run.ledger)}
    assert phases == {"rollout", "update", "save", "evaluate", "idle"}
    assert [event["event"] for event in read_log(run.events)] == ["start", "save", "finish"]


def test_a_group_whose_only_signal_is_masked_is_dead(training):
    t = training(rewards=[{"type": "accuracy"}], loss={"mask_truncated": True})
    # mean of the three .2 and the .5 is .275: all have an advantage, the cut-off one is masked
    scripted(t, [[0.5, 0.5, 0.5, 0.5]] + [[0.0, 0.0, 0.0, 0.5]] * 3)
    groups, metrics = loop.roll_out(t, 1)
    assert metrics["groups/effective"] == 3.0
    assert is_dead(groups[0]) and not is_dead(groups[1])


def trained(tmp_path, **data):
    recipe = recipe_from_dict(BASE | {"data": BASE["data"] | data})
    run = open_run(tmp_path / "run", recipe)
    loop.train(recipe, run)
    return recipe, run


def test_a_run_goes_on_only_with_the_data_that_it_started_with(tmp_path):
    rows = [{"problem": f"Compute {i} + 1.", "answer": str(i + 1)} for i in range(6)]
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe, run = trained(tmp_path, train={"path": str(file)})
    loop.train(recipe, run)  # unchanged: nothing to refuse
    file.write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    with pytest.raises(InputError, match=r"data_sha256\.train differ from those"):
        loop.train(recipe, run)


def test_held_out_problems_among_the_training_ones_are_refused_before_training(tmp_path):
    with pytest.raises(InputError, match=r"data\.validation: 16 of 16 problems stand in data"):
        trained(tmp_path, validation=BASE["data"]["train"])


def test_an_evaluation_that_cannot_fit_is_refused_before_training(tmp_path):
    recipe = recipe_from_dict(
        BASE
        | {
            "data": BASE["data"] | {"test": {"task": "arithmetic", "count": 2, "split": "test"}},
            "evaluate": {"max_completion_tokens": 1020},
        }
    )
    with pytest.raises(InputError, match=r"evaluate\.max_completion_tokens = 1020: .* of 1024"):
        loop.train(recipe, open_run(tmp_path / "run", recipe))


def test_until_training_starts_a_recipe_can_be_corrected(tmp_path):
    run = open_run(tmp_path / "run", recipe_from_dict(BASE | {"model": {"path": "no/such/one"}}))
    run.plan.write_text("{}")
    recipe = recipe_from_dict(BASE)
    assert open_run(tmp_path / "run", recipe).recipe.exists()
    assert not run.plan.exists()
    loop.train(recipe, run)
    with pytest.raises(InputError, match="already holds a run of another recipe"):
        open_run(tmp_path / "run", recipe_from_dict(BASE | {"seed": 9}))
