# groundwatch: `make help` lists what can be done here.
PYTHON ?= python3
VENV   := .venv
E2E    := .venv-e2e
UV     := $(VENV)/bin/uv
UV_VERSION := 0.13.9
# Flags for whatever a target runs, such as ARGS=--json for the demo, or ARGS="-n 0 -x" for tests one after the other.
ARGS   ?=
# Two test processes, a module's tests always in the same one; modules in their own order, which begins with the longest.
# Each process has a broker and a Postgres of its own.
PYTEST := $(VENV)/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=25
# Apache Kafka for the tests, fetched by Maven.
JARS   := .cache/kafka/pom.xml
# llama.cpp's image support and the library of its command-line programs are not used: half of what would compile.
export CMAKE_ARGS ?= -DLLAVA_BUILD=OFF "-DCMAKE_PROJECT_llama.cpp_INCLUDE=$(CURDIR)/.ci/llama.cmake"
export UV_LINK_MODE ?= copy
# Containers like to set this. The tests start hundreds of Python processes, and without bytecode on disk each compiles
# all that it imports anew: that was half of the processors' time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-unit test-kafka test-e2e fetch test-wheel check format lock bench clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[36m%-12s\033[0m %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## Make the virtual environment (compiles llama.cpp once: 3 to 6 minutes)

$(VENV)/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "groundwatch needs Python 3.11 or newer; name one with: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(VENV)/.ready: requirements-dev.lock pyproject.toml | $(VENV)/bin/uv
	@command -v c++ >/dev/null || { echo "a C++ compiler is needed for llama.cpp; on Debian and Ubuntu: apt-get install g++" >&2; exit 1; }
	@echo "Installing the locked environment into $(VENV) (the first time, llama.cpp compiles: 3 to 6 minutes) …" >&2
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --require-hashes -r requirements-dev.lock
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --editable .
	@touch $@

demo: setup ## Run the main job on real labelled traces, everything embedded (ARGS=--json for machines)
	@$(VENV)/bin/groundwatch demo $(ARGS)

up: setup ## Start everything embedded and keep it up until Ctrl-C
	@$(VENV)/bin/groundwatch up $(ARGS)

test: setup ## Run all tests on the embedded broker and Postgres
	$(PYTEST) $(ARGS)

test-unit: setup ## Run the unit tests only
	$(PYTEST) tests/unit $(ARGS)

test-kafka: setup $(JARS) ## Run the integration and fault tests on a real Apache Kafka (needs Java 17 and Maven)
	$(PYTEST) tests/integration tests/faults -m kafka --kafka=apache $(ARGS)

$(JARS): tests/kafka/pom.xml | setup
	@$(VENV)/bin/python -c 'from tests.kafka.server import fetch_jars; fetch_jars()'
	@touch $@

test-e2e: setup $(E2E)/.ready ## Run live LangChain and LlamaIndex services and guardrails, in an environment of their own, end to end
	GROUNDWATCH_E2E_PYTHON=$(CURDIR)/$(E2E)/bin/python GROUNDWATCH_GUARDRAILS_PYTHON=$(CURDIR)/$(E2E)/bin/python $(PYTEST) tests/e2e/test_live_services.py tests/e2e/test_guardrails.py $(ARGS)

$(E2E)/.ready: requirements-e2e.lock | $(VENV)/bin/uv
	@$(UV) venv --quiet --clear --python $(VENV)/bin/python $(E2E)
	@VIRTUAL_ENV=$(E2E) $(UV) pip install --quiet --require-hashes -r requirements-e2e.lock
	@touch $@

fetch: $(E2E)/.ready $(JARS) ## Fetch what test-e2e and test-kafka need

test-wheel: setup ## Build the wheel and use it outside the source tree
	@bash .ci/wheel

check: setup ## Lint, types and import rules
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: setup ## Format the code and mend what ruff can mend
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

lock: $(VENV)/bin/uv ## Resolve the dependencies anew into the lock files
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade --extra cpu --extra gguf --extra export pyproject.toml -o requirements.lock
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --extra gpu --extra gguf --extra export -c requirements.lock pyproject.toml -o deploy/requirements-gpu.lock
	$(VENV)/bin/python -c 'import tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; print(*extras["e2e"], *extras["guardrails"], sep="\n")' > $(E2E).in
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade $(E2E).in -o requirements-e2e.lock
	@rm $(E2E).in

bench: setup ## Print the pipeline's and the screen's figures on this machine
	@$(VENV)/bin/groundwatch bench screen
	@$(VENV)/bin/groundwatch bench pipeline

clean: ## Remove the environment and every cache
	rm -rf $(VENV) $(E2E) .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache dist
