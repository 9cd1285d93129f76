# Every target prepares .venv by itself; the first one takes a few minutes.
# PYTHON=python3.13 chooses the interpreter, and rebuilds .venv if it was made by another version.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
CODE := jaxft $(sort $(dir $(wildcard bench/*.py experiments/*.py)))
VERSION := import sys; print("%d.%d" % sys.version_info[:2])

# An interpreter that was asked for by name replaces a .venv of another version.
ifneq ($(origin PYTHON),file)
ifneq ($(shell $(PYTHON) -c '$(VERSION)' 2>/dev/null),$(shell $(BIN)/python -c '$(VERSION)' 2>/dev/null))
.PHONY: $(READY)
REBUILD := yes
endif
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-topology check format bench parity laws docs constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## prepare .venv: the pinned packages and jaxft itself
	@echo "$(BIN)/jaxft is ready ($$($(BIN)/python --version))"

demo: $(READY) ## compare head only, top layers, LoRA and full fine-tuning on movie reviews
	$(BIN)/python experiments/adaptation_methods.py

test: $(READY) ## the tests, without the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-all: $(READY) ## all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-topology: $(READY) ## the tests that compile for TPUs, with libtpu beside .venv
	@test -d build/libtpu/libtpu || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--constraint constraints.txt --target build/libtpu libtpu
	PYTHONPATH=build/libtpu $(BIN)/python -m pytest -m topology tests/train/test_cost.py tests/cli/test_cost.py

check: $(READY) ## formatting, lint, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports

format: $(READY) ## format the code and apply the safe lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## step time, throughput, memory and compiled FLOPs of each method
	$(BIN)/python bench/run.py

parity: $(READY) ## how far every model family is from its reference
	$(BIN)/python -m bench.parity

laws: $(READY) ## which adaptation obeys which law, in docs/laws.md
	$(BIN)/python -m pytest -n 2 -q tests/laws/test_laws_adaptations.py --laws docs/laws.md

docs: $(READY) ## the documentation as HTML, in build/site
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs build/site
	@echo "build/site/index.html"

constraints: $(READY) ## resolve every dependency anew and write constraints.txt
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --upgrade --python-version 3.11 \
		--no-annotate --no-header --output-file constraints.txt

clean: ## remove .venv, caches and what was built
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(READY): pyproject.toml constraints.txt
	@if [ "$(REBUILD)" ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
			echo "jaxft needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo not found)." \
				"Name another: make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; exit 2; }; \
		$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
			echo "'$(PYTHON)' cannot make virtual environments; on Debian and Ubuntu install python3-venv." >&2; exit 2; }; \
		$(PYTHON) -m venv --clear .venv; \
	fi
	@echo "Installing the pinned packages into .venv; this takes a few minutes the first time."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
