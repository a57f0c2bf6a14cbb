"""examples/grpo_in_one_file.py runs, and its log-probs are those of the package."""

import importlib.util
import re
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import AutoModelForCausalLM

from open_rs.train.logprobs import completion_logprobs

TINY = Path(str(resources.files("open_rs") / "assets" / "tiny"))
EXAMPLE = Path(__file__).parents[2] / "examples" / "grpo_in_one_file.py"


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("grpo_in_one_file", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(
    example: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *options: str,
) -> str:
    monkeypatch.setattr(sys, "argv", ["grpo_in_one_file.py", *options])
    example.main()
    return capsys.readouterr().out


def test_a_few_steps(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"P": 2, "G": 3, "MAX_COMPLETION_TOKENS": 24}.items():
        monkeypatch.setattr(example, name, value)
    text = run(example, monkeypatch, capsys, "--steps", "2")
    lines = text.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["step", "1"], ["step", "2"]]
    shown = re.compile(r"reward [01]\.\d\d .* dead groups [012]/2 +kl \d\.\d{4} .* s$")
    assert all(shown.search(line) for line in lines[:2])
    assert lines[2].startswith("training reward: first 1 steps")
    again = run(example, monkeypatch, capsys, "--steps", "2")
    assert re.sub(r"\d+ s$", "", again, flags=re.M) == re.sub(r"\d+ s$", "", text, flags=re.M)


def test_logprobs_are_those_of_the_package(example: ModuleType) -> None:
    # The example pads prompts on the left, the package rows on the right.
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()
    prompts, completions = [[2, 3, 30, 4], [2, 4]], [[40, 41, 42], [50, 51, 52]]
    padded = torch.tensor([prompts[0] + completions[0], [0, 0, *prompts[1], *completions[1]]])
    mask = torch.tensor([[1] * 7, [0, 0] + [1] * 5])
    rows = torch.tensor([prompts[0] + completions[0], [*prompts[1], *completions[1], 0, 0]])
    row_mask = torch.tensor([[1] * 7, [1] * 5 + [0, 0]])
    scored = torch.tensor([[0] * 4 + [1] * 3, [0, 0, 1, 1, 1, 0, 0]]).bool()
    with torch.no_grad():
        ours = example.completion_logprobs(model, padded, mask, 4)
        theirs, _ = completion_logprobs(
            model, rows, row_mask, scored, temperature=example.TEMPERATURE
        )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_the_reward_rises(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    last = run(example, monkeypatch, capsys).splitlines()[-1]
    first_mean, last_mean = map(float, re.findall(r"steps (\d\.\d\d)", last))
    assert last_mean > first_mean + 0.05, last
