"""`Embedder`: a column of texts in, a column of vectors out, in whatever process it is called."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, TypedDict, overload

from attrs import Attribute, define, field, setters

from cfai._session.limits import Adaptive, Concurrency, Rate, requests_per_minute
from cfai.distributed import _columns, _worker
from cfai.distributed._columns import Found
from cfai.embedding import EmbedFailure, JobOptions, Plan
from cfai.errors import InputError
from cfai.profiles import profile
from cfai.settings import Gateway, Options, Retries, Timeouts
from cfai.tasks import Pooling

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


class ClientOptions(TypedDict, total=False):
    """The arguments of `cfai.WorkersAI` that can go to another process: all but `session`."""

    account_id: str | None
    api_token: str | None
    api_email: str | None
    api_key: str | None
    base_url: str | None
    gateway: Gateway | str | None
    timeouts: Timeouts
    retries: Retries
    limit: int
    concurrency: Concurrency
    headers: Mapping[str, str] | None
    proxy: str | None
    max_answer_bytes: int
    max_event_bytes: int
    allow_insecure: bool


_NAMES = frozenset(ClientOptions.__annotations__)


def _workers(_: object, __: Attribute[Any], value: object) -> None:
    if type(value) is not int or value < 1:
        raise InputError(f"workers must be a whole number, 1 or more, got {value!r}")


def _a_name(_: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, str):
        raise InputError(f"{attribute.name} must be the name of a column, got {value!r}")


def _maybe_a_name(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None:
        _a_name(_, attribute, value)


def _on_error(_: object, __: Attribute[Any], value: object) -> None:
    if value not in ("raise", "null"):
        raise InputError(f"on_error must be raise or null, got {value!r}")


def _own(options: ClientOptions) -> ClientOptions:
    """Options that the user no longer changes. What are none is for the validator to refuse."""
    return copy(options)


def _client(_: object, __: Attribute[Any], value: object) -> None:
    if not isinstance(value, dict):
        raise InputError(f"client must be a dict, got {type(value).__name__}")
    if "session" in value:
        raise InputError("client can't have a session: it belongs to one process")
    for name in value:
        if name not in _NAMES:
            raise InputError(f"client must have arguments of WorkersAI only, got {name!r}")


# Not `frozen`: Ray derives a class of its own from this, whose instances have more attributes.
@define(eq=False, on_setattr=setters.frozen)
class Embedder:
    """A callable that embeds a column of texts, made in one process and called in others.

    It can be pickled. In each process where it is called it makes a client, and one event loop on a
    thread, when it is first called there; all its threads share them. The credentials are read from
    the environment of that process, unless they are in *client*, which travels along.

    ```python
    embedder = Embedder("@cf/baai/bge-m3", workers=4)
    vectors = embedder(["one", "two"])
    ```

    What comes back is of the kind that went in, with a row for each text: a list, an array of
    NumPy's or of pyarrow's, a Series. A table (a DataFrame, a Table, a RecordBatch, a dict of
    columns) comes back with a column more. A text that is missing has no vector, and isn't sent.

    Raises:
        InputError: A value is out of its bounds.
    """

    model: str

    workers: int = field(default=1, kw_only=True, validator=_workers)
    """How many processes embed at the same time, at most. Each keeps to its share of *rate*."""

    column: str | None = field(default=None, kw_only=True, validator=_maybe_a_name)
    """What the texts of a table are called."""

    into: str = field(default="vector", kw_only=True, validator=_a_name)
    """What the vectors of a table are called."""

    on_error: Literal["raise", "null"] = field(default="raise", kw_only=True, validator=_on_error)
    """"raise" ends the call at the first text that can't be embedded; with "null" it has no vector.
    What isn't about the texts (credentials, the model, a used-up quota) ends every call."""

    errors: str | None = field(default=None, kw_only=True, validator=_maybe_a_name)
    """What a column of a table is called that says why a text has no vector; with "null" only."""

    rate: Rate = field(default="auto", kw_only=True)
    """Requests a minute of all workers together, as in `cfai.embedding.JobOptions`."""

    concurrency: Concurrency = field(default=Adaptive(), kw_only=True)
    """Requests under way at once, of one call."""

    batch_size: int | None = field(default=None, kw_only=True)
    """Texts in one request; as many as the model takes."""

    max_batch_chars: int | None = field(default=None, kw_only=True)
    """Characters in one request; no limit."""

    pooling: Pooling | None = field(default=None, kw_only=True)
    """As for `cfai.TextEmbeddings`."""

    truncate: bool | None = field(default=None, kw_only=True)
    """As `truncate_inputs` of `cfai.TextEmbeddings`."""

    dedupe: bool = field(default=False, kw_only=True)
    """Send texts that are equal, within one call, once."""

    options: Options | None = field(default=None, kw_only=True)
    """What differs for its requests."""

    client: ClientOptions = field(
        factory=ClientOptions, kw_only=True, repr=False, converter=_own, validator=_client
    )
    """Arguments of `cfai.WorkersAI`. A secret among them is in every pickle of this."""

    def __attrs_post_init__(self) -> None:
        if self.errors is not None and self.on_error != "null":
            raise InputError("errors needs on_error='null': otherwise the call ends at the first")
        requests_per_minute(self.model, self.rate)
        Plan(self.model, **self._job())

    @overload
    def __call__(self, column: Sequence[str | None], /) -> list[array[float] | None]: ...
    @overload
    def __call__(self, column: NDArray[Any], /) -> NDArray[float32]: ...
    @overload
    def __call__(self, column: Any, /) -> Any: ...
    def __call__(self, column: Any, /) -> Any:
        """Embed a column, or the column of a table; it blocks the thread until all is there.

        Raises:
            InputError: It is no column of texts. Nothing was sent.
            ConfigError: The environment of this process has no account or no credentials.
            CfaiError: The texts couldn't be embedded.
        """
        given = _columns.column(column, self.column)
        texts = [text for text in given.texts if text is not None]
        if texts:
            worker = _worker.here()
            found = worker.run(partial(self._embed, worker, given.texts, texts))
        else:
            found = self._found(given.texts, array("f"), {})
        if given.table is None:
            return given.vectors(found)
        new = {self.into: given.vectors(found)}
        if self.errors is not None:
            new[self.errors] = given.words(found.errors)
        return given.table(new)

    async def _embed(
        self, worker: _worker.Worker, rows: Sequence[str | None], texts: Sequence[str]
    ) -> Found:
        buffer: array[float] = array("f")
        failed: dict[int, str] = {}
        client = worker.client({**self.client})
        async with client.embed_many(self.model, texts, options=self.options, **self._job()) as job:
            async for item in job:
                if isinstance(item, EmbedFailure):
                    failed[item.start] = str(item.error)
                else:
                    buffer += item.vectors.buffer
        return self._found(rows, buffer, failed)

    def _found(
        self, rows: Sequence[str | None], buffer: array[float], failed: Mapping[int, str]
    ) -> Found:
        """What became of all *rows*, of which only those with a text were sent."""
        places = count()
        errors = [None if text is None else failed.get(next(places)) for text in rows]
        there = [
            text is not None and error is None for text, error in zip(rows, errors, strict=True)
        ]
        known = profile(self.model).dimension or 0
        return Found(buffer, len(buffer) // sum(there) if any(there) else known, there, errors)

    def _job(self) -> JobOptions:
        rate = requests_per_minute(self.model, self.rate)
        return {
            "batch_size": self.batch_size,
            "max_batch_chars": self.max_batch_chars,
            "concurrency": self.concurrency,
            "rate": None if rate is None else rate / self.workers,
            "on_error": "yield" if self.on_error == "null" else "raise",
            "pooling": self.pooling,
            "truncate": self.truncate,
            "dedupe": self.dedupe,
        }
