"""Encodes the body of a run: JSON, raw bytes or a form, with media in the form the model takes."""

import math
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from attrs import define, field, frozen

from cfai import media
from cfai._types.json import dumps
from cfai._types.values import Value
from cfai.errors import InputError
from cfai.media import Base64, Integers, MediaForm
from cfai.profiles import Profile, check_reads_images, profile
from cfai.tasks import MediaTask, Task, rules


@frozen(eq=False, repr=False)
class BodyParts(Value):
    """A body in parts, which can be iterated again for another attempt."""

    parts: tuple[bytes | Integers, ...] = field(repr=False)

    def __len__(self) -> int:
        """The bytes of all parts."""
        return sum(len(part) for part in self.parts)

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            yield from [part] if isinstance(part, bytes) else part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part


Content = bytes | BodyParts

_NO_QUERY: Final[Mapping[str, str]] = MappingProxyType({})
_BYTES: Final = (bytes, bytearray, memoryview)


# Not frozen: every call creates one, and a frozen class takes twice as long to create.
@define(eq=False)
class EncodedBody:
    """An encoded body, with its Content-Type and the fields that go into the query."""

    content: Content = field(repr=False)
    content_type: str
    query: Mapping[str, str] = _NO_QUERY


def encode_run_body(
    model: str, task: Task[Any] | Mapping[str, Any], added: Mapping[str, Any]
) -> EncodedBody:
    """Encode a task, or the fields of any input, and the fields *added* by the client.

    Raises:
        InputError: The media can't be read, or a value is not JSON.
    """
    model_profile = profile(model)
    if not isinstance(task, Task):
        fields = {**task, **added}
        if model_profile.media is not MediaForm.MULTIPART:
            return _encode_fields(fields)
        files = {name: bytes(value) for name, value in fields.items() if isinstance(value, _BYTES)}
        return _encode_form({name: fields[name] for name in fields if name not in files}, files)
    fields = task_fields(task, model_profile, model_profile.field_names, added)
    if not isinstance(task, MediaTask):
        return _encode_fields(fields)
    media_rules = [rule for rule in rules(type(task)).values() if rule.kind == "media"]
    names = [model_profile.field_names.get(rule.name, rule.name) for rule in media_rules]
    sources = {name: fields.pop(name) for name in names if name is not None and name in fields}
    media_form = _choose_media_form(task, model_profile, is_alone=not fields)
    if media_form is MediaForm.MULTIPART:
        files = {name: media.read(source) for name, source in sources.items()}
        return _encode_form(fields, files)
    if media_form is MediaForm.RAW and len(sources) == 1:
        content = media.read(*sources.values())
        query = {name: _plain_text(value, name) for name, value in fields.items()}
        return EncodedBody(content, model_profile.raw_type or media.media_type(content), query)
    return _encode_media_in_json(task, fields, sources, media_form)


def task_fields(
    task: Task[Any],
    model_profile: Profile,
    names: Mapping[str, str | None],
    added: Mapping[str, Any],
) -> dict[str, Any]:
    """The JSON of a task in the form that a model takes, under its *names* of the fields.

    Raises:
        InputError: A field is set that the model does not have.
    """
    fields = task.payload_for(model_profile.model)
    if "options" in fields and "options" in added:
        added = {**added, "options": {**fields["options"], **added["options"]}}
    fields.update(added)
    fields = adapt_fields(fields, model_profile)
    if names:
        fields = _rename_fields(fields, names, task.extra or {}, model_profile.model)
    return {**model_profile.default_fields, **fields} if model_profile.default_fields else fields


def _rename_fields(
    fields: Mapping[str, Any],
    names: Mapping[str, str | None],
    extra: Mapping[str, Any],
    model: str,
) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    for name, value in fields.items():
        new_name = name if name in extra else names.get(name, name)
        if new_name is None:
            raise InputError(f"{name} must be left out: {model} has no such field")
        if new_name != name and new_name in fields:
            raise InputError(f"extra must not repeat {new_name}, which is {name} of the task")
        if new_name in renamed:
            raise InputError(f"{name} must be left out: {new_name} of {model} is set already")
        renamed[new_name] = value
    return renamed


def adapt_fields(fields: dict[str, Any], model_profile: Profile) -> dict[str, Any]:
    """Change the fields for model families that deviate from the API's schema."""
    messages = fields.get("messages")
    # Most chats are only texts, and nothing is done for them.
    if isinstance(messages, (list, tuple)) and not all(map(_is_text, messages)):
        if any(map(_has_image, messages)):
            check_reads_images(model_profile.model)
        messages = list(map(_join_texts, messages))
        if model_profile.reads_calls:
            messages = list(map(_write_calls_into_content, messages))
        fields = {**fields, "messages": messages}
    if model_profile.guided_json:
        match fields:
            case {"response_format": {"json_schema": schema}, **rest}:
                fields = {"guided_json": schema, **rest}
    if "stream_options" in fields and fields.get("stream") is not True:
        # Servers of chat completions refuse it in other requests.
        fields = {name: value for name, value in fields.items() if name != "stream_options"}
    return fields


def _is_text(message: Any) -> bool:
    """Whether a message is only a text, as most are: matching patterns costs more."""
    return (
        type(message) is dict
        and type(message.get("content")) is str
        and "tool_calls" not in message
    )


