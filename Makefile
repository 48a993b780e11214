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
MODELS ?= $(OUT)/models
DATA ?=
REFERENCE ?=
TESTS ?= test
PYTEST_ARGS ?=

setup_script := $(PYTHON) scripts/setup_environment.py
env := scripts/env
# $(call given,NAME,flag): the flag with the variable's value, if the caller set the variable.
given = $(if $(filter command environment,$(firstword $(origin $(1)))),--$(2) '$($(1))')

.PHONY: help
help:  ## say what each command does
	@sed -nE 's/^([a-z-]+):[^#]*## /\1\t/p' $(MAKEFILE_LIST) \
	    | awk -F '\t' '{ printf "  make %-14s %s\n", $$1, $$2 }'
	@echo
	@echo 'Variables of `make run`, with their defaults:'
	@echo '  ITEMS=$(ITEMS) SEED=$(SEED) OUT=$(OUT) POLICY=$(POLICY) RATE=$(RATE) BUCKET=$(BUCKET) LINK=$(LINK) FAULT=$(FAULT)'
	@echo 'PYTHON names the interpreter to build with (now: $(PYTHON)).'

.PHONY: setup
setup:  ## make .venv, install the pinned wheels and build the messages
	@$(setup_script)

.PHONY: run
run: setup  ## run the simulated cell over DDS and write summary and report to OUT
	@$(env) python -m stl_conveyor.run --items $(ITEMS) --seed $(SEED) --out '$(OUT)' \
	    --policy $(POLICY) --rate $(RATE) --bucket $(BUCKET) --link '$(LINK)' --fault '$(FAULT)'

.PHONY: lint
lint:  ## check the style of the Python code
	@$(setup_script) --with test
	@$(env) python -m flake8

.PHONY: test
test: lint  ## run the style checks and every test (TESTS and PYTEST_ARGS narrow it down)
	@$(env) python -m pytest $(TESTS) $(PYTEST_ARGS)

.PHONY: bench-cell
bench-cell: setup  ## measure sorting, deadlines and cost per item, over 500 items or ITEMS
	@$(env) python -m stl_conveyor_lab.bench.cell --out '$(OUT)' $(call given,ITEMS,items) \
	    $(call given,SEED,seed) $(call given,POLICY,policy) $(call given,RATE,rate) \
	    $(call given,BUCKET,bucket) $(call given,LINK,link)

.PHONY: bench-network
bench-network: setup  ## run the cell over a shaped network link (root), over 150 items or ITEMS
	@$(env) python -m stl_conveyor_lab.bench.network --out '$(OUT)' $(call given,ITEMS,items) \
	    $(call given,SEED,seed)

.PHONY: bench-codec
bench-codec: setup  ## measure accuracy against bytes on the images in DATA, with MODELS and REFERENCES
	@$(env) python -m stl_conveyor_lab.bench.codec --out '$(OUT)' $(call given,DATA,data) \
	    $(call given,MODELS,models) $(call given,REFERENCES,references) \
	    $(call given,IMAGES,images) $(call given,JOBS,jobs)

.PHONY: bench-policy
bench-policy: setup  ## compare the policies; REFERENCE: published curves, DATA: recorded items
	@$(env) python -m stl_conveyor_lab.bench.policy --out '$(OUT)' $(call given,REFERENCE,reference) \
	    $(call given,DATA,data)

.PHONY: train
train:  ## train all models on rendered items (hours): work in OUT, model folder in MODELS
	@$(setup_script) --with training
	@$(env) python -m stl_conveyor_lab.train --work '$(OUT)' --models '$(MODELS)'

.PHONY: train-items
train-items:  ## train models on the pictures in DATA: work in OUT, model folder in MODELS
	@$(setup_script) --with training
	@$(env) scripts/stl-conveyor train '$(DATA)' --out '$(OUT)' --models '$(MODELS)' \
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
	rm -rf .venv .venv-docs build install log out .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
