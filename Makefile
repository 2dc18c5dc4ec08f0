# make demo    install, then fine-tune, search and deploy the default pipeline
# make demo-vision    the same for images: fetch a ViT and Fashion-MNIST, fine-tune, search and deploy
# make test    install with what tests need, then lint, type-check and test everything
# make optimum ARTIFACTS="..."    load artifacts with optimum-onnx and optimum-intel, in an environment of their own (2 GB)
# All install with pip as it is configured here (index, proxy, find-links).

PYTHON ?= python3
VENV ?= .venv
DEVICE ?= xeon-cpu
BUDGET ?= 20ms
VISION_BUDGET ?= 2ms
OPTIMUM_VENV ?= .venv-optimum
ARTIFACTS ?= $(dir $(wildcard artifacts/*/manifest.json))
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

define FETCH_VISION
$(BIN)/python -m benchmarks.vision.fashion --output runs/vision/fashion-mnist
$(BIN)/python -m benchmarks.vision.checkpoint --output runs/vision/vit-s14
endef

.PHONY: demo demo-vision test test-slow optimum benchmarks benchmarks-readme schema clean

demo: $(VENV)/installed
	$(BIN)/instatune-deploy --device $(DEVICE) --budget $(BUDGET)

demo-vision: $(VENV)/installed
	$(FETCH_VISION)
	$(BIN)/instatune-deploy --pipeline pipelines/fashion.yaml --device $(DEVICE) --budget $(VISION_BUDGET)

test: $(VENV)/installed-for-tests
	$(BIN)/python -m pytest

test-slow: $(VENV)/installed-for-tests
	$(BIN)/python -m pytest -m slow

optimum: $(OPTIMUM_VENV)/installed
	$(OPTIMUM_VENV)/bin/python tests/optimum/load.py $(ARTIFACTS)

# Everything the README quotes, measured anew. Let nothing else run meanwhile. HAT=FOLDER: where HAT's tables are.
benchmarks: $(VENV)/installed
	$(BIN)/python -m benchmarks.main.job
	for name in carve repeat neighbour throughput runtimes; do $(BIN)/python -m benchmarks.profile.$$name || exit 1; done
	$(BIN)/python -m benchmarks.finetune.cost
	for name in sharing peers macs; do $(BIN)/python -m benchmarks.finetune.$$name --members 2 || exit 1; done
	$(BIN)/python -m benchmarks.finetune.ablation --members 2
	for name in pool effort predictors budgets; do $(BIN)/python -m benchmarks.search.$$name || exit 1; done
	for name in embedding latency; do $(BIN)/python -m benchmarks.vision.$$name || exit 1; done
	for name in startup speedup peers promise; do $(BIN)/python -m benchmarks.artifact.$$name || exit 1; done
	$(FETCH_VISION)
	for name in cost sharing macs; do $(BIN)/python -m benchmarks.finetune.$$name --family vit --members 2 || exit 1; done
	for name in profile.carve search.pool search.predictors; do $(BIN)/python -m benchmarks.$$name --family vit || exit 1; done
	$(BIN)/python -m benchmarks.artifact.promise --family vit --profile xeon-cpu
	[ -z "$(HAT)" ] || $(BIN)/python -m benchmarks.search.hat --data $(HAT)
	$(MAKE) benchmarks-readme

benchmarks-readme: $(VENV)/installed
	$(BIN)/python -m benchmarks.readme

# The published form of manifest.json
schema: $(VENV)/installed
	$(BIN)/python -c "from instatune_deploy.artifact.manifest import json_schema; from instatune_deploy.files import write_json; from pathlib import Path; write_json(Path('instatune_deploy/artifact/manifest.schema.json'), json_schema())"

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --quiet --editable .
	touch $@

$(VENV)/installed-for-tests: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --quiet --editable '.[test]'
	touch $@ $(VENV)/installed

$(OPTIMUM_VENV)/installed: benchmarks/environments/optimum.txt
	$(PYTHON) -m venv $(OPTIMUM_VENV)
	$(OPTIMUM_VENV)/bin/python -m pip --disable-pip-version-check install --quiet -r $<
	touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) $(OPTIMUM_VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
