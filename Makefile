# One door to the project: `make` lists its targets. Needs Python >= 3.11 with pip and venv, and make.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
# What a command is given to have a database: its own server, unless DATABASE_URL names one.
WITH_DATABASE = $(if $(DATABASE_URL),,$(BIN)/python -m apimgr.postgres run --throwaway --)
USABLE := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	"$$p" -c '$(USABLE)' >/dev/null 2>&1 && echo "$$p" && break; done)

.PHONY: help
help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  \033[1m%-13s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.runs $(VENV)-upstream/.runs  ## Start everything with demo data; Ctrl-C stops it
	@exec $(BIN)/python manage.py demo

.PHONY: demo-reset
demo-reset: $(VENV)/.runs  ## Delete the demo's database, keys and logs, to start over
	@$(BIN)/python manage.py demo --reset

# More processes than cores: many tests wait for a browser or a gateway. A file stays in one process.
PROCESSES ?= 3

.PHONY: test
test: $(VENV)/.helps $(VENV)-upstream/.runs $(VENV)-build/.runs  ## Run the test suite; ARGS="-k portal" for a part of it
	@$(BIN)/python -m tests.tools
	@$(VENV)-build/bin/python -m proxy.build --if-possible
	APIMGR_VAR="$(CURDIR)/var/test" $(WITH_DATABASE) $(BIN)/pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: check
check: $(VENV)/.helps  ## Everything static: format, lint, types, imports, migrations, templates, REST schema, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	@$(WITH_DATABASE) $(MAKE) --no-print-directory check-with-database
	$(BIN)/mypy

.PHONY: check-with-database
check-with-database:
	$(BIN)/pytest -q tests/architecture/test_templates.py tests/apimgr/core/test_openapi.py tests/docs
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py lintmigrations --quiet ok ignore --settings tests.lint_settings

.PHONY: fmt
fmt: $(VENV)/.helps  ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(VENV)/.helps $(VENV)-bench/.runs $(VENV)-build/.runs  ## Measure the gateway against nginx and Envoy, and the roll-up
	@$(VENV)-build/bin/python -m proxy.build --if-possible
	APIMGR_VAR="$(CURDIR)/var/bench" $(WITH_DATABASE) $(BIN)/python -m tests.bench $(ARGS)

.PHONY: faults
faults: $(VENV)/.helps $(VENV)-build/.runs  ## Break the gateway in every way at length, with a table; ARGS="--kills 50 --outage 300"
	@$(VENV)-build/bin/python -m proxy.build --if-possible
	$(BIN)/python -m tests.faults $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)-fuzz/.runs $(VENV)-build/.runs  ## Fuzz what reads bytes of others; SECONDS=60 each, ARGS="path chunked" for some
	@$(VENV)-build/bin/python -m proxy.build --if-possible
	APIMGR_VAR="$(CURDIR)/var" $(VENV)-fuzz/bin/python -m tests.fuzz --seconds $(or $(SECONDS),60) $(ARGS)

.PHONY: compiled
compiled: $(VENV)-build/.runs  ## Compile the gateway: some 40 % less CPU per call; needs a C compiler
	@$(VENV)-build/bin/python -m proxy.build $(ARGS)

.PHONY: docs
docs: $(VENV)/.helps  ## Check the documentation: links, glossary, settings
	$(BIN)/pytest -q tests/docs

.PHONY: requirements
requirements: $(VENV)/.helps  ## Compile requirements*.txt from pyproject.toml
	sh .ci/requirements

.PHONY: venv
venv: $(VENV)/.helps  ## Make the virtual environment, with the tools of development

.PHONY: clean
clean: demo-reset  ## Delete all that make made
	rm -rf build var $(VENV) $(VENV)-upstream $(VENV)-bench $(VENV)-build $(VENV)-fuzz

# --- The virtual environments: what runs, what helps, and the demo's upstream apart --------------------------------
PIP = -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all:

$(VENV)/bin/python $(VENV)-upstream/bin/python $(VENV)-bench/bin/python $(VENV)-build/bin/python \
		$(VENV)-fuzz/bin/python:
	@test -n "$(PYTHON)" || { echo "No usable Python: apimgr needs Python >= 3.11 with pip and venv" \
		"(Debian: apt install python3-venv). Or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "Making $(@:/bin/python=) with $(PYTHON)"
	@"$(PYTHON)" -m venv $(@:/bin/python=)

$(VENV)/.runs: requirements.txt | $(VENV)/bin/python
	@echo "Installing requirements.txt"
	@$(BIN)/python $(PIP) -r requirements.txt
	@touch $@

$(VENV)/.helps: requirements-dev.txt $(VENV)/.runs
	@echo "Installing requirements-dev.txt"
	@$(BIN)/python $(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)-upstream/.runs: requirements-upstream.txt | $(VENV)-upstream/bin/python
	@echo "Installing requirements-upstream.txt"
	@$(VENV)-upstream/bin/python $(PIP) -r requirements-upstream.txt
	@touch $@

$(VENV)-bench/.runs: requirements-bench.txt | $(VENV)-bench/bin/python
	@echo "Installing requirements-bench.txt"
	@$(VENV)-bench/bin/python $(PIP) -r requirements-bench.txt
	@touch $@

$(VENV)-build/.runs: requirements-build.txt | $(VENV)-build/bin/python
	@echo "Installing requirements-build.txt"
	@$(VENV)-build/bin/python $(PIP) -r requirements-build.txt
	@touch $@

$(VENV)-fuzz/.runs: requirements-fuzz.txt | $(VENV)-fuzz/bin/python
	@echo "Installing requirements-fuzz.txt"
	@$(VENV)-fuzz/bin/python $(PIP) -r requirements-fuzz.txt
	@touch $@
