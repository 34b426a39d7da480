"""What models answer that draw, speak and listen: images, sounds and transcripts."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from cfai.tasks._base import Answer
from cfai.tasks._value import Value


@frozen(eq=False, repr=False)
class Binary(Answer):
    """A file that a model made."""

    data: bytes = field(repr=False)
    """The file, as the model encoded it."""

    media_type: str
    """Its type, "image/png" for one."""

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file to *path*, over what is there, and give the path.

        The name is taken as it is: whether its ending fits `media_type` is not looked at.
        """
        target = Path(path)
        target.write_bytes(self.data)
        return target


@frozen(eq=False, repr=False)
class Image(Binary):
    """An image. The model chooses how it is encoded."""


@frozen(eq=False, repr=False)
class Audio(Binary):
    """A sound. The model chooses how it is encoded, where the task does not."""


@frozen(eq=False, repr=False)
class Word(Value):
    """A word of a recording."""

    word: str

    start: float | None = None
    """When it begins, in seconds from the beginning."""

    end: float | None = None
    """When it is over, in seconds from the beginning."""


@frozen(eq=False, repr=False)
class Segment(Value):
    """A stretch of a recording, often a sentence."""

    text: str

    start: float | None = None
    """When it begins, in seconds from the beginning."""

    end: float | None = None
    """When it is over, in seconds from the beginning."""

    words: tuple[Word, ...] = ()


@frozen(eq=False, repr=False)
class Transcript(Answer):
    """What is said in a recording. `str()` of it is the text."""

    text: str

    vtt: str | None = None
    """Subtitles (WebVTT), where the model makes them."""

    word_count: int | None = None

    words: tuple[Word, ...] = ()
    """All words, with their times."""

    segments: tuple[Segment, ...] = ()

    info: Mapping[str, Any] | None = None
    """What else the model says of the recording: its language and duration, for two."""

    def __str__(self) -> str:
        return self.text
