"""Writes the stubs of the packages that load their names lazily: `python -m tests.stubs`.

It also writes the signatures of all public names and the options of all commands, so that no change
of them goes unnoticed.

The names are written by hand once, in the package's `__init__.py`. Type checkers can't follow that
table, so they read the stub beside it. `tests/test_public_names.py` checks that it is current.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import click

SIGNATURES = Path(__file__).parent / "data" / "signatures.txt"
COMMANDS = Path(__file__).parent / "data" / "commands.txt"

PUBLIC_MODULES = (
    "cfai", "cfai.cohere", "cfai.distributed", "cfai.embedding", "cfai.local", "cfai.media",
    "cfai.observers", "cfai.tasks", "cfai.telemetry", "cfai.testing", "cfai.web",
    "cfai.web.aiohttp", "cfai.web.asgi", "cfai.web.starlette",
)  # fmt: skip

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


def signatures_text() -> str:
    """How each public class, function and method is called, and what classes compare and show."""
    lines = []
    described = set()
    for package in PUBLIC_MODULES:
        module = import_module(package)
        for name in sorted(module.__all__):
            value = getattr(module, name)
            if not callable(value) or getattr(value, "__module__", "").partition(".")[0] != "cfai":
                continue
            if id(value) in described:  # `cfai` has the names of most modules, too.
                continue
            described.add(id(value))
            lines += [f"{package}.{line}" for line in _describe(name, value)]
    return "".join(f"{line}\n" for line in lines)


def _describe(name: str, value: Any) -> Iterator[str]:
    if not isinstance(value, type):
        yield f"{name}{_signature(value)}"
        return
    parts = [name if getattr(value, "_is_protocol", False) else f"{name}{_signature(value) or ''}"]
    kinds = {"__eq__": "compares", "__repr__": "shows", "__setattr__": "is frozen or checks"}
    own = [kinds[kind] for kind in kinds if getattr(value, kind) is not getattr(object, kind)]
    parts += [", ".join(own)] if own else []
    fields = attrs.fields(value) if attrs.has(value) else ()
    for kind in ("eq", "repr"):
        left_out = [field.name for field in fields if not getattr(field, kind)]
        parts += [f"no {kind}: {', '.join(left_out)}"] if left_out else []
    yield "; ".join(parts)
    for member, function in sorted(vars(value).items()):
        if not member.startswith("_") and inspect.isroutine(inspect.unwrap(function)):
            yield f"{name}.{member}{_signature(getattr(value, member))}"


def _signature(value: Any) -> str | None:
    """The parameters with their defaults; without the types, which type checkers compare."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return None
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    text = str(inspect.Signature(parameters))
    return re.sub(r"(Meta|Timeouts|Retries)\([^()]*\)|(?<= at) 0x[0-9a-f]+", r"\1()", text)


_USUAL: Mapping[str, object] = {
    "required": False,
    "multiple": False,
    "nargs": 1,
    "is_flag": False,
    "is_eager": False,
    "expose_value": True,
    "metavar": None,
    "default": None,
}
"""What is told of an argument or option of the command line, if it is not as usual."""


def commands_text() -> str:
    """The arguments and options of each command, with their types, bounds and defaults."""
    from cfai.cli import app

    lines = _describe_command("cfai", app, click.Context(app))
    return "".join(f"{line}\n" for line in lines)


def _describe_command(path: str, command: click.Command, context: click.Context) -> Iterator[str]:
    yield path
    for parameter in command.params:
        names = " ".join([*parameter.opts, *parameter.secondary_opts])
        kind = parameter.type
        parts = [names, repr(kind) if type(kind).__repr__ is not object.__repr__ else kind.name]
        for name, usual in _USUAL.items():
            value = getattr(parameter, name, usual)
            # click has an object for what is not given.
            if value is not None and value != usual and "Sentinel" not in repr(value):
                parts.append(f"{name}={value!r}")
        parts += [
            f"completes {item.type}"
            for item in parameter.shell_complete(context, "x")
            if item.type != "plain"
        ]
        yield f"{path}: {', '.join(parts)}"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            own = command.get_command(context, name)
            assert own is not None
            yield from _describe_command(f"{path} {name}", own, context)


def main() -> None:
    """Write all stubs, the signatures and the commands."""
    SIGNATURES.write_text(signatures_text(), encoding="utf-8")
    COMMANDS.write_text(commands_text(), encoding="utf-8")
    for package in PACKAGES:
        stub_path(package).write_text(stub_text(package), encoding="utf-8")


if __name__ == "__main__":
    main()
