"""`open-rs train --resume FOLDER` where that is no whole run: one sentence, and nothing changed."""

import json
import sys
from pathlib import Path

import pytest
from test_resume import recipe_with

from open_rs import __version__, cli
from open_rs.errors import InputError
from open_rs.recipe import recipe_from_dict
from open_rs.runs import RunFolder, open_run, write_json
from open_rs.train.checkpoint import _manifest
from open_rs.train.resumable import is_later, run_to_resume
from open_rs.train.resume import recipe_to_resume

RECIPE = recipe_with()
SETTINGS = RECIPE.model_dump(mode="json")


def started(path: Path, version: str = __version__) -> RunFolder:
    run = open_run(path, RECIPE)
    write_json(run.environment, {"packages": {"open-rs": version}})
    run.metrics.write_text('{"step": 1}\n')
    return run


def saved(run: RunFolder, step: int) -> Path:
    """A checkpoint of which all but the recipe is left out."""
    folder = run.checkpoint(step)
    (folder / "trainer").mkdir(parents=True)
    write_json(folder / "trainer" / "origin.json", {"recipe": SETTINGS})
    write_json(folder / "manifest.json", _manifest(folder))
    return folder


def empty(path):
    path.mkdir()


def a_file(path):
    path.write_text("text")


def foreign(path):
    path.mkdir()
    for name in ("a.py", "b.py", "c.py", "d.py"):
        (path / name).touch()


def a_folder_of_runs(path):
    started(path / "one")
    started(path / "two")


def without_recipe(path):
    started(path).recipe.unlink()


def torn_recipe(path):
    run = started(path)
    run.recipe.write_text(run.recipe.read_text()[:-9])


def torn_recipe_and_checkpoint(path):
    torn_recipe(path)
    saved(RunFolder(path), 2).joinpath("manifest.json").unlink()


def anothers_recipe(path):
    path.mkdir()
    (path / "recipe.json").write_text('{"title": "Soup", "ingredients": []}')


def a_list(path):
    path.mkdir()
    (path / "recipe.json").write_text("[1, 2]")


def of_a_later_version(path):
    run = started(path, "999.1")
    write_json(run.recipe, SETTINGS | {"train": SETTINGS["train"] | {"lookahead": 2}})


def changed_by_hand(path):
    write_json(started(path).recipe, SETTINGS | {"train": SETTINGS["train"] | {"lookahead": 2}})


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "run: no such folder; name that of the run, as in runs/NAME"),
        (a_file, "run: is a file; name the folder of the run"),
        (empty, "run: is empty, so there is nothing to go on with; start a run there by open-rs"),
        (foreign, "run: holds nothing of a run of open-rs (but a.py, b.py, c.py and 1 more); name"),
        (a_folder_of_runs, "run: is no run itself; did you mean run/one, run/two?"),
        (without_recipe, "run/recipe.json: is gone, and no checkpoint holds the recipe; put it"),
        (torn_recipe, "no intact checkpoint holds the recipe either: put it back, or start from"),
        (torn_recipe_and_checkpoint, "no intact checkpoint holds the recipe either: put it back"),
        (
            anothers_recipe,
            "run/recipe.json: is no recipe of a run of open-rs (its settings: unk",
        ),
        (a_list, "run/recipe.json: is no recipe of a run of open-rs (its settings: "),
        (
            of_a_later_version,
            f"recipe.json: open-rs 999.1 wrote it, and this is {__version__} (its settings: "
            "unknown key train.lookahead); go on with that version",
        ),
        (
            changed_by_hand,
            "recipe.json: was changed by hand, or by another version of open-rs (its settings: "
            "unknown key train.lookahead); put it back (the newest",
        ),
    ],
)
def test_what_is_no_whole_run_is_one_sentence_and_stays(
    make, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    make(Path("run"))
    before = contents(tmp_path)
    monkeypatch.setattr(sys, "argv", ["open-rs", "train", "--resume", "run"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = capsys.readouterr().err
    assert end.value.code == 2
    assert sentence in told and told.count("\n") == 1
    assert contents(tmp_path) == before


def contents(folder):
    """All files but the marks of the lock."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (".lock", ".owner.json")
    }


def test_inside_a_run_the_run_is_named(tmp_path):
    saved(started(tmp_path / "run"), 2)
    with pytest.raises(InputError, match=rf"did you mean {tmp_path}/run\?"):
        run_to_resume(tmp_path / "run" / "checkpoints")


def test_a_recipe_that_is_gone_is_taken_from_the_checkpoint(tmp_path, capsys):
    run = started(tmp_path / "run")
    saved(run, 2)
    saved(run, 4).joinpath("manifest.json").unlink()
    run.recipe.unlink()
    assert recipe_to_resume(run_to_resume(run.path)) == RECIPE
    assert "the recipe is taken from checkpoint 000002" in capsys.readouterr().err
    assert json.loads(run.recipe.read_text()) == SETTINGS


def test_a_run_that_was_never_started_says_so(tmp_path, capsys):
    run = open_run(tmp_path / "run", RECIPE)
    assert recipe_to_resume(run_to_resume(run.path)) == RECIPE
    assert "no step was made there yet; the training starts now" in capsys.readouterr().err


def test_an_override_that_is_wrong_is_not_the_recipes_fault(tmp_path):
    run = started(tmp_path / "run")
    with pytest.raises(InputError, match=r"unknown key sentinel.acton; did you mean action"):
        recipe_to_resume(run, ["sentinel.acton=warn"])
    assert recipe_from_dict(json.loads(run.recipe.read_text())) == RECIPE


def test_versions_are_compared_by_their_parts():
    assert is_later("999.10") and is_later("999.9")
    assert not is_later(__version__) and not is_later("0.0.1") and not is_later("of its own")
