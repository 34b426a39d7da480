"""Writes the tables of fields, options, names and codes in these pages, from the code itself.

A table stands between `<!-- table: KIND NAMES -->` and `<!-- end of table -->`. `python
docs/tables.py` writes all of them anew; with `--check` it only fails if one is out of date.
"""

import ast
import inspect
import re
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs

from cfai._session.retries import should_retry
from cfai.errors import status_error
from cfai.local.tasks import LOCAL_TASKS
from cfai.local.weights import BY_TASK
from cfai.tasks import Rule, rules

ROOT = Path(__file__).parents[1]
TABLE = re.compile(
    r"^<!-- table: (?P<kind>fields|options|names|codes|local) (?P<names>.+?) -->\n"
    r".*?^<!-- end of table -->$",
    re.MULTILINE | re.DOTALL,
)


def lookup(path: str) -> Any:
    """The object that a dotted path below `cfai` names."""
    module, _, name = f"cfai.{path}".rpartition(".")
    return getattr(import_module(module), name)


def cell(text: str) -> str:
    """A docstring's text as the text of one table cell: `*name*` marks a parameter there."""
    text = re.sub(r"(?<![\w*])\*([\w.]+)\*(?![\w*])", r"`\1`", " ".join(text.split()))
    return text.replace("|", "\\|")


@cache
def field_docs(cls: type) -> dict[str, str]:
    """The docstring under each field of a class, base classes included."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not isinstance(base, type) or not base.__module__.startswith("cfai"):
            continue
        tree = ast.parse(Path(inspect.getfile(base)).read_text())
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == base.__name__:
                docs |= _documented(node)
    return docs


def _documented(node: ast.ClassDef) -> dict[str, str]:
    docs = {}
    for field, following in zip(node.body, [*node.body[1:], ast.Pass()], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        docs[field.target.id] = ""
        match following:
            case ast.Expr(value=ast.Constant(value=str(text))):
                docs[field.target.id] = text
    return docs


def accepted(rule: Rule) -> str:
    """What a field accepts, in a few words."""
    if rule.choices:
        return ", ".join(f"`{choice}`" for choice in rule.choices)
    words: list[str] = [rule.kind]
    if rule.min_items and rule.max_items:
        words.append(f"{rule.min_items} to {rule.max_items} items")
    elif rule.max_items:
        words.append(f"at most {rule.max_items} items")
    words += _bounds(rule)
    if rule.min_length:
        words.append(f"{rule.min_length} character or more")
    if rule.min_items and not rule.max_items:
        words.append(f"{rule.min_items} item or more")
    if rule.nullable:
        words.append("or null")
    return ", ".join(words)


def _bounds(rule: Rule) -> list[str]:
    low, high = rule.minimum, rule.maximum
    if low is not None and high is not None:
        return [f"only {low:.10g}" if low == high else f"{low:.10g} to {high:.10g}"]
    if low is not None:
        return [f"{low:.10g} or more"]
    return [] if high is None else [f"at most {high:.10g}"]


def fields_table(name: str) -> list[str]:
    """The fields of a task with their bounds."""
    task = lookup(name)
    docs = field_docs(task)
    python_names = {"contexts": "documents"}
    lines = ["| Field | Accepts | Meaning |", "|---|---|---|"]
    for wire_name, rule in rules(task).items():
        field = python_names.get(wire_name, wire_name)
        required = " (required)" if rule.required else ""
        lines.append(f"| `{field}`{required} | {accepted(rule)} | {cell(docs.get(field, ''))} |")
    return lines


def options_table(names: str) -> list[str]:
    """The options of an attrs class with their defaults, or those of one or more `TypedDict`s."""
    first, *_ = classes = [lookup(name) for name in names.split()]
    if not attrs.has(first):
        # A TypedDict forgets its base classes, so each is named.
        docs = {option: text for cls in classes for option, text in field_docs(cls).items()}
        lines = [f"| `{option}` | {cell(text)} |" for option, text in docs.items()]
        return ["| Option | Meaning |", "|---|---|", *lines]
    docs = field_docs(first)
    lines = ["| Option | Default | Meaning |", "|---|---|---|"]
    for field in attrs.fields(first):
        if field.init:
            default = "required" if field.default is attrs.NOTHING else f"`{field.default!r}`"
            lines.append(f"| `{field.name}` | {default} | {cell(docs.get(field.name, ''))} |")
    return lines


def names_table(names: str) -> list[str]:
    """Public names, with the first sentence of the docstring of each."""
    lines = ["| Name | Summary |", "|---|---|"]
    for name in names.split():
        summary = (inspect.getdoc(lookup(name)) or "").partition("\n\n")[0]
        sentence = re.match(r".*?\.(?=\s|$)", summary.replace("\n", " "))
        summary = sentence[0] if sentence else summary
        lines.append(f"| `cfai.{name}` | {cell(summary)} |")
    return lines


def codes_table(name: str) -> list[str]:
    """The service's own codes: what each raises, whether it is retried, and its hints."""
    lines = ["| Code | Status | Error | Retried | Hint |", "|---|---|---|---|---|"]
    for code, entry in sorted(lookup(name).items()):
        status = "any" if entry.status is None else f"{entry.status}"
        error = status_error(entry.status or 400, code, "")
        hints = [entry.hint, *(f'"{words}": {hint}' for words, hint in entry.hints)]
        cells = [
            f"{code}",
            status if entry.overrides or entry.status is None else f"usually {status}",
            f"`{type(error).__name__}`",
            "yes" if should_retry(error, repeatable=True) else "no",
            cell(" ".join(filter(None, hints))),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def local_table(name: str) -> list[str]:
    """The tasks that a local model answers, or the weights that are downloaded."""
    if name == "weights":
        lines = ["| Model | Licence | Package | Download | Stored |", "|---|---|---|---|---|"]
        for models in BY_TASK.values():
            for model in models:
                package = model.archive
                sizes = [f"{size / 1e6:.0f} MB" for size in (package.size, model.size)]
                source = f"{package.package} {package.version}"
                lines.append(f"| {' | '.join([model.name, model.licence, source, *sizes])} |")
        return lines
    lines = [
        "| Task | Model | `meta.backend` | Licence | Size | Quality | Extra |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in LOCAL_TASKS:
        if name not in ("tasks", row.extra):
            continue
        size = f"{row.size / 1e6:.{0 if row.size > 1e6 else 1}f} MB" if row.size else ""
        cells = [row.task, row.model, f"`{row.backend}`", row.licence, size, row.quality]
        lines.append(f"| {' | '.join([*cells, f'`{row.extra}`'])} |")
    return lines


def renewed(page: str) -> str:
    """The text of a page with its tables written anew."""

    def table(match: re.Match[str]) -> str:
        kind, names = match["kind"], match["names"]
        lines = TABLES[kind](names)
        start = f"<!-- table: {kind} {names} -->"
        return "\n".join([start, "", *lines, "", "<!-- end of table -->"])

    return TABLE.sub(table, page)


TABLES = {
    "fields": fields_table,
    "options": options_table,
    "names": names_table,
    "codes": codes_table,
    "local": local_table,
}


def main() -> None:
    """Write the tables, or check them."""
    stale = []
    for path in sorted((ROOT / "docs").glob("*.md")):
        page = path.read_text(encoding="utf-8")
        if (new := renewed(page)) != page:
            stale.append(path.name)
            if "--check" not in sys.argv[1:]:
                path.write_text(new, encoding="utf-8")
    if "--check" in sys.argv[1:] and stale:
        sys.exit(f"out of date: {', '.join(stale)}; run `python docs/tables.py`")


if __name__ == "__main__":
    main()
