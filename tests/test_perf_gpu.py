"""The code that measures a CUDA device, on a CPU at a small scale: every part runs to its end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_every_part_of_w4_runs_and_is_told(tmp_path):
    out = tmp_path / "w4.md"
    command = [sys.executable, str(ROOT / "perf/gpu.py"), "--scale", "small", "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--steps", "2", "--out", str(out)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = out.read_text(encoding="utf-8")
    for line in ("generate", "full, a step", "full, rollout", "lora, a step", "lora, peak memory"):
        assert f"| {line} |" in told
    assert "16 completions, cap 48" in told
