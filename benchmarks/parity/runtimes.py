"""The runtimes that an app may use, where each is found, and how it is installed."""

import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec

from fer_edge.artifacts.tool_environment import ToolEnvironment

REFERENCE = "litert"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

TFLITE_RUNTIME = ToolEnvironment(
    "tflite-runtime",
    "the runtime of 32-bit boards",
    "PyPI",
    ("tflite-runtime==2.14.0", "numpy<2"),
    install_mb=75,
    pythons=("3.11", "3.10"),
)
MEDIAPIPE = ToolEnvironment("mediapipe", "MediaPipe Tasks for Python", "PyPI", ("mediapipe==1.2.3",), install_mb=450)
LITERT_JS = ToolEnvironment("litert-js", "LiteRT for browsers", "npm", ("@litertjs/core@2.5.3",), install_mb=40)
MEDIAPIPE_WEB = ToolEnvironment(
    "mediapipe-web", "MediaPipe Tasks for browsers", "npm", ("@mediapipe/tasks-vision@1.1.0",), install_mb=60
)
ENVIRONMENTS = {tool.name: tool for tool in (TFLITE_RUNTIME, MEDIAPIPE, LITERT_JS, MEDIAPIPE_WEB)}


@dataclass(frozen=True)
class Runtime:
    """A runtime.

    Attributes:
        adapter: Name of the function in worker.py or page.js that runs it.
        module: The Python module that it needs; None for a runtime in the browser.
        package: Name of the installed package, for its version.
        extra: What installs it into this environment; None if it has an environment of its own.
        environment: Its own environment; None if it is part of an extra.
    """

    adapter: str
    module: str | None
    package: str
    extra: str | None = None
    environment: ToolEnvironment | None = None

    def python(self) -> str | None:
        """Return the Python that can import the module: this one, otherwise that of its environment; None if none can."""
        if self.module is None:
            return None
        if find_spec(self.module.partition(".")[0]):
            return sys.executable
        return str(self.environment.python) if self.environment and self.environment.is_installed() else None

    def missing(self) -> str | None:
        """Return why the runtime cannot be used, and how to install it; None if it can be used."""
        if self.module is not None:
            found = self.python() is not None
        else:
            found = self.environment is not None and self.environment.is_installed()
        if not found:
            if self.environment:
                return f"not installed. Install it: fer-edge doctor --install {self.environment.name}"
            return f"not installed. Install it: pip install 'fer-edge[{self.extra}]'"
        if self.module is None and find_browser() is None:
            return f"no browser found (tried {', '.join(BROWSERS)}). Install one: apt install chromium"
        return None


RUNTIMES: dict[str, Runtime] = {
    REFERENCE: Runtime("interpreter", "ai_edge_litert.interpreter", "ai-edge-litert", extra="edge"),
    "compiled-model": Runtime("compiled_model", "ai_edge_litert.compiled_model", "ai-edge-litert", extra="edge"),
    "tensorflow": Runtime("tensorflow", "tensorflow", "tensorflow", extra="convert"),
    "tflite-runtime": Runtime("interpreter", "tflite_runtime.interpreter", "tflite-runtime", environment=TFLITE_RUNTIME),
    "mediapipe": Runtime("mediapipe", "mediapipe", "mediapipe", environment=MEDIAPIPE),
    "litert-js": Runtime("litert", None, "@litertjs/core", environment=LITERT_JS),
    "mediapipe-web": Runtime("mediapipe", None, "@mediapipe/tasks-vision", environment=MEDIAPIPE_WEB),
}


def find_browser() -> str | None:
    """Return the path of Chromium or Chrome, None if neither is installed."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def choose_runtimes(names: str) -> tuple[list[str], dict[str, str]]:
    """Return the runtimes that a user asked for.

    Args:
        names: ``all``, or names of RUNTIMES with commas.

    Returns:
        The names of those that can be used, the reference first; and what the others lack, by name.

    Raises:
        ValueError: If a name is unknown.
        RuntimeError: If a runtime that was named cannot be used.
    """
    wanted = list(RUNTIMES) if names == "all" else [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in RUNTIMES]
    if unknown:
        raise ValueError(f"unknown runtime '{unknown[0]}'; choose from: all, {', '.join(RUNTIMES)}")
    wanted = list(dict.fromkeys((REFERENCE, *wanted)))
    lacking = {name: reason for name in wanted if (reason := RUNTIMES[name].missing())}
    needed = [REFERENCE] if names == "all" else wanted
    for name in needed:
        if name in lacking:
            raise RuntimeError(f"{name}: {lacking[name]}")
    return [name for name in wanted if name not in lacking], lacking
