"""The public names of `cfai`: complete, documented, and free of other libraries' types."""

import ast
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module, resources
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

import cfai
from cfai import cohere

from .stubs import PACKAGES, SIGNATURES, signatures_text, stub_path, stub_text

HTTP_LIBRARIES = {"aiohttp", "httpx", "yarl", "multidict"}
PASSED_SESSIONS = {("WorkersAI.__init__", "session"), ("Cohere.__init__", "session")}
"""The parameters whose type is of an HTTP library: a session that the caller may pass."""

NAMES = list(cfai.__all__)


def public_modules() -> list[str]:
    """Every module without an underscore before a part of its name."""
    modules = pkgutil.walk_packages(cfai.__path__, "cfai.", onerror=lambda name: None)
    names = [module.name for module in modules if "._" not in module.name]
    return [name for name in names if not name.startswith(("cfai.cli", "cfai.local."))]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_and_documented(name: str) -> None:
    """Each name can be imported, has a docstring, and is the same object every time."""
    thing = getattr(cfai, name)
    assert getattr(cfai, name) is thing
    if isinstance(thing, type) or callable(thing):
        assert inspect.getdoc(thing), f"{name} has no docstring"


@pytest.mark.parametrize("name", NAMES)
def test_every_public_method_is_documented(name: str) -> None:
    """Every public method and property that a class defines has a docstring."""
    thing = getattr(cfai, name)
    for attribute, value in vars(thing).items() if isinstance(thing, type) else ():
        if attribute.startswith("_") or not (callable(value) or isinstance(value, property)):
            continue
        assert inspect.getdoc(value), f"{name}.{attribute} has no docstring"


def test_no_signature_changes_unnoticed() -> None:
    """Parameters, their order, which are named, and defaults; what classes compare and show.

    A change breaks programs: write it into the changelog, and run `python -m tests.stubs`.
    """
    expected = SIGNATURES.read_text(encoding="utf-8").splitlines()
    current = signatures_text().splitlines()
    assert sorted(set(current) - set(expected)) == sorted(set(expected) - set(current)) == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The message is that of any module."""
    with pytest.raises(AttributeError, match=r"module 'cfai' has no attribute 'WorkersAi'"):
        getattr(cfai, "WorkersAi")  # noqa: B009  # a checker would refuse the name


@pytest.mark.parametrize("package", PACKAGES)
def test_the_stub_is_current(package: str) -> None:
    """Type checkers see the names that Python sees: if not, run `python -m tests.stubs`."""
    assert stub_path(package).read_text(encoding="utf-8") == stub_text(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_freezing_tools_find_every_module(package: str) -> None:
    """They follow import statements, also those that are never executed, and no tables."""
    module = import_module(package)
    statements = ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")))
    imported = {
        f"{node.module}.{alias.name}"
        for node in statements
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(vars(module)["_EXPORTS"]) <= imported


@pytest.mark.parametrize("package", PACKAGES)
def test_a_lazy_package_lists_each_name_once(package: str) -> None:
    """The names are in order, without duplicates, and `dir` shows all of them."""
    names = import_module(package).__all__
    assert sorted(set(names)) == names
    assert set(names) <= set(dir(import_module(package)))


def test_the_types_are_shipped() -> None:
    """Type checkers read the annotations of an installed cfai."""
    assert resources.files("cfai").joinpath("py.typed").is_file()


def test_the_version_is_a_version() -> None:
    """The version has the form of one."""
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z]+\d+)?", cfai.__version__)


WITHOUT_METADATA = """
import asyncio, importlib.metadata

def fail(name):
    raise importlib.metadata.PackageNotFoundError(name)

importlib.metadata.distribution = importlib.metadata.version = fail

from cfai import Prompt, __version__, cli
from cfai.testing import FakeWorkersAI

async def main():
    async with FakeWorkersAI() as fake:
        fake.answers({"response": "Hi"})
        await fake.client().run("@cf/any/model", Prompt("Hi"))
        assert fake.requests[0].headers["User-Agent"] == f"cfai/{__version__}"

