# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
ITEMS ?= 200
SEED ?= 1
OUT ?= out
POLICY ?= adaptive
RATE ?= 0.25
BUCKET ?= 4
LINK ?= light
FAULT ?= none
PAGE ?= 1
RECORD ?= 1
VIEW ?= 0
MODELS ?= $(OUT)/models
DATA ?=
REFERENCE ?=
DISTRO ?=
TESTS ?= test --ignore=test/lab
LAB_TESTS ?= test/lab
PYTEST_ARGS ?=
# Processes that share the tests of the product.
WORKERS ?= 2

setup_script := $(PYTHON) scripts/setup_environment.py $(if $(DISTRO),--distro $(DISTRO))
# Where DISTRO is set, scripts/env reads it too.
export DISTRO
env := scripts/env
# $(call quoted,TEXT): one word for the shell, whatever is in it, an apostrophe too.
quoted = '$(subst ','\'',$(1))'
# $(call given,NAME,flag): the flag with the variable's value, if the caller set the variable.
given = $(if $(filter command environment,$(firstword $(origin $(1)))),--$(2) $(call quoted,$($(1))))

.PHONY: help
help:  ## say what each command does
	@sed -nE 's/^([a-z0-9-]+):[^#]*## /\1\t/p' $(MAKEFILE_LIST) \
	    | awk -F '\t' '{ printf "  make %-14s %s\n", $$1, $$2 }'
	@echo
	@echo 'Variables of `make run`, with their defaults:'
	@echo '  ITEMS=$(ITEMS) SEED=$(SEED) OUT=$(OUT) POLICY=$(POLICY) RATE=$(RATE) BUCKET=$(BUCKET) LINK=$(LINK) FAULT=$(FAULT) PAGE=$(PAGE) RECORD=$(RECORD) VIEW=$(VIEW)'
	@echo 'PYTHON names the interpreter to build with (now: $(PYTHON)). Without a sourced ROS 2,'
	@echo 'DISTRO names the one to take as wheels: kilted (the default) or jazzy, each beside the other.'

.PHONY: setup
setup:  ## make .venv, install the locked wheels and build the messages
	@$(setup_script)

.PHONY: setup-lab
setup-lab:  ## the same, with torch and the laboratory: stl-conveyor train and bench
	@$(setup_script) --with laboratory

.PHONY: run
run: setup  ## run the simulated cell over DDS and write summary and report to OUT
	@$(env) python -m stl_conveyor.run --items $(ITEMS) --seed $(SEED) --out $(call quoted,$(OUT)) \
	    --policy $(POLICY) --rate $(RATE) --bucket $(BUCKET) --link $(call quoted,$(LINK)) --fault $(call quoted,$(FAULT)) \
	    $(if $(filter 0 no false,$(PAGE)),,--page) $(if $(filter 0 no false,$(RECORD)),,--record) \
	    $(if $(filter 0 no false,$(VIEW)),,--view)

.PHONY: lint
lint:  ## check style, format, types and the layers of the code
	@$(setup_script) --with test
	@$(env) python -m ruff check
	@$(env) python -m ruff format --check
	@$(env) python -m mypy
	@$(env) python -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'

.PHONY: test
test: lint  ## run the checks of lint and every test of the product (TESTS, PYTEST_ARGS narrow it down; WORKERS)
	@# What fails while other tests share the machine is tried once more by itself; both are shown.
	@$(env) python -m pytest -n $(WORKERS) --dist loadfile $(TESTS) $(PYTEST_ARGS) || \
	    { test $$? -eq 1 && echo 'Once more, alone:' && \
	      $(env) python -m pytest --last-failed --last-failed-no-failures none $(TESTS) $(PYTEST_ARGS); }
	@echo 'Left out: the tests of the laboratory, which need torch. Run them with `make test-lab`.'

.PHONY: test-lab
test-lab:  ## install torch and run the tests of the laboratory (LAB_TESTS, PYTEST_ARGS)
	@$(setup_script) --with test --with laboratory
	@$(env) python -m pytest $(LAB_TESTS) $(PYTEST_ARGS)

.PHONY: lock
lock:  ## write the locks in requirements/ from pyproject.toml; UPGRADE='name ...' renews versions
	@$(setup_script) --with lock
	@$(env) python scripts/lock_requirements.py $(if $(UPGRADE),--upgrade $(UPGRADE))

.PHONY: lock-check
lock-check:  ## check, with the network, that the locks say what pyproject.toml asks for
	@$(setup_script) --with lock
	@$(env) python scripts/lock_requirements.py --check

.PHONY: test-inference
test-inference:  ## test inference servers behind the edge, a real MLServer among them
	@$(setup_script) --with test --with inference
	@test -x build/mlserver/bin/mlserver || { $(PYTHON) -m venv build/mlserver && \
	    build/mlserver/bin/python -m pip install --quiet mlserver==1.7.1 onnxruntime; }
	@MLSERVER=$(call quoted,$(CURDIR)/build/mlserver/bin/mlserver) $(env) python -m pytest \
	    test/models/test_open_inference.py test/nodes/test_node_inference_servers.py $(PYTEST_ARGS)

.PHONY: test-arm64
test-arm64:  ## run what needs no ROS on an emulated 64-bit Arm, and compare packets and answers (root)
	@$(setup_script) --with test
	@$(env) python scripts/test_arm64.py

