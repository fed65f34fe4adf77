.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first Python that TensorFlow has wheels for; another one: make PYTHON=/path/to/python test
ifndef PYTHON
PYTHON = $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$python && break; \
	done)
endif

# Data sets that lie beside the checkout spare the download.
ifndef AE_SEARCH_DATA
ifneq ($(wildcard ../shared/data/.),)
export AE_SEARCH_DATA := $(abspath ../shared/data)
endif
endif

BIN := .venv/bin
# The same releases for everyone, until `make constraints` chooses others.
INSTALL := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt

.PHONY: help install constraints licences demo demo-postgres test slowtest test-milvus crashtest crashtest-postgres fuzz lint format \
	bench-all bench-index bench-postgres bench-beam bench-client bench-images bench-latents bench-copies bench-large bench-train bench-trust \
	bench-web figures web clean-demo docs check-wheel coverage

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

install: .venv/.installed  ## make .venv and install everything into it

# A killed pip leaves packages that claim to be installed but have no RECORD; without their claim they are installed anew.
.venv/.installed: setup.cfg pyproject.toml constraints.txt
	@tools/check-prerequisites.sh "$(PYTHON)"
	@ls .venv/lib/python*/site-packages/pip-*.dist-info/RECORD >/dev/null 2>&1 \
		&& $(BIN)/python -c 'import ensurepip, pip' 2>/dev/null \
		|| $(PYTHON) -m venv --clear .venv
	@for claim in .venv/lib/python*/site-packages/*.dist-info; do [ -e "$$claim/RECORD" ] || rm -rf "$$claim"; done
	@echo 'Installing into .venv; TensorFlow is large, this takes some minutes the first time.' >&2
	$(INSTALL) -e '.[dev]'
	@touch $@

constraints:  ## choose the releases to install anew, the newest that setup.cfg allows
	tools/renew-constraints.sh "$(PYTHON)"

LICENSED := bench fuzz docs coverage
licences: $(LICENSED:%=.venv/.installed-%)  ## write docs/licences.md anew
	$(BIN)/python tools/licences.py

demo: .venv/.installed  ## train, export, serve, index and query Fashion-MNIST; options in DEMO_ARGS
	$(BIN)/ae-search demo $(DEMO_ARGS)

# Another index or model: make web WEB_ARGS='--index DIR --server HOST:PORT'
web: .venv/.installed  ## the page and the REST service on the demo's index and model; others in WEB_ARGS
	@[ -n "$(WEB_ARGS)" ] || [ -e demo/index/CURRENT ] || { echo 'make demo first: it makes the index and the model' >&2; exit 1; }
	$(BIN)/ae-search web $(or $(WEB_ARGS),--index demo/index --model $(firstword $(wildcard demo/export/*)))

demo-postgres: .venv/.installed  ## the demo with its index in a PostgreSQL of its own; options in DEMO_ARGS
	PYTHONPATH=tests $(BIN)/python -m bench.demo_postgres $(DEMO_ARGS)

# Each of the first two keeps one core busy. Three workers, as many tests wait for servers: two cores are then busy.
test: .venv/.installed-docs  ## everything that must pass: lint, types, documentation, tests
	$(MAKE) --no-print-directory -j 2 --output-sync=target lint docs
	$(BIN)/python tools/wire_descriptors.py --check
	$(BIN)/python tools/licences.py --check
	$(BIN)/python -m pytest -n 3 --dist loadfile

slowtest: .venv/.installed  ## the tests that take long: memory of large files, full disks, many exports
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

# Another run: AE_SEARCH_CRASH_SEED=7 AE_SEARCH_CRASH_ROUNDS=1000 make crashtest
crashtest: .venv/.installed  ## kill writers of an index at any moment, 250 times; minutes
	AE_SEARCH_CRASH_ROUNDS=$${AE_SEARCH_CRASH_ROUNDS:-250} $(BIN)/python -m pytest -m "slow or not slow" tests/index/test_index_crash.py -s

# Nobody maintains the server, and it listens on all addresses: it gets a network of its own, where the system lets it.
ALONE := unshare --user --map-root-user --net sh -c 'ip link set lo up && exec "$$@"' --
.venv/.installed-milvus: .venv/.installed
	$(INSTALL) -e '.[dev,milvus-server]'
	@touch $@

test-milvus: .venv/.installed-milvus  ## the contract of an index on a Milvus standalone; an hour or two
	AE_SEARCH_TEST_MILVUS=session $(ALONE) $(BIN)/python tests/milvus_server.py \
		$(BIN)/python -m pytest -n 3 --timeout 900 -m "slow or not slow" tests/index_contract
	AE_SEARCH_TEST_MILVUS=strong $(ALONE) $(BIN)/python tests/milvus_server.py \
		$(BIN)/python -m pytest -n 3 --timeout 900 -m "slow or not slow" tests/index_contract -k "another_process or readers"

crashtest-postgres: .venv/.installed  ## kill backends, servers and writers of an index on PostgreSQL, 100 times; minutes
	AE_SEARCH_CRASH_ROUNDS=$${AE_SEARCH_CRASH_ROUNDS:-100} $(BIN)/python -m pytest -m "slow or not slow" tests/remote_index/test_postgres_crash.py -s

# Measuring coverage serves nothing else, and slows the tests down.
.venv/.installed-coverage: .venv/.installed
	$(INSTALL) -e '.[dev,coverage]'
	@touch $@

# A part, without a new figure: make coverage COVERED=tests/index
COVERED ?= tests
coverage: .venv/.installed-coverage  ## run all tests, and write the share of lines that they execute to docs/figures.md
	rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run --rcfile=setup.cfg -m pytest -n 3 --dist loadfile $(COVERED)
	$(BIN)/coverage combine -q --rcfile=setup.cfg
	$(BIN)/coverage report --rcfile=setup.cfg
	@if [ "$(COVERED)" = tests ]; then \
		total=$$($(BIN)/coverage report --rcfile=setup.cfg --format=total) \
		&& sed -i "s/^Share of lines: .*/Share of lines: $$total %./" docs/figures.md; \
	fi

