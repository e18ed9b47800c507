# `make test` and `make demo` do all the set-up they need; the environment is made once, in $(VENV).
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
# Processes that tests run in side by side; each opens engines of its own, which takes about 2 GB of memory.
LANES ?= 2
# Threads that spin while they wait are ruinous on shared cores.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help setup test test-slow test-families test-gpu demo docs check lint format types doctor clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

setup:  ## make or update the environment in $(VENV); quick when nothing changed
	@$(PYTHON) tools/setup_env.py --venv $(VENV)

test: setup  ## run the tests, real vLLM among them where it is installed
	$(PY) -m pytest -n $(LANES) --dist loadfile --no-loadscope-reorder

test-slow: setup  ## run the tests that take longer: other processes, whole recipes, kills, an installed wheel
	$(PY) -m pytest -n $(LANES) --dist loadfile --no-loadscope-reorder -m 'slow and not families'

test-families: setup  ## run the small models of all families in vLLM
	$(PY) -m pytest -m families

test-gpu: setup  ## check on a machine with GPUs what can be checked only there
	$(PY) tools/gpu_check.py

demo: setup  ## the whole loop: SFT, reward model, B-STaR iterations, evaluation
	$(PY) configs/recipes/bstar/arithmetic/demo.py

check: format lint types test test-slow  ## all that must pass before a commit

format: setup  ## format the code
	$(PY) -m ruff format
	$(PY) -m ruff check --fix

lint: setup  ## check style without changing files
	$(PY) -m ruff check
	$(PY) -m ruff format --check

types: setup  ## check the types
	$(PY) -m mypy

docs: setup  ## build the docs site into build/site; a dead link or anchor is an error
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

doctor: setup  ## say what works on this machine and what is missing
	$(VENV)/bin/harness doctor

clean:  ## remove the environment and all caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
