"""`Embedder`: turns a column of texts into a column of vectors, in any process."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Literal, TypedDict, overload

from attrs import Attribute, define, field, setters

from cfai._session.limits import Adaptive, Concurrency, Rate, requests_per_minute
from cfai._validators import at_least, instance_of, one_of
from cfai.distributed import _worker
from cfai.embedding import EmbedFailure, JobOptions, Plan
from cfai.embedding.columns import (
    ColumnResult,
    add_to_table,
    build_strings,
    build_vectors,
    read_column,
)
from cfai.embedding.results import find_missing_texts
from cfai.embedding.splitting import LongTexts
from cfai.errors import InputError
from cfai.profiles import profile
from cfai.settings import Gateway, Options, Retries, Timeouts
from cfai.tasks import Pooling

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


class ClientOptions(TypedDict, total=False):
    """The arguments of `cfai.WorkersAI` except `session`, which cannot go to another process."""

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
    budget: float | None
    headers: Mapping[str, str] | None
    proxy: str | None
    max_answer_bytes: int
    max_event_bytes: int
    allow_insecure: bool


_CLIENT_OPTIONS = frozenset(ClientOptions.__annotations__)


_is_column_name = instance_of(str, "the name of a column")


def _copy_options(options: ClientOptions) -> ClientOptions:
    """Return options that the caller cannot change; the validator raises for other values."""
    return copy(options)


def _check_client(_: object, __: Attribute[Any], value: object) -> None:
    if not isinstance(value, dict):
        raise InputError(f"client must be a dict, got {type(value).__name__}")
    if "session" in value:
        raise InputError("client must not have a session: it cannot go to another process")
    for name in value:
        if name not in _CLIENT_OPTIONS:
            raise InputError(f"client must have only arguments of WorkersAI, got {name!r}")


# Not `frozen`: Ray derives a class of its own from this, whose instances have more attributes.
@define(eq=False, on_setattr=setters.frozen)
class Embedder:
    """A callable that embeds a column of texts, created in one process and called in others.

    It can be pickled. The first call in a process creates a client, and a thread with an event
    loop, which all threads of the process share. The credentials are read from the environment of
    that process, unless they are in *client*, which is pickled along.

    ```python
    embedder = Embedder("@cf/baai/bge-m3", workers=4)
    vectors = embedder(["one", "two"])
    ```

    The result has the kind of the argument, with a row for each text: a list, a NumPy array, an
    Arrow array, or a Series. A table (a DataFrame, an Arrow Table or RecordBatch, a dict of
    columns) is returned with one more column. A missing text is not sent, nor is a value that is
    no text; *on_error* says what becomes of its row.

    Raises:
        InputError: An option is out of bounds.
    """

    model: str

    workers: int = field(default=1, kw_only=True, validator=at_least(1))
    """The most processes that embed at the same time. Each keeps to its share of *rate*."""

    column: str | None = field(default=None, kw_only=True, validator=_is_column_name)
    """The column of a table that has the texts."""

    into: str = field(default="vector", kw_only=True, validator=_is_column_name)
    """The column of a table for the vectors."""

    on_error: Literal["raise", "null"] = field(
        default="raise", kw_only=True, validator=one_of(("raise", "null"))
    )
    """What to do with a text that is missing or cannot be embedded: "raise" ends the call, "null"
    leaves it without a vector. Errors that concern all texts (credentials, the model, the quota)
    always end the call."""

    errors: str | None = field(default=None, kw_only=True, validator=_is_column_name)
    """The column of a table for the errors of texts without a vector; needs on_error="null"."""

    rate: Rate = field(default="auto", kw_only=True)
    """Requests per minute of all workers together; see `cfai.embedding.JobOptions`."""

    concurrency: Concurrency = field(default=Adaptive(), kw_only=True)
    """Concurrent requests of one call."""

    batch_size: int | None = field(default=None, kw_only=True)
    """Texts per request; by default as many as the model takes."""

    max_batch_chars: int | None = field(default=None, kw_only=True)
    """Characters per request; no limit by default."""

    pooling: Pooling | None = field(default=None, kw_only=True)
    """See `cfai.TextEmbeddings`."""

    truncate: bool | None = field(default=None, kw_only=True)
    """See `truncate_inputs` of `cfai.TextEmbeddings`."""

    long: LongTexts = field(default="warn", kw_only=True)
    """What to do with long texts; see `cfai.embedding.JobOptions`. With "split", the vector of a
    row is the mean of the vectors of its text's pieces (`pool="mean"`)."""

    dedupe: bool = field(default=False, kw_only=True)
    """Send equal texts of one call once."""

    options: Options | None = field(default=None, kw_only=True)
    """Options of its requests."""

    client: ClientOptions = field(
        factory=ClientOptions,
        kw_only=True,
        repr=False,
        converter=_copy_options,
        validator=_check_client,
    )
    """Arguments of `cfai.WorkersAI`. Secrets among them are part of every pickle."""

    def __attrs_post_init__(self) -> None:
        if self.errors is not None and self.on_error != "null":
            raise InputError(
                "errors needs on_error='null': with 'raise', the first error ends the call"
            )
        Plan(self.model, **self._build_job_options())

    @overload
    def __call__(self, column: Sequence[str | None], /) -> list[array[float] | None]: ...
    @overload
    def __call__(self, column: NDArray[Any], /) -> NDArray[float32]: ...
    @overload
    def __call__(self, column: Any, /) -> Any: ...
    def __call__(self, column: Any, /) -> Any:
        """Embed a column, or the column of a table. It blocks the calling thread.

        Raises:
            InputError: It is not a column of texts. Nothing was sent.
            ConfigError: The environment of this process has no account or no credentials.
            CfaiError: A request failed.
        """
        texts = read_column(column, self.column)
        missing = find_missing_texts(texts.texts)
        if len(missing) < len(texts.texts) or (missing and self.on_error == "raise"):
            worker = _worker.current_worker()
            result = worker.run(self._embed, worker, texts.texts)
        else:  # Nothing is to be sent, so no credentials are needed.
            failed = {row: str(error) for row, error in missing.items()}
            result = self._build_result(len(texts.texts), array("f"), failed)
        vectors = build_vectors(texts.values, result)
        if texts.table is None:
            return vectors
        columns = {self.into: vectors}
        if self.errors is not None:
            columns[self.errors] = build_strings(texts.values, result.errors)
        return add_to_table(texts.table, columns)

    async def _embed(
        self, worker: _worker.Worker, rows: Sequence[str | InputError | None]
    ) -> ColumnResult:
        """Embed the rows."""
        buffer: array[float] = array("f")
        failed: dict[int, str] = {}
        client = worker.client({**self.client})
        async with client.embed_many(
            self.model, rows, options=self.options, **self._build_job_options()
        ) as job:
            async for item in job:
                if isinstance(item, EmbedFailure):
                    failed[item.start] = item.reason
                else:
                    buffer += item.vectors.buffer
        return self._build_result(len(rows), buffer, failed)

    def _build_result(
        self, rows: int, buffer: array[float], failed: Mapping[int, str]
    ) -> ColumnResult:
        """Build the result of all rows; *failed* has the errors by row."""
        errors = [failed.get(row) for row in range(rows)]
        present = [error is None for error in errors]
        if any(present):
            dimension = len(buffer) // sum(present)
        else:
            dimension = profile(self.model).dimension or 0
        return ColumnResult(buffer, dimension, present, errors)

    def _build_job_options(self) -> JobOptions:
        rate = requests_per_minute(self.model, self.rate)
        return {
            "batch_size": self.batch_size,
            "max_batch_chars": self.max_batch_chars,
            "concurrency": self.concurrency,
            "rate": None if rate is None else rate / self.workers,
            "on_error": "yield" if self.on_error == "null" else "raise",
            "pooling": self.pooling,
            "truncate": self.truncate,
            "long": self.long,
            "pool": "mean" if self.long == "split" else None,
            "dedupe": self.dedupe,
        }
