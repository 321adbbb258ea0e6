# `make run` and `make test` do their whole set-up themselves: they need python3 (3.11 to 3.13) and make, nothing before.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: run test soak lint format screenshots bundle lock audit clean

run: $(READY)
	$(BIN)/python -m app

test: lint
	QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest

# Some thousand new inputs for every fuzzer of tests/faults/.
soak: $(READY)
	NIBBLE_FUZZ=50 QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest tests/faults -k fuzz --timeout 7200

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screenshots: $(READY)
	QT_QPA_PLATFORM=offscreen $(BIN)/python -m tests.screenshots build/screenshots

bundle: $(READY)
	$(BIN)/pyinstaller --noconfirm build.spec

# Both need the network. The first renews the hashes of what constraints.txt names, for every platform; the second asks
# which of it has known vulnerabilities, and fails where it gets no answer.
lock:
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	build/lock/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --all-extras \
		--constraints constraints.txt --output-file requirements.lock pyproject.toml

audit:
	$(PYTHON) -m venv --clear build/audit
	build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	build/audit/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off --requirement requirements.lock

# Nothing is installed but what has the hash that requirements.lock names; Nibble itself is built by what is there then.
$(READY): pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "Nibble needs Python 3.11, 3.12 or 3.13; this is %d.%d. Say which with: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $(READY)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
