"""What commands send besides a text: attached files, and the schema of the answer."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from attrs import frozen

from cfai.cli import files
from cfai.cli.console import complete_files
from cfai.cli.encodings import is_text
from cfai.errors import CfaiError, InputError

if TYPE_CHECKING:
    from cfai import WorkersAI

F = TypeVar("F", bound=Callable[..., Any])

_TYPES: Final[Mapping[str, Mapping[str, Any]]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "list": {"type": "array", "items": {"type": "string"}},
}

_FIELD: Final = re.compile(r"\s*(\w+)\s*(?::\s*(\w+)\s*)?")


def attach_option(text: str) -> Callable[[F], F]:
    """Declare the option `--attach`."""
    return click.option(
        "--attach", "-a", multiple=True, metavar="FILE", shell_complete=complete_files, help=text
    )


IMAGE_OR_TEXT: Final = "an image, a text or a document"
"""What most commands accept as an attached file."""


class ConversionError(CfaiError):
    """The service could not convert an attached document."""


@frozen
class AttachedFile:
    """A file that goes with a text: media as they are, anything else as text."""

    name: str
    data: bytes

    @classmethod
    def read(cls, argument: str, reader: str = "--attach") -> "AttachedFile":
        """Read a path, `@FILE`, or `-` for standard input, for the argument or option *reader*.

        Raises:
            InputError: It can't be read, or is empty.
        """
        name, data = files.read_named(argument, reader)
        if not data:
            raise InputError(f"{name} is empty")
        return cls(name, data)

    @property
    def media(self) -> str | None:
        """The kind of media (image, audio or video); `None` for a text or a document."""
        import mimetypes

        from cfai.media import media_type

        kind = media_type(self.data).partition("/")[0]
        # The bytes of an MP4 or a WebM don't say whether there is a picture.
        if kind == "audio" and (mimetypes.guess_type(self.name)[0] or "").startswith("video/"):
            return "video"
        return kind if kind in ("image", "audio") else None

    def check_is(self, kind: str) -> None:
        """Check that the content can be *kind*, an image or audio (of a video, too).

        Content that is not recognized passes: models know more formats.

        Raises:
            InputError: It is something else, such as text.
        """
        actual = self.media or ("text" if is_text(self.data) else None)
        if actual is None and self.data.startswith(b"%PDF"):
            actual = "a PDF"
        allowed = ("audio", "video") if kind == "audio" else (kind,)
        if actual is not None and actual not in allowed:
            names = {"image": "an image", "audio": "a recording"}
            raise InputError(
                f"{self.name} must be {names.get(kind, kind)}, got {names.get(actual, actual)}"
            )

    @property
    def document(self) -> tuple[str, bytes]:
        """The file for the service, which recognizes a format by the ending of the name.

        Raises:
            InputError: It is from standard input, and its format is not recognized.
        """
        if self.name != "standard input":
            return self.name, self.data
        return f"standard-input{_find_suffix(self.data)}", self.data


_STARTS: Final = (
    (b"%PDF", ".pdf"),
    (b"\x89PNG", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"<svg", ".svg"),
    (b"<!doctype html", ".html"),
    (b"<html", ".html"),
    (b"<?xml", ".xml"),
)
_MEMBERS: Final = (
    (b"word/", ".docx"),
    (b"xl/", ".xlsx"),
    (b"opendocument.spreadsheet", ".ods"),
    (b"opendocument.text", ".odt"),
)
"""Names in the archives that office documents are."""


def _find_suffix(data: bytes) -> str:
    start = data[:64].lower()
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return ".webp"
    if data.startswith(b"PK"):
        suffix = next((suffix for name, suffix in _MEMBERS if name in data), None)
    else:
        text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        suffix = next((suffix for mark, suffix in _STARTS if text.startswith(mark.lower())), None)
    if suffix is None:
        raise InputError(
            "standard input must be an image, PDF, HTML, XML or an office document: give the "
            "name of a file, whose ending says what it is"
        )
    return suffix


def check_reads_attached(model: str, attached: Sequence[AttachedFile], command: str) -> None:
    """Check that *model* reads images in a message, if there are any.

    Args:
        model: The model's name.
        attached: The files.
        command: What chooses another model, such as `-m`, for the error.

    Raises:
        InputError: It is known not to.
    """
    image = next((file for file in attached if file.media == "image"), None)
    if image is None:
        return
    from cfai.profiles import TASKS, profile

    model_profile = profile(model)
    if model_profile.task not in ("Text Generation", None):
        raise InputError(
            f"{model} does not chat; its task is {model_profile.task}: try `cfai run {model} TEXT "
            "-a FILE`"
        )
    if model_profile.reads_images is False:
        reader = next(name for name in TASKS if profile(name).reads_images)
        error = InputError(f"{model} reads only text, and {image.name} is an image")
        error.add_note(f"{command} {reader} reads images")
        raise error


async def build_content(
    ai: "WorkersAI", message: str, attached: Sequence[AttachedFile]
) -> list[str | bytes]:
    """The content of a message: the texts of the files, the message, and the images."""
    images = [file for file in attached if file.media == "image"]
    others = [file for file in attached if file.media != "image"]
    text = await join_texts(ai, message, others, accepted=IMAGE_OR_TEXT)
    return [*([text] if text or not images else []), *(file.data for file in images)]


async def join_texts(
    ai: "WorkersAI",
    text: str,
    attached: Sequence[AttachedFile],
    *,
    accepted: str = "a text or a document",
) -> str:
    """The texts of the files, and then *text*. The service converts documents to Markdown.

    Args:
        accepted: What can be attached, for the error.

    Raises:
        InputError: A file is a sound or a video.
        ConversionError: The service could not convert a document.
    """
    for file in attached:
        if file.media is not None:
            kind = "an image" if file.media == "image" else file.media
            error = InputError(
                f"{file.name} can't be attached: it must be {accepted} here, got {kind}"
            )
            if kind == "audio":
                error.add_note("`cfai transcribe` gives the text of a recording")
            raise error
    contents = [files.find_text(file.data, file.name) for file in attached]
    named = list(zip(attached, contents, strict=True))
    documents = [file.document for file, content in named if content is None]
    results = await ai.to_markdown(documents) if documents else []
    for result in results:
        if result.failed:
            raise ConversionError(f"{result.name} can't be attached: {result.error}")
    markdown = iter(results)
    texts = [
        f"{file.name}:\n\n{(str(next(markdown)) if content is None else content).strip()}"
        for file, content in named
    ]
    return "\n\n".join([*texts, text] if text.strip() else texts)


def parse_schema(argument: str) -> dict[str, Any]:
    """Read a JSON schema, or the short form `name:str, age:int`, from an argument.

    Raises:
        InputError: It is neither.
    """
    text = files.read_text_argument(argument, "--schema")
    if text.lstrip().startswith("{"):
        from cfai._types.json import loads_strictly

        try:
            schema: dict[str, Any] = loads_strictly(text)
        except ValueError as exc:
            raise InputError(f"--schema must be a JSON schema: {exc}") from exc
        if not schema:
            raise InputError("--schema must say what the answer is; leave it out for any text")
        return schema
    properties: dict[str, Mapping[str, Any]] = {}
    for part in text.split(","):
        field = _FIELD.fullmatch(part)
        if field is None or (field[2] or "str") not in _TYPES:
            types = ", ".join(_TYPES)
            rule = f'a JSON schema or a list like "name:str, age:int" of the types {types}'
            raise InputError(f"--schema must be {rule}, got {part.strip()!r}")
        if field[1] in properties:
            raise InputError(f"--schema must give each name once, got {field[1]} twice")
        properties[field[1]] = _TYPES[field[2] or "str"]
    return {"type": "object", "properties": properties, "required": list(properties)}
