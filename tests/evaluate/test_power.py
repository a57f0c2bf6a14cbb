"""Power: the model by hand, the approximation against scipy and simulation, named sizes."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_folders import evaluation
from scipy import stats
from scipy.special import expit, logit

from open_rs import cli
from open_rs.errors import InputError
from open_rs.evaluate import power
from open_rs.evaluate.power import (
    Difficulty,
    Price,
    approximate_power,
    assumed,
    from_pilot,
    gain_of,
    plan,
    problems_needed,
    raised,
    samples_needed,
    simulated_power,
    smallest_step,
    step_of,
)


def test_the_model_of_difficulty() -> None:
    one = assumed(0.3)
    assert (one.a, one.b) == pytest.approx((0.24, 0.56))
    assert one.rates.mean() == pytest.approx(0.3, abs=1e-4)
    assert one.rates.var() == pytest.approx(0.3 * 0.7 / 1.8, rel=1e-3)  # M (1 - M) / (a + b + 1)
    assert (one.rates < 0.1).mean() == pytest.approx(stats.beta.cdf(0.1, 0.24, 0.56), abs=1e-3)
    with pytest.raises(InputError, match="between 0 and 1"):
        assumed(30.0)


def test_a_gain_is_a_step_on_the_logit() -> None:
    # .5 -> 1 / (1 + e^-1) = .731059; 0 and 1 stay
    assert raised(np.array([0.5]), 1.0)[0] == pytest.approx(0.731059, abs=1e-6)
    one = assumed(0.3)
    assert gain_of(one, 0.0) == pytest.approx(0.0, abs=1e-12)
    assert gain_of(one, step_of(one, 0.07)) == pytest.approx(0.07, abs=1e-6)
    rates = stats.beta.rvs(0.24, 0.56, size=400_000, random_state=0)
    exact = np.mean(expit(logit(np.clip(rates, 1e-12, 1 - 1e-12)) + 0.5) - rates)
    assert gain_of(one, 0.5) == pytest.approx(exact, abs=5e-4)
    with pytest.raises(InputError, match=r"0\.8: must lie between 0 and 0\.700"):
        step_of(one, 0.8)


def test_approximate_power_is_noncentral_t() -> None:
    one, n, k = assumed(0.5), 40, 4
    before, after = one.rates, raised(one.rates, 1.0)
    variance = np.var(after - before) + np.mean(before * (1 - before) + after * (1 - after)) / k
    variance += 0.5 / k**2 / n
    shift = np.mean(after - before) / np.sqrt(variance / n)
    expected = stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, shift)
    assert approximate_power(one, 1.0, n, k) == pytest.approx(expected, abs=1e-6)


def test_approximation_and_simulation_agree_where_n_is_large() -> None:
    one, step = assumed(0.4), 0.3
    found = simulated_power(one, step, 400, 4)
    assert found == pytest.approx(approximate_power(one, step, 400, 4), abs=0.03)
    assert 0.3 < found < 0.95


@pytest.fixture
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.4 points of error at n = 30 in place of 0.15: ten times as fast."""
    monkeypatch.setattr(power, "DRAWS", 250_000)


@pytest.mark.usefixtures("fewer_draws")
@pytest.mark.parametrize(("score", "n", "k"), [(0.4, 30, 1), (0.4, 30, 16), (0.83, 40, 1)])
def test_the_smallest_gain_is_found_in_80_percent(score: float, n: int, k: int) -> None:
    # 300,000 / n fresh simulations: a standard error of 0.4 points.
    one = assumed(score)
    step = smallest_step(one, n, k)
    assert step is not None
    again = simulated_power(one, step, n, k, seed=99, draws=300_000)
    assert again == pytest.approx(0.8, abs=0.03)


@pytest.mark.usefixtures("fewer_draws")
def test_too_few_problems_show_nothing() -> None:
    # Four problems: even 4 of 4 from wrong to right has p = 2 / 2^4.
    assert smallest_step(assumed(0.5), 4, 1) is None
    found = plan(assumed(0.5), 4, 1)
    assert found["smallest_gain"] is None


@pytest.mark.usefixtures("fewer_draws")
def test_a_gain_from_few_problems_is_found_less_often() -> None:
    # Half of the problems never solved, half always (nearly): .2 needs two fifths of the hard ones,
    # each a sure gain. Of 30 problems, 4 sure gains have t = (4 / 30) / sqrt((4 - 16/30 + 1/128) /
    # 29 / 30) = 2.11, 3 have 1.79, and t(29) is 2.05: improved from 4 of Binomial(30, .2) on.
    one = Difficulty(1e-4, 1e-4, "test")
    expected = stats.binom.sf(3, 30, 0.2)
    assert power.concentrated_power(one, 0.2, 30, 8) == pytest.approx(expected, abs=0.02)
    assert power.concentrated_power(one, 0.6, 30, 8) is None
    spread = assumed(0.4)
    step = step_of(spread, 0.06)
    found = power.concentrated_power(spread, 0.06, 30, 16)
    assert found is not None and found < simulated_power(spread, step, 30, 16) - 0.3


