# make run and make test do all set-up by themselves; both need Python 3.11+, make and a C compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
ARGS ?=

.PHONY: install run test bench lint clean

install: $(INSTALLED)

# The package is built without isolation, so that protoc has the pinned version: generated code must not be newer
# than the protobuf it runs on.
$(INSTALLED): pyproject.toml setup.py constraints.txt $(wildcard proto/*.proto)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) setuptools grpcio-tools
	$(PIP) --no-build-isolation -e '.[test]'
	touch $@

run: $(INSTALLED)
	mkdir -p data
	exec $(BIN)/volumed standalone -dir data -ip 127.0.0.1 -preStopSeconds 0 $(ARGS)

test: lint
	$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
