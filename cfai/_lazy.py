"""Packages whose names are loaded when they are first asked for (PEP 562)."""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any


class Face:
    """Hands on the names of a package, each from its module, and keeps what it handed on.

    Args:
        package: The package's `__name__`.
        homes: The names of each module, with spaces between them.
    """

    def __init__(self, package: str, homes: Mapping[str, str]) -> None:
        self._package = package
        self._modules = {name: home for home, names in homes.items() for name in names.split()}

    def load(self, name: str) -> Any:
        """Give the value of a name: the package's `__getattr__`."""
        module = self._modules.get(name)
        if module is None:
            raise AttributeError(f"module {self._package!r} has no attribute {name!r}")
        value = getattr(import_module(module), name)
        setattr(sys.modules[self._package], name, value)
        return value

    @property
    def names(self) -> list[str]:
        """The names, sorted: for `__all__`."""
        return sorted(self._modules)

    def listed(self) -> list[str]:
        """The names and what else the package holds: its `__dir__`."""
        return sorted({*vars(sys.modules[self._package]), *self._modules})
