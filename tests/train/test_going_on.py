"""Where a run goes on, and what it refuses: every sentence names the thing and the cure."""

import gzip
import json
import shutil

import pytest
from test_resume import Killed, kill_at, recipe_with, start, trace
from test_signals import SHORT

from open_rs.errors import InputError
from open_rs.recipe import recipe_from_dict
from open_rs.runs import RunFolder, open_run, read_json, read_log, sha256, write_json
from open_rs.train import loop, resume
from open_rs.train.journal import RolloutJournal
from open_rs.train.resume import missing_keys, recipe_to_resume


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nobody stopped, to compare with."""
    recipe = recipe_with(**SHORT)
    return recipe, start(recipe, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    """Killed after the rollouts of step 4; its newest checkpoint is that of step 3."""
    recipe = recipe_with(**SHORT)
    path = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, "update", 4, after=False)
        with pytest.raises(Killed):
            start(recipe, path)
    return recipe, path


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """(recipe, a run of its own to do harm to)."""
    recipe, path = stopped_once
    return recipe, RunFolder(shutil.copytree(path, tmp_path / "run"))


@pytest.fixture
def drawn(monkeypatch):
    """(step, problem, sample) of every rollout that is drawn."""
    real, seen = RolloutJournal.add, []

    def add(self, step, prompt, rollout):
        seen.append((step, prompt.problem.id, rollout.sample))
        real(self, step, prompt, rollout)

    monkeypatch.setattr(RolloutJournal, "add", add)
    return seen


def events(run, name):
    return [row for row in read_log(run.events) if row["event"] == name]


# --- replay ---


def test_a_finished_batch_of_rollouts_is_not_drawn_again(stopped, finished, drawn):
    recipe, run = stopped
    loop.train(recipe, run)
    assert drawn == []
    assert trace(run, 4) == trace(finished[1], 4)
    rows = [row for row in read_log(run.ledger) if row["phase"] == "rollout"]
    assert rows[-1]["tokens"] == 0  # nothing was paid for twice


@pytest.mark.parametrize("kept", [1, 4, 5])
def test_a_step_in_flight_goes_on_with_what_is_journalled(kept, finished, drawn, tmp_path):
    """Killed when `kept` of the 6 rollouts of step 3 were there: the others alone are drawn, and
    they are those of the whole run to the last bit of their log-probs.
    """
    recipe, path = recipe_with(**SHORT), tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        real, calls = RolloutJournal.add, [0]

        def add(self, *args):
            real(self, *args)
            calls[0] += 1
            if calls[0] == 12 + kept:
                raise Killed

        patch.setattr(RolloutJournal, "add", add)
        with pytest.raises(Killed):
            start(recipe, path)
    before = list(drawn)
    assert len(before) == 12 + kept
    del drawn[:]
    loop.train(recipe, RunFolder(path))
    assert not set(drawn) & set(before)
    assert len(drawn) == 24 - 12 - kept
    assert trace(RunFolder(path), 4) == trace(finished[1], 4)


def test_without_any_checkpoint_the_steps_replay_from_the_start_where_accepted(
    stopped, finished, drawn
):
    recipe, run = stopped
    shutil.rmtree(run.checkpoints)
    with pytest.raises(InputError, match=r"checkpoints: holds no checkpoint, though that of step"):
        loop.train(recipe, run)
    loop.train(recipe, run, accept_changes=True)
    assert drawn == []  # four steps of updates, not one rollout
    assert trace(run, 4) == trace(finished[1], 4)


def test_when_every_checkpoint_is_damaged_the_start_has_to_be_accepted(stopped, finished):
    recipe, run = stopped
    for folder in run.checkpoints.iterdir():
        (folder / "trainer" / "state.json").write_text("{}")
    with pytest.raises(InputError, match=r"no intact checkpoint.*000003 skipped.*--accept-changes"):
        loop.train(recipe, run)
    loop.train(recipe, run, accept_changes=True)
    assert trace(run, 4) == trace(finished[1], 4)


def test_metrics_come_back_from_the_checkpoint(stopped, finished):
    recipe, run = stopped
    run.metrics.write_text('{"step": 0}\n{"st\n{"step": 2}\n')
    loop.train(recipe, run)
    assert trace(run, 4) == trace(finished[1], 4)


def test_damaged_logs_are_mended_and_said(stopped, finished, capsys):
    recipe, run = stopped
    for path in (run.events, run.ledger):
        lines = path.read_bytes().split(b"\n")
        second = lines[1].replace(b'"step"', b'"stop"')  # still JSON, no longer a row
        path.write_bytes(b"\n".join([lines[0][:-1], second, *lines[2:]]))
    loop.train(recipe, run)
    said = capsys.readouterr().err
    assert "events.jsonl: 2 damaged lines were left out" in said
    assert "ledger.jsonl: 2 damaged lines were left out" in said
    assert trace(run, 4) == trace(finished[1], 4)


def test_a_damaged_record_behind_the_checkpoint_is_named(stopped, capsys):
    recipe, run = stopped
    path = run.rollouts(1)
    path.write_bytes(path.read_bytes()[:-3])
    loop.train(recipe, run)
    assert "rollouts/000001.jsonl.gz is damaged" in capsys.readouterr().err
    assert [row["file"] for row in events(run, "damaged")] == ["rollouts/000001.jsonl.gz"]


@pytest.mark.parametrize(
    ("kept", "intact"), [(1.0, True), (0.9, False), (0.5, False), (0.0, False)]
)
def test_a_record_is_intact_only_as_a_whole(tmp_path, kept, intact):
    content = gzip.compress(b'{"step": 1}\n' * 100)
    path = tmp_path / "000001.jsonl.gz"
    path.write_bytes(content[: int(kept * len(content))])
    assert resume.is_intact(path) is intact


@pytest.mark.parametrize("harm", ["torn", "another score"])
def test_a_damaged_score_is_taken_again(stopped, finished, capsys, harm):
    recipe, run = stopped
    path = run.evaluation("validation-000000") / "summary.json"
    summary = read_json(path)
    summary["scores"]["pass@1"]["value"] += 0.125
    path.write_text("{") if harm == "torn" else write_json(path, summary)
    shutil.rmtree(run.checkpoints)
    loop.train(recipe, run, accept_changes=True)
    assert "validation-000000 is scored again" in capsys.readouterr().err
    assert trace(run, 4) == trace(finished[1], 4)


# --- half-deleted, foreign, newer ---


def test_rollouts_without_metrics_are_no_new_run(stopped):
    recipe, run = stopped
    shutil.rmtree(run.checkpoints)
    run.metrics.unlink()
    with pytest.raises(InputError, match=r"metrics.jsonl: is gone, though rollouts/ holds steps"):
        loop.train(recipe, run)


def test_a_checkpoint_of_a_later_version_is_refused(stopped):
    recipe, run = stopped
    state = run.checkpoint(3) / "trainer" / "state.json"
    write_json(state, read_json(state) | {"format": 99})
    manifest = run.checkpoint(3) / "manifest.json"
    facts = read_json(manifest)
    facts["files"]["trainer/state.json"] = {
        "bytes": state.stat().st_size,
        "sha256": sha256(state),
    }
    write_json(manifest, facts)
    with pytest.raises(InputError, match=r"a later version .* \(format 99, this one reads 2\)"):
        loop.train(recipe, run)


# --- what changed since ---


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("model_sha256", "0" * 64, "model_sha256"),
        ("data_sha256", {"train": "0", "validation": "1"}, "data_sha256.train"),
        ("packages", {"torch": "1.0"}, "packages.torch"),
        ("device", "cuda:7", "device"),
        ("grader_policy", "0", "grader_policy"),
    ],
)
def test_what_changed_is_named_and_refused_or_accepted(stopped, monkeypatch, key, value, named):
    recipe, run = stopped
    real = resume.held_origin

    def held(*args):
        origin = real(*args)
        return origin | {key: origin[key] | value if isinstance(value, dict) else value}

    monkeypatch.setattr(resume, "held_origin", held)
    with pytest.raises(InputError, match=rf"{named}.* differ from those.*--accept-changes"):
        loop.train(recipe, run)
    loop.train(recipe, run, accept_changes=True)
    assert named in events(run, "accept_changes")[0]["changed"]
    assert read_log(run.metrics)[-1]["step"] == 4


def test_rollouts_of_other_weights_are_not_replayed(stopped, monkeypatch, drawn):
    recipe, run = stopped
    real = resume.held_origin
    monkeypatch.setattr(resume, "held_origin", lambda *a: real(*a) | {"model_sha256": "0"})
    loop.train(recipe, run, accept_changes=True)
    assert {step for step, _, _ in drawn} == {4}


def test_a_setting_of_the_maths_is_refused_even_where_changes_are_accepted(stopped):
    recipe, run = stopped
    other = recipe.model_dump(mode="json")
    other["train"]["learning_rate"] = 5e-4
    other["rollout"]["temperature"] = 0.9
    with pytest.raises(
        InputError, match=r"recipe.json: rollout.temperature, train.learning_rate changed since"
    ):
        loop.train(recipe_from_dict(other), run, accept_changes=True)


def test_a_free_setting_may_change_and_is_said(stopped, finished, capsys):
    _, run = stopped
    changed = recipe_to_resume(run, ["train.keep_last=1", "budget.hours=2", "rollout.max_slots=3"])
    loop.train(changed, run)
    assert read_json(run.recipe)["budget"]["hours"] == 2
    said = capsys.readouterr().err
    assert "without another maths: budget.hours, rollout.max_slots, train.keep_last" in said
    metrics, rollouts, files = trace(run, 4)
    expected_metrics, expected_rollouts, expected = trace(finished[1], 4)
    assert (metrics, rollouts) == (expected_metrics, expected_rollouts)
    assert files.keys() == expected.keys()
    assert [name for name in files if files[name] != expected[name]] == ["trainer/origin.json"]


def test_overrides_of_the_maths_are_refused_and_leave_the_recipe(stopped):
    _, run = stopped
    before = run.recipe.read_bytes()
    with pytest.raises(InputError, match=r"train.num_steps changed since the run was started"):
        recipe_to_resume(run, ["train.num_steps=9"])
    assert run.recipe.read_bytes() == before


def test_a_key_that_came_later_gets_its_default_and_is_said(stopped, capsys):
    recipe, run = stopped
    held = read_json(run.recipe)
    del held["budget"], held["train"]["keep_last"]
    write_json(run.recipe, held)
    assert recipe_to_resume(run) == recipe
    said = capsys.readouterr().err
    assert "recipe.json has no train.keep_last: its default is taken, null" in said
    assert 'has no budget: its default is taken, {"hours": null' in said
    assert list(missing_keys({"a": {"b": 1}}, {"a": {"b": 2, "c": 3}, "d": {}})) == ["a.c", "d"]


def test_a_damaged_recipe_is_taken_from_the_checkpoint(stopped, capsys):
    recipe, run = stopped
    before = read_json(run.recipe)
    run.recipe.write_text(json.dumps(before)[:-9])
    assert recipe_to_resume(run) == recipe
    assert read_json(run.recipe) == before
    assert "the recipe is taken from checkpoint 000003" in capsys.readouterr().err


def test_a_damaged_recipe_before_any_checkpoint_is_one_sentence(tmp_path):
    run = open_run(tmp_path, recipe_from_dict({}))
    run.recipe.write_text("{")
    with pytest.raises(InputError, match=r"recipe.json: not valid JSON"):
        recipe_to_resume(run)
