# `make demo` and `make test` are all the set-up there is: they make .venv themselves.

PYTHON ?= python3
# Installed before the project, so that a CPU build at hand is used and no CUDA libraries are pulled.
TORCH ?= torch==2.13.0
BUF ?= npx --yes @bufbuild/buf@1.75.0
# Of `make fuzz`: another one each time, printed at its start.
SEED := $(or $(SEED),$(shell od -An -N4 -tu4 /dev/urandom | tr -d ' '))

# Processes that run tests; each takes about a core and up to 1 GiB of memory.
WORKERS ?= 2

# Clients of others. Their environment sees what .venv has, and has its own versions of the rest.
INTEGRATIONS := .venv-integrations
CLIENTS := tests/gateway/integrations/requirements.txt tests/store/replicas/requirements.txt
# Lance and Arrow, beside .venv.
LAKE := .venv-lake
# Ray, beside .venv.
RAY := .venv-ray

BIN := .venv/bin
STAMP := .venv/.installed
# Idle threads of several processes would otherwise spin on cores that the others need. Tests start
# hundreds of processes, so what is compiled is kept, also where the environment says otherwise.
PYTEST := OMP_WAIT_POLICY=passive PYTHONDONTWRITEBYTECODE= \
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=worksteal
SOURCES := retrieval indexer training tests benchmarks examples proto docs clients

# The client is a distribution of its own that the project needs at its own version.
CLIENT := clients/python

.PHONY: help install demo test test-slow test-ocr test-integrations test-lake test-ray fuzz coverage check lint types imports proto-check stubs release-contract docs-check dist format docs clean

help:  ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

install: $(STAMP)  ## Make .venv with everything, the offline model included

$(STAMP): pyproject.toml $(CLIENT)/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 5))' \
		|| { echo "error: Python 3.11.5 or newer is needed; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/pip install --quiet --disable-pip-version-check \
		--editable ./$(CLIENT) --editable '.[offline,code,eval,bench,dev]'
	@touch $@

demo: $(STAMP)  ## Index docs/, serve it, ask three questions over gRPC, stop
	@$(BIN)/python examples/demo.py

test: $(STAMP)  ## Run the fast test suite; WORKERS=N sets the number of processes
	$(PYTEST)

test-slow: $(STAMP)  ## Run the slow tests too
	$(PYTEST) -m 'slow or not slow'

test-ocr: $(STAMP)  ## Install character recognition, which is large, and test it
	$(BIN)/pip install --quiet --editable ./$(CLIENT) --editable '.[ocr]'
	$(BIN)/pytest tests/indexer/parse/pdf/test_ocr.py

test-integrations: $(INTEGRATIONS)/.installed  ## Test with the programs of others, set up apart
	$(INTEGRATIONS)/bin/python -m pytest tests/gateway/integrations tests/gateway/mcp/integrations
	$(INTEGRATIONS)/bin/python -m pytest -m slow tests/store/replicas/test_s3.py

$(INTEGRATIONS)/.installed: $(STAMP) $(CLIENTS)
	$(BIN)/python -m venv $(INTEGRATIONS)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(INTEGRATIONS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ours.pth"
	$(INTEGRATIONS)/bin/pip install --quiet --disable-pip-version-check $(addprefix --requirement=,$(CLIENTS))
	@touch $@

test-lake: $(LAKE)/.installed  ## Install Lance apart, and test the store on Lance tables with it
	$(LAKE)/bin/python -m pytest --override-ini addopts='-q --strict-markers' \
		tests/store/lake tests/store/test_contract.py tests/store/filters \
		tests/indexer/ingest/test_lake.py

$(LAKE)/.installed: $(STAMP) pyproject.toml tests/store/replicas/requirements.txt
	$(BIN)/python -m venv $(LAKE)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(LAKE)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ours.pth"
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["lake"], sep="\n")' \
		> $(LAKE)/requirements.txt
	$(LAKE)/bin/pip install --quiet --disable-pip-version-check \
		--requirement=$(LAKE)/requirements.txt --requirement=tests/store/replicas/requirements.txt
	@touch $@

test-ray: $(RAY)/.installed  ## Install Ray apart, and test builds on clusters with it
	$(RAY)/bin/python -m pytest --override-ini addopts='-q --strict-markers' tests/indexer/ray

$(RAY)/.installed: $(STAMP) pyproject.toml
	$(BIN)/python -m venv $(RAY)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(RAY)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ours.pth"
	$(RAY)/bin/pip install --quiet --disable-pip-version-check \
		"$$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["ray"])')"
	@touch $@

fuzz: $(STAMP)  ## Draw new examples for the property tests, ten times as many; SEED=N repeats a run
	@echo "SEED=$(SEED)"
	$(PYTEST) -m 'drawn and not slow' --hypothesis-profile=fuzz --hypothesis-seed=$(SEED) --timeout=3600

coverage: $(STAMP)  ## Run the fast tests, and fail if they cover less than the floor in pyproject.toml
	$(BIN)/coverage erase
	$(PYTEST) --cov

check: lint types imports proto-check docs-check  ## Run every static check

lint: $(STAMP)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

proto-check: $(STAMP)
	cd proto && $(BUF) lint && $(BUF) breaking --against released.binpb
	$(BIN)/python proto/generate.py --check

docs-check: $(STAMP)
	$(BIN)/cog --check -P README.md docs/*.md

stubs: $(STAMP)  ## Regenerate the stubs from proto/
	$(BIN)/python proto/generate.py

release-contract:  ## Make today's contract the one that `make check` holds later ones against
	cd proto && $(BUF) build --exclude-source-info -o released.binpb

docs: $(STAMP)  ## Refresh the generated parts of the documentation
	$(BIN)/cog -r -P README.md docs/*.md

dist: $(STAMP)  ## Build source archives and wheels, also of the client, into dist/, and check all
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist $(CLIENT)
	$(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents --config $(CLIENT)/pyproject.toml dist/gte_retrieval_client-*.whl
	$(BIN)/check-wheel-contents dist/gte_retrieval-*.whl

format: $(STAMP)  ## Format the code
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean:  ## Remove .venv and everything that was made
	rm -rf .venv .venv-integrations .venv-lake .demo dist .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