def _has_image(message: Any) -> bool:
    match message:
        case {"content": list() | tuple() as parts}:
            return any(isinstance(part, Mapping) and "image_url" in part for part in parts)
    return False


def _join_texts(message: Any) -> Any:
    """Make one text of content that has only texts: most models take no list of parts.

    Such a model answers 400 (code 5006): "Type mismatch of '/messages/0/content', 'array' not in
    'string'". The texts become lines, as in vLLM.
    """
    match message:
        case {"content": [_, *_] as parts} if all(map(_is_plain_text, parts)):
            return {**message, "content": "\n".join(part["text"] for part in parts)}
    return message


def _is_plain_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.keys() == {"type", "text"} and part["type"] == "text"


def _write_calls_into_content(message: Any) -> Any:
    """Write the calls of a turn without text into its content, as the model generated them.

    Source: github.com/cloudflare/langchain-cloudflare, `embed_tool_calls_in_content`.
    """
    lines: list[str] = []
    match message:
        case {"content": "", "tool_calls": [*calls]}:
            for call in calls:
                match call:
                    case {"function": {"name": str(name), "arguments": str(arguments)}}:
                        quoted = encode_json(name, "name").decode()
                        lines.append(f'{{"name": {quoted}, "parameters": {arguments}}}')
    return {**message, "content": "\n".join(lines)} if lines else message


# JSON


def encode_json(value: Any, name: str = "") -> bytes:
    """Encode the field *name* as JSON, or all fields if *name* is empty.

    Raises:
        InputError: A value is not JSON.
    """
    try:
        text = dumps(value)
    except TypeError as exc:
        raise InputError(f"the input must consist of JSON values: {exc}") from exc
    # The encoder writes nan and infinity as null, which would be another request.
    # (`b"null" in text` first takes the bytes for a number, in vain: 0.2 µs.)
    if text.find(b"null") >= 0 and (problem := _find_not_finite(value)):
        path, number = problem
        raise InputError(f"{name}{path} must be a finite number, got {number}".removeprefix("."))
    return text


def _encode_fields(fields: Mapping[str, Any]) -> EncodedBody:
    try:
        return EncodedBody(encode_json(fields), "application/json")
    except InputError:
        if Integers not in map(type, fields.values()):
            raise
    parts: list[bytes | Integers] = []
    for name, value in fields.items():
        parts.append((b"," if parts else b"{") + encode_json(name) + b":")
        parts.append(value if isinstance(value, Integers) else encode_json(value, name))
    parts.append(b"}")
    return EncodedBody(BodyParts(tuple(parts)), "application/json")


def _find_not_finite(value: Any) -> tuple[str, float] | None:
    """The path to a number that is not finite, and the number; `None` if there is none."""
    if isinstance(value, float):
        return None if math.isfinite(value) else ("", value)
    items: Iterable[tuple[Any, Any]] = ()
    step = "[{}]"
    if isinstance(value, Mapping):
        items, step = value.items(), ".{}"
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items:
        if problem := _find_not_finite(item):
            path, number = problem
            return step.format(key) + path, number
    return None


# Media


def _choose_media_form(
    task: MediaTask[Any], model_profile: Profile, *, is_alone: bool
) -> MediaForm:
    """Choose the form of a task's media. *is_alone*: there are no other fields."""
    takes_raw = is_alone or model_profile.options_in_query
    if task.media_form is MediaForm.RAW and not takes_raw:
        raise InputError("media_form must not be raw if other fields are set: leave it out")
    default = model_profile.media
    if default is MediaForm.DATA_URI:
        return task.media_form or default
    if default is MediaForm.RAW and not takes_raw:
        default = MediaForm.INTEGERS
    return task.media_form or task.form or default


def _encode_media_in_json(
    task: Task[Any], fields: dict[str, Any], sources: Mapping[str, Any], media_form: MediaForm
) -> EncodedBody:
    for name, source in sources.items():
        if media_form is MediaForm.DATA_URI:
            fields[name] = media.data_uri(media.read(source))
            continue
        # A mask is documented as integers only; an image to start from has a field for each form.
        if media_form is MediaForm.BASE64 and name != "mask":
            field_name = "image_b64" if "image_b64" in rules(type(task)) else name
            encoded = isinstance(source, Base64)
            fields[field_name] = source.text if encoded else media.base64_text(media.read(source))
        else:
            fields[name] = Integers(media.read(source))
    return _encode_fields(fields)


def _encode_form(fields: Mapping[str, Any], files: Mapping[str, bytes]) -> EncodedBody:
    # What forms need is imported by the first of them.
    from cfai._wire.multipart import File, build_form

    form = build_form(
        {_plain_text(name): _plain_text(value, name) for name, value in fields.items()},
        [
            (_plain_text(name), File(name, len(data), media.media_type(data), source=data))
            for name, data in files.items()
        ],
    )
    return EncodedBody(form.read(), form.content_type)


def _plain_text(value: Any, name: str = "") -> str:
    """A field outside JSON: a string as it is, anything else as JSON."""
    if not isinstance(value, str):
        return encode_json(value, name).decode()
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise InputError(f"the input must be text that UTF-8 can encode: {exc}") from exc
    return value
