# Everything one runs by hand. `make help` lists it; `make demo` and `make test` need nothing before them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
CRON ?= 0 3 * * 1
PORT ?= 4200
PYTEST_ARGS ?=
FRESH_ARGS ?=
# Debian packages that tests drive from outside: a browser for the pages, a database for Prefect's server, a DICOM validator.
TEST_PACKAGES := chromium postgresql dicom3tools

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# No tool reports its use to anybody.
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: help
help: ## List every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/.installed ## Make .venv and install the pinned packages (once; later runs return at once)

# A virtual environment knows its own path: in a folder that was moved it is made anew.
ifneq ($(shell cat .venv/.path 2>/dev/null),$(CURDIR))
.PHONY: .venv/bin/python
endif
.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no python3 found; install Python 3.11 or name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than Python 3.11; name another: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "== making .venv with $(PYTHON)"
	"$(PYTHON)" -m venv --clear .venv
	@echo "$(CURDIR)" > .venv/.path

.venv/.installed: .venv/bin/python requirements.lock pyproject.toml
	@echo "== installing the pinned packages, about two minutes the first time"
	python -m pip install --disable-pip-version-check --progress-bar off -c requirements.lock -e '.[train]'
	@touch $@

.venv/.installed-dev: .venv/.installed
	@echo "== installing what tests and lint need"
	python -m pip install --disable-pip-version-check --progress-bar off -c requirements.lock -e '.[train,dev]'
	@touch $@

.PHONY: demo
demo: setup ## Run the whole graph on simulated heads and register two models
	dvc repro
	@ctmr where

.PHONY: test
test: .venv/.installed-dev test-packages ## Run all tests, three at a time (PYTEST_ARGS adds options)
	pytest -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

.PHONY: test-packages
test-packages:
	@missing=""; \
	for package in $(TEST_PACKAGES); do \
		test "$$(dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null)" = installed || missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then echo "tests need these from your distribution:$$missing" >&2; exit 0; fi; \
	root=""; \
	if [ "$$(id -u)" != 0 ]; then \
		if ! sudo -n true 2>/dev/null; then echo "tests need: sudo apt-get install$$missing" >&2; exit 0; fi; \
		root="sudo -n"; \
	fi; \
	echo "== installing for the tests:$$missing"; \
	$$root apt-get update -q && $$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing

# What PyTorch needs for NVIDIA's cards stands apart: a CPU build needs none of it.
CUDA := ^(cuda-|nvidia-|triton==)
COMPILE := uv pip compile --quiet --no-header --no-annotate --python-version 3.11 --python-platform x86_64-manylinux_2_31

.PHONY: lock
lock: .venv/.installed-dev ## Pin what pyproject.toml asks for, with hashes; pins that fit stay (LOCK_ARGS="--upgrade-package NAME")
	$(COMPILE) --all-extras $(LOCK_ARGS) pyproject.toml -o requirements.lock
	grep -vE '$(CUDA)' requirements.lock | $(COMPILE) --no-deps --generate-hashes - -o requirements.hashes
	grep -E '$(CUDA)' requirements.lock | $(COMPILE) --no-deps --generate-hashes - -o requirements-cuda.hashes

.PHONY: lint
lint: .venv/.installed-dev ## Check style, format and types
	ruff check .
	ruff format --check .
	mypy

.PHONY: ui
ui: setup ## Open MLflow's run comparison (Ctrl-C stops it)
	ctmr ui

.PHONY: schedule
schedule: setup ## Retrain by schedule on this machine (CRON="0 3 * * 1" PORT=4200; Ctrl-C stops it)
	ctmr schedule --cron '$(CRON)' --port $(PORT)

.PHONY: cluster
cluster: .venv/.installed-dev ## Start a team's servers here: Dask, MLflow, Prefect, PostgreSQL, S3 (Ctrl-C stops them)
	python deploy/without_containers.py

.PHONY: check-fresh
check-fresh: ## Try README and Dockerfile in a bare Debian; root, debootstrap (FRESH_ARGS="readme --demo" or "image")
	@"$(PYTHON)" deploy/check_fresh.py $(FRESH_ARGS)

.PHONY: bench
bench: .venv/.installed-dev ## Measure speed beside plain references and write benchmarks/RESULTS.md; by hand, on an idle machine
	python benchmarks/bench.py

.PHONY: clean
clean: ## Remove data, models, reports and checkpoints (kept: .venv, MLflow's runs, DVC's cache)
	rm -rf data models reports checkpoints .pytest_cache .mypy_cache .ruff_cache .hypothesis