@pytest.mark.usefixtures("fewer_draws")
def test_what_a_gain_needs() -> None:
    one = assumed(0.3)
    step = step_of(one, 0.1)
    n = problems_needed(one, step, 4)
    assert n is not None
    assert simulated_power(one, step, n, 4, seed=5) == pytest.approx(0.8, abs=0.03)
    few = problems_needed(one, step_of(one, 0.2), 8)  # where the normal approximation is far off
    assert few is not None and few < 20
    reached = simulated_power(one, step_of(one, 0.2), few, 8, seed=5)
    assert reached == pytest.approx(0.8, abs=0.06)  # whole problems: a step of one is 4 points
    k = samples_needed(one, step, 60)
    assert k is not None and k > 1
    assert simulated_power(one, step, 60, k, seed=5) > 0.77
    assert simulated_power(one, step, 60, k - 1, seed=5) < 0.82
    assert samples_needed(one, step_of(one, 0.1), 5) is None  # no k is enough


def test_price_by_hand() -> None:
    # 2 models x 30 problems x 4 samples = 240 completions x 1000 tokens, at 50 / s: 4800 s
    cost = Price(1000.0, 50.0, 0.6).of(30, 4)
    assert cost["completions"] == 240 and cost["tokens"] == 240_000
    assert cost["hours"] == pytest.approx(4 / 3) and cost["usd"] == pytest.approx(0.8)
    assert Price(1000.0, usd_per_million_tokens=2.0).of(30, 4)["usd"] == pytest.approx(0.48)
    assert Price().of(30, 4) == {"completions": 240, "tokens": None, "hours": None, "usd": None}


def pilot(folder: Path, k: int) -> tuple[Path, np.ndarray]:
    rng = np.random.default_rng(1)
    rates = rng.beta(0.3, 0.5, size=200)
    drawn = rng.random((200, k)) < rates[:, None]
    return evaluation(folder, {f"p{i}": row.tolist() for i, row in enumerate(drawn)}), drawn


def test_a_pilot_tells_the_difficulty(tmp_path: Path) -> None:
    path, drawn = pilot(tmp_path / "pilot", 8)
    found, summary = from_pilot(path)
    assert found.mean == pytest.approx(drawn.mean(), abs=1e-3)
    assert found.a + found.b == pytest.approx(0.8, abs=0.25)
    assert "fitted, 200 problems" in found.describe() and summary["num_samples"] == 8
    single, _ = from_pilot(pilot(tmp_path / "single", 1)[0])
    assert single.a + single.b == pytest.approx(0.8) and "its spread assumed" in single.source


def run(monkeypatch: Any, capsys: Any, *args: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["open-rs", "power", *args])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    captured = capsys.readouterr()
    return stopped.value.code or 0, captured.out, captured.err  # type: ignore[return-value]


@pytest.mark.usefixtures("fewer_draws")
def test_the_command(monkeypatch: Any, capsys: Any, tmp_path: Path) -> None:
    size = ("--problems", "30", "--samples", "1", "--score", "0.29")
    status, out, _ = run(monkeypatch, capsys, *size, "--gain", "0.1", "--json")
    found = json.loads(out)
    assert status == 0 and found["smallest_gain"] == pytest.approx(0.25, abs=0.01)
    assert found["gain"]["power"] < 0.3 and found["gain"]["problems_needed"] > 100
    status, out, _ = run(monkeypatch, capsys, *size)
    assert "30 problems x 1 samples: the smallest gain found in 80 % of comparisons" in out
    assert "difficulty: pass rates Beta(0.23, 0.57), mean 0.290" in out and "assumed" in out
    path, _ = pilot(tmp_path / "pilot", 2)
    status, out, _ = run(
        monkeypatch, capsys, "--pilot", str(path), "--tokens-per-completion", "500"
    )
    assert status == 0 and "200 problems x 2 samples" in out and "400,000 tokens" in out


@pytest.mark.usefixtures("fewer_draws")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--problems", "30"), "--problems and --samples are needed"),
        (("--problems", "30", "--samples", "1", "--score", "1.5"), "between 0 and 1"),
        (("--problems", "30", "--samples", "1", "--gain", "0.9"), "must lie between 0 and 0.500"),
        (("--pilot", "nowhere"), "holds no summary.json"),
        (("--pilot", "nowhere", "--score", "0.3"), "leave --score out"),
    ],
)
def test_bad_input(monkeypatch: Any, capsys: Any, args: tuple[str, ...], message: str) -> None:
    status, out, err = run(monkeypatch, capsys, *args)
    assert (status, out) == (2, "") and message in err and err.count("\n") == 1


def test_describe_names_the_ends() -> None:
    text = Difficulty(0.4, 0.4, "assumed").describe()
    # Beta(.4, .4): P(< .1) = .2435 on either side
    assert "24 % of problems below 0.1, 24 % above 0.9" in text
