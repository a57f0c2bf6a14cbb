"""`open-rs compare` as a user meets it: exit status, one sentence, what is said of several."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluation_folders import evaluation

from open_rs import cli

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Runs `open-rs compare ARGS` in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["open-rs", "compare", *args])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        status = stopped.value.code or 0
        assert isinstance(status, int)
        return status, captured.out, captured.err

    return run


def answers(right: int) -> dict[str, list[bool | None]]:
    return {f"p{i:02d}": [i < right] for i in range(30)}


def test_two_evaluations(command: Command) -> None:
    evaluation(Path("old"), answers(0))
    evaluation(Path("new"), answers(10))
    status, out, _ = command("old", "new")
    assert status == 0 and out.startswith("before: old, after: new\n")
    assert "verdict: improved" in out and "n = 30 problems, k = 1" in out
    assert "smallest gain found in 80 % of such comparisons: +0." in out
    status, out, _ = command("old", "new", "--json")
    assert json.loads(out)["verdict"] == "improved"


def test_several_are_one_family_and_say_so(command: Command) -> None:
    for name, right in (("old", 0), ("a", 10), ("b", 5), ("c", 0)):
        evaluation(Path(name), answers(right))
    status, out, _ = command("old", "a", "b", "c")
    assert status == 0
    assert "3 comparisons as one family, Holm: the chance of any false verdict" in out
    assert "the best of 3 is a with +0.333; the best of 3 equals of the base would show at" in out
    rows = [line for line in out.splitlines() if line[:2] in ("a ", "b ", "c ")]
    assert [row.split("  ")[-1] for row in rows] == [
        "improved",
        "not distinguishable from noise",
        "not distinguishable from noise",
    ]


def test_another_harness_ends_with_status_1_and_names_it(command: Command) -> None:
    evaluation(Path("old"), answers(0))
    evaluation(Path("new"), answers(30), prompt="cc")
    status, out, err = command("old", "new")
    assert (status, out) == (1, "") and err.count("\n") == 1
    assert "prompt ('bb' and 'cc')" in err and "--allow-different-harness" in err
    status, out, _ = command("old", "new", "--allow-different-harness")
    assert status == 0 and "verdict: different harness: not comparable" in out
    assert "improved" not in out and "different: prompt ('bb' and 'cc')" in out


def test_other_problems_end_with_status_2(command: Command) -> None:
    evaluation(Path("old"), answers(0))
    evaluation(Path("new"), {"q": [True]})
    status, _, err = command("old", "new")
    assert status == 2 and "hold different problems, 31 of them: p00 (only in old)" in err
    status, _, err = command("old")
    assert status == 2 and "name two evaluations at least" in err
    status, _, err = command("old", "new", "--base", "x")
    assert status == 2 and "need --published" in err


def test_published_scores(command: Command) -> None:
    Path("t.csv").write_text(
        "model,benchmark,seeds,mean,std\nold,aime24,10,28.7,4.8\n"
        "new,aime24,10,48.3,6.3\nlucky,aime24,1,46.7,\n"
    )
    status, out, _ = command("--published", "t.csv", "--base", "old", "--best-of", "8")
    assert status == 0
    (new,) = [line for line in out.splitlines() if line.startswith("new")]
    assert new.endswith("improved") and "[+14.2, +25.0]" in new
    assert "lucky, aime24, 46.7:\n  - n = 1: one sample for each of 30 problems puts 46.7" in out
    assert "the best of 8 scores up to 40.7 on average" in out
    status, out, _ = command("--published", "t.csv", "--base", "old", "--json")
    assert json.loads(out)["rows"][0]["verdict"] == "improved"
    status, _, err = command("--published", "t.csv", "old", "new")
    assert status == 2 and "not both" in err


def test_it_imports_no_torch() -> None:
    code = (
        "import sys, open_rs.commands.compare, open_rs.evaluate.published\n"
        "heavy = {'torch', 'transformers', 'math_verify', 'scipy.stats'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_a_reader_has_to_know_stands_in_the_text(command: Command) -> None:
    evaluation(Path("old"), {f"p{i:02d}": [False, False] for i in range(30)})
    evaluation(Path("new"), {f"p{i:02d}": [i < 10 or None] for i in range(30)}, num_samples=1)
    status, out, _ = command("old", "new")
    assert status == 0 and "n = 10 problems, k = 2 and 1 samples each" in out
    assert "not judged: 0 samples before, 20 after, so 20 problems are left out" in out
    assert "verdict: improved" in out  # 10 of 30 still gained
    status, out, _ = command("old", "new", "old")
    rows = out.splitlines()
    assert "  2:1  " in rows[1] and rows[3].startswith("new, old: not judged: 0 samples before")
    status, _, err = command("old", "new", "--confidence", "0.5")
    assert status == 2 and "confidence" in err
