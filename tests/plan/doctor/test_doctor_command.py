"""The command, its table of checks, and what it does when time is short or a check breaks."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from open_rs import cli
from open_rs.plan.doctor import table
from open_rs.plan.doctor.finding import Check, ok
from open_rs.plan.doctor.runner import diagnose
from open_rs.plan.doctor.subject import Subject
from open_rs.plan.doctor.table import CHECKS
from open_rs.recipe import recipe_from_dict

STARTS_PROCESSES = ("grader.starts", "grader.known_pairs", "grader.hang", "data.golds")
PAGE = Path(__file__).parents[3] / "docs" / "doctor.md"


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs `open-rs doctor ARGS` in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["open-rs", "doctor", *args])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, captured.err

    return run


def test_checks_can_be_told_apart_and_come_after_what_they_need():
    seen = set()
    for check in CHECKS:
        assert check.name not in seen and re.fullmatch(r"[a-z]+\.[a-z_0-9]+", check.name)
        assert set(check.needs) <= seen, check.name
        assert check.what.endswith(".") and not (check.ahead and check.needs)
        seen.add(check.name)


def test_every_check_has_a_test_that_breaks_what_it_looks_at():
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_doctor_*.py"))
    assert [check.name for check in CHECKS if f'"{check.name}"' not in tests] == []
    assert len(CHECKS) >= 40


def test_the_page_lists_the_checks():
    rows = re.findall(r"^\| `([a-z._0-9]+)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [(check.name, check.what) for check in CHECKS]


def test_nothing_is_found_on_the_shipped_recipe(command):
    status, out, err = command("--seconds", "120")
    assert status == 0, out
    assert re.fullmatch(
        r"\d+ checks in [\d.]+ s: \d+ ok, 0 to look at, 0 failed, \d+ skipped\n", out
    )
    assert not Path("runs").exists() and err == ""


@pytest.fixture
def without_grader(monkeypatch):
    """Without the checks that start processes."""
    few = tuple(one for one in CHECKS if one.name not in STARTS_PROCESSES)
    monkeypatch.setattr(table, "CHECKS", few)


def test_a_failed_check_is_exit_status_1_and_json_says_which(command, without_grader):
    recipe = Path("recipe.toml")
    recipe.write_text('[model]\npath = "./nowhere"\n[data.train]\ntask = "arithmetic"\ncount = 9\n')
    status, out, _ = command(str(recipe), "--json", "--seconds", "120")
    result = json.loads(out)
    failed = [one["check"] for one in result["findings"] if one["status"] == "fail"]
    assert (status, result["status"], failed) == (1, "fail", ["model.found"])
    assert result["counts"]["fail"] == 1
    # What the plan's audit says of the recipe itself comes with it
    assert any(one["check"] == "plan.data.validation" for one in result["findings"])


def test_a_recipe_that_cannot_be_read_is_exit_status_2(command):
    Path("recipe.toml").write_text("[train]\nnum_stepz = 3\n")
    status, out, err = command("recipe.toml")
    assert (status, out) == (2, "")
    assert "unknown key train.num_stepz" in err


def test_hostile_names_and_a_narrow_terminal(command, monkeypatch, without_grader):
    monkeypatch.setenv("COLUMNS", "40")
    name = "./\\u001b[2Jgone\\u202e[red]x[/red]" + "long" * 30
    Path("recipe.toml").write_text(f'[model]\npath = "{name}"\n')
    status, out, _ = command("recipe.toml", "--seconds", "120")
    assert status == 1
    assert "\x1b" not in out and "\u202e" not in out
    assert "[red]x[/red]" in out.replace("\n      ", "")
    assert max(map(len, out.splitlines())) <= 40


def subject(folder, seconds=600.0):
    return Subject(recipe_from_dict({}), folder, seconds=seconds)


def test_a_check_that_breaks_is_a_failed_check(tmp_path):
    def breaks(subject):
        raise RuntimeError("three\nlines\nof it")

    def well(subject):
        return ok("well")

    checks = [Check("a.breaks", breaks), Check("a.after", well, needs=("a.breaks",))]
    broken, after = diagnose(subject(tmp_path), [*checks])
    assert broken.status == "fail"
    assert broken.sentence == "the check broke: RuntimeError: three lines of it"
    assert (after.status, after.sentence) == ("skipped", "needs a.breaks")


def test_what_is_not_reached_in_time_is_skipped(tmp_path):
    import threading

    for_ever = threading.Event()
    checks = [
        Check("a.waits", lambda subject: ok(str(for_ever.wait(60))), ahead=True),
        Check("a.late", lambda subject: ok("well")),
    ]
    waits, late = diagnose(subject(tmp_path, seconds=0.05), checks)
    for_ever.set()
    assert waits.status == late.status == "skipped"
    assert "not done within 0.05 s" in waits.sentence and "--seconds" in late.cure


def test_looking_at_the_table_imports_no_torch():
    code = (
        "import sys; from open_rs.plan.doctor.table import CHECKS; "
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
