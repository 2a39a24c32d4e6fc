# demo    a fresh machine (Python 3.11+ with venv): makes .venv, installs, runs `allmend tour`; needs no root
# test    installs what the tests need, runs all of them, JOBS files at a time
# check   the quick ones: lint, types, floors, unit tests; five minutes at most

PYTHON ?= python3
VENV ?= .venv
BUDGET ?= 5m
JOBS ?= 2
# Another source of torch wheels, for example the CPU or CUDA index of torch's own site.
TORCH_INDEX ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test check lint clean

demo: $(VENV)/.tuned
	$(BIN)/allmend tour --budget $(BUDGET)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev lint
	$(BIN)/python -m pytest -m "not model and not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

# torch first and alone: every other package then finds it there and asks for no other.
$(VENV)/.torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@touch $@

$(VENV)/.tuned: $(VENV)/.torch pyproject.toml
	$(PIP) install -c constraints.txt -e '.[tune,serve]'
	$(BIN)/python -m allmend.installation
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(PIP) install -c constraints.txt -e '.[dev]'
	$(BIN)/python -m allmend.installation
	@touch $@

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
