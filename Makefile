# Verbs: demo, test, bench, plans, faults, soak, mutants, lint, fix, docs, lock, snap, clean. Each makes .venv from requirements/dev.txt when it is missing or out of date.
# The distribution's own where it will do: one that somebody built for themselves is often slower by a third.
PYTHON ?= $(shell /usr/bin/python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
            && echo /usr/bin/python3 || echo python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Else every command that a test runs compiles everything anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test bench plans faults soak soak-model soak-service mutants lint fix docs lock snap clean

help:           ## this list
	@sed -n 's/^\([a-z-]*\): .*## /\1\t/p' $(MAKEFILE_LIST)

$(STAMP): requirements/dev.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)  ## the whole loop on an embedded PostgreSQL and a stand-in Immich
	@$(BIN)/immich-dbsync demo

test: $(STAMP)  ## every test but the long ones, on real PostgreSQL servers, one worker for each core
	$(BIN)/python -m pytest -n 4 --dist=worksteal -m "not long" $(PYTEST)

bench: $(STAMP) ## how fast it is, each figure beside a floor of the same run; ONLY=name for a part, BENCH="--json FILE"
	@$(BIN)/python -m tests.bench $(addprefix --only ,$(ONLY)) $(BENCH)

plans: $(STAMP) ## every statement of the service at a million rows: does it read only what it needs?
	$(BIN)/python -m pytest tests/integration/test_plans.py $(PYTEST)

faults: $(STAMP) ## everything that can go wrong, the long ones too, with a table of what was survived
	$(BIN)/python -m pytest -n 4 --dist=worksteal tests/faults $(PYTEST)

soak: soak-model soak-service ## both of these

soak-model: $(STAMP) ## 5,000 random examples of deeds on both sides, from another seed each time
	MODEL_EXAMPLES=5000 MODEL_FIRST=$${MODEL_FIRST:-$$(date +%s)} \
	  $(BIN)/python -m pytest -n 4 --dist=worksteal tests/model

soak-service: $(STAMP) ## the service as a process for an hour, with faults on both sides
	$(BIN)/python -m tests.faults.soak $(SOAK)

mutants: $(STAMP) ## take out each guard of a removal in turn; a test has to miss it
	$(BIN)/python -m tests.mutation.run

docs: $(STAMP)  ## write docs/settings.md and docs/commands.md from the program
	$(BIN)/python -m tests.docs.settings_page
	$(BIN)/python -m tests.docs.commands_page

lint: $(STAMP)  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(STAMP)   ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(STAMP)  ## pin anew; needs uv; the files name no index
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --upgrade pyproject.toml -o requirements/service.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --upgrade --extra demo --group dev \
	  -c requirements/service.txt pyproject.toml -o requirements/dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --group build -c requirements/dev.txt -o requirements/build.txt

snap: $(STAMP)  ## pack the snap into dist/; for its base where python3.12 is here, else to try it out
	$(BIN)/python snap/make.py

clean:          ## remove what make made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
