"""Files as Markdown, and which kinds of files become it."""

from typing import Any

from attrs import field, frozen


@frozen
class Markdown:
    """What became of one file: its text, or why there is none.

    Source: Cloudflare docs, Workers AI, "Markdown conversion".
    """

    name: str
    """The file's name, as it was sent."""

    text: str | None = field(default=None, kw_only=True, repr=False)
    """The Markdown; `None` where the file failed."""

    error: str | None = field(default=None, kw_only=True)
    """Why the file failed; `None` where it did not."""

    format: str | None = field(default=None, kw_only=True)
    """"markdown", or "text" where that was asked for; "error" where the file failed."""

    mime_type: str | None = field(default=None, kw_only=True)
    tokens: int | None = field(default=None, kw_only=True)
    """How many tokens the text has, about."""

    id: str | None = field(default=None, kw_only=True)
    raw: Any = field(default=None, kw_only=True, repr=False, eq=False)

    @property
    def failed(self) -> bool:
        """Whether there is an error in place of a text."""
        return self.text is None

    def __str__(self) -> str:
        return self.text or ""


@frozen
class MarkdownFormat:
    """A kind of file that the service converts."""

    extension: str
    """With its dot: ".html"."""

    mime_type: str
