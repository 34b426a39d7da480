"""The body of a run: JSON, raw bytes, or a form, with media the way the model wants them."""

import math
import secrets
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from attrs import define, field, frozen

from cfai import media
from cfai._types.json import dumps
from cfai.errors import InputError
from cfai.media import Base64, Integers, MediaForm
from cfai.profiles import Profile, profile
from cfai.tasks import (
    MediaTask,
    Task,
    rules,
)


@frozen
class Pieces:
    """A body in pieces, which can be gone through again for another attempt."""

    parts: tuple[bytes | Integers, ...] = field(repr=False)

    def __len__(self) -> int:
        """The bytes of all pieces."""
        return sum(len(part) for part in self.parts)

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            if isinstance(part, bytes):
                yield part
            else:
                yield from part


Content = bytes | Pieces

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


# Not frozen: each call makes one, and freezing doubles what that costs.
@define
class Body:
    """An encoded body, with what belongs into the headers and the query."""

    content: Content = field(repr=False)
    content_type: str
    query: Mapping[str, str] = _NOTHING


def _json(fields: Mapping[str, Any]) -> Body:
    if Integers not in map(type, fields.values()):
        return Body(_dumped(fields), "application/json")
    parts: list[bytes | Integers] = []
    for name, value in fields.items():
        parts.append((b"," if parts else b"{") + _dumped(name) + b":")
        parts.append(value if isinstance(value, Integers) else _dumped(value, name))
    parts.append(b"}")
    return Body(Pieces(tuple(parts)), "application/json")


def json_content(fields: Mapping[str, Any]) -> bytes:
    """A JSON object as a body.

    Raises:
        InputError: Something in it is no JSON value.
    """
    return _dumped(fields)


def _dumped(value: Any, name: str = "") -> bytes:
    """The JSON text of a field, or of all fields where there is no *name*."""
    try:
        text = dumps(value)
    except TypeError as exc:
        raise InputError(f"the input must be made of JSON values: {exc}") from exc
    # A number that JSON has no digits for is written as null, which would be another request.
    if b"null" in text and (found := _not_finite(value)):
        path, number = found
        raise InputError(f"{name}{path} must be a finite number, got {number}".removeprefix("."))
    return text


def _not_finite(value: Any) -> tuple[str, float] | None:
    """The path to a number that is none or without end, and the number; `None` without one."""
    if isinstance(value, float):
        return None if math.isfinite(value) else ("", value)
    items: Iterable[tuple[Any, Any]] = ()
    step = "[{}]"
    if isinstance(value, Mapping):
        items, step = value.items(), ".{}"
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items:
        if found := _not_finite(item):
            return step.format(key) + found[0], found[1]
    return None


def _plain(value: Any, name: str = "") -> bytes:
    """A field outside JSON: a text as it is, anything else as its JSON text."""
    if not isinstance(value, str):
        return _dumped(value, name)
    try:
        return value.encode()
    except UnicodeEncodeError as exc:
        raise InputError(f"the input must be made of text that UTF-8 can write: {exc}") from exc


def _raw(data: bytes, rest: Mapping[str, Any]) -> Body:
    query = {name: _plain(value, name).decode() for name, value in rest.items()}
    return Body(data, media.media_type(data), query)


def _multipart(fields: Mapping[str, Any], files: Mapping[str, bytes]) -> Body:
    """RFC 7578: a part for each field, with the files last."""
    boundary = f"cfai-{secrets.token_hex(16)}"
    parts: list[bytes] = []
    for name, value in fields.items():
        parts.append(_part(boundary, name, "") + _plain(value, name))
    for name, data in files.items():
        extra = f'; filename="{name}"\r\nContent-Type: {media.media_type(data)}'
        parts.append(_part(boundary, name, extra) + data)
    content = b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()])
    return Body(content, f"multipart/form-data; boundary={boundary}")


def _part(boundary: str, name: str, extra: str) -> bytes:
    quoted = _plain(name).decode().replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{quoted}"{extra}\r\n\r\n'
    return head.encode()


def _form(task: MediaTask[Any], known: Profile, *, alone: bool) -> MediaForm:
    """How the media of *task* travel. *alone*: nothing else is to be sent."""
    if task.media_form is MediaForm.RAW and not (alone or known.options_in_query):
        raise InputError("media_form must not be raw where other fields are set: they have no room")
    if task.media_form is not None:
        return task.media_form
    if task.form is not None:
        return task.form
    if known.media is MediaForm.RAW and not (alone or known.options_in_query):
        return MediaForm.INTEGERS
    return known.media


def _base64(source: Any) -> str:
    return source.text if isinstance(source, Base64) else media.base64_text(media.read(source))


def _in_json(
    task: Task[Any], fields: dict[str, Any], sources: Mapping[str, Any], form: MediaForm
) -> Body:
    for name, source in sources.items():
        # A mask has no documented form but integers; an image to draw over has a field for each.
        if form is MediaForm.BASE64 and name != "mask":
            field_name = "image_b64" if "image_b64" in rules(type(task)) else name
            fields[field_name] = _base64(source)
        else:
            fields[name] = Integers(media.read(source))
    return _json(fields)


def _open(model: str, fields: dict[str, Any]) -> Body:
    """An open run: JSON, or a form for a model that takes nothing else."""
    if profile(model).media is not MediaForm.MULTIPART:
        return _json(fields)
    files = {name: bytes(value) for name, value in fields.items() if isinstance(value, _BYTES)}
    return _multipart({name: it for name, it in fields.items() if name not in files}, files)


_BYTES: Final = (bytes, bytearray, memoryview)


def _spoken(fields: dict[str, Any], known: Profile) -> dict[str, Any]:
    """The fields as the model's family wants them, where that is not as the API's schema says."""
    match fields:
        case {"response_format": {"json_schema": schema}, **rest} if known.guided_json:
            fields = {"guided_json": schema, **rest}
    match fields:
        case {"messages": [*messages]} if known.reads_calls:
            fields = {**fields, "messages": list(map(_with_calls, messages))}
    return fields


def _with_calls(message: Any) -> Any:
    """A turn that only called tools, with its calls as the text that the model wrote for them.

    Source: github.com/cloudflare/langchain-cloudflare, `embed_tool_calls_in_content`.
    """
    said = []
    match message:
        case {"content": "", "tool_calls": [*calls]}:
            for call in calls:
                match call:
                    case {"function": {"name": str(name), "arguments": str(arguments)}}:
                        said.append(f'{{"name": {_json_text(name)}, "parameters": {arguments}}}')
    return {**message, "content": "\n".join(said)} if said else message


def _json_text(text: str) -> str:
    return _dumped(text, "name").decode()


def encoded(model: str, task: Task[Any] | Mapping[str, Any], added: Mapping[str, Any]) -> Body:
    """The body of a run of *model*.

    Args:
        added: What the client puts beside the task's own fields.

    Raises:
        InputError: The media can't be read, or something is no JSON value.
    """
    if not isinstance(task, Task):
        return _open(model, {**task, **added})
    fields = task.payload()
    fields.update(added)
    if not isinstance(task, MediaTask):
        return _json(_spoken(fields, profile(model)))
    names = [rule.name for rule in rules(type(task)).values() if rule.kind == "media"]
    sources = {name: fields.pop(name) for name in names if name in fields}
    form = _form(task, profile(model), alone=not fields)
    if form is MediaForm.MULTIPART:
        return _multipart(fields, {name: media.read(it) for name, it in sources.items()})
    if form is MediaForm.RAW and len(sources) == 1:
        return _raw(media.read(*sources.values()), fields)
    return _in_json(task, fields, sources, form)
