# make demo: the whole thing on this machine, with real servers and a real attack.  make test: every test.
# Both install what they need first; run as root on Debian 12 with Python 3.11.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLANG ?= clang-19
EXTRAS := collector,cli,agent,servers
BPF_SOURCES := $(wildcard agent/bpf/*.c agent/bpf/*.h)
BPF_OBJECTS := $(patsubst agent/bpf/%.bpf.c,agent/modelward_agent/bpf/%.bpf.o,$(wildcard agent/bpf/*.bpf.c))
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo test bench bpf proto proto-check lint unit kernel attacks benign e2e browser wheel install install-dev clean system-build system-test
.DEFAULT_GOAL := help

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

build/.system-build: deploy/packages.sh
	deploy/packages.sh build
	@mkdir -p build && touch $@

build/.system-test: deploy/packages.sh
	deploy/packages.sh test
	@mkdir -p build && touch $@

$(BIN)/python: build/.system-build
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

bpf: build/.system-build $(BPF_OBJECTS)  ## compile the kernel side

agent/modelward_agent/bpf/%.bpf.o: agent/bpf/%.bpf.c $(BPF_SOURCES)
	@mkdir -p $(@D)
	$(CLANG) -g -O2 -Wall -Werror -target bpf -mcpu=v3 -D__TARGET_ARCH_x86 -I agent/bpf -c $< -o $@

$(VENV)/.installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS),dev]'
	@touch $@

install: bpf $(VENV)/.installed  ## daemons and command, in .venv
install-dev: install build/.system-test $(VENV)/.installed-dev  ## and what the tests need

demo: install  ## the main job, told step by step (FRAMEWORK=torch, KEEP=1)
	$(BIN)/python -m deploy.demo $(if $(FRAMEWORK),--framework $(FRAMEWORK)) $(if $(KEEP),--keep)

proto: install-dev  ## generate proto/modelward_proto/v1 from proto/modelward/v1
	$(BIN)/python proto/generate.py

proto-check: install-dev  ## is the generated code what the .proto files make
	$(BIN)/python proto/generate.py --check

lint: install-dev  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: install-dev  ## what the hot paths cost, beside peers (needs root and a quiet machine)
	$(BIN)/python -m tests.bench

wheel: install-dev  ## the wheel, kernel objects inside
	$(BIN)/python -m build --wheel --outdir build/wheels

unit kernel attacks benign e2e browser: install-dev  ## one suite of tests
	$(BIN)/python -m pytest tests/$@

test: install-dev  ## everything CI runs
	MODELWARD_REQUIRE=all .ci/suites.sh

clean:  ## remove what was built
	rm -rf build $(VENV) agent/modelward_agent/bpf/*.o
