"""The page of plots of the measurements, from made up numbers."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STEP = {
    "workload": "W1",
    "ratios": [4.0, 9.0, 8.0],
    "faster": "TRL, 8 rows a pass",
    "sides": {"open-rs": {"peak": 2**30}, "TRL, 8 rows a pass": {"peak": 2**31}},
}
ROOFLINE = {"phases": [{"name": "update, 7 tokens", "seconds": 4.0, "limit": 3.0}]}
GROWTH = {
    "cells": [
        {
            "cap": cap,
            "group_size": 2,
            "steps": [{"seconds": cap / 64, "rollout_s": 0.1, "tokens": 2.0 * cap}],
        }
        for cap in (64, 128)
    ]
}


@pytest.fixture
def plots(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "perf"))
    return importlib.import_module("plots")


def test_a_panel_for_each_kind_of_file(plots):
    axes = plots.page([STEP, ROOFLINE, GROWTH]).axes

    titles = [one.get_title(loc="left") for one in axes]
    assert len(titles) == 4  # ratios and memory of the step, roofline, growth; no rollout
    ratio, memory, limits, growth = axes
    assert "8.0x" in [one.get_text() for one in ratio.texts]  # the median of 4, 8 and 9
    assert "50%" in [one.get_text() for one in memory.texts]  # 1 of 2 GiB
    assert "75%" in [one.get_text() for one in limits.texts]  # 3 of 4 s
    # (1 + 2) s / (128 + 256) tokens
    assert "7.81 ms a token" in [one.get_text() for one in growth.get_legend().texts]


def test_the_same_bytes_each_time(plots, monkeypatch, tmp_path):
    names = []
    for number, facts in enumerate([STEP, ROOFLINE, GROWTH]):
        names.append(str(tmp_path / f"{number}.json"))
        Path(names[-1]).write_text(json.dumps(facts))

    made = []
    for out in ("first.png", "second.png"):
        monkeypatch.setattr("sys.argv", ["plots.py", *names, "--out", str(tmp_path / out)])
        plots.main()
        made.append((tmp_path / out).read_bytes())
    assert made[0] == made[1]


def test_a_file_of_nothing_known_is_told(plots, monkeypatch, tmp_path, capsys):
    path = tmp_path / "other.json"
    path.write_text("{}")
    monkeypatch.setattr("sys.argv", ["plots.py", str(path)])
    with pytest.raises(SystemExit):
        plots.main()
    assert "none of these files holds one of ratios, runs, phases, cells" in capsys.readouterr().err
