"""What is handed over for conversion, and how it is wanted."""

from attrs import field, frozen


@frozen
class File:
    """A file of a form."""

    name: str
    kind: str
    """Its media type."""
    data: bytes = field(repr=False)


@frozen(kw_only=True)
class Wanted:
    """How the text is wanted."""

    plain: bool = False
    """Without Markdown."""
    metadata: bool = True
    """With what a PDF says of itself."""


@frozen(kw_only=True)
class Limits:
    """What the conversion of one file may take."""

    seconds: float = 30.0
    memory: int = 1 << 30
    """In bytes; kept where the operating system is Linux."""


@frozen
class Outcome:
    """A file's text, or why it has none."""

    text: str | None = field(repr=False)
    error: str | None = None
