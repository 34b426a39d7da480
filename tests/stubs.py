"""Writes the stubs of the packages that load their names lazily: `python -m tests.stubs`.

The names are written by hand once, in the package's `__init__.py`. Type checkers can't follow that
table, so they read the stub beside it. `tests/test_public_names.py` checks that it is current.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

PACKAGES = ("cfai", "cfai.embedding", "cfai.local", "cfai.tasks")

_HEADER = """\
# Written by `python -m tests.stubs` from the table in `__init__.py`: change that, not this.
"""


def stub_path(package: str) -> Path:
    """The stub of a package."""
    return Path(str(import_module(package).__file__)).with_suffix(".pyi")


def stub_text(package: str) -> str:
    """What the stub of a package has to contain, formatted as ruff does."""
    module = import_module(package)
    exports: Mapping[str, str] = vars(module)["_EXPORTS"]
    lines = [_HEADER, *(_import(home, exports[home].split()) for home in sorted(exports))]
    names = "".join(
        f'    "{name}",\n'
        for name in sorted(module.__all__, key=lambda name: (not name[0].isupper(), name))
    )
    return "".join([*lines, f"\n__all__ = [\n{names}]\n"])


def _import(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(sorted(names, key=_isort_order))}\n"
    if len(line) <= 101:
        return line
    inner = "".join(f"    {name},\n" for name in sorted(names, key=_isort_order))
    return f"from {module} import (\n{inner})\n"


def _isort_order(name: str) -> tuple[bool, str]:
    """Classes before functions, in alphabetical order without regard to case."""
    return not name[0].isupper(), name.lower()


def main() -> None:
    """Write all stubs."""
    for package in PACKAGES:
        stub_path(package).write_text(stub_text(package), encoding="utf-8")


if __name__ == "__main__":
    main()
