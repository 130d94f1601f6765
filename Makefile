# The two commands of the README, and what CI runs. Everything happens in .venv below this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test bench docs layer clean

demo: $(VENV)/.demo
	$(BIN)/spanwell demo

test:
	$(PYTHON) tests/run.py

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks --write

layer:
	$(PYTHON) lambda_layer/build.py

docs: $(VENV)/.test
	$(BIN)/python -m spanwell.settings > docs/settings.md

$(VENV)/.demo: pyproject.toml constraints/newest.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints/newest.txt -e '.[demo]'
	touch $@

$(VENV)/.test: pyproject.toml constraints/newest.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints/newest.txt -e '.[test]'
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) .envs dist build
