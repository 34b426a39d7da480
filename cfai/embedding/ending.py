"""How a job ends, which is decided once, and what its texts were at the time."""

from collections.abc import Sequence

from cfai.embedding.source import Chunk
from cfai.embedding.values import EmbeddedBatch, EmbedFailure
from cfai.errors import ConfigError


class Ending:
    """A job ends closed, or with an error, or else with all that its source gave."""

    def __init__(self) -> None:
        self._failure: BaseException | None = None
        self._closed = False
        self._blamed = False
        self.unread: BaseException | None = None
        """Why the source was not read to its end. What came before is embedded nevertheless."""

    @property
    def over(self) -> bool:
        """Whether it is decided."""
        return self._closed or self._failure is not None

    def fail(self, error: BaseException) -> bool:
        """End with *error*, where nothing was decided; whether that is so."""
        if self.over:
            return False
        self._failure = error
        return True

    def close(self) -> None:
        """End before all was given, where nothing was decided."""
        self._closed = self._closed or not self.over

    def blame(self, error: BaseException, items: Sequence[EmbeddedBatch | EmbedFailure]) -> None:
        """Note at *error*, where it is what it ends with, which of the texts it is about."""
        blamed = [item for item in items if isinstance(item, EmbedFailure) and item.error is error]
        if error is not self._failure or self._blamed or not blamed:
            return
        self._blamed = True
        first, last = blamed[0], blamed[-1]
        note = f"it is text number {first.start} (from 0)"
        if last is not first:
            note = f"it is one of the texts number {first.start} to {last.start} (from 0)"
        elif first.id != first.start:
            note += f", id {first.id!r:.100}"
        error.add_note(note)

    def check(self) -> None:
        """Raise what it ended with.

        Raises:
            ConfigError: It was closed.
            BaseException: What it failed with; or the source's own, where nothing else failed.
        """
        if self._closed:
            raise ConfigError("this job was closed while it was read")
        error = self._failure or self.unread
        if error is not None:
            raise error


def cancelled_outside(chunk: Chunk) -> ConfigError:
    """The error of a job one of whose tasks somebody else cancelled."""
    last = chunk.start + len(chunk.texts) - 1
    which = f"texts number {chunk.start} to {last}"
    return ConfigError(f"a task of this job was cancelled from outside: {which} are not embedded")
