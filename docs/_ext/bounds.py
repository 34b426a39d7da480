"""The directive `{bounds}`: a table of a task's fields, read from the fields themselves."""

from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from cfai import tasks
from cfai.tasks import Rule, rules


def _meanings(task: type) -> dict[str, str]:
    """What the docstring under each field says, base classes included."""
    found: dict[str, str] = {}
    for cls in reversed(task.__mro__):
        if cls.__module__.startswith("cfai.tasks"):
            written = ModuleAnalyzer.for_module(cls.__module__).find_attr_docs()
            for (owner, name), lines in written.items():
                if owner == cls.__name__:
                    found[name] = " ".join(line for line in lines if line)
    return found


def _takes(rule: Rule) -> str:
    """What a field takes, in a few words."""
    if rule.choices:
        return ", ".join(f"`{choice}`" for choice in rule.choices)
    words = [rule.kind]
    if rule.minimum is not None and rule.maximum is not None:
        words.append(f"{rule.minimum:.10g} to {rule.maximum:.10g}")
    elif rule.minimum is not None:
        words.append(f"{rule.minimum:.10g} or more")
    elif rule.maximum is not None:
        words.append(f"at most {rule.maximum:.10g}")
    if rule.min_length:
        words.append(f"{rule.min_length} character or more")
    if rule.min_items:
        words.append(f"{rule.min_items} or more")
    return ", ".join(words)


class Bounds(SphinxDirective):
    """`{bounds} Prompt` lists the fields of `cfai.tasks.Prompt`."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        task: Any = getattr(tasks, self.arguments[0])
        meanings = _meanings(task)
        names = {"contexts": "documents"}
        lines = ["| Field | Takes | |", "|---|---|---|"]
        for wire, rule in rules(task).items():
            name = names.get(wire, wire)
            required = " (required)" if rule.required else ""
            meaning = meanings.get(name, "").replace("*", "`").replace("|", "\\|")
            lines.append(f"| `{name}`{required} | {_takes(rule)} | {meaning} |")
        return self.parse_text_to_nodes("\n".join(lines) + "\n")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("bounds", Bounds)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
