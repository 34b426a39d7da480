"""Conventions that no linter checks: in the tests, and in the vocabulary of the package."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

import cfai

from .test_layers import LAYERS

TESTS = Path(__file__).parent
TEST_PATHS = sorted(TESTS.rglob("*.py"))
PACKAGE_PATHS = sorted(Path(cfai.__file__).parent.rglob("*.py"))

SLEEP = re.compile(r"\bsleep\((?!0\))")
"""`sleep(0)` is allowed: it gives other tasks a turn and does not depend on the clock."""

VAGUE_NAMES = frozenset(
    ["told", "said", "heard", "asked", "found", "known", "begun", "whole", "kept", "made"]
)
"""Words that say nothing about the thing or the action."""

PUBLIC_VAGUE_NAMES = {"asked": "Call.asked", "known": "JobStats.known"}
"""The vague words that are public names, each bound once; no other may be added."""


@pytest.mark.parametrize("path", TEST_PATHS, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_sleeps(path: Path) -> None:
    """Tests wait for events; if time has to pass, the scripted service controls it."""
    text = path.read_text()
    if "import virtual_time" in text:
        return  # Its event loop has a virtual clock.
    for number, line in enumerate(text.splitlines(), 1):
        assert not SLEEP.search(line), f"{path.name}:{number} sleeps"


@pytest.mark.parametrize(
    ("call", "seconds", "sleeps"),
    [
        ("asyncio.sleep", "0.3", True),
        ("sleep", "delay", True),
        ("asyncio.sleep", "0", False),
        ("asleep", "1", False),
    ],
)
def test_what_counts_as_sleep(call: str, seconds: str, sleeps: bool) -> None:
    """The rule above detects violations."""
    assert bool(SLEEP.search(f"await {call}({seconds})")) == sleeps


def test_the_contributing_guide_has_all_layers() -> None:
    text = (TESTS.parent / "docs" / "contributing.md").read_text(encoding="utf-8")
    modules = {path.split("/")[0] for layer in LAYERS for path in layer} | {"local"}
    assert [module for module in sorted(modules) if f"`{module}`" not in text] == []


def bound_names(code: str) -> list[str]:
    """Every name that *code* binds: functions, classes, parameters, variables and attributes."""
    names: list[str | None] = []
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.append(node.name)
            case ast.Name(ctx=ast.Store()):
                names.append(node.id)
            case ast.Attribute(ctx=ast.Store()):
                names.append(node.attr)
            case ast.arg():
                names.append(node.arg)
            case ast.alias():
                names.append(node.asname)
            case ast.MatchAs() | ast.MatchStar():
                names.append(node.name)
            case ast.MatchMapping():
                names.append(node.rest)
    return [name for name in names if name]


def test_excerpts_are_not_cut_from_a_whole_repr() -> None:
    """A value can be large or nested deep: `format_value` reads only what it shows.

    The local server is independent of it, and limits the depth of what it reads.
    """
    paths = [path for path in PACKAGE_PATHS if "local" not in path.parts]
    cut = [path.name for path in paths if re.search(r"!r:\.\d", path.read_text())]
    assert not cut


def test_names_are_standard_terms() -> None:
    """No name in the package is a word that no reader can guess, but for two public ones."""
    names = (name.strip("_") for path in PACKAGE_PATHS for name in bound_names(path.read_text()))
    counts = Counter(name for name in names if name in VAGUE_NAMES)
    assert counts == Counter(PUBLIC_VAGUE_NAMES.keys()), counts


@pytest.mark.parametrize(
    "code",
    [
        "def said(): ...",
        "async def said(): ...",
        "class said: ...",
        "def f(said): ...",
        "said = 1",
        "self.said = 1",
        "for said in []: ...",
        "import x as said",
        "match x:\n case [*said]: ...",
        "match x:\n case {**said}: ...",
        "match x:\n case int() as said: ...",
    ],
)
def test_every_kind_of_binding_is_counted(code: str) -> None:
    assert "said" in bound_names(code)