.PHONY: bench-cell
bench-cell: setup  ## measure sorting, deadlines and cost per item, over 500 items or ITEMS
	@$(env) python -m stl_conveyor_lab.bench.cell --out $(call quoted,$(OUT)) $(call given,ITEMS,items) \
	    $(call given,SEED,seed) $(call given,POLICY,policy) $(call given,RATE,rate) \
	    $(call given,BUCKET,bucket) $(call given,LINK,link)

.PHONY: bench-decision
bench-decision: setup  ## measure models, promises, strangers, offloading by cost and drift; DATA, MODELS, LANES: own items
	@$(env) python -m stl_conveyor_lab.bench.decision --out $(call quoted,$(OUT)) $(call given,DATA,data) \
	    $(call given,MODELS,models) $(foreach name,$(ONLY),--part '$(name)') \
	    $(foreach file,$(LANES),--lanes $(call quoted,$(file)))

.PHONY: bench-device
bench-device: setup  ## measure the device without physics, as one process and as five, over 500 items or ITEMS
	@$(env) python -m stl_conveyor_lab.bench.device --out $(call quoted,$(OUT)) $(call given,ITEMS,items) \
	    $(call given,DATA,data)

.PHONY: bench-edge
bench-edge: setup  ## replay recorded streams to the edge, for 10 to 70 cells or CELLS='50 60'; POOL=1: to three edges
	@$(env) python -m stl_conveyor_lab.bench.edge --out $(call quoted,$(OUT)) $(call given,SECONDS,seconds) \
	    $(if $(CELLS),--cells $(CELLS)) $(if $(POOL),--pool) $(call given,FLEET,fleet)

.PHONY: bench-network
bench-network: setup  ## run the cell over a shaped network link (root), over 150 items or ITEMS
	@$(env) python -m stl_conveyor_lab.bench.network --out $(call quoted,$(OUT)) $(call given,ITEMS,items) \
	    $(call given,SEED,seed)

.PHONY: bench-line
bench-line: setup  ## play what goes wrong on a real line, on the real nodes; ONLY='stop plc' plays some
	@$(env) python -m stl_conveyor_lab.bench.line --out $(call quoted,$(OUT)) $(foreach name,$(ONLY),--only '$(name)') \
	    $(call given,BEFORE,before) $(call given,REST,rest)

.PHONY: bench-faults
bench-faults: setup  ## do faults at random to a cell of real processes, over 2,000 items, ITEMS or HOURS
	@$(env) python -m stl_conveyor_lab.bench.faults --out $(call quoted,$(OUT)) $(call given,ITEMS,items) \
	    $(call given,HOURS,hours) $(call given,SEED,seed) $(call given,PERIOD,period) \
	    $(if $(RESUME),--resume)

.PHONY: soak
soak: setup  ## run a cell over 20,000 items or ITEMS, start it 100 times or STARTS, and see what grows
	@$(env) python -m stl_conveyor_lab.bench.faults.soak --out $(call quoted,$(OUT)) $(call given,ITEMS,items) \
	    $(call given,STARTS,starts)

.PHONY: bench-views
bench-views: setup  ## measure page and plant's interface on a running cell, over ITEMS items a run
	@$(env) python -m stl_conveyor_lab.bench.views --out $(call quoted,$(OUT)) $(call given,ITEMS,items)

.PHONY: bench-security
bench-security: setup  ## try on Cyclone DDS that every node may use what its policy says, and nothing else
	@$(setup_script) --with test
	@$(env) python -m stl_conveyor_lab.bench.security --out $(call quoted,$(OUT))

.PHONY: bench-codec
bench-codec: setup  ## measure accuracy against bytes on the images in DATA, with MODELS and REFERENCES
	@$(env) python -m stl_conveyor_lab.bench.codec --out $(call quoted,$(OUT)) $(call given,DATA,data) \
	    $(call given,MODELS,models) $(call given,REFERENCES,references) \
	    $(call given,IMAGES,images) $(call given,JOBS,jobs)

.PHONY: bench-policy
bench-policy: setup  ## compare the policies; REFERENCE: published curves, DATA: recorded items
	@$(env) python -m stl_conveyor_lab.bench.policy --out $(call quoted,$(OUT)) $(call given,REFERENCE,reference) \
	    $(call given,DATA,data)

.PHONY: train
train:  ## train all models on rendered items (hours): work in OUT, model folder in MODELS
	@$(setup_script) --with laboratory
	@$(env) python -m stl_conveyor_lab.train --work $(call quoted,$(OUT)) --models $(call quoted,$(MODELS))

.PHONY: train-items
train-items:  ## train models on the pictures in DATA: work in OUT, model folder in MODELS
	@$(setup_script) --with laboratory
	@$(env) scripts/stl-conveyor train $(call quoted,$(DATA)) --out $(call quoted,$(OUT)) --models $(call quoted,$(MODELS)) \
	    $(call given,MINUTES,minutes) $(call given,DEVICE,device)

# The site's tools know nothing of ROS, and live apart from what everything else runs in.
.venv-docs/bin/mkdocs: requirements/docs.txt
	@$(PYTHON) -m venv --clear .venv-docs && touch .venv-docs/COLCON_IGNORE
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

.PHONY: docs
docs: .venv-docs/bin/mkdocs  ## build the documentation as a site in build/site
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs --quiet build --strict
	@echo 'documentation: build/site/index.html'

.PHONY: world
world: setup  ## make the Gazebo world and its bridges from config/cell.yaml
	@$(env) python -m stl_conveyor.sim.gazebo_world

.PHONY: clean
clean:  ## remove what was made here: environment, build, results of runs
	rm -rf .venv .venv-* build install log out *.egg-info stl_conveyor_lab/*.egg-info .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
