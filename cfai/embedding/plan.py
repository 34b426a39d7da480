"""How a job shall go, checked before anything is read or sent."""

from collections.abc import Callable
from inspect import iscoroutinefunction
from os import PathLike
from pathlib import Path
from typing import Any, Final, Literal, TypedDict

from attrs import Attribute, field, frozen

from cfai._session.limits import Adaptive, Concurrency, Rate, concurrency_limit, requests_per_minute
from cfai._wire.requests import check_model_name
from cfai.embedding.values import Progress
from cfai.errors import InputError
from cfai.profiles import profile
from cfai.settings import Polling
from cfai.tasks import Pooling, TextEmbeddings

OnError = Literal["raise", "yield", "skip"]
"""What becomes of a text that can't be embedded."""

Mode = Literal["direct", "queue"]
"""Whether each request is answered at once, or many are handed over and done later."""

_TEXTS: Final = 100
"""How many texts go into one request, where nothing is known of the model."""


class BatchOptions(TypedDict, total=False):
    """The options of `WorkersAI.embed_many` but `on_error`; each can be left out."""

    batch_size: int | None
    """Texts in one request; as many as the model takes (100 for bge models, 32 for others)."""
    max_batch_chars: int | None
    """Characters in one request; no limit. A longer text goes by itself."""
    concurrency: Concurrency
    """Requests under way at once: `Adaptive()`, a number, or `None`. There are never more than the
    client's `limit` (100, unless it was told otherwise), nor than its own `concurrency`."""
    rate: Rate
    """Requests a minute: "auto" is the documented limit of the model. Jobs of a client that name
    the same share it, and all its jobs together keep to the highest, or the documented one. Its
    other calls count towards it; 25 may go at once. `None` is no limit."""
    ordered: bool
    """Whether batches come in the order of the source, as they do by default. Otherwise each comes
    as soon as it is there."""
    mode: Mode
    """"direct" (the default) asks and is answered. "queue" hands requests over to the service's
    queue, up to 1,000 texts at a time, and looks until they are done: it takes minutes, and is not
    refused for want of capacity. Then *concurrency* is how many such batches are under way."""
    polling: Polling | None
    """How often to look at what is in the queue; the first time after a second. As long, a batch
    that isn't full waits for more texts."""
    pooling: Pooling | None
    """As for `TextEmbeddings`."""
    truncate: bool | None
    """As `truncate_inputs` of `TextEmbeddings`."""
    dedupe: bool
    """Send equal texts once. Then every vector stays in memory until the job ends."""
    checkpoint: str | PathLike[str] | None
    """A folder for what is finished (the extra `arrow`). A job that finds it there goes on from it:
    nothing is embedded twice, and a kill at any moment costs only what was under way."""
    retry_failed: bool
    """Ask again for texts whose failure is in the checkpoint; with `on_error="raise"`, always."""
    progress: bool | Callable[[Progress], object]
    """True shows a bar (the extra `progress`); a function is called after every batch. What it
    raises ends the job."""


class JobOptions(BatchOptions, total=False):
    """All options of `WorkersAI.embed_many`: those of `BatchOptions`, and *on_error*."""

    on_error: OnError
    """"raise" (the default) ends the job at the first text that can't be embedded, "yield" gives an
    `EmbedFailure` in its place, "skip" leaves it out. What isn't about the texts (credentials, the
    model, a used-up quota) ends every job."""


def _model(_: object, __: "Attribute[Any]", value: str) -> None:
    check_model_name(value)


def _concurrency(_: object, __: "Attribute[Any]", value: Concurrency) -> None:
    concurrency_limit(value)


def _flag(_: object, attribute: "Attribute[Any]", value: object) -> None:
    if not isinstance(value, bool):
        raise InputError(f"{attribute.name} must be true or false, got {value!r:.100}")


def _listener(_: object, __: "Attribute[Any]", value: object) -> None:
    if isinstance(value, bool):
        return
    if not callable(value):
        raise InputError(f"progress must be true, false or a function, got {value!r:.100}")
    if iscoroutinefunction(value) or iscoroutinefunction(getattr(value, "__call__", None)):  # noqa: B004  # its type
        raise InputError("progress must be a function that isn't async: nobody would wait for it")


def _folder(value: object) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str | PathLike) or not str(value):
        raise InputError(f"checkpoint must be the path of a folder, got {value!r:.100}")
    return Path(value)


def _positive(_: object, attribute: "Attribute[Any]", value: int | None) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise InputError(f"{attribute.name} must be a whole number, 1 or more, got {value!r}")


def _one_of(*known: str) -> Callable[[object, "Attribute[Any]", str | None], None]:
    def check(_: object, attribute: "Attribute[Any]", value: str | None) -> None:
        if value not in known:
            raise InputError(f"{attribute.name} must be one of {', '.join(known)}, got {value!r}")

    return check


def _or_default(given: Polling | None) -> Polling:
    return Polling() if given is None else given


def _polling(_: object, attribute: "Attribute[Any]", value: object) -> None:
    if not isinstance(value, Polling):
        raise InputError(f"{attribute.name} must be a Polling, got {type(value).__name__}")


@frozen
class Plan:
    """The options of one job; `JobOptions` says what they mean.

    Raises:
        InputError: One is out of its bounds, or more than the model takes.
    """

    model: str = field(validator=_model)
    batch_size: int | None = field(default=None, kw_only=True, validator=_positive)
    max_batch_chars: int | None = field(default=None, kw_only=True, validator=_positive)
    concurrency: Concurrency = field(default=Adaptive(), kw_only=True, validator=_concurrency)
    rate: Rate = field(default="auto", kw_only=True)
    ordered: bool = field(default=True, kw_only=True, validator=_flag)
    on_error: OnError = field(
        default="raise", kw_only=True, validator=_one_of("raise", "yield", "skip")
    )
    mode: Mode = field(default="direct", kw_only=True, validator=_one_of("direct", "queue"))
    polling: Polling = field(default=None, kw_only=True, converter=_or_default, validator=_polling)
    pooling: Pooling | None = field(default=None, kw_only=True)
    truncate: bool | None = field(default=None, kw_only=True)
    dedupe: bool = field(default=False, kw_only=True, validator=_flag)
    checkpoint: Path | None = field(default=None, kw_only=True, converter=_folder)
    retry_failed: bool = field(default=False, kw_only=True, validator=_flag)
    progress: bool | Callable[[Progress], object] = field(
        default=False, kw_only=True, validator=_listener
    )

    def __attrs_post_init__(self) -> None:
        requests_per_minute(self.model, self.rate)
        # What the options are bounded by is known to the input that they become part of.
        TextEmbeddings(["x"], pooling=self.pooling, truncate_inputs=self.truncate)
        most = profile(self.model).texts_per_request
        if self.batch_size is not None and most is not None and self.batch_size > most:
            raise InputError(
                f"batch_size must be at most {most} for {self.model}, got {self.batch_size}"
            )

    @property
    def texts_at_once(self) -> int:
        """How many texts go into one request at most."""
        return self.batch_size or profile(self.model).texts_per_request or _TEXTS
