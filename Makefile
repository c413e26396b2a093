# `make help` lists the targets. Everything runs in .venv, which is made when missing
# (PYTHON=python3.12 picks another interpreter) and follows pyproject.toml.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := runs/demo
# run by hand: they take a table or a data set, or half an hour
LONG := benchmarks/search_quality.py benchmarks/ranking.py benchmarks/compile.py benchmarks/retraining.py \
	benchmarks/scale.py benchmarks/shrinking.py benchmarks/soak.py benchmarks/converted.py \
	benchmarks/converted_supernet.py benchmarks/conversion.py benchmarks/conversion_time.py \
	benchmarks/search_tables.py benchmarks/hypervolume.py benchmarks/block_library.py
BENCHMARKS := $(filter-out benchmarks/_% $(LONG),$(sort $(wildcard benchmarks/*.py)))
# of the tests: one holds the Ray that they share, so more than a few do not help
PROCESSES ?= 2
PYTEST := $(BIN)/python -m pytest -n $(PROCESSES) --dist loadgroup
# a Parquet table of trained networks, for the quality of samplers: make bench TABLE=FILE
TABLE ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-cluster soak audit venv lint types docs bench examples

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: venv ## search 200 architectures on real images, on this machine
	@# a search refuses a folder that holds another run
	rm -rf $(DEMO)
	$(BIN)/raynas search mobilenet_v2_cifar --algo regularized_evolution --data digits \
		--trials 200 --space-option width=0.25 --out $(DEMO)

test: venv ## run the tests and the doctests, with a sample of the many cases
	$(PYTEST)

test-all: venv ## run all of them
	$(PYTEST) -m "not cluster"

test-cluster: venv ## run Ray clusters of machines in namespaces, from `ray up` to `ray down`
	@command -v sshd rsync ip curl >/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq \
		&& apt-get install -y -qq openssh-server rsync iproute2 curl >/dev/null; } \
		|| echo "not all of sshd, rsync, ip and curl are here: tests that need them are skipped"
	$(BIN)/python -m pytest -m cluster -rs

soak: venv ## run a search and a training for long, and see that nothing grows
	$(BIN)/python benchmarks/soak.py

audit: venv ## list the licences of what raynas needs, and what is known to be vulnerable of it
	$(BIN)/python tests/audit.py

venv: $(INSTALLED) ## make .venv, with raynas editable in it

lint: venv ## check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: venv ## check the types
	$(BIN)/mypy

docs: venv ## build the site in build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

examples: venv ## run every example, each in a folder of its own under build/examples
	@set -e; for example in $(sort $(wildcard examples/*.py)); do \
		echo "== $$example"; place=build/examples/$$(basename $$example .py); \
		rm -rf $$place; mkdir -p $$place; \
		(cd $$place && $(CURDIR)/$(BIN)/python $(CURDIR)/$$example); done

bench: venv ## run every benchmark but the longest
	@set -e; for benchmark in $(BENCHMARKS); do \
		echo "== $$benchmark"; $(BIN)/python $$benchmark; done
	@test -z "$(TABLE)" || $(BIN)/python benchmarks/search_quality.py --table "$(TABLE)"

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check \
		--editable '.[dev]'
	touch $@
