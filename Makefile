# Every target first creates the environment it needs (.venv), if it does not exist yet.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
NEWEST := .venv-newest
LOWEST := .venv-lowest
PIP_INSTALL := python -m pip install --disable-pip-version-check
TORCH := $(shell grep '^torch==' constraints.txt)

# The models that come with the package are small: one thread each is fastest.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test test-newest test-lowest newest fmt bundled outputs readme docs bench quality

# An answer that three small models write together.
demo: $(READY)
	@HF_HUB_OFFLINE=1 $(BIN)/specfuse --trace --file examples/house.txt \
		"How many lamps are in the hall and the attic in total?" < /dev/null

# All checks, as run for every change.
test: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2 --dist worksteal

# The same tests with today's newest release of everything but torch.
test-newest: newest
	HF_HUB_OFFLINE=1 $(NEWEST)/bin/pytest -n 2 --dist worksteal

# The environment of test-newest; upgraded each time.
newest: | $(NEWEST)/bin/python
	$(NEWEST)/bin/$(PIP_INSTALL) "$(TORCH)"
	$(NEWEST)/bin/$(PIP_INSTALL) --upgrade --upgrade-strategy eager "$(TORCH)" -e '.[dev]'

# The same tests with the lowest versions that pyproject.toml declares for what users install. torch
# stays at the pinned build: older builds for the CPU alone are in no package index, and those for
# CUDA take gigabytes.
test-lowest: $(LOWEST)/.ready
	HF_HUB_OFFLINE=1 $(LOWEST)/bin/pytest -n 2 --dist worksteal

fmt: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Train the bundled models again, each on its own core. Training soon allocates again what it frees,
# so it is much faster to keep freed memory than to return it to the system.
bundled: export MALLOC_MMAP_THRESHOLD_ = 4294967296
bundled: export MALLOC_TRIM_THRESHOLD_ = 17179869184
bundled: $(READY)
	$(BIN)/python -m training all

# Run the programs and commands on all pages, and write what they print into the pages.
outputs readme: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python docs/outputs.py

# Build the documentation as a website in site/.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.speed --quick

# The quality table, with 60 questions per task.
quality: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.quality --quick

# torch comes first and alone, so that a build of it for this machine can be put in by hand.
$(READY): pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/$(PIP_INSTALL) "$(TORCH)"
	$(BIN)/$(PIP_INSTALL) -c constraints.txt -e '.[dev]'
	@touch $@

$(LOWEST)/.ready: pyproject.toml constraints.txt .ci/lowest.py | $(LOWEST)/bin/python
	$(LOWEST)/bin/$(PIP_INSTALL) "$(TORCH)" packaging
	$(LOWEST)/bin/python .ci/lowest.py > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/$(PIP_INSTALL) -c $(LOWEST)/lowest.txt -e '.[dev]'
	@touch $@

%/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("specfuse needs Python 3.11 or newer: make PYTHON=python3.11" \
		if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $*
