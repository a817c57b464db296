"""Packages that can be called like functions: ``fer_edge.train(...)`` runs fer_edge.train.series.train."""

import inspect
import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def make_callable(package: str, module: str, function: str) -> None:
    """Let a package be called. Its function is imported at the first call, so importing the package stays fast.

    The package also gets the function's signature and docstring, which notebooks show.

    Args:
        package: Name of an imported package.
        module: Name of the module that defines the function.
        function: Name of the function.
    """

    class CallablePackage(ModuleType):
        def __call__(self, *args: Any, **options: Any) -> Any:
            return getattr(import_module(module), function)(*args, **options)

        @property
        def __signature__(self) -> inspect.Signature:
            return inspect.signature(getattr(import_module(module), function))

        @property
        def __doc__(self) -> str | None:  # type: ignore[override]
            return inspect.getdoc(getattr(import_module(module), function))

    sys.modules[package].__class__ = CallablePackage