asyncio.run(main())
cli.app(["--version"])
"""


def test_the_version_needs_no_metadata() -> None:
    """Frozen applications and vendored copies have no metadata of the distribution."""
    command = [sys.executable, "-W", "error", "-c", WITHOUT_METADATA]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"cfai {cfai.__version__}\n"


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
    """No signature names a type of an HTTP library, except for a session that the caller passes."""
    for where, signature in signatures(getattr(cfai, name), name):
        annotations = {key: value.annotation for key, value in signature.parameters.items()}
        for key, annotation in (annotations | {"return": signature.return_annotation}).items():
            words = set(re.findall(r"\w+", str(annotation)))
            if (where, key) not in PASSED_SESSIONS:
                assert not words & HTTP_LIBRARIES, f"{where}: {key} is {annotation}"


def _constants_first(name: str) -> tuple[bool, bool, str]:
    return not name.isupper(), not name[0].isupper(), name


@pytest.mark.parametrize("module", public_modules())
def test_public_modules_have_all(module: str) -> None:
    """`__all__` is sorted and its names exist. Every module directly under `cfai` has one.

    Without it, `from cfai.errors import *` would export the module's own imports.
    """
    loaded = import_module(module)
    names = list(getattr(loaded, "__all__", ()))
    only_a_docstring = len(ast.parse(Path(str(loaded.__file__)).read_text()).body) == 1
    assert names or only_a_docstring or module.count(".") > 1
    assert sorted(names, key=_constants_first) == names
    assert all(hasattr(loaded, name) for name in names)


# Arguments

# Required arguments are positional, and optional ones are passed by name. These are the exceptions,
# mostly fields of answers, which programs only read. To add one, add it at the end of its class.
POSITIONAL = {
    "ChoiceDecision": "probabilities confidence",
    "Conversation": "messages",
    "DateField": "instructions",
    "DateTimeField": "instructions",
    "Decisions": "unread model usage",
    "Description": "finish_reason",
    "Detections": "items",
    "DurationField": "instructions",
    "EmbeddedBatch": "usage texts",
    "Embeddings": "pooling usage",
    "Estimate": "value mean median p10 p90 p_below p_above quantiles",
    "EstimateField": "instructions",
    "ExtractedField": (
        "guess p_null confidence span source spans confidences unit estimate steps raw"
    ),
    "Extraction": "unread truncated state_text model usage",
    "ForecastField": "instructions",
    "Function": "parameters",
    "Labels": "items",
    "ListField": "instructions",
    "Meta": (
        "status ray_id request_id attempts elapsed rate_limit rate_limit_policy "
        "gateway_log_id cache_status media_type backend neurons gateway_request_id "
        "gateway_event_id gateway_run_id gateway_step routed_model routing_reason "
        "routing_decision_id model"
    ),
    "Noul": "criteria",
    "NumberField": "instructions",
    "Price": "unit currency",
    "Ranked": "text",
    "Ranking": "items",
    "ResponseFormat": "type",
    "ScoreDecision": "probabilities legend confidence",
    "Segment": "start end words",
    "Spent": "neurons calls unreported",
    "SpokenWord": "start end",
    "Text": "text parsed tool_calls reasoning finish_reason usage",
    "TextField": "instructions",
    "TimeField": "instructions",
    "Token": "text reasoning tool_calls finish_reason usage raw",
    "Tool": "parameters",
    "ToolCall": "arguments id",
    "ToolCallDelta": "index id name arguments",
    "ToolOutcome": "open_calls",
    "Transcript": "vtt word_count words segments info",
    "Usage": "prompt_tokens completion_tokens total_tokens cached_tokens reasoning_tokens neurons",
    "Word": "start end",
}


@pytest.mark.parametrize("module", [cfai, cohere])
def test_optional_arguments_are_passed_by_name(module: ModuleType) -> None:
    """A program that passes them by position would break when a field is added before them."""
    positional = {
        name: " ".join(
            field.alias or field.name
            for field in attrs.fields(kind)
            if field.init and not field.kw_only and field.default is not attrs.NOTHING
        )
        for name in module.__all__
        if attrs.has(kind := getattr(module, name))
    }
    named = {name: POSITIONAL[name] for name in positional if name in POSITIONAL}
    assert {name: fields for name, fields in positional.items() if fields} == named
