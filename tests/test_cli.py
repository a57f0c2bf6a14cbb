"""The commands as a user meets them: exit status, one sentence, results on stdout."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from open_rs import cli

SMALL = (
    "sources.0.count=60",
    "sources.0.levels=[1, 2]",
    "data.validation.count=6",
    "data.test.count=8",
    "filters.4.num_samples=2",
    "rollout.group_size=4",
    "rollout.prompts_per_step=4",
    "rollout.max_completion_tokens=64",
    "train.num_steps=2",
    "train.save_every=1",
    "evaluate.every=1",
)


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs `open-rs ARGS` in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["open-rs", *args])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, captured.err

    return run


def write_recipe(text: str) -> Path:
    path = Path("recipe.toml")
    path.write_text(text, encoding="utf-8")
    return path


def test_help_names_the_commands_and_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['open-rs', '--help']\n"
        "from open_rs import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'numpy', 'datasets', 'matplotlib'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout
    for name in ("quickstart", "curate", "plan", "train", "evaluate", "compare", "report", "grade"):
        assert name in done.stdout


def test_the_whole_pipeline_small(command, tmp_path):
    status, out, err = command("quickstart", "--json", "--out", "run", *SMALL)
    assert status == 0, err
    result = json.loads(out)
    assert result["comparison"]["num_problems"] == 8
    assert result["comparison"]["verdict"] in (
        "improved",
        "worse",
        "not distinguishable from noise",
    )
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert "<html" in page and result["comparison"]["verdict"] in page.lower()
    summary = json.loads(Path("run/curated/summary.json").read_text())
    assert [one["filter"] for one in summary["funnel"]][:4] == [
        "boxed",
        "gold",
        "exact_duplicates",
        "contamination",
    ]
    assert all(one["dropped"] > 0 for one in summary["funnel"][:4])
    # What is finished is not done again: the same answer, from files alone.
    again, out_again, _ = command("quickstart", "--json", "--out", "run", *SMALL)
    assert again == 0 and json.loads(out_again) == result
    # Another recipe in the same folder is refused, and names the key.
    status, _, err = command("quickstart", "--out", "run", *SMALL, "loss.clip_high=0.28")
    assert status == 2
    assert "run: already holds a run of another recipe (different: loss.clip_high)" in err
    # A started run is not started again in silence.
    status, _, err = command("train", "run/recipe.json", "--out", "run")
    assert status == 2 and "go on with open-rs train --resume run" in err
    status, out, _ = command("evaluate", "run")
    assert status == 0 and "verdict: " + result["comparison"]["verdict"] in out
    folders = [Path("run/evaluations") / result["comparison"][name] for name in ("before", "after")]
    status, out, _ = command("compare", *map(str, folders), "--json")
    assert status == 0
    assert json.loads(out)["difference"] == result["comparison"]["difference"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[train]\nnum_stepz = 3", "unknown key train.num_stepz; did you mean num_steps?"),
        ("[rollout]\ngroup_size = 1", "rollout.group_size = 1: "),
        ("[rollout]\ntemperature = 0", "rollout.temperature = 0: "),
        ("[loss]\nclip_low = -0.1", "loss.clip_low = -0.1: "),
        ('[[rewards]]\ntype = "cosin"', 'type "cosin" unknown; did you mean "cosine"?'),
        ("[train", "not valid TOML"),
    ],
)
def test_a_bad_recipe_is_one_sentence(command, text, sentence):
    status, out, err = command("train", str(write_recipe(text)))
    assert (status, out) == (2, "")
    assert sentence in err and err.count("\n") == 1
    assert not Path("runs").exists()


TRAINABLE = """
name = "small"
[data.train]
task = "arithmetic"
count = 4
"""


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("model.path=nowhere/at/all",), "model.path nowhere/at/all: no such folder"),
        (("data.train={ path = 'none.jsonl' }",), "none.jsonl: no such file"),
        (("data.train={ path = 'torn.jsonl' }",), "torn.jsonl, line 2: not valid JSON"),
        (("data.train={ path = 'noanswer.jsonl' }",), "noanswer.jsonl, line 1: column 'answer'"),
        (("rollout.max_completion_tokens=5000",), "exceeds the model's context of 1024"),
        (("prompt.max_prompt_tokens=2",), "every training prompt is longer; raise it"),
    ],
)
def test_bad_input_to_train_ends_with_status_2(command, overrides, sentence):
    Path("torn.jsonl").write_text('{"problem": "1 + 1", "answer": "2"}\n{"problem": "1 +')
    Path("noanswer.jsonl").write_text('{"problem": "1 + 1"}\n')
    path = write_recipe(TRAINABLE)
    status, out, err = command("train", str(path), *overrides)
    assert (status, out) == (2, "")
    assert sentence in err.splitlines()[-1], err
    assert not Path("runs/small/checkpoints").exists()


def test_missing_recipe_and_missing_run(command):
    status, _, err = command("train", "nowhere.toml")
    assert status == 2 and "recipe nowhere.toml: no such file" in err
    status, _, err = command("report", "nowhere")
    assert status == 2 and "nowhere: no such run folder" in err
    status, _, err = command("train")
    assert status == 2 and "name a recipe" in err


GRADED = (
    {"id": "a", "gold": "1/2", "completion": "\\boxed{0.5}"},
    {"id": "b", "gold": "7", "completion": "\\boxed{8}"},
    {"id": "c", "gold": "7", "completion": "seven"},
)


def test_grade_writes_the_rows_with_their_outcomes(command):
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in GRADED))
    status, out, _ = command("grade", "in.jsonl", "--out", "out.jsonl", "--json")
    assert status == 0
    assert json.loads(out)["rows"] == 3
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [(row["id"], row["outcome"]) for row in rows] == [
        ("a", "correct"),
        ("b", "wrong"),
        ("c", "no_answer"),
    ]


def test_grade_against_another_file_lists_disagreements(command):
    for name, outcomes in (("x", ("correct", "wrong")), ("y", ("correct", "correct"))):
        rows = [{"gold": str(i), "outcome": outcome} for i, outcome in enumerate(outcomes)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, _ = command("grade", "x.jsonl", "--against", "y.jsonl")
    assert status == 1
    assert "row 2: gold '1': wrong" in out and "1 of 2 rows disagree" in out
    assert command("grade", "x.jsonl", "--against", "x.jsonl")[0] == 0


def test_grade_names_what_is_missing(command):
    Path("in.jsonl").write_text('{"gold": "1"}\n')
    status, _, err = command("grade", "in.jsonl", "--out", "out.jsonl")
    assert status == 2 and "in.jsonl, line 1: field 'completion' is missing" in err
    status, _, err = command("grade", "in.jsonl")
    assert status == 2 and "--out is missing" in err


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EFBIG, "File too large"), True),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), True),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), False),
        (ValueError("No usable temporary directory"), False),
    ],
)
def test_a_full_disk_that_a_library_meets_is_one_sentence(error, full, monkeypatch, capsys):
    def fails(**_):
        raise error

    monkeypatch.setattr(cli, "app", fails)
    kind = SystemExit if full else type(error)
    with pytest.raises(kind) as ended:
        cli.main()
    if full:
        assert ended.value.code == 2
        assert "is full" in capsys.readouterr().err
