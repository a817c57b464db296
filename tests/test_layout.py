import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"artifacts", "train", "convert", "edge_runtime", "deploy", "benchmarks", "models", "web"}


def package_of(folder):
    parts = folder.relative_to(ROOT).parts
    return ".".join(["fer_edge", *(parts[1:] if parts[0] == "cli" else parts)])


def test_setup_cfg_lists_every_folder_that_is_a_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    folders = [ROOT / name for name in (*PACKAGES, "cli")]
    found = {package_of(path.parent) for folder in folders for path in folder.rglob("__init__.py")}
    assert listed == found


@pytest.mark.parametrize("stage", sorted(PACKAGES | {"cli"}))
def test_a_stage_rejects_to_be_imported_under_its_bare_name(stage):
    done = subprocess.run([sys.executable, "-c", f"import {stage}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    name = "fer_edge" if stage == "cli" else f"fer_edge.{stage}"
    assert f"import {name}, not {stage}" in done.stderr


@pytest.mark.parametrize("package", ["artifacts", "edge_runtime"])
def test_a_board_package_imports_with_the_standard_library_and_numpy_alone(package):
    code = f"""
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in sys.stdlib_module_names and top not in ("numpy", "fer_edge"):
            raise ImportError(name + " is not allowed here")
sys.meta_path.insert(0, Wall())
import pkgutil, importlib, fer_edge.{package} as root
names = [module.name for module in pkgutil.walk_packages(root.__path__, root.__name__ + ".")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules = [path for path in (ROOT / package).rglob("*.py") if path != ROOT / package / "__init__.py"]
    assert int(done.stdout) == len(modules)


def test_the_board_imports_no_slow_modules_of_the_standard_library_until_they_are_used():
    slow = {"ssl", "email", "http.client", "asyncio", "cv2"}
    code = f"import sys, fer_edge.edge_runtime; print(sorted({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_help_imports_neither_numpy_nor_keras():
    code = "import sys; from fer_edge.main import main; main(['--help'], standalone_mode=False); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = ast.literal_eval(done.stdout.splitlines()[-1])
    assert not {"numpy", "keras", "tensorflow", "rich", "cv2"} & set(modules)
