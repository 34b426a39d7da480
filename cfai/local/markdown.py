"""Files to Markdown: those that `documents` converts; of the others, a result that says so.

Source: Cloudflare docs, Workers AI, "Markdown conversion", REST API and "Conversion options".
"""

import mimetypes
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any
from uuid import uuid4

import orjson
from attrs import field, frozen

from cfai.local import faults
from cfai.local.crew import Crew
from cfai.local.documents import formats, process
from cfai.local.documents.values import File, Limits, Outcome, Wanted
from cfai.local.faults import against_rule, not_here
from cfai.local.forms import content, fields
from cfai.local.places import Visit

Row = dict[str, Any]

_BYTES_A_TOKEN = 4
"""About: the service does not say what it counts tokens with."""

_LONGEST_OPTIONS = 64 << 10

_FILES = 1000
"""The most of one form."""

_OPTIONS: Mapping[str, tuple[object, ...]] = {
    "output.format": ("markdown", "text"),
    "pdf.metadata": (True, False),
}
"""What is known of the conversion's options, with the values of each."""


@frozen
class Markdown:
    """Converts files, while a thread of the crew waits."""

    crew: Crew
    limits: Limits = field(factory=Limits)

    async def convert(self, visit: Visit) -> list[Row]:
        """`POST tomarkdown`: the fields `files`, and `conversionOptions` as a text of JSON.

        Raises:
            Fault: The form holds no file, something else, or too much; or wants what can't be done.
        """
        files, wanted = await _form(visit)
        return await self.crew.run(lambda stopped: self._rows(files, wanted, stopped))

    async def supported(self, visit: Visit) -> list[Row]:
        """`GET tomarkdown/supported`: what is converted with the libraries that are installed."""
        return [
            {"extension": end, "mimeType": one.kind}
            for end, one in formats.FORMATS.items()
            if one.missing is None
        ]

    # In the crew's thread...

    def _rows(self, files: list[File], wanted: Wanted, stopped: Callable[[], bool]) -> list[Row]:
        refused = [_refusal(file) for file in files]
        taken = [file for file, why in zip(files, refused, strict=True) if why is None]
        done = iter(process.converted(taken, wanted, self.limits, stopped))
        nobody_waits = Outcome(None, "the conversion was broken off")
        return [
            _row(file, next(done, nobody_waits) if why is None else Outcome(None, why), wanted)
            for file, why in zip(files, refused, strict=True)
        ]


async def _form(visit: Visit) -> tuple[list[File], Wanted]:
    files: list[File] = []
    wanted, left = Wanted(), visit.request.client_max_size
    async for part in fields(visit.request):
        if part.name == "files":
            data = await content(part, left)
            if data is None:
                raise faults.too_large(visit.request.client_max_size)
            left -= len(data)
            files.append(_file(part.filename or "", part.headers, data))
        elif part.name == "conversionOptions":
            wanted = _wanted(await content(part, _LONGEST_OPTIONS))
        else:
            raise against_rule(f"the form has no field {str(part.name)[:60]!r}")
    if not 0 < len(files) <= _FILES:
        raise against_rule(f"the form must have 1 to {_FILES} files in the field files")
    return files, wanted


def _file(name: str, headers: Mapping[str, str], data: bytes) -> File:
    """Give a file with its type: that of the form, or where this says nothing, of its name."""
    name = _clean(name)
    said = _clean(headers.get("Content-Type", "")).partition(";")[0].strip().lower()
    if said in ("", "application/octet-stream"):
        known = formats.FORMATS.get(PurePath(name).suffix.lower())
        said = known.kind if known else mimetypes.guess_type(name)[0] or "application/octet-stream"
    return File(name, said, data)


def _clean(said: str) -> str:
    """Replace what a header held that is no text."""
    return said.encode(errors="replace").decode()


def _wanted(raw: bytes | None) -> Wanted:
    """Read the options.

    Raises:
        Fault: They are no options, or ask for more.
    """
    try:
        options: Any = orjson.loads(raw or b"")
    except orjson.JSONDecodeError as exc:
        raise against_rule("conversionOptions must be JSON, of at most 64 KiB") from exc
    _need_object(options, "conversionOptions")
    said: dict[str, Any] = {}
    for name, part in options.items():
        if not any(known.startswith(f"{name}.") for known in _OPTIONS):
            raise _unknown(name)
        _need_object(part, f"conversionOptions.{name}")
        said |= {f"{name}.{inner}": value for inner, value in part.items()}
    for name, value in said.items():
        if name not in _OPTIONS:
            raise _unknown(name)
        if value not in _OPTIONS[name]:
            values = " or ".join(str(orjson.dumps(one), "ascii") for one in _OPTIONS[name])
            raise against_rule(f"conversionOptions.{name} must be {values}, got {value!r:.60}")
    plain = said.get("output.format") == "text"
    return Wanted(plain=plain, metadata=said.get("pdf.metadata") is not False)


def _need_object(value: object, name: str) -> None:
    if not isinstance(value, dict):
        raise against_rule(f"{name} must be a JSON object")


def _unknown(name: str) -> faults.Fault:
    return not_here(f"conversionOptions.{name[:60]} is not known, only {', '.join(_OPTIONS)}")


def _refusal(file: File) -> str | None:
    """Say why a file is not converted here, if so."""
    known = formats.of(file.name, file.kind)
    if known is None:
        return f"cfai local: {file.kind} is not converted here, only {', '.join(formats.FORMATS)}"
    missing = known.missing
    return missing and f"cfai local: this needs {missing}: pip install 'cfai[local]'"


def _row(file: File, outcome: Outcome, wanted: Wanted) -> Row:
    said: Row = {"id": str(uuid4()), "name": file.name, "mimeType": file.kind}
    if outcome.text is None:
        return {**said, "format": "error", "error": outcome.error}
    tokens = -(-len(outcome.text.encode()) // _BYTES_A_TOKEN)
    kind = "text" if wanted.plain else "markdown"
    return {**said, "format": kind, "tokens": tokens, "data": outcome.text}
