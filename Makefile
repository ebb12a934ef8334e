# The project's commands. `make demo` and `make test` install what they need into .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PIP_COMPILE := $(BIN)/python -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	--no-emit-index-url --no-emit-find-links --no-emit-options --no-header

# Two more than the cores that CI has: most tests wait for other processes.
TEST_PROCESSES ?= 4

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One stamp for each set of pins: only a changed pin file makes it install again.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "confkeep needs Python 3.11 to 3.13; name one with 'make PYTHON=python3.12 ...'" >&2; exit 1; }
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run-installed: requirements/run.txt pyproject.toml | $(BIN)/python
	@echo "installing confkeep and the pinned packages that it needs (once)"
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev-installed: requirements/dev.txt $(VENV)/.run-installed
	@echo "installing the pinned packages that the tests need (once)"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

.PHONY: install
install: $(VENV)/.run-installed ## Install confkeep into .venv

.PHONY: demo
demo: $(VENV)/.run-installed ## Play a polling scheduler against an embedded server and show what is kept
	@$(BIN)/confkeep demo

# The pages are tested in it. Where it cannot be installed, those tests are skipped; in CI they fail.
.PHONY: browser
browser: ## Install Debian's Chromium for the tests, where it is missing and that is possible
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "no Chromium is on PATH, so the tests of the pages in a browser are skipped: install one, or run 'make browser' as root on Debian" >&2; \
		exit 0; \
	fi; \
	echo "installing Chromium, in which the pages are tested (once)"; \
	{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
		chromium fonts-dejavu-core >/dev/null; } || echo "Chromium could not be installed" >&2

.PHONY: test
test: lint browser ## Check style and types, then run all tests (under 8 minutes on 2 cores)
	@$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist worksteal --durations=5 tests

.PHONY: bench
bench: $(VENV)/.dev-installed ## Measure the store against plain git and against itself (some minutes)
	@$(BIN)/python -m tests.bench

.PHONY: chaos
chaos: $(VENV)/.dev-installed ## Try each fault, then 1,000 kills, and time recoveries (an hour and a half)
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal -m "chaos and not alone" tests
	@$(BIN)/python -m pytest -m "chaos and alone" tests
	@$(BIN)/python -m tests.chaos --seconds 600 --kills 1000 --recoveries 5

.PHONY: lint
lint: $(VENV)/.dev-installed ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

.PHONY: format
format: $(VENV)/.dev-installed ## Rewrite the sources in the project's style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: docs
docs: $(VENV)/.dev-installed ## Write the generated parts into the pages
	@$(BIN)/python -m docs.generate

.PHONY: pictures
pictures: $(VENV)/.dev-installed browser ## Make the pictures of terminals and of the pages anew, from real runs
	@$(BIN)/python -m docs.terminal_pictures
	@$(BIN)/python -m docs.page_pictures

.PHONY: site
site: $(VENV)/.dev-installed ## Build the pages as a site into site/, which loads nothing from elsewhere
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

.PHONY: pins
pins: $(VENV)/.dev-installed ## Resolve the pinned versions again
	@$(PIP) install pip-tools
	@sed -n '/^dependencies/,/^]/s/^    "\(.*\)",$$/\1/p' packaging/confkeep-worker/pyproject.toml \
		| grep -v '^confkeep==' > $(VENV)/worker.in
	@$(PIP_COMPILE) --upgrade --extra local --extra http -o requirements/run.txt pyproject.toml $(VENV)/worker.in requirements/build.in
	@$(PIP_COMPILE) --upgrade --extra local --extra http --extra notify --extra flower --extra otel --extra sentry -o requirements/full.txt pyproject.toml $(VENV)/worker.in requirements/build.in
	@$(PIP_COMPILE) --upgrade --extra local --extra http --extra notify --extra dev --extra docs --extra flower --extra otel --extra sentry -o requirements/dev.txt pyproject.toml $(VENV)/worker.in requirements/build.in

.PHONY: clean
clean: ## Remove the virtual environment and what the tools left
	@rm -rf $(VENV) dist build site .mypy_cache .ruff_cache .hypothesis
	@find confkeep worker tasks tests -name __pycache__ -type d -prune -exec rm -rf {} +
