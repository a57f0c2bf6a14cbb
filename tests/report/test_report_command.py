"""`open-rs report RUN...`: where the page goes, and what is refused."""

import json
from pathlib import Path

import pytest
from synthetic_run import make_run

from open_rs.commands.report import report
from open_rs.errors import InputError


def test_the_page_of_a_run_lies_in_it_or_where_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "läuft 跑", num_steps=2)
    report([run.path])
    assert capsys.readouterr().out.strip() == str(run.report) and run.report.is_file()
    run.report.unlink()
    report([run.path], out=tmp_path / "page.html", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"report": str(tmp_path / "page.html")}
    assert not run.report.exists()


def test_several_runs_make_one_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [make_run(tmp_path / name, num_steps=2).path for name in ("a", "b")]
    report(runs)
    assert capsys.readouterr().out.strip() == "comparison.html"
    assert (tmp_path / "comparison.html").is_file() and not list(tmp_path.glob("*/report.html"))


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        ({"run_paths": []}, "name a run"),
        ({"run_paths": [Path("absent")]}, "absent: no such run folder"),
        ({"run_paths": [Path("other")]}, "other: holds none of recipe.json"),
        ({"run_paths": [Path("run")], "out": Path("other")}, "other: is a folder; name a file"),
        ({"run_paths": [Path("run")], "out": Path("other/x/page.html")}, "cannot be written"),
        ({"run_paths": [Path("run")], "usd_per_hour": 1.0}, "need --paper or --costs"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object], cure: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run", num_steps=1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("a file", encoding="utf-8")
    with pytest.raises(InputError, match=cure):
        report(**arguments)  # type: ignore[arg-type]


def test_an_empty_folder_makes_a_page_that_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    report([tmp_path / "empty"])
    page = Path(capsys.readouterr().out.strip()).read_text(encoding="utf-8")
    assert "No recipe: recipe.json is missing" in page
