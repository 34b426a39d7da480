"""Lazy exports: a package imports each of its public names when the name is first used (PEP 562).

Type checkers read the names from the stub beside the package's `__init__.py`, which
`python -m tests.stubs` writes.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def export(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return the `__getattr__`, `__dir__` and `__all__` of a package.

    Args:
        package: The package's `__name__`.
        modules: The names that each module provides, separated by spaces.
    """
    module_of = {name: module for module, names in modules.items() for name in names.split()}

    def load(name: str) -> Any:
        module = module_of.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(module), name)
        # From now on, the name is found without calling this.
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *module_of})

    return load, names, sorted(module_of)
