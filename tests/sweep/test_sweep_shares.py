"""What runs of a sweep share: its budget, and what only one of them has to make."""

import threading
from pathlib import Path

import pytest

from open_rs.curate.inputs import curation_inputs
from open_rs.curate.rounds import stages_of
from open_rs.errors import GuardStop
from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.runs import append_jsonl
from open_rs.sweep.cells import Cell, cells_of, open_sweep
from open_rs.sweep.purse import Purse, outlook
from open_rs.sweep.run import run_sweep
from open_rs.sweep.sharing import curate_once, one_at_a_time

SMALL = {
    "name": "sw",
    "sources": [{"task": "arithmetic", "count": 8}],
    "train": {"num_steps": 1, "save_every": 1},
}


def recipe(**settings: object) -> Recipe:
    arms = [{"name": "a"}, {"name": "b", "settings": ["loss.kl_coef=0.04"]}]
    return recipe_from_dict({**SMALL, "sweep": {"seeds": 2, "arms": arms}, **settings})


def pay(cell: Cell, hours: float) -> None:
    append_jsonl(cell.run.ledger, {"phase": "update", "step": 1, "seconds": 3600 * hours})


def test_a_budget_is_of_all_runs_together(tmp_path: Path) -> None:
    made = recipe(budget={"hours": 10, "usd": 30, "usd_per_hour": 2})
    cells = cells_of(made, tmp_path)
    assert {cell.recipe.budget.hours for cell in cells} == {None}  # none of a run's own
    purse = Purse(made, cells, workers=2)
    pay(cells[0], 2)
    # of 10 h 2 are spent, of $30 4: half of the 8 and of the 26 for each of two workers
    first = purse.take(cells[1])
    assert first is not None and (first.hours, first.usd) == (4, 13)
    assert first.usd_per_hour == 2
    # 8 - 4 for the worker that is left, beside the 2 that this run has had
    second = purse.take(cells[0])
    assert second is not None and (second.hours, second.usd) == (6, 17)
    assert purse.used("hours") == pytest.approx(10)
    pay(cells[1], 1)
    purse.give_back(cells[1])
    third = purse.take(cells[2])  # 10 - 6 - 1
    assert third is not None and third.hours == pytest.approx(3)
    assert purse.used("hours") == pytest.approx(10)


def test_what_a_killed_start_had_spent_is_spent(tmp_path: Path) -> None:
    made = recipe(budget={"hours": 10})
    cells = cells_of(made, tmp_path)
    cells[0].run.path.mkdir(parents=True)
    cells[0].run.heartbeat.write_text("abcd 7200.00 bc83d494\n")
    purse = Purse(made, cells, workers=1)
    assert purse.used("hours") == pytest.approx(2)


def test_an_arm_may_cap_its_own_runs(tmp_path: Path) -> None:
    arms = [{"name": "a", "settings": ["budget.hours=1"]}]
    made = recipe(budget={"hours": 10}, sweep={"arms": arms})
    cells = cells_of(made, tmp_path)
    taken = Purse(made, cells, workers=1).take(cells[0])
    assert taken is not None and taken.hours == 1


def test_a_used_budget_starts_nothing_and_may_be_raised(tmp_path: Path) -> None:
    made = recipe(budget={"hours": 1})
    cells = open_sweep(made, tmp_path)
    pay(cells[0], 0.99)
    with pytest.raises(GuardStop, match=r"4 of 4 runs.*budget.hours = 1: 0.99 used by all runs"):
        run_sweep(made, tmp_path, jobs=1)
    assert not cells[0].run.recipe.exists()
    assert len(open_sweep(recipe(budget={"hours": 3}), tmp_path)) == 4


def test_the_outlook_is_one_run_times_those_left() -> None:
    assert outlook({"hours": 1.5, "usd": 3.0}, 4) == (
        "sweep: about 1.5 h, $3.00 a run, 6 h, $12.00 for the 4 that are left, added up"
    )


def test_the_same_curation_is_made_once(tmp_path: Path) -> None:
    first, second, *_ = [cell.run for cell in cells_of(recipe(), tmp_path)]
    curate_once(recipe(), first, [second], {})
    (first.curated / "answers.jsonl").write_text("journalled\n")
    curate_once(recipe(), second, [second, first], {})
    assert (second.curated / "answers.jsonl").read_text() == "journalled\n"
    other = cells_of(recipe(), tmp_path)[2].run
    curate_once(recipe(sources=[{"task": "arithmetic", "count": 9}]), other, [first, second], {})
    assert len((other.curated / "problems.jsonl").read_text().splitlines()) == 9


def test_pass_rates_are_of_a_seed() -> None:
    def inputs(seed: int, coefficient: float) -> object:
        filters = [{"type": "pass_rate", "num_samples": 2}]
        made = recipe(seed=seed, filters=filters, loss={"kl_coef": coefficient})
        return curation_inputs(made, stages_of(made))

    assert inputs(0, 0.0) == inputs(0, 0.04) != inputs(1, 0.0)


def test_whoever_comes_second_waits(tmp_path: Path) -> None:
    entered = threading.Event()

    def come() -> None:
        with one_at_a_time(tmp_path / "lock"):
            entered.set()

    thread = threading.Thread(target=come)
    with one_at_a_time(tmp_path / "lock"):
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(60)
    thread.join()
