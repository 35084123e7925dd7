# headrace: `make` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PROCESSES ?= 2
LOCK := --universal --python-version 3.13 --generate-hashes --no-emit-index-url --no-header --quiet
SOURCES := connectors sources transforms streams sinks demo scripts benchmarks tests

# Tests start hundreds of processes that import the same modules. Without the bytecode cache, which some environments
# turn off, each of them compiles all modules first: 0.8 s of CPU time for every `headrace`.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-quick soak lint format docs lock pin bench clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Create the virtual environment and install everything into it

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "headrace needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[avro,fast,json-schema,postgres,protobuf,mysql,embedded,exploration,opentelemetry,reports,dev]'
	@touch $@

demo: setup ## Show real PostgreSQL, Kafka and Elasticsearch at work in the terminal (ARGS=--once, or exploration)
	@$(BIN)/python -m demo $(ARGS)

test: lint ## Everything: lint, types, contracts, unit, conformance, integration, system (ARGS are pytest's)
ifeq ($(strip $(ARGS)),)
	@# Each of the test processes starts engines of its own; the tests of one file run in one process.
	failed=0; \
	$(BIN)/python -m pytest tests/unit -n $(PROCESSES) --dist worksteal || failed=1; \
	$(BIN)/python -m pytest --ignore=tests/unit -n $(PROCESSES) --dist loadfile --no-loadscope-reorder || failed=1; \
	exit $$failed
else
	$(BIN)/python -m pytest $(ARGS)
endif

test-quick: setup ## Unit tests and import contracts, on two cores and with fewer examples: within a minute, no engine
	$(BIN)/lint-imports
	HEADRACE_TEST_PROFILE=quick $(BIN)/python -m pytest tests/unit -q -n 2 --dist worksteal $(ARGS)

soak: setup ## Rounds of faults against groups of workers and stream applications (ROUNDS=200, SEED=…): up to two hours
	HEADRACE_SOAK_ROUNDS=$(or $(ROUNDS),200) HEADRACE_SOAK_SEED=$(or $(SEED),20261130) $(BIN)/python -m pytest tests/system/test_group_soak.py -s
	HEADRACE_SOAK_ROUNDS=$(or $(ROUNDS),20) HEADRACE_SOAK_SEED=$(or $(SEED),20261130) $(BIN)/python -m pytest tests/system/test_stream_kills.py tests/system/test_experiment_kills.py tests/system/test_exactly_once_sources.py -s

lint: setup ## Ruff, mypy strict, import contracts, generated documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate_docs.py --check

format: setup ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## Write the generated pages of docs/
	$(BIN)/python scripts/generate_docs.py

lock: ## Write the versions and hashes of the image's Python packages (needs uv: pip install uv)
	uv pip compile pyproject.toml --extra avro --extra fast --extra json-schema --extra mysql --extra postgres --extra protobuf $(LOCK) -o requirements.lock
	echo 'hatchling>=1.27' | uv pip compile - $(LOCK) -o requirements-build.lock

pin: setup ## Pin the images of Dockerfile and docker-compose.yml by digest (needs access to their registries)
	$(BIN)/python -m scripts.pin_images $(ARGS)

bench: setup ## Measure every path against its limit, in one table (ARGS=--quick, or names of paths)
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
