"""Files to Markdown: those that a library here converts; of the others, a result that says so.

Source: Cloudflare docs, Workers AI, "Markdown conversion", REST API and "Conversion options".
"""

import csv
import io
import mimetypes
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any
from uuid import uuid4

import orjson
from attrs import frozen

from cfai.local import faults
from cfai.local.crew import Crew
from cfai.local.faults import against_rule, not_here
from cfai.local.forms import content, fields
from cfai.local.places import Visit

Row = dict[str, Any]

_BYTES_A_TOKEN = 4
"""About: the service does not say what it counts tokens with."""

_LONGEST_OPTIONS = 64 << 10


@frozen
class File:
    """A file of a form."""

    name: str
    kind: str
    """Its media type."""
    data: bytes


@frozen
class Markdown:
    """Converts files, in a crew's thread."""

    crew: Crew

    async def convert(self, visit: Visit) -> list[Row]:
        """`POST tomarkdown`: the fields `files`, and `conversionOptions` as a text of JSON.

        Raises:
            Fault: The form holds no file, something else, or too much; or wants what can't be done.
        """
        files, plain, left = [], False, visit.request.client_max_size
        async for field in fields(visit.request):
            if field.name == "files":
                data = await content(field, left)
                if data is None:
                    raise faults.too_large(visit.request.client_max_size)
                left -= len(data)
                files.append(_file(field.filename or "", field.headers, data))
            elif field.name == "conversionOptions":
                plain = _wants_text(await content(field, _LONGEST_OPTIONS))
            else:
                raise against_rule(f"the form has no field {str(field.name)[:60]!r}")
        if not files:
            raise against_rule("the form must have files in the field files")
        return await self.crew.run(lambda _: [_row(file, plain=plain) for file in files])

    async def supported(self, visit: Visit) -> list[Row]:
        """`GET tomarkdown/supported`."""
        return [{"extension": end, "mimeType": kind} for end, (kind, _) in _FORMATS.items()]


def _file(name: str, headers: Mapping[str, str], data: bytes) -> File:
    """Give a file with its type: that of the form, or where this says nothing, of its name."""
    said = _clean(headers.get("Content-Type", "")).partition(";")[0].strip().lower()
    if said in ("", "application/octet-stream"):
        said = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return File(_clean(name), said, data)


def _clean(said: str) -> str:
    """Replace what a header held that is no text."""
    return said.encode(errors="replace").decode()


def _wants_text(raw: bytes | None) -> bool:
    """Tell whether the options ask for plain text.

    Raises:
        Fault: They are no options, or ask for more.
    """
    try:
        options: Any = orjson.loads(raw or b"")
    except orjson.JSONDecodeError as exc:
        raise against_rule("conversionOptions must be JSON, of at most 64 KiB") from exc
    if not isinstance(options, dict):
        raise against_rule("conversionOptions must be a JSON object")
    output = options.get("output", {})
    wanted = output.get("format", "markdown") if isinstance(output, dict) else None
    if wanted not in ("markdown", "text"):
        raise against_rule("conversionOptions.output.format must be markdown or text")
    for name in [*(options.keys() - {"output"}), *(output.keys() - {"format"})]:
        raise not_here(f"conversionOptions: {name[:60]!r} is not known, only output.format")
    return bool(wanted == "text")


# In the crew's thread...


def _row(file: File, *, plain: bool) -> Row:
    said: Row = {"id": str(uuid4()), "name": file.name, "mimeType": file.kind}
    convert = _converter(file)
    if convert is None:
        known = ", ".join(_FORMATS)
        error = f"cfai local: {file.kind} is not converted here, only {known}"
        return {**said, "format": "error", "error": error}
    try:
        text = convert(file.data, plain)
    except (csv.Error, RecursionError, ValueError) as exc:
        return {**said, "format": "error", "error": f"{type(exc).__name__}: {exc}"}
    except ImportError as exc:
        raise not_here(f"this needs {exc.name}: pip install 'cfai[local]'") from exc
    tokens = -(-len(text.encode()) // _BYTES_A_TOKEN)
    return {**said, "format": "text" if plain else "markdown", "tokens": tokens, "data": text}


Convert = Callable[[bytes, bool], str]
"""Gives the text of a file: Markdown, or without any."""


def _converter(file: File) -> Convert | None:
    """Choose by type, and where that is none of ours, by the end of the name."""
    by_kind = dict(_FORMATS.values())
    _, by_name = _FORMATS.get(PurePath(file.name).suffix.lower(), ("", None))
    return by_kind.get(file.kind) or by_name


def _html(data: bytes, plain: bool) -> str:
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    page = BeautifulSoup(data, "html.parser")
    for hidden in page(["script", "style", "head"]):
        hidden.decompose()
    if plain:
        return page.get_text("\n", strip=True)
    return str(MarkdownConverter(heading_style="ATX").convert_soup(page)).strip() + "\n"


def _csv(data: bytes, plain: bool) -> str:
    text = data.decode("utf-8-sig")
    if plain:
        return text
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    if not rows:
        return ""
    width = max(map(len, rows))
    head, *others = [_line(row, width) for row in rows]
    return "\n".join([head, _line(["---"] * width, width), *others]) + "\n"


def _line(row: list[str], width: int) -> str:
    cells = [cell.replace("|", "\\|").replace("\r", "").replace("\n", "<br>") for cell in row]
    return f"| {' | '.join(cells + [''] * (width - len(row)))} |"


_FORMATS: Mapping[str, tuple[str, Convert]] = {
    ".html": ("text/html", _html),
    ".htm": ("text/html", _html),
    ".csv": ("text/csv", _csv),
}
"""By the end of a file's name."""
