"""What runs have cost, against sums by hand; `open-rs report --costs` and `--paper` as users meet
them.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import make_run

from open_rs import cli
from open_rs.report.costs import RunCost, run_cost
from open_rs.report.load import RunData
from open_rs.report.paper.build import all_figures, all_tables
from open_rs.report.paper.draw import draw
from open_rs.report.paper.facts import load_facts, shipped_facts
from open_rs.report.paper.ours import open_runs
from open_rs.report.paper.plot import figure_csv
from open_rs.report.paper.render import to_csv, to_markdown
from open_rs.runs import RunFolder, read_json, write_json, write_text

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Runs `open-rs report ARGS` in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["open-rs", "report", *args])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        status = stopped.value.code or 0
        assert isinstance(status, int)
        return status, captured.out, captured.err

    return run


LEDGER: list[dict[str, Any]] = [
    {"phase": "curate", "step": 0, "seconds": 1800.0, "tokens": 500, "usd": None},
    {"phase": "rollout", "step": 1, "seconds": 3600.0, "tokens": 1000, "usd": 0.44},
    {"phase": "update", "step": 1, "seconds": 900.0, "usd": 0.11},
    {"phase": "rollout", "step": 2, "seconds": 1800.0, "tokens": 700, "usd": 0.22},
    {"phase": "idle", "step": 2, "seconds": 360.0, "usd": 0.044},
    {"phase": "killed", "step": 2, "seconds": 720.0, "usd": 0.088},
]


def cost_of(
    ledger: list[dict[str, Any]], usd_per_hour: float | None = None, **files: Any
) -> RunCost:
    data = RunData(RunFolder(Path("x")), ledger=ledger, **files)
    found = run_cost(data, usd_per_hour)
    assert found is not None
    return found


def test_hours_and_dollars_by_phase() -> None:
    found = cost_of(LEDGER, environment={"device": "cuda:0", "device_name": "NVIDIA A40"})
    assert [one.phase for one in found.phases] == ["curate", "rollout", "update", "idle", "killed"]
    assert [one.device_hours for one in found.phases] == [0.5, 1.5, 0.25, 0.1, 0.2]
    # curation was entered without a price: 0.5 h at the table's 0.44
    assert [one.usd for one in found.phases] == pytest.approx([0.22, 0.66, 0.11, 0.044, 0.088])
    assert found.phases[1].tokens == 1700
    assert found.total.device_hours == pytest.approx(2.55)
    assert found.total.usd == pytest.approx(2.55 * 0.44)
    assert found.rate.source.endswith("2025-03") and found.notes == []


def test_the_price_is_the_runs_own_then_the_tables_then_the_forecasts_then_the_given() -> None:
    row = [{"phase": "update", "step": 1, "seconds": 3600.0, "usd": None}]
    a100 = {"device_name": "NVIDIA A100-SXM4-80GB"}
    own = {"budget": {"usd_per_hour": 3.0}}
    given: list[tuple[dict[str, Any], float]] = [
        ({"recipe": own, "environment": a100, "plan": {"usd_per_hour": 7.0}}, 3.0),
        ({"environment": a100, "plan": {"usd_per_hour": 7.0}}, 1.89),
        ({"environment": {"device": "cpu"}, "plan": {"usd_per_hour": 7.0}}, 7.0),
        ({"environment": {"device": "cpu"}}, 0.5),
        ({}, 0.5),
    ]
    for files, usd in given:
        assert cost_of(row, 0.5, **files).total.usd == usd


def test_a_missing_price_is_said_and_never_zero() -> None:
    rows = [
        {"phase": "update", "step": 1, "seconds": 3600.0, "usd": None},
        {"phase": "rollout", "step": 1, "seconds": 1800.0, "usd": 0.25},  # an endpoint's
    ]
    found = cost_of(rows, environment={"device": "cpu"})
    assert [one.usd for one in found.phases] == [None, 0.25] and found.total.usd is None
    assert found.notes == [
        "no price is known for cpu; name one by --usd-per-hour",
        "no dollars for update (1 h), so none in total",
    ]
    assert run_cost(RunData(RunFolder(Path("x")))) is None


def test_costs_beside_the_papers(command: Command, tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine", num_steps=4)
    write_text(run.ledger, "".join(json.dumps(row) + "\n" for row in LEDGER))
    environment = read_json(run.environment)
    write_json(run.environment, environment | {"device_name": "NVIDIA A40"})
    status, out, err = command("--costs", "mine")
    assert status == 0 and err == ""
    lines = {tuple(line.split()[:2]): line.split() for line in out.splitlines()}
    assert lines["mine", "killed"][2:] == ["0.2000", "7.8", "–", "0.0880"]
    assert lines["mine", "total"][2:] == ["2.5500", "100.0", "2200", "1.1220"]
    assert "mine: $0.44 an hour of NVIDIA A40 (arXiv 2503.16219, tables 2 and 3" in out
    assert out.count("Open-RS: hours and dollars of training alone") == 2
    status, out, _ = command("--costs", "mine", "--json")
    told = json.loads(out)
    assert told["runs"]["mine"]["total"]["usd"] == pytest.approx(1.122)
    mine = told["table3"][-1]
    assert (mine["model"], mine["hours"], mine["usd"]) == ("mine", "2.55", "1.12")
    assert [row["usd"] for row in told["table3"][:3]] == ["3629", "2268", "42"]


def test_the_authors_alone(command: Command) -> None:
    status, out, err = command("--paper", "--out", "made", "--json")
    told = json.loads(out)
    assert status == 0 and err == "" and told["refused"] == []
    made = {path.name for path in Path("made").iterdir()}
    assert made == set(told["files"])
    tables = {f"table{n}.{kind}" for n in (1, 2, 3) for kind in ("csv", "md", "tex")}
    figures = {f"figure{n}.{kind}" for n in (1, 2) for kind in ("png", "svg", "csv", "txt")}
    assert made == tables | figures | {"table1_scores.csv"}
    assert told["missing"] == [
        "figures 3 to 5 of the authors: their training curves are not among the published "
        "figures; name runs to draw them from"
    ]


def test_what_is_no_run_is_refused_and_the_rest_is_written(
    command: Command, tmp_path: Path
) -> None:
    make_run(tmp_path / "good", num_steps=10)
    (tmp_path / "empty").mkdir()
    status, out, err = command("--paper", "empty", "good", "absent", "--out", "made")
    assert status == 2
    assert err == (
        "open-rs: empty: holds no recipe.json, so it is no run folder; name a run; absent: holds "
        "no recipe.json, so it is no run folder; name a run\n"
    )
    assert out.startswith("made: table1.csv, ")
    for name in ("figure2_good.svg", "figure3_good.png", "figure4_good.csv", "costs.md"):
        assert (tmp_path / "made" / name).stat().st_size > 0


def test_a_run_without_evaluations_and_ledger_says_so(command: Command, tmp_path: Path) -> None:
    run = make_run(tmp_path / "bare", num_steps=10, evaluated=False)
    run.ledger.unlink()
    status, out, _ = command("--paper", "bare", "--out", "made")
    assert status == 0
    assert "- bare: no ledger.jsonl, so no hours and dollars" in out
    assert "- bare: no evaluation of test problems; run open-rs evaluate on it" in out
    assert (tmp_path / "made" / "figure3_bare.svg").exists()
    assert "no evaluation in this run" in (tmp_path / "made" / "figure2_bare.txt").read_text()
    assert not (tmp_path / "made" / "costs.csv").exists()
    assert "bare" not in (tmp_path / "made" / "table3.csv").read_text()


def test_missing_csvs_of_the_paper(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "csvs"
    folder.mkdir()
    shutil.copy(shipped_facts() / "open_rs_checkpoints.csv", folder)
    (folder / "table2_3_costs.csv").write_text("model,usd\nx,1\n")
    status, out, _ = command("--paper", "--out", "made", "--paper-data", "csvs")
    assert status == 0
    assert "- csvs/table1.csv: no such file; check the path" in out
    assert "- csvs/table2_3_costs.csv: has no column base_model, sft_data" in out
    assert (tmp_path / "made" / "figure2.png").exists()
    assert (tmp_path / "made" / "table1.csv").read_text().count("\n") == 1
    status, _, err = command("--paper", "--out", "made", "--paper-data", "nowhere")
    assert status == 2 and err == (
        "open-rs: nowhere: no such folder; give the one that holds table1.csv\n"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ledger.jsonl", '{"phase": "update", "seconds": "long"}\n'),
        ("ledger.jsonl", "[1]\n{}\nnull\n"),
        ("metrics.jsonl", '{"step": 1, "reward/accuracy": "x", "policy/kl": {}}\n'),
        (
            "metrics.jsonl",
            '{"step": 2, "completion/mean_tokens": 5, "completion/p10_tokens": []}\n',
        ),
        ("events.jsonl", '{"event": "select", "step": null}\n'),
        ("recipe.json", '{"model": "tiny"}'),
        ("recipe.json", "[]"),
        ("plan.json", '{"usd_per_hour": "dear"}'),
        ("environment.json", '{"device": 5}'),
        ("curated/summary.json", '{"kept": []}'),
        ("evaluations/comparison.json", '{"difference": 5}'),
        ("evaluations/test-000000/summary.json", '{"scores": {"pass@1": {"value": "high"}}}'),
        ("evaluations/test-000000/summary.json", "{"),
    ],
)
def test_damaged_files_are_sentences(name: str, text: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "torn", num_steps=3)
    write_text(run.path / name, text)
    runs, refused, missing = open_runs([run.path])
    assert (not runs) == bool(refused) == (name == "recipe.json")
    tables = all_tables(load_facts(), runs)
    figures = all_figures(load_facts(), runs, missing)
    assert all(to_csv(table) and to_markdown(table) for table in tables)
    names = [figure.name for figure in figures]
    assert names == ["figure1", "figure2", *(f"figure{n}_torn" for n in (2, 3, 4) if runs)]
    assert all(figure_csv(figure) for figure in figures)
    if name == "metrics.jsonl":
        assert all(draw(figure) for figure in figures[-2:])
    elif name not in ("environment.json", "curated/summary.json"):
        told = [*refused, *missing, *(note for table in tables for note in table.notes)]
        assert any("not as expected" in one or name.partition(".")[0] in one for one in told)


def test_where_nothing_can_be_written(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = command("--paper", "--out", "file/made")
    assert status == 2 and err.count("\n") == 1
    assert err.startswith("open-rs: file/made: cannot be written (")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "name a run, or several that are to be held against the first"),
        (("--paper-data", "x"), "--paper-data and --usd-per-hour need --paper or --costs"),
        (("--costs",), "--costs: name the runs"),
        (("--costs", "x", "--out", "y"), "--out: --costs prints to the terminal; --paper writes"),
        (("--paper",), "--paper: name the folder to write to by --out"),
        (("--paper", "--costs"), "--costs: --paper writes the costs of runs too"),
    ],
)
def test_options_that_do_not_go_together(
    words: tuple[str, ...], sentence: str, command: Command
) -> None:
    status, _, err = command(*words)
    assert status == 2 and err.startswith(f"open-rs: {sentence}") and err.count("\n") == 1


def test_no_torch_and_no_matplotlib_for_numbers(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine", num_steps=2)
    code = (
        "import sys; from pathlib import Path; from open_rs.report.paper import build_costs\n"
        f"build_costs([Path({str(run.path)!r})])\n"
        "print(sorted({'torch', 'transformers', 'matplotlib'} & set(sys.modules)))\n"
        "from open_rs.report.paper import build_paper\n"
        f"build_paper([], Path({str(tmp_path / 'made')!r}))\n"
        "print('torch' in sys.modules, 'matplotlib.pyplot' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\nFalse False\n"
