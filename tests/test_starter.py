"""`open-rs init`: what it writes is a recipe that runs, and nothing of the user's is lost."""

import sys
from pathlib import Path

import pytest

from open_rs.cli import COMMANDS, main
from open_rs.errors import InputError
from open_rs.overlap import refuse_overlap
from open_rs.problems import load_problems
from open_rs.recipe import load_recipe
from open_rs.starter import find_columns, make_starter


def test_a_starter_with_made_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_starter(tmp_path / "mine", name="first")
    assert [path.name for path in made] == ["recipe.toml", "rewards.py", "problems.csv"]
    monkeypatch.chdir(tmp_path / "mine")
    recipe = load_recipe("recipe.toml")
    assert (recipe.name, recipe.model.path, recipe.train.learning_rate) == ("first", "tiny", 2e-4)
    assert recipe.data.validation is not None and recipe.data.test is not None
    sets = {
        "training": load_problems(recipe.sources[0]),
        "validation": load_problems(recipe.data.validation),
        "test": load_problems(recipe.data.test),
    }
    assert sum(map(len, sets.values())) == 600
    refuse_overlap(sets)


def test_own_problems_are_copied_and_their_columns_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / 'my "päper" {1}.csv'
    own.write_text("nr,Question,GOLD\n1,Add 2 and 2,4\n", encoding="utf-8")
    make_starter(tmp_path / "mine", model="some/model", problems=own)
    monkeypatch.chdir(tmp_path / "mine")
    source = load_recipe("recipe.toml").sources[0]
    assert source.path == own.name and Path(own.name).read_bytes() == own.read_bytes()
    assert source.columns == {"problem": "Question", "answer": "GOLD"}
    assert load_recipe("recipe.toml").train.learning_rate == 1e-6


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a,b\n1,2\n", "no column of problems and answers found among a, b"),
        ("question,answer\n", "holds no rows"),
    ],
)
def test_files_without_what_is_needed(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        find_columns(path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text("mine")
    with pytest.raises(InputError, match=r"rewards\.py: exists"):
        make_starter(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["rewards.py"]
    with pytest.raises(InputError, match="cannot be read"):
        make_starter(tmp_path / "new", problems=tmp_path / "none.csv")
    assert not (tmp_path / "new").exists()


def test_a_name_that_a_recipe_would_refuse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--name: name"):
        make_starter(tmp_path / "new", name='a/b"c')
    assert not (tmp_path / "new").exists()


def test_the_command_tells_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["open-rs", "init", str(tmp_path / "meine Übung")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert f"cd '{tmp_path / 'meine Übung'}' && open-rs plan recipe.toml" in capsys.readouterr().out


@pytest.mark.parametrize("examples", COMMANDS.values(), ids=lambda one: one[-1].split()[1])
def test_every_example_of_a_help_text_is_shown_on_a_line_of_its_own(
    examples: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "argv", ["open-rs", examples[-1].split()[1], "--help"])
    with pytest.raises(SystemExit):
        main()
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert set(examples) <= set(lines)
