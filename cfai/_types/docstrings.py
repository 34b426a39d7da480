"""What a docstring says: its first paragraph, and its parameters in the three usual styles."""

import inspect
import re
from collections.abc import Iterator

_GOOGLE = re.compile(r"(Args|Arguments|Parameters|Params|Attributes)\s*:\s*")
_NUMPY = re.compile(r"(Parameters|Other Parameters|Attributes)\s*")
_RULE = re.compile(r"-{3,}\s*")
_FIELD = re.compile(
    r":(?P<kind>param|parameter|arg|argument|ivar|var|\w+)(?P<names>[^:]*):(?P<said>.*)"
)
_PARAMETERS = {"param", "parameter", "arg", "argument", "ivar", "var"}
_ENTRY = re.compile(r"\*{0,2}(?P<name>\w+)\s*(\(.*?\))?\s*:(?P<said>.*)")
_SECTION = re.compile(r"(Args|Arguments|Returns|Yields|Raises|Examples?|Notes?)\s*:.*")


def first_paragraph(docstring: str | None) -> str:
    """Give what it says first, as one line; nothing of its sections."""
    said: list[str] = []
    for line in inspect.cleandoc(docstring or "").splitlines():
        if not line.strip() or _GOOGLE.fullmatch(line) or _FIELD.fullmatch(line):
            break
        if said and _SECTION.fullmatch(line):
            break
        said.append(line.strip())
    return " ".join(said)


def parameters(docstring: str | None) -> dict[str, str]:
    """Give what it says of each parameter, each as one line.

    Google's style (`Args:`), NumPy's (`Parameters` underlined) and Sphinx's (`:param name:`).
    """
    lines = inspect.cleandoc(docstring or "").splitlines()
    found = dict(_sphinx(lines))
    for at, line in enumerate(lines):
        if _GOOGLE.fullmatch(line):
            found |= dict(_google(lines[at + 1 :]))
        elif _NUMPY.fullmatch(line) and at + 1 < len(lines) and _RULE.fullmatch(lines[at + 1]):
            found |= dict(_numpy(lines[at + 2 :]))
    return {name: said for name, said in found.items() if said}


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _joined(first: str, more: list[str]) -> str:
    return " ".join(part for part in (first.strip(), *map(str.strip, more)) if part)


def _deeper(lines: list[str], than: int) -> list[str]:
    """The lines that belong to an entry: those further in, up to the first that is not."""
    inner = []
    for line in lines:
        if line.strip() and _indent(line) <= than:
            break
        inner.append(line)
    return inner


def _google(lines: list[str]) -> Iterator[tuple[str, str]]:
    section = _deeper(lines, 0)
    first = next((line for line in section if line.strip()), "")
    for at, line in enumerate(section):
        entry = _ENTRY.fullmatch(line.strip())
        if entry and _indent(line) == _indent(first):
            yield entry["name"], _joined(entry["said"], _deeper(section[at + 1 :], _indent(line)))


def _numpy(lines: list[str]) -> Iterator[tuple[str, str]]:
    for at, line in enumerate(lines):
        if at + 1 < len(lines) and _RULE.fullmatch(lines[at + 1]):
            return
        if line.strip() and not _indent(line):
            said = _joined("", _deeper(lines[at + 1 :], 0))
            for name in line.partition(":")[0].split(","):
                yield name.strip().lstrip("*"), said


def _sphinx(lines: list[str]) -> Iterator[tuple[str, str]]:
    for at, line in enumerate(lines):
        field = _FIELD.fullmatch(line)
        if field and field["kind"] in _PARAMETERS and field["names"].split():
            # The last word is the name; a type can stand before it.
            name = field["names"].split()[-1].lstrip("*")
            yield name, _joined(field["said"], _deeper(lines[at + 1 :], 0))
