# `make run` and `make test` do their whole set-up themselves: they need python3 (3.11 to 3.13) and make, nothing before.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: run test lint format screenshots bundle mac-wheels icon clean

run: $(READY)
	$(BIN)/python -m app

test: lint
	QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest

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
	$(BIN)/pyinstaller --noconfirm --log-level WARN build.spec

# Needs the network. Renews what tests know of the wheels that Macs get, and the licences that come with the app.
mac-wheels: $(READY)
	$(BIN)/python -m tests.mac.wheels build/mac-wheels
	$(BIN)/python -m tests.mac.licences build/mac-wheels

icon: $(READY)
	QT_QPA_PLATFORM=offscreen $(BIN)/python -m tests.mac.icon

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "Nibble needs Python 3.11, 3.12 or 3.13; this is %d.%d. Say which with: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,build]'
	touch $(READY)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
