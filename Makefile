# Set-up is paid once: every target shares one .venv, made on first use from pyproject.toml.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# one thread per process: the small networks run slower on two
export OMP_NUM_THREADS ?= 1
# bytecode is kept: every process that the tests start would compile the packages anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test test-all check clean help

help:            ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Fortress Arena needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off torch torchvision
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,duel,analysis,serve,vision,transfer,optuna,slurm,onnx,datasets,triton]'
	@touch $@

quickstart: $(STAMP)  ## set up, play the first game on real digits, show scoreboard and report
	$(BIN)/arena run quickstart --workers 2 --log quickstart.db --out out/quickstart

test: $(STAMP)        ## set up and run the tests (about 7 minutes on 2 cores)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: $(STAMP)    ## the tests that take long as well
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m ""

check: $(STAMP)       ## set up and check format, lint, types and layers; no tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:           ## remove the environment and what it played
	rm -rf $(VENV) out quickstart.db
