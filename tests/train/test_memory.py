"""Memory that does not suffice: micro-batches are split, the maths stays."""

import pytest
import torch
from test_loop import BASE
from test_update import batches_of, build_model, make_rows, run_update, same_bits, weights_of

from open_rs.errors import InputError
from open_rs.models import ran_out_of_memory
from open_rs.recipe import recipe_from_dict
from open_rs.runs import RunFolder, open_run, read_log
from open_rs.train import loop, rehearse, update
from open_rs.train.setup import open_training


def short_of_memory(monkeypatch, module, rows, *, late=False):
    """`learn_from` runs out of memory with more than so many rows; `late`: after its backward pass
    has added to the gradient, as on a device it may.
    """
    real, seen = module.learn_from, []

    def learn_from(policy, batch, sums, *settings):
        seen.append(len(batch.rows))
        if len(batch.rows) > rows:
            if late:
                real(policy, batch, sums, *settings)
            raise torch.OutOfMemoryError("injected")
        return real(policy, batch, sums, *settings)

    monkeypatch.setattr(module, "learn_from", learn_from)
    return seen


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("late", [False, True])
def test_a_split_step_is_the_step_of_whole_batches(monkeypatch, first, late):
    whole_model, model = build_model("qwen2").double(), build_model("qwen2").double()
    one = torch.optim.SGD(whole_model.parameters(), lr=0.1)
    two = torch.optim.SGD(model.parameters(), lr=0.1)
    whole = run_update(whole_model, batches_of(make_rows(), 1000), optimizer=one, first=first)
    batches = batches_of(make_rows(), 1000)
    assert [len(batch.rows) for batch in batches] == [5]
    short_of_memory(monkeypatch, update, 1, late=late)
    split = run_update(model, batches, optimizer=two, first=first)
    # 5 rows: 3 + 2, then 2 + 1 + 2, then 1 + 1 + 1 + 2, then ones: four splits
    assert split.pop("optim/memory_splits") == 4.0
    assert split.pop(update.FITS) == max(batch.tokens for batch in batches)
    assert [batch.rows for batch in batches] == [
        [row] for row in batches_of(make_rows(), 1000)[0].rows
    ]
    assert split == pytest.approx(whole, rel=1e-9)
    for name, weight in weights_of(model).items():
        torch.testing.assert_close(weight, weights_of(whole_model)[name], rtol=1e-9, atol=1e-12)
    # the halves hold what whole batches would: a second update goes on alike
    again = run_update(model, batches, optimizer=two, first=False)
    expected = run_update(whole_model, batches_of(make_rows(), 1), optimizer=one, first=first)
    assert again.keys() <= expected.keys()


def test_a_machine_without_memory_is_known_by_what_torch_says():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert ran_out_of_memory(caught.value)
    assert ran_out_of_memory(torch.OutOfMemoryError("CUDA"))
    assert not ran_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_other_errors_of_a_pass_are_raised_as_they_are(monkeypatch):
    def learn_from(*_):
        raise RuntimeError("mat1 and mat2")

    monkeypatch.setattr(update, "learn_from", learn_from)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run_update(build_model("qwen2"), batches_of(make_rows(), 1000))


def test_the_halves_of_a_batch_are_its_rows():
    batch = batches_of(make_rows(), 1000)[0]
    batch.ref_logprobs = batch.old_logprobs - 1
    left, right = batch.halves()
    assert left.rows + right.rows == batch.rows and len(left.rows) == 3
    assert right.input_ids.shape[1] == int(batch.attention_mask[3:].sum(1).max())
    for part, first in ((left, 0), (right, 3)):
        for row in range(len(part.rows)):
            ids = part.input_ids[row][part.attention_mask[row].bool()]
            assert torch.equal(
                ids, batch.input_ids[first + row][batch.attention_mask[first + row].bool()]
            )
            mask, whole = part.loss_mask[row], batch.loss_mask[first + row]
            for name in ("old_logprobs", "ref_logprobs"):
                assert torch.equal(
                    getattr(part, name)[row][mask], getattr(batch, name)[first + row][whole]
                )
    assert torch.equal(torch.cat([left.denominators, right.denominators]), batch.denominators)


