"""What `cfai chat` sends besides the prompt: attached files, and the schema of the answer."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from cfai.cli import files
from cfai.errors import InputError

if TYPE_CHECKING:
    from cfai import WorkersAI

_TYPES: Final[Mapping[str, Mapping[str, Any]]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "list": {"type": "array", "items": {"type": "string"}},
}

_FIELD: Final = re.compile(r"\s*(\w+)\s*(?::\s*(\w+)\s*)?")


@frozen
class AttachedFile:
    """A file that goes with a message: an image as it is, anything else as text."""

    name: str
    data: bytes

    @classmethod
    def read(cls, argument: str) -> "AttachedFile":
        """Read a path, `@FILE`, or `-` for standard input.

        Raises:
            InputError: It can't be read, or is empty.
        """
        path = Path(argument.removeprefix("@"))
        name = "standard input" if argument == "-" else path.name
        data = files.read_stdin() if argument == "-" else files.read_file(path)
        if not data:
            raise InputError(f"{name} is empty")
        return cls(name, data)

    @property
    def is_image(self) -> bool:
        """Whether the bytes are an image's."""
        from cfai.media import media_type

        return media_type(self.data).startswith("image/")

    async def read_text(self, ai: "WorkersAI") -> str:
        """The text of the file; a document is converted to Markdown by the service.

        Raises:
            InputError: It can't be converted.
        """
        try:
            text = self.data.decode("utf-8-sig")
        except UnicodeDecodeError:
            (result,) = await ai.to_markdown([(self.name, self.data)])
            if result.failed:
                raise InputError(f"{self.name} can't be attached: {result.error}") from None
            text = str(result)
        return f"{self.name}:\n\n{text.strip()}"


async def build_content(
    ai: "WorkersAI", message: str, attached: Sequence[AttachedFile]
) -> list[str | bytes]:
    """The content of a message: the texts of the files, the message, and the images."""
    texts = [await file.read_text(ai) for file in attached if not file.is_image]
    return ["\n\n".join([*texts, message]), *(file.data for file in attached if file.is_image)]


def parse_schema(argument: str) -> dict[str, Any]:
    """Read a JSON schema, or the short form `name:str, age:int`, from an argument.

    Raises:
        InputError: It is neither.
    """
    text = files.read_text_argument(argument)
    if text.lstrip().startswith("{"):
        import json

        try:
            schema: dict[str, Any] = json.loads(text)
        except ValueError as exc:
            raise InputError(f"--schema must be a JSON schema: {exc}") from exc
        return schema
    properties: dict[str, Mapping[str, Any]] = {}
    for part in text.split(","):
        field = _FIELD.fullmatch(part)
        if field is None or (field[2] or "str") not in _TYPES:
            types = ", ".join(_TYPES)
            rule = f'a JSON schema or a list like "name:str, age:int" of the types {types}'
            raise InputError(f"--schema must be {rule}, got {part.strip()!r}")
        properties[field[1]] = _TYPES[field[2] or "str"]
    return {"type": "object", "properties": properties, "required": list(properties)}
