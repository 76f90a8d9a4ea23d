# The door to the project: each target sets up what it needs.
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
# What `.venv` was made from stays until another one is asked for: make environment REQUIREMENTS=envs/requirements-gpu.txt
INSTALLED := $(or $(shell cat .venv/ready 2>/dev/null),envs/requirements-cpu.txt)
REQUIREMENTS ?= $(INSTALLED)
# The configuration of `make run`, and what to override in it: make CONFIG=... ARGS='--config set="optimise.epochs=5"'
CONFIG ?= config/resonance.yaml
ARGS ?=

TEST = $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# `make docs` takes what the documentation needs from a lock of its own, so .venv stays without it.
DOCS := .docs-venv/bin

.PHONY: run test test-all test-long docs lint types format environment environment-htcondor requirements reference clean another

run: environment ## the main job: simulate, read, optimise, evaluate, report
	@echo "Running the workflow of $(CONFIG) with snakemake on all cores; the result is results/<run>/report.html"
	$(BIN)/snakemake --cores all --configfile $(CONFIG) $(ARGS)

test: environment ## the tests but for the slow ones, three at a time: some mostly wait
	$(TEST) -m "not slow" $(ARGS)

test-all: environment ## the slow ones too: what a change must pass
	$(TEST) -m "not long" $(ARGS)

test-long: environment ## those that take longest, before a release
	$(TEST) -m long $(ARGS)

docs: .docs-venv/ready ## the documentation as a site, site/index.html; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(DOCS)/mkdocs build --strict  # never --quiet: warnings would not count

.docs-venv/ready: envs/requirements-docs.txt | .uv/bin/uv
	@echo "Setting up .docs-venv from $<"
	.uv/bin/uv venv --quiet --clear --no-managed-python --python $(PYTHON) .docs-venv
	.uv/bin/uv pip install --quiet --python $(DOCS)/python --require-hashes -r $<
	@touch $@

lint: environment ## style, workflow lint, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/snakemake --snakefile workflow/studies/Snakefile --lint

types: environment ## strict type check
	$(BIN)/mypy

format: environment ## rewrite files in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

reference: environment ## regenerate schemas, key table of config/README.md, docs/tour.md's lines, docs/command_line.md
	$(BIN)/thalweg schema --folder config
	$(BIN)/python tests/support/tour.py
	$(BIN)/python tests/support/verbs.py

environment: .venv/ready ## .venv with the locked requirements

environment-htcondor: ## the same, with what `--profile htcondor` needs; without it Snakemake says "invalid choice"
	$(MAKE) environment REQUIREMENTS=envs/requirements-htcondor.txt

ifneq ($(REQUIREMENTS),$(INSTALLED))
.venv/ready: another
endif

.venv/ready: $(REQUIREMENTS) pyproject.toml | .uv/bin/uv
	@echo "Setting up .venv from $(REQUIREMENTS) (with Pythia 8 and FastJet, GPL, for the embedded data set)"
	.uv/bin/uv venv --quiet --clear --no-managed-python --python $(PYTHON) .venv
	.uv/bin/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r $(REQUIREMENTS)
	.uv/bin/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@echo $(REQUIREMENTS) > $@

.uv/bin/uv:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .uv uv==$(UV_VERSION)

requirements: | .uv/bin/uv ## resolve the locked requirements anew, from pyproject.toml
	$(COMPILE) --python-version 3.11 --output-file envs/requirements-cpu.txt
	$(COMPILE) --python-version 3.11 --extra htcondor --output-file envs/requirements-htcondor.txt
	$(COMPILE) --python-version 3.12 --extra gpu --output-file envs/requirements-gpu.txt
	.uv/bin/uv pip compile --group build --python-version 3.11 $(LOCK) --output-file envs/requirements-build.txt
	.uv/bin/uv pip compile --group docs --python-version 3.11 $(LOCK) --output-file envs/requirements-docs.txt

LOCK = --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet
COMPILE = .uv/bin/uv pip compile pyproject.toml --group dev --extra all --extra simulate --extra xrootd --extra slurm $(LOCK)

clean: ## remove the environments (results stay)
	rm -rf .venv .docs-venv .uv site