lint: .venv/.installed  ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m mypy

format: .venv/.installed  ## sort imports and format
	$(BIN)/ruff check --select I --fix
	$(BIN)/ruff format

# The engines that ours is measured against serve nothing else.
.venv/.installed-bench: .venv/.installed
	$(INSTALL) -e '.[dev,bench]'
	@touch $@

bench-index: .venv/.installed-bench  ## measure the index against other engines; options in BENCH_ARGS
	$(BIN)/python -m bench.index $(BENCH_ARGS)

bench-large: .venv/.installed-bench  ## measure ten million items with each engine, hours; fewer: BENCH_ARGS='--items 1000000'
	$(BIN)/python -m bench.large $(BENCH_ARGS)

bench-postgres: .venv/.installed-bench  ## measure an index on PostgreSQL beside one in a folder; options in BENCH_ARGS
	PYTHONPATH=tests $(BIN)/python -m bench.postgres $(BENCH_ARGS)

bench-beam: .venv/.installed-bench  ## measure embedding on Apache Beam with two workers beside embed alone
	$(BIN)/python -m bench.beam $(BENCH_ARGS)

bench-client: .venv/.installed-bench  ## measure the client and the embedded server against the official stubs
	$(BIN)/python -m bench.client $(BENCH_ARGS)

bench-images: .venv/.installed-bench  ## measure what image files cost by format and size, beside Pillow and a plain decode
	$(BIN)/python -m bench.images $(BENCH_ARGS)

bench-copies: .venv/.installed-bench  ## measure how often copies find their originals; options in BENCH_ARGS
	$(BIN)/python -m bench.copies $(BENCH_ARGS)

bench-latents: .venv/.installed-bench  ## measure what latents are worth: recipes, ablation, reverse search, photographs
	$(BIN)/python -m bench.latents $(BENCH_ARGS)

bench-train: .venv/.installed-bench  ## measure the speed of training
	$(BIN)/python -m bench.train $(BENCH_ARGS)

bench-web: .venv/.installed-bench  ## measure the service against the search in process
	$(BIN)/python -m bench.web $(BENCH_ARGS)

bench-trust: .venv/.installed-bench  ## measure how well the demo's index tells strangers from images like its own
	$(BIN)/python -m bench.trust $(BENCH_ARGS)

# Hours on a machine that does nothing else; one that breaks a promise does not end it. A trial: BENCH_ARGS=--quick
BENCHES ?= index client web images latents train postgres large
bench-all: .venv/.installed-bench  ## run all benchmarks that need nothing but data sets, one after the other
	@failed=''; for bench in $(BENCHES); do $(MAKE) bench-$$bench || failed="$$failed $$bench"; done; \
		[ -z "$$failed" ] || { echo "benchmarks with a broken promise:$$failed" >&2; exit 1; }

figures: .venv/.installed  ## draw docs/figures-over-versions.md from bench/results
	$(BIN)/python -m bench.over_versions

# What builds the pages serves nothing else.
.venv/.installed-docs: .venv/.installed
	$(INSTALL) -e '.[dev,docs]'
	@touch $@

docs: .venv/.installed-docs docs/reference/cli.md  ## build the documentation into build/site, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

docs/reference/cli.md: $(wildcard ae_search/cli/*.py ae_search/cli/index/*.py) | .venv/.installed
	$(BIN)/python -m typer ae_search.cli utils docs --name ae-search --title 'Command line' --output $@

check-wheel:  ## build the wheel, and search with it where there is no TensorFlow
	tools/check-wheel.sh "$(PYTHON)"

# atheris serves nothing else.
.venv/.installed-fuzz: .venv/.installed
	$(INSTALL) -e '.[dev,fuzz]'
	@touch $@

# The ten targets take ten minutes; one of them for longer: make fuzz FUZZ_TARGETS=parquet FUZZ_SECONDS=3600
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(notdir $(wildcard tests/fuzz/corpus/*))

# What a run finds new goes to .fuzz; what is worth keeping is moved to tests/fuzz/corpus by hand.
fuzz: .venv/.installed-fuzz  ## fuzz each parser of what strangers send; seconds for each in FUZZ_SECONDS
	@set -e; for target in $(FUZZ_TARGETS); do \
		mkdir -p .fuzz/$$target; \
		echo "$$target, $(FUZZ_SECONDS) s"; \
		$(BIN)/python tests/fuzz/run.py $$target .fuzz/$$target tests/fuzz/corpus/$$target \
			-max_total_time=$(FUZZ_SECONDS) -timeout=30 -rss_limit_mb=2048 -artifact_prefix=.fuzz/$$target- -verbosity=0; \
	done

clean-demo:  ## remove what the demo wrote
	rm -rf demo
