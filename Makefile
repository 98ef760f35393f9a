# For Linux, macOS and WSL. Without make: the pip commands in README.md do the same.

PYTHON ?= python3
SUBJECTS ?= 74
OUT ?= results
JOBS ?= -1
KEEP_DICOM ?=
REVIEW ?= OUT
SECOND ?=
TEST_JOBS ?= 2
BIN := .venv/bin
NOTEBOOKS := $(wildcard notebooks/*.ipynb)

# PyPI's PyTorch for Linux brings gigabytes of CUDA. This index has the build for the CPU, which is all that mrmyo needs.
# `make env TORCH_INDEX=` takes PyPI's instead; so does a pip that has been told where to look for packages.
ifeq ($(shell uname -s)$(PIP_INDEX_URL)$(PIP_FIND_LINKS),Linux)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
endif

.PHONY: help env reproduce test test-all lab page lint hooks system lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

env: .venv/.installed ## the environment in .venv, with the versions of requirements.lock (runs once)

.venv/.installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "mrmyo needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { \
	  rm -rf .venv; echo "On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Making the environment in .venv: some minutes, two gigabytes of disk. It happens once."
	$(call install-torch,$(BIN))
	$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements.lock -e ".[lab,dev]"
	@touch $@

install-torch = $(if $(TORCH_INDEX),$(1)/python -m pip install -q --disable-pip-version-check --no-deps --retries 1 \
  --timeout 30 --index-url $(TORCH_INDEX) -c requirements.lock torch || echo "$(TORCH_INDEX): no answer; taking PyPI's torch")

reproduce: env ## everything: the synthetic cohort, its measurement, the notebooks, the report. SUBJECTS=8 is the teaching size
	$(BIN)/mrmyo reproduce --subjects $(SUBJECTS) --out $(OUT) --jobs $(JOBS) $(if $(filter-out 0,$(KEEP_DICOM)),--keep-dicom)

test: env ## all tests but the slow ones, the notebooks among them. ARGS="-k dicom" goes to pytest
	$(BIN)/python -m pytest -m "not slow" -n $(TEST_JOBS) --dist loadfile $(ARGS)

test-all: env ## all tests
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile $(ARGS)

# JupyterLab asks the network for nothing, and the user no question about it: no news, no updates, no list of extensions
lab: env ## JupyterLab on the notebooks. ARGS=--allow-root for containers
	@$(BIN)/jupyter labextension disable --level=sys_prefix "@jupyterlab/apputils-extension:announcements" 2> /dev/null
	$(BIN)/jupyter lab --notebook-dir=notebooks --LabApp.news_url=None \
	  --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate --LabApp.extension_manager=readonly $(ARGS)

page: env ## the mask review of one processed study as a page without code. REVIEW=its output folder, SECOND=1 for a second reader
	@test -f "$(REVIEW)/structural.nii.gz" || { echo "REVIEW is to name a folder that mrmyo run left, found '$(REVIEW)'"; exit 1; }
	review=$$(realpath "$(REVIEW)") && cd notebooks && MRMYO_REVIEW="$$review" MRMYO_SECOND="$(SECOND)" \
	  ../$(BIN)/voila review_page.ipynb $(ARGS)

lint: env ## ruff; no outputs in the notebooks
	$(BIN)/ruff check .
	$(if $(NOTEBOOKS),$(BIN)/nbstripout --verify --keep-id $(NOTEBOOKS))

hooks: env ## let git run the linters before each commit
	$(BIN)/pre-commit install

SYSTEM := dicom3tools chromium dcm2niix dcmtk

system: ## tools that some tests need (Debian, Ubuntu)
	@if command -v dciodvfy > /dev/null && command -v chromium > /dev/null && \
	command -v dcm2niix > /dev/null && command -v dcmcjpeg > /dev/null; then exit 0; fi; \
	sudo=; test "$$(id -u)" = 0 || sudo=$$(command -v sudo || echo none); \
	if ! command -v apt-get > /dev/null || test "$$sudo" = none; then \
	  echo "Please install with your own means: $(SYSTEM)."; \
	  echo "Without them, the tests that need them are skipped."; exit 0; fi; \
	$$sudo apt-get update -qq && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(SYSTEM)

lock: ## resolve every version afresh, in an environment of its own, and write requirements.lock
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	$(call install-torch,build/lock/bin)
	build/lock/bin/python -m pip install -q --disable-pip-version-check ".[lab,dev]"
	@grep '^#' requirements.lock > build/requirements.lock
	build/lock/bin/python -m pip freeze --all --exclude mrmyo --exclude pip > build/freeze.txt
	@grep -v -i -E '^(cuda|nvidia|triton)' build/freeze.txt | sed -e 's/+[a-z0-9.]*$$//' | LC_ALL=C sort -f >> build/requirements.lock
	@if grep -n ' @ ' build/requirements.lock; then echo "These came from a file and cannot be pinned."; exit 1; fi
	mv build/requirements.lock requirements.lock && rm -rf build/lock build/freeze.txt

clean: ## remove the results and what the tools left behind; the environment stays
	rm -rf results build dist .pytest_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
