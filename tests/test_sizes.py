"""Limits on the entries and modules of the package and the sizes of its modules and functions, and
forbidden module names."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import cfai

PACKAGE_ENTRIES = 30
PACKAGE_MODULES = 225
MODULE_LINES = 600
LONG_MODULES = {"cfai.workers_ai": 860}
"""The client is one file, so that all of its methods stand together. Most of it is docstrings."""
FUNCTION_LINES = 40
PARAMETERS = 8

MANY_PARAMETERS = {
    "cfai.cli.chat.chat",
    "cfai.cli.embed.embed",
    "cfai.cli.serve.serve",
    "cfai.cohere.client.Cohere.__init__",
    "cfai.workers_ai.WorkersAI.__init__",
    "cfai.local.server.Server.__init__",
}
"""Constructors whose parameters are the settings, and commands whose parameters are the options."""

VAGUE_MODULE_NAMES = {"utils", "util", "helpers", "common", "base", "manager", "misc"}

ROOT = Path(cfai.__file__).parent
PATHS = sorted(ROOT.rglob("*.py"))

Function = ast.FunctionDef | ast.AsyncFunctionDef


def dotted(path: Path) -> str:
    return ".".join(("cfai", *path.relative_to(ROOT).with_suffix("").parts))


def functions(path: Path) -> Iterator[tuple[str, Function]]:
    """Every function and method of a module, with its full name."""

    def below(node: ast.AST, name: str) -> Iterator[tuple[str, Function]]:
        for child in ast.iter_child_nodes(node):
            inner = f"{name}.{getattr(child, 'name', '')}".rstrip(".")
            if isinstance(child, Function):
                yield inner, child
            yield from below(child, inner)

    yield from below(ast.parse(path.read_text()), dotted(path))


def lines_of_code(function: Function) -> int:
    """The lines of a body with code: docstrings, comments and blank lines do not count."""
    body = function.body
    if ast.get_docstring(function, clean=False) is not None:
        body = body[1:]
    return len({line for node in body for line in _lines(node)})


def _lines(node: ast.AST) -> Iterator[int]:
    for part in ast.walk(node):
        if isinstance(part, ast.stmt | ast.expr) and part.end_lineno is not None:
            yield from (part.lineno, part.end_lineno)


def parameters(function: Function) -> list[str]:
    arguments = function.args
    named = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    names = [argument.arg for argument in named]
    return [name for name in names if name not in {"self", "cls"}]


def test_the_package_stays_small() -> None:
    """Few entries at the top level, and few modules."""
    entries = [path.name for path in ROOT.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= PACKAGE_ENTRIES, sorted(entries)
    assert len(PATHS) <= PACKAGE_MODULES


@pytest.mark.parametrize("path", PATHS, ids=dotted)
def test_modules_are_short_and_documented(path: Path) -> None:
    """A module has one subject, a docstring that names it, and a meaningful name."""
    text = path.read_text()
    length = len(text.splitlines())
    assert length <= LONG_MODULES.get(dotted(path), MODULE_LINES)
    assert ast.get_docstring(ast.parse(text)), "a module needs a docstring"
    assert path.stem not in VAGUE_MODULE_NAMES


@pytest.mark.parametrize("path", PATHS, ids=dotted)
def test_functions_are_short(path: Path) -> None:
    """A function has few lines of code and few parameters."""
    for name, function in functions(path):
        assert lines_of_code(function) <= FUNCTION_LINES, f"{name} is too long"
        if name not in MANY_PARAMETERS:
            assert len(parameters(function)) <= PARAMETERS, f"{name} has too many parameters"
