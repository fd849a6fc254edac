# Every target first makes the environment it needs (.venv); once made, that takes no time.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# The models that come with the package are small: one thread each is fastest.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test fmt bundled outputs readme docs bench quality

# An answer that three small models write together.
demo: $(READY)
	@HF_HUB_OFFLINE=1 $(BIN)/specfuse --trace --file examples/house.txt \
		"How many lamps are in the hall and the attic in total?" < /dev/null

# All checks, as run for every change.
test: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2

fmt: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Train the bundled models anew, each on a core of its own. What training frees it soon takes again:
# to keep it is much faster than to give it back.
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

# The quality table, from 60 questions a task.
quality: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.quality --quick

# torch comes first and alone, so that a build of it for this machine can be put in by hand.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("specfuse needs Python 3.11 or newer: make PYTHON=python3.11" \
		if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
