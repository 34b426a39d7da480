"""How large a thing may grow before it is two things, and words that name nothing."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import cfai

MODULE_LINES = 600
FUNCTION_LINES = 40
PARAMETERS = 8

MANY_PARAMETERS = {"cfai.workers_ai.WorkersAI.__init__", "cfai.cohere.client.Cohere.__init__"}
"""Constructors whose parameters are the settings themselves."""

NAMES_OF_NOTHING = {"utils", "util", "helpers", "common", "base", "manager", "misc"}

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
    """The lines of a body that hold code: no docstring, no comment, no blank line."""
    body = function.body
    if ast.get_docstring(function, clean=False) is not None:
        body = body[1:]
    return len({line for node in body for line in _lines(node)})


def _lines(node: ast.AST) -> Iterator[int]:
    for part in ast.walk(node):
        if isinstance(part, ast.stmt | ast.expr) and part.end_lineno is not None:
            yield from (part.lineno, part.end_lineno)


def parameters(function: Function) -> list[str]:
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return [name for name in names if name not in {"self", "cls"}]


@pytest.mark.parametrize("path", PATHS, ids=dotted)
def test_modules_are_short_and_say_what_they_hold(path: Path) -> None:
    """A module is one subject, opens with it, and its name is a noun that means something."""
    text = path.read_text()
    length = len(text.splitlines())
    assert length <= MODULE_LINES
    assert ast.get_docstring(ast.parse(text)), "a module opens with a sentence on what is in it"
    assert path.stem not in NAMES_OF_NOTHING


@pytest.mark.parametrize("path", PATHS, ids=dotted)
def test_functions_are_short(path: Path) -> None:
    """A function does one thing: few lines of code, few parameters."""
    for name, function in functions(path):
        assert lines_of_code(function) <= FUNCTION_LINES, f"{name} is too long"
        if name not in MANY_PARAMETERS:
            assert len(parameters(function)) <= PARAMETERS, f"{name} has too many parameters"
