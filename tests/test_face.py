"""The public face: what `import cfai` offers is complete, documented and the project's own."""

import ast
import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module, resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import cfai

ROOT = Path(cfai.__file__).parent

HTTP_LIBRARIES = {"aiohttp", "httpx", "yarl", "multidict"}
BROUGHT_ALONG = {("WorkersAI.__init__", "session"), ("Cohere.__init__", "session")}
"""The parameters that name an outside library: a session that the caller may bring along."""

NAMES = list(cfai.__all__)


def public_modules() -> list[str]:
    """Every module whose dotted name has no underscore in front of a part."""
    found = pkgutil.walk_packages(cfai.__path__, "cfai.", onerror=lambda name: None)
    names = [module.name for module in found if "._" not in module.name]
    return [name for name in names if not name.startswith(("cfai.cli", "cfai.local."))]


def test_the_names_are_sorted_and_listed() -> None:
    """`__all__` is in order, without doubles, and `dir` shows all of it."""
    assert sorted(NAMES) == NAMES
    assert len(set(NAMES)) == len(NAMES)
    assert set(NAMES) <= set(dir(cfai))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_and_documented(name: str) -> None:
    """Each name can be imported, says what it is, and is the same object every time."""
    thing = getattr(cfai, name)
    assert getattr(cfai, name) is thing
    if isinstance(thing, type) or callable(thing):
        assert inspect.getdoc(thing), f"{name} has no docstring"


@pytest.mark.parametrize("name", NAMES)
def test_every_public_method_is_documented(name: str) -> None:
    """So has every public method and property that the class itself defines."""
    thing = getattr(cfai, name)
    for attribute, value in vars(thing).items() if isinstance(thing, type) else ():
        if attribute.startswith("_") or not (callable(value) or isinstance(value, property)):
            continue
        assert inspect.getdoc(value), f"{name}.{attribute} has no docstring"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """A typing slip is answered like any module answers it."""
    with pytest.raises(AttributeError, match=r"module 'cfai' has no attribute 'WorkersAi'"):
        getattr(cfai, "WorkersAi")  # noqa: B009  # a checker would refuse the name


def test_the_checkers_see_what_python_sees() -> None:
    """The names handed on at run time are the names imported under `TYPE_CHECKING`."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    imported = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("cfai")
        for alias in node.names
        if alias.asname is not None
    }
    assert imported == set(NAMES)


def test_the_types_are_shipped() -> None:
    """Type checkers read the annotations of an installed cfai."""
    assert resources.files("cfai").joinpath("py.typed").is_file()


def test_the_version_is_a_version() -> None:
    """The installed version has the form of one."""
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z]+\d+)?", version("cfai"))


def signatures(thing: Any, name: str) -> Iterator[tuple[str, inspect.Signature]]:
    """The signature of a function, or of every public method of a class."""
    if not isinstance(thing, type):
        if inspect.isfunction(thing):
            yield name, inspect.signature(thing)
        return
    for attribute, value in vars(thing).items():
        function = value.fget if isinstance(value, property) else value
        function = getattr(function, "__func__", function)
        if inspect.isfunction(function) and (attribute == "__init__" or attribute[0] != "_"):
            yield f"{name}.{attribute}", inspect.signature(function)


@pytest.mark.parametrize("name", NAMES)
def test_http_libraries_stay_inside(name: str) -> None:
    """No signature names a type of an HTTP library, except the session one may bring along."""
    for where, signature in signatures(getattr(cfai, name), name):
        annotations = {key: value.annotation for key, value in signature.parameters.items()}
        for key, annotation in (annotations | {"return": signature.return_annotation}).items():
            words = set(re.findall(r"\w+", str(annotation)))
            if (where, key) not in BROUGHT_ALONG:
                assert not words & HTTP_LIBRARIES, f"{where}: {key} is {annotation}"


def _constants_first(name: str) -> tuple[bool, bool, str]:
    return not name.isupper(), not name[0].isupper(), name


@pytest.mark.parametrize("module", public_modules())
def test_public_modules_list_what_they_offer(module: str) -> None:
    """`__all__` is sorted, and every name of it is there; those right under `cfai` have one.

    Without it, `from cfai.errors import *` would give what the module itself imports.
    """
    loaded = import_module(module)
    names = list(getattr(loaded, "__all__", ()))
    only_a_docstring = len(ast.parse(Path(str(loaded.__file__)).read_text()).body) == 1
    assert names or only_a_docstring or module.count(".") > 1
    assert sorted(names, key=_constants_first) == names
    assert all(hasattr(loaded, name) for name in names)
