#!/usr/bin/env bash
# Everything that is measured on one CUDA device, in under nine minutes and without a network:
# the GPU tests, then W4 (perf/gpu.py). PYTHON names an interpreter that has the package's
# dependencies; the tables go to OUT.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-runs/gpu}
PYTHON=${PYTHON:-python}
mkdir -p "$OUT"
PYTHONPATH=. "$PYTHON" -m pytest -q -m gpu tests/gpu 2>&1 | tee "$OUT/tests.log"
PYTHONPATH=. timeout 480 "$PYTHON" perf/gpu.py --out "$OUT/w4.md" "$@"
