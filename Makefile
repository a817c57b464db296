# make demo: set up, then the whole job on synthetic faces (and on DATA=path). make test: set up, then all checks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?=
EPOCHS ?= 12
TREE := build/tree

.PHONY: demo test lint setup clean

# The package as it is installed, made of links: type checkers do not follow setup.cfg's package_dir.
define link_tree
	rm -rf $(TREE) && mkdir -p $(TREE)/fer_edge && cp -rs $(CURDIR)/cli/. $(TREE)/fer_edge/
	for stage in train convert edge_runtime benchmarks; do cp -rs $(CURDIR)/$$stage $(TREE)/fer_edge/$$stage; done
endef

setup: $(VENV)/done

$(VENV)/done: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("fer-edge needs Python 3.10 to 3.13; set PYTHON=... (this is %s)" % sys.version.split()[0] if not (3, 10) <= sys.version_info[:2] <= (3, 13) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[edge,train,convert,bench,dev]'
	touch $@

demo: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" DATA="$(DATA)" EPOCHS="$(EPOCHS)" sh benchmarks/demo.sh

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(link_tree)
	MYPYPATH=$(TREE) $(BIN)/mypy -p fer_edge

test: lint
	$(BIN)/pytest

clean:
	rm -rf $(VENV) build dist demo .cache *.egg-info
