"""`Embedder`: a column of texts in, a column of vectors out, in whatever process it is called."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypedDict, overload

from attrs import Attribute, define, field, setters

from cfai._gate import Adaptive, Concurrency, Rate, per_minute
from cfai.distributed import _columns, _worker
from cfai.distributed._columns import Vectors
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

    What comes back is of the kind that went in, row by row:

    ==============================  ==============================================================
    a list, or another iterable     a list of `array("f")`, and `None`
    a NumPy array                   an array of float32, (rows, dimension); NaN where there is none
    a pandas Series                 a Series of float32 arrays, with the same index, and `None`
    an Array of pyarrow's           FixedSizeList<float32>, and null; chunked where the texts are
    a DataFrame, Table, RecordBatch the same with a column more; it takes *column*
    a dict of columns               likewise
    a Series of Daft, of Polars     as that of pyarrow
    ==============================  ==============================================================

    A text that is missing (`None`, NaN, null) is not sent, and has no vector.

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
        per_minute(self.model, self.rate)
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
        given = _columns.column(column, self.column, self.into)
        there = [text is not None for text in given.texts]
        texts = [text for text in given.texts if text is not None]
        if not texts:
            return given.build(Vectors(array("f"), profile(self.model).dimension or 0, there))
        worker = _worker.here()
        return given.build(worker.run(partial(self._embed, worker, texts, there)))

    async def _embed(
        self, worker: _worker.Worker, texts: Sequence[str], there: list[bool]
    ) -> Vectors:
        rows = [row for row, is_there in enumerate(there) if is_there]
        buffer: array[float] = array("f")
        client = worker.client({**self.client})
        async with client.embed_many(self.model, texts, options=self.options, **self._job()) as job:
            async for item in job:
                if isinstance(item, EmbedFailure):
                    there[rows[item.start]] = False
                else:
                    buffer += item.vectors.buffer
        count = sum(there)
        known = profile(self.model).dimension or 0
        return Vectors(buffer, len(buffer) // count if count else known, there)

    def _job(self) -> JobOptions:
        rate = per_minute(self.model, self.rate)
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