def test_one_row_that_does_not_fit_is_raised_and_moves_nothing(monkeypatch):
    model = build_model("qwen2")
    before = weights_of(model)
    short_of_memory(monkeypatch, update, 0)
    with pytest.raises(torch.OutOfMemoryError):
        run_update(model, batches_of(make_rows(), 1000))
    assert same_bits(before, weights_of(model))


def train_recipe(**train):
    return recipe_from_dict(
        BASE | {"rewards": [{"type": "format"}], "train": BASE["train"] | train}
    )


def test_a_run_counts_the_splits_and_keeps_to_what_fits(monkeypatch, tmp_path):
    recipe = train_recipe()
    run = open_run(tmp_path / "run", recipe)
    seen = short_of_memory(monkeypatch, update, 2)
    loop.train(recipe, run)
    rows = [row for row in read_log(run.metrics) if row["step"]]
    assert rows[0]["optim/memory_splits"] >= 1
    assert [event["step"] for event in read_log(run.events) if event["event"] == "out_of_memory"]
    # the second step asks for no batch that is as large again as those that did not fit
    assert max(seen[-3:]) <= 4


def test_the_largest_batch_is_tried_before_the_first_step(monkeypatch, tmp_path):
    recipe = train_recipe(rehearse=True, micro_batch_tokens=1000)
    run = open_run(tmp_path / "run", recipe)
    with open_training(recipe, run) as training:
        before = weights_of(training.policy)
        seen = short_of_memory(monkeypatch, rehearse, 3)
        rehearse.rehearse(training)
        head = max(len(prompt.prompt_ids) for prompt in training.prompts.values()) - 1
        cap = recipe.rollout.max_completion_tokens
        rows = min((1000 - head) // cap, 16)  # the prompt counts once
        assert seen[0] == rows and seen[-1] <= 3 and len(seen) >= 2
        assert training.micro_batch_tokens == head + seen[-1] * cap
        assert same_bits(before, weights_of(training.policy))
        assert all(p.grad is None for p in training.policy.parameters())
        assert not training.optimizer.state
    events = [event for event in read_log(run.events) if event["event"] == "out_of_memory"]
    assert [event["rows"] for event in events] == seen[:-1]


def test_a_row_that_does_not_fit_is_refused_with_the_cap_that_would(monkeypatch, tmp_path):
    recipe = train_recipe(rehearse=True)
    cap, real = recipe.rollout.max_completion_tokens, rehearse.learn_from

    def learn_from(policy, batch, sums, *settings):
        if int(batch.completion_mask.sum()) > 3:
            raise torch.OutOfMemoryError("injected")
        return real(policy, batch, sums, *settings)

    monkeypatch.setattr(rehearse, "learn_from", learn_from)
    with pytest.raises(InputError) as caught:
        loop.train(recipe, open_run(tmp_path / "run", recipe))
    assert f"rollout.max_completion_tokens = {cap}: a row of " in str(caught.value)
    assert "lower it to 3, or set train.gradient_checkpointing = true" in str(caught.value)


def test_a_row_that_does_not_fit_in_mid_run_is_refused_alike(monkeypatch, tmp_path):
    recipe, real = train_recipe(), rehearse.learn_from

    def learn_from(policy, batch, sums, *settings):
        if int(batch.completion_mask.sum()) > 3:
            raise torch.OutOfMemoryError("injected")
        return real(policy, batch, sums, *settings)

    for module in (update, rehearse):
        monkeypatch.setattr(module, "learn_from", learn_from)
    with pytest.raises(InputError, match=r"a row of \d+ tokens does not fit.*; lower it to 3, or"):
        loop.train(recipe, open_run(tmp_path / "run", recipe))


def test_where_not_even_one_token_fits_a_smaller_model_is_asked_for(monkeypatch, tmp_path):
    recipe = train_recipe(rehearse=True, gradient_checkpointing=True)
    short_of_memory(monkeypatch, rehearse, 0)
    with pytest.raises(InputError, match=r"use a smaller model, or adapters \(model.lora\)$"):
        loop.train(recipe, open_run(tmp_path / "run", recipe))


def test_on_a_cpu_nothing_is_rehearsed_unless_asked(monkeypatch, tmp_path):
    recipe = train_recipe()
    seen = short_of_memory(monkeypatch, rehearse, 0)
    loop.train(recipe, open_run(tmp_path / "run", recipe))
    assert seen == [] and RunFolder(tmp_path / "run").checkpoint(2).is_dir()
