"""What a job gives: batches of vectors, failures, and figures on how it goes."""

from collections.abc import Sequence
from typing import Any

from attrs import field, frozen

from cfai.errors import CfaiError
from cfai.tasks import Embeddings, Usage


@frozen(eq=False)
class EmbeddedBatch:
    """The vectors of some texts that stood next to each other in the source."""

    start: int
    """The place of the first of them in the source, from 0."""

    ids: Sequence[Any]
    """Their ids, or their places where they came without."""

    vectors: Embeddings
    """One for each, in their order."""

    usage: Usage | None = None
    """What their requests cost, where the service said so; `None` also where nothing was asked.
    With a checkpoint or `dedupe`, it stands with the first batch of what was asked together."""

    texts: Sequence[str] = field(default=(), repr=False)

    def __len__(self) -> int:
        return self.vectors.shape[0]


@frozen(eq=False)
class EmbedFailure:
    """A text that has no vector, and why."""

    start: int
    """Its place in the source, from 0."""

    id: Any
    """Its id, or its place where it came without."""

    text: str = field(repr=False)

    error: CfaiError


@frozen(kw_only=True)
class JobStats:
    """How a job goes, or went."""

    texts: int = 0
    """That have their vectors."""
    known: int = 0
    """Those of them that nobody was asked for: the vector was in the checkpoint, or is that of an
    equal text (`dedupe`)."""
    failed: int = 0
    """Texts that have none, and won't."""
    requests: int = 0
    """Attempts that were sent."""
    refusals: int = 0
    """Attempts that the service refused for their number (429)."""
    retries: int = 0
    """Attempts that repeated an earlier one."""
    waited: float = 0.0
    """Seconds that attempts waited for their turn, summed over all."""
    seconds: float = 0.0
    """From the first text read to now, or to the end."""
    limit: float = 0.0
    """How many attempts may be under way at once, at present; infinity is no limit."""

    @property
    def texts_per_second(self) -> float:
        """Over the whole time, those that were known aside; 0 at the very start."""
        return (self.texts - self.known) / self.seconds if self.seconds else 0.0


@frozen
class Progress:
    """What a `progress` function hears, after every batch."""

    stats: JobStats

    total: int | None
    """How many texts there are, where the source has a length."""

    @property
    def done(self) -> int:
        """Texts that are settled, one way or the other."""
        return self.stats.texts + self.stats.failed

    @property
    def seconds_left(self) -> float | None:
        """What remains at the present speed, where that is known."""
        asked = self.done - self.stats.known
        if self.total is None or (self.total > self.done and not asked):
            return None
        return (self.total - self.done) * self.stats.seconds / max(asked, 1)
