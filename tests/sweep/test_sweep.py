"""Sweeps: cells, statistics by hand, and a real one that is interrupted, goes on and grows."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from open_rs.cli import app
from open_rs.errors import GuardStop, InputError
from open_rs.recipe import Recipe, load_recipe, recipe_from_dict
from open_rs.runs import append_jsonl, open_run, read_json, read_log, write_json
from open_rs.sweep import run as sweep_run
from open_rs.sweep.cells import Cell, arms_of, cells_of, is_finished, open_sweep, shared
from open_rs.sweep.run import places, run_sweep, run_sweeps
from open_rs.sweep.summary import (
    FEW_SEEDS,
    difference,
    mean_over_seeds,
    run_row,
    summary_text,
)

SMALL = {
    "name": "sw",
    "sources": [{"task": "arithmetic", "count": 8}],
    "data": {
        "validation": {"task": "arithmetic", "split": "validation", "count": 2},
        "test": {"task": "arithmetic", "split": "test", "count": 3},
    },
    "rollout": {"group_size": 2, "prompts_per_step": 2, "max_completion_tokens": 8},
    "train": {"num_steps": 1, "save_every": 1},
    "evaluate": {"every": 1, "num_samples": 1, "validation_samples": 1},
}


def recipe(**sweep: object) -> Recipe:
    return recipe_from_dict({**SMALL, "seed": 5, "sweep": sweep})


def with_budget(**budget: object) -> Recipe:
    sweep = {"seeds": 1, "arms": budget.pop("arms", ())}
    return recipe_from_dict({**SMALL, "seed": 5, "sweep": sweep, "budget": budget})


def test_every_arm_with_every_seed_seed_by_seed(tmp_path: Path) -> None:
    arms = [{"name": "a"}, {"name": "b", "settings": ["loss.kl_coef=0.04", "prompt.system=hm"]}]
    cells = cells_of(recipe(seeds=2, arms=arms), tmp_path)
    assert [(one.arm, one.seed) for one in cells] == [("a", 5), ("b", 5), ("a", 6), ("b", 6)]
    last = cells[-1]
    assert (last.recipe.seed, last.recipe.name) == (6, "b-seed-6")
    assert (last.recipe.loss.kl_coef, last.recipe.prompt.system) == (0.04, "hm")
    assert last.run.path == tmp_path / "b" / "seed-6"
    assert not last.recipe.sweep.asked


def test_a_grid_is_every_combination_with_readable_names() -> None:
    grid = {"train.learning_rate": [1e-6, 3e-6], "loss.loss_norm": ["token", "sequence"]}
    arms = arms_of(recipe(grid=grid))
    assert [arm.name for arm in arms] == [
        "learning_rate-1e-06_loss_norm-token",
        "learning_rate-1e-06_loss_norm-sequence",
        "learning_rate-3e-06_loss_norm-token",
        "learning_rate-3e-06_loss_norm-sequence",
    ]
    assert arms[1].values == {"train.learning_rate": 1e-6, "loss.loss_norm": "sequence"}


def test_a_grid_of_tables_and_lists(tmp_path: Path) -> None:
    rewards = [[{"type": "accuracy"}], [{"type": "accuracy", "weight": 2.0}]]
    grid = {"rollout.engine": [{"type": "native"}], "rewards": rewards}
    cells = cells_of(recipe(grid=grid), tmp_path)
    assert [cell.arm for cell in cells] == [
        "engine-native_rewards-accuracy",
        "engine-native_rewards-accuracy_2.0",
    ]
    assert [cell.recipe.rewards[0].weight for cell in cells] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("sweep", "sentence"),
    [
        ({"arms": [{"name": "a"}, {"name": "a"}]}, "two arms have one name"),
        ({"arms": [{"name": "a"}], "grid": {"seed": [1]}}, "not both"),
        ({"grid": {"seed": []}}, "has no values"),
        ({"arms": [{"name": "a", "settings": ["los.kl=1"]}]}, r'arm "a": unknown key los'),
        ({"arms": [{"name": "a", "settings": ["sweep.seeds=3"]}]}, "a sweep of its own"),
        ({"grid": {"name": ["a b", "a_b"]}}, "two points have one name"),
        ({"grid": {"prompt.system": ["x" * 300]}}, "a name of 307 letters"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(
    sweep: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=sentence):
        open_sweep(recipe(**sweep), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_another_recipe_in_the_folder_is_refused_and_more_seeds_are_not(tmp_path: Path) -> None:
    open_sweep(recipe(seeds=2), tmp_path)
    assert len(open_sweep(recipe(seeds=3), tmp_path)) == 3
    with pytest.raises(InputError, match=r"another recipe \(different: sweep.arms"):
        open_sweep(recipe(seeds=3, arms=[{"name": "a"}]), tmp_path)
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(InputError, match="holds a single run"):
        open_sweep(recipe(seeds=3), tmp_path)


def test_a_key_of_a_later_version_does_not_refuse_a_begun_sweep(tmp_path: Path) -> None:
    made = recipe(seeds=1)
    (cell,) = open_sweep(made, tmp_path)
    open_run(cell.run.path, cell.recipe)
    append_jsonl(cell.run.metrics, {"step": 1})
    for path in (tmp_path / "sweep_recipe.json", cell.run.recipe):
        held = read_json(path)
        del held["rollout"]["staleness"], held["sentinel"]
        write_json(path, held)
    (cell,) = open_sweep(made, tmp_path)
    open_run(cell.run.path, cell.recipe)
    assert read_json(cell.run.recipe)["rollout"]["staleness"] == 0
    other = recipe_from_dict({**SMALL, "seed": 5, "loss": {"kl_coef": 0.5}})
    with pytest.raises(InputError, match=r"another recipe \(different: loss.kl_coef\)"):
        open_sweep(other, tmp_path)
    with pytest.raises(InputError, match=r"another recipe \(different: loss.kl_coef, name"):
        open_run(cell.run.path, other)


def test_a_sweep_of_one_seed_is_one_and_jobs_need_a_sweep(tmp_path: Path) -> None:
    asked = {**SMALL, "data": {"train": {"task": "arithmetic", "count": 8}}, "sources": []}
    (tmp_path / "r.json").write_text(json.dumps({**asked, "seed": 5}))
    out = tmp_path / "sw"
    command = ["train", str(tmp_path / "r.json"), "--out", str(out)]
    (cell,) = open_sweep(load_recipe(tmp_path / "r.json"), out)  # and its one run is finished
    append_jsonl(cell.run.metrics, {"step": 1})
    cell.run.checkpoint(1).mkdir(parents=True)
    told = CliRunner().invoke(app, [*command, "--seeds", "1"])
    assert told.exit_code == 0 and FEW_SEEDS in told.stdout
    for words, sentence in (
        (["train", str(tmp_path / "r.json"), "--jobs", "2"], "--jobs: there is one run to make"),
        (["train", "--resume", str(out), "--seeds", "3"], "--resume goes on with one run"),
    ):
        with pytest.raises(InputError, match=sentence):
            CliRunner().invoke(app, words, catch_exceptions=False)


def test_the_interval_over_seeds_by_hand() -> None:
    # mean 0.5, s = 0.1; t(0.975, 2) = 4.302653; half = 4.302653 * 0.1 / sqrt(3) = 0.248414
    found = mean_over_seeds([0.4, 0.5, 0.6], 0.95)
    assert found["mean"] == pytest.approx(0.5) and found["std"] == pytest.approx(0.1)
    assert found["low"] == pytest.approx(0.251586, abs=1e-6)
    assert found["high"] == pytest.approx(0.748414, abs=1e-6)
    assert mean_over_seeds([0.4], 0.95) == {
        "mean": 0.4, "std": None, "low": None, "high": None, "n": 1,
    }  # fmt: skip


def row(score: float) -> dict[str, float]:
    return {"score": score, "grain": 0.1}


def test_arms_are_compared_seed_by_seed() -> None:
    base = {0: row(0.1), 1: row(0.5), 2: row(0.9), 3: row(0.0)}
    other = {0: row(0.2), 1: row(0.6), 2: row(1.0), 4: row(1.0)}
    found = difference("b", base, other, 0.95)
    # three pairs, each +0.1: no spread but for rounding, whatever the spread over seeds is
    assert found["mean"] == pytest.approx(0.1) and found["n"] == 3
    assert found["std"] < 1e-12
    alone = difference("b", {0: row(0.1)}, {0: row(0.9)}, 0.95)
    assert (alone["p_value"], alone["verdict"]) == (None, None)


def test_workers_get_a_device_or_their_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_run, "cpus", lambda: 8)
    assert places(2, []) == [{"OMP_NUM_THREADS": "4"}] * 2
    assert places(3, ["0", "3"]) == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "3"},
        {"CUDA_VISIBLE_DEVICES": "0"},
    ]


def test_a_real_sweep_fails_in_one_arm_is_mended_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_rewards.py").write_text("raise RuntimeError('not yet')\n")
    own = 'rewards=[{type="accuracy"}, {type="custom", function="own_rewards:one"}]'
    arms = [{"name": "plain"}, {"name": "own", "settings": [own]}]
    folder = tmp_path / "runs" / "sw"
    with pytest.raises(GuardStop, match="1 of 2 runs are not finished, such as own seed 5"):
        run_sweep(with_budget(hours=50, arms=arms), folder, jobs=1)
    said = capfd.readouterr().err
    assert " a run, " in said and "for the 2 that are left" in said.partition("plain seed 5")[0]
    assert "budget.hours = 50: 0" in said.partition("plain seed 5")[0]
    held = read_json(folder / "sweep.json")
    assert [one["arm"] for one in held["runs"]] == ["plain"] and held["missing"] == 1
    first = (folder / "plain" / "seed-5" / "metrics.jsonl").read_bytes()

    (tmp_path / "own_rewards.py").write_text("def one(rollout, problem):\n    return 1.0\n")
    summary = run_sweep(recipe(arms=arms), folder, jobs=1)
    assert (folder / "plain" / "seed-5" / "metrics.jsonl").read_bytes() == first
    assert summary["missing"] == 0 and summary["note"] == FEW_SEEDS
    assert "nothing can be concluded" in summary_text(summary)
    assert read_json(folder / "sweep.json") == json.loads(json.dumps(summary))
    base = [folder / arm / "seed-5" / "evaluations" / "test-000000" for arm in ("plain", "own")]
    assert (base[0] / "records.jsonl").read_bytes() == (base[1] / "records.jsonl").read_bytes()
    log = (folder / "own" / "seed-5" / "sweep.log").read_text()
    assert "test-000000: " not in log  # the model before training was scored once
    assert "the same inputs as in" in log  # and the problems were curated once
    assert "finished, 1 at a time" in (said := capfd.readouterr().err) and "a run, " in said


def test_sweeps_with_a_run_in_common_make_it_once(tmp_path: Path) -> None:
    one = recipe(seeds=2, arms=[{"name": "plain"}, {"name": "kl", "settings": ["loss.kl_coef=1"]}])
    other = recipe(seeds=2, arms=[{"name": "base"}, {"name": "hot", "settings": ["threads=1"]}])
    first, second = shared([cells_of(one, tmp_path / "one"), cells_of(other, tmp_path / "other")])
    assert [cell.arm for cell in second] == ["base", "hot", "base", "hot"]
    places = [str(cell.run.path.relative_to(tmp_path)) for cell in second]
    assert places == [
        "one/plain/seed-5",
        "other/hot/seed-5",
        "one/plain/seed-6",
        "other/hot/seed-6",
    ]
    assert second[0].recipe == first[0].recipe  # by its name, too: the folder holds that recipe


def test_several_sweeps_go_seed_by_seed_and_each_is_summarised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def run_cells(todo: list[Cell], *_: object, **settings: object) -> dict[str, str]:
        made.extend(str(cell.run.path.relative_to(tmp_path)) for cell in todo)
        return {}

    monkeypatch.setattr(sweep_run, "run_cells", run_cells)
    one = recipe(seeds=2)
    other = recipe(seeds=2, arms=[{"name": "same"}, {"name": "kl", "settings": ["loss.kl_coef=1"]}])
    found = run_sweeps({tmp_path / "one": one, tmp_path / "other": other})
    assert made == ["one/all/seed-5", "other/kl/seed-5", "one/all/seed-6", "other/kl/seed-6"]
    assert [found[tmp_path / name]["missing"] for name in ("one", "other")] == [2, 4]
    assert read_json(tmp_path / "other" / "sweep.json")["missing"] == 4


def test_a_run_that_was_ended_before_its_last_score_is_not_finished(tmp_path: Path) -> None:
    settings = {**SMALL, "data": {"validation": SMALL["data"]["validation"]}}
    (cell,) = cells_of(recipe_from_dict(settings), tmp_path)
    cell.run.checkpoint(1).mkdir(parents=True)
    rows = ['{"step": 0, "validation/pass@1": 0.5}', '{"step": 1, "reward/mean": 0.5}']
    cell.run.metrics.write_text("\n".join(rows) + "\n")
    assert not is_finished(cell) and run_row(cell) is None
    rows.append('{"step": 1, "validation/pass@1": 0.75}')
    cell.run.metrics.write_text("\n".join(rows) + "\n")
    assert is_finished(cell)
    row_made = run_row(cell)
    assert row_made is not None and row_made["last_validation"] == 0.75


def test_a_stopped_sweep_has_its_run_saved_and_leaves_no_process(tmp_path: Path) -> None:
    long = {**SMALL, "train": {"num_steps": 5000, "save_every": 5000}, "evaluate": {"every": 5000}}
    (tmp_path / "long.json").write_text(json.dumps({**long, "seed": 5, "sweep": {"seeds": 2}}))
    command = [sys.executable, "-m", "open_rs", "train", "long.json", "--out", "sw"]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    (seed,) = [cell for cell in cells_of(recipe(seeds=1), tmp_path / "sw")]
    metrics = seed.run.metrics
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 2):
        assert process.poll() is None, process.communicate()[1]
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does
    said = process.communicate()[1]
    assert process.returncode == 130 and "the same command goes on" in said
    steps = [row["step"] for row in read_log(seed.run.events) if row["event"] == "save"]
    assert steps and seed.run.checkpoint(steps[-1]).is_dir()
