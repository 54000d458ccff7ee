# Everything a person does with this repository has a target; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH := $(shell sed -n 's/^\(torch==[^ ;]*\).*/\1/p' constraints.txt)

.DEFAULT_GOAL := help

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}'

demo: $(VENV)/.base ## Run the whole line on embedded data: dataset to served prompt
	$(BIN)/softprompt demo $(ARGS)

test: $(VENV)/.dev ## Run the default tests, two at a time
	$(BIN)/python -m pytest --numprocesses 2 $(ARGS)

check: lint test ## What CI runs: lint, then test

lint: $(VENV)/.dev ## ruff, mypy --strict, the layers of import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## Put the code into its standard form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-slow: $(VENV)/.dev ## Tests that take minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

test-kills: $(VENV)/.dev ## Kill workers, the controller and nodes of a real Ray training (about ten minutes)
	$(BIN)/python -m pytest -m slow -s tests/integration/test_ray_kills.py $(ARGS)

mutate: $(VENV)/.dev ## Change the gates' code in every way; each change that no test notices is named (about a quarter of an hour)
	$(BIN)/python -m tests.mutation.gates $(ARGS)

test-release: $(VENV)/.dev ## The long proofs of the release protocol: kills, races, faults, every order (half an hour)
	$(BIN)/python -m pytest -m slow -s tests/reliability $(ARGS)

mutate-release: $(VENV)/.dev ## Take out each check of the release protocol; each one that no test misses is named
	$(BIN)/python -m tests.mutation.release $(ARGS)

test-soak: $(VENV)/.dev ## Tests that take an hour or more
	$(BIN)/python -m pytest -m soak $(ARGS)

test-gpu: $(VENV)/.dev ## Tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(ARGS)

cluster-test: $(VENV)/.dev ## Tests that need a Kubernetes cluster
	$(BIN)/python -m pytest -m cluster $(ARGS)

bench: $(VENV)/.dev ## The benchmarks, in their quick form
	$(BIN)/python -m tests.bench.train_step --quick
	$(BIN)/python -m tests.bench.answers_head --quick
	$(BIN)/python -m tests.bench.adam_betas --quick
	$(BIN)/python -m tests.bench.validate --quick
	$(BIN)/python -m tests.bench.readers
	$(BIN)/python -m tests.bench.serve --quick
	$(BIN)/python -m tests.bench.swap --quick
	$(BIN)/python -m tests.bench.release --quick

base: $(VENV)/.base ## Pretrain the embedded base model again, into build/base (about five minutes)
	$(BIN)/python -m softprompt.embedded.pretrain --out build/base

package: $(VENV)/.dev ## Build wheel and source distribution into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' softprompt/__init__.py)
IMAGE_BUILD ?= $(shell command -v buildah || command -v podman || command -v docker || echo "no buildah, podman or docker here:") build

image: ## Build the image of steps, Ray workers and serving nodes
	$(IMAGE_BUILD) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git describe --always --dirty --abbrev=40 --exclude '*') \
		--tag softprompt/steps:$(VERSION) --file infra/images/steps.Containerfile .

chart: $(VENV)/.dev ## Check the Helm chart: lint, unit tests, schemas of eight Kubernetes versions, README
	@for program in helm helm-unittest helm-docs; do command -v $$program >/dev/null || { echo "$$program is not on PATH; install it to check the chart" >&2; exit 1; }; done
	for values in charts/softprompt/ci/*-values.yaml; do helm lint --strict --quiet charts/softprompt --values $$values || exit; done
	helm-unittest charts/softprompt
	$(BIN)/python infra/check_chart.py
	@helm-docs --chart-search-root charts/softprompt --log-level error --dry-run | diff --ignore-blank-lines - charts/softprompt/README.md \
		|| { echo "charts/softprompt/README.md is not what helm-docs makes of values.yaml; run helm-docs" >&2; exit 1; }

lock: ## Write constraints.txt anew from pyproject.toml
	$(PYTHON) infra/lock.py

clean: ## Remove what this Makefile made, and the laptop's state
	rm -rf $(VENV) .softprompt build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "softprompt needs Python 3.11 or newer; say which with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

# torch comes first and exactly: anything looser may bring gigabytes of CUDA packages.
$(VENV)/.base: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing softprompt into $(VENV) (two or three minutes the first time)"
	@$(PIP) $(TORCH)
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@$(PIP) --editable '.[dev]'
	@touch $@

.PHONY: help demo test check lint format mutate mutate-release test-release test-slow test-soak test-gpu cluster-test bench base package image chart lock clean
