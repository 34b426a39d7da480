"""Options of an embedding job, checked before anything is read or sent."""

import os
from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, Final, Literal, TypedDict, get_args

from attrs import Attribute, field, frozen
from attrs.validators import optional

from cfai._session.limits import Adaptive, Concurrency, Rate, concurrency_limit, requests_per_minute
from cfai._types.excerpts import format_value
from cfai._validators import (
    at_least,
    check_at_least,
    check_path,
    instance_of,
    is_finite_number,
    one_of,
)
from cfai._wire.requests import check_run_model
from cfai.embedding.results import Progress
from cfai.embedding.source import TokenLimits
from cfai.embedding.splitting import LongTexts, Pool, Split, Splitter, TokenEstimate, Window
from cfai.errors import InputError
from cfai.profiles import profile
from cfai.settings import Polling
from cfai.tasks import Pooling, TextEmbeddings

OnError = Literal["raise", "yield", "skip"]
"""What a job does with a text that cannot be embedded."""

Mode = Literal["direct", "queue"]
"""Whether requests are answered at once, or go through the service's queue."""

_DEFAULT_BATCH_SIZE: Final = 100
"""Texts per request for models that are not in the profiles."""

_LEAST_PIECE: Final = 16
"""Tokens of a piece: with fewer, there would be none for its text."""

_MOST_OVERLAP: Final = 0.5

_DEFAULT_OVERLAP: Final = 0.1
"""Enough for a sentence or two, so that an answer near a cut is whole in one of the pieces. A mean
would count what is repeated twice."""


class BatchOptions(TypedDict, total=False):
    """The options of `WorkersAI.embed_many` except `on_error`; all are optional."""

    column: str | int | None
    """The column of texts, if they are in a table or in rows."""
    id_column: str | int | None
    """The column of ids; by default, ids are the places of the texts."""
    batch_size: int | None
    """Texts per request; by default as many as the model takes (100 for bge models, 32 for
    others)."""
    max_batch_chars: int | None
    """Characters per request; no limit by default. A longer text is sent alone. A limit in tokens,
    which bge-m3 has (60,000 per request and 8,192 per text), is respected by an estimate."""
    concurrency: Concurrency
    """Concurrent requests: `Adaptive()` (the default), a number, or `None` for no limit. The
    client's `limit` (100 by default) and its own `concurrency` apply as well."""
    rate: Rate
    """Requests per minute: "auto" (the default) is the documented limit of the model, `None` is no
    limit. Up to 25 requests may be sent at once. Jobs of a client with the same number share it,
    all its jobs together keep to the highest number or the documented limit, and its other calls
    count towards it."""
    ordered: bool
    """Whether batches come in the order of the source (the default), or as soon as they are
    embedded."""
    mode: Mode
    """"direct" (the default) waits for the answer to each request. "queue" sends requests through
    the service's queue, up to 1,000 texts at a time, and polls until they are done. That takes
    minutes, but requests are not rate-limited for lack of capacity. *concurrency* then limits the
    batches in the queue."""
    polling: Polling | None
    """How often to poll the queue; by default first after 1 second. A batch that is not full waits
    for more texts as long as before the first poll."""
    pooling: Pooling | None
    """See `TextEmbeddings`."""
    truncate: bool | None
    """See `truncate_inputs` of `TextEmbeddings`."""
    long: LongTexts
    """What to do with a text that is probably longer than the model reads (512 tokens for the
    English bge models): "warn" (the default) lets the model cut it, counts it in `stats.truncated`
    and logs one warning; "fail" makes it an error that `on_error` decides about; "split" embeds
    it in pieces. The length is an estimate of rather too many tokens."""
    pool: Pool | None
    """With `long="split"`: `None` (the default) gives a vector for each piece; "mean" gives one
    for each text, the mean of its pieces' vectors, weighted by their characters."""
    piece_tokens: int | None
    """With `long="split"`: tokens of a piece, at least 16; by default as many as the model
    reads. A text with fewer is one piece."""
    overlap: float | None
    """With `long="split"`: the share of a piece that the next one repeats at most, up to 0.5; by
    default 0.1, and 0 with `pool="mean"`."""
    split: Split | None
    """With `long="split"`: a function that cuts a text, instead of the built-in one. It is called
    in a thread, and returns the pieces as they are in the text, or tuples (start, end)."""
    dedupe: bool
    """Send equal texts once. All vectors then stay in memory until the job ends."""
    checkpoint: str | os.PathLike[str] | None
    """A file for finished texts. A job with an existing file resumes, and embeds only the texts
    that are not in it. A killed process can lose the batches in flight, and batches that were
    answered but not written yet; never one that the job has returned."""
    retry_failed: bool
    """Embed the texts again whose error is in the checkpoint. Always on with
    `on_error="raise"`."""
    progress: bool | Callable[[Progress], object]
    """True shows a progress bar (needs the extra `progress`); a function is called after every
    batch. An exception from the function ends the job."""


class JobOptions(BatchOptions, total=False):
    """All options of `WorkersAI.embed_many`: those of `BatchOptions`, and *on_error*."""

    on_error: OnError
    """What to do with a text that cannot be embedded: "raise" (the default) ends the job, "yield"
    yields an `EmbedFailure` in its place, "skip" leaves it out. Errors that concern all texts
    (credentials, the model, the quota) always end the job."""


def _check_model(_: object, __: "Attribute[Any]", value: str) -> None:
    check_run_model(value)


def _check_concurrency(_: object, __: "Attribute[Any]", value: Concurrency) -> None:
    concurrency_limit(value)


def _check_progress(_: object, __: "Attribute[Any]", value: object) -> None:
    if isinstance(value, bool):
        return
    if not callable(value):
        raise InputError(f"progress must be true, false or a function, got {format_value(value)}")
    _check_synchronous("progress", value)


def _check_synchronous(name: str, function: Callable[..., object]) -> None:
    if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004  # its type
        raise InputError(f"{name} must not be an async function: it is called and not awaited")


def _check_split(_: object, __: "Attribute[Any]", value: object) -> None:
    if value is None:
        return
    if not callable(value):
        raise InputError(f"split must be a function, got {format_value(value)}")
    _check_synchronous("split", value)


def _check_share(_: object, attribute: "Attribute[Any]", value: object) -> None:
    if value is not None and not (is_finite_number(value) and 0 <= value <= _MOST_OVERLAP):
        rule = f"a number from 0 to {_MOST_OVERLAP}"
        raise InputError(f"{attribute.name} must be {rule}, got {format_value(value)}")


_OPTIONS_OF_PIECES: Final = ("pool", "piece_tokens", "overlap", "split")


def name_argument(name: str, value: object = None) -> str:
    """An option in a message, perhaps with its value, as the caller of `embed_many` writes it."""
    return name if value is None else f"{name}={value!r}"


def check_pieces(
    model: str, options: Mapping[str, Any], name: Callable[..., str] = name_argument
) -> None:
    """Check *long* and the options of `long="split"`. *name* writes them for the message.

    Raises:
        InputError: One is out of bounds, or does not go with another.
    """
    long, size = options["long"], options.get("piece_tokens")
    if size is not None:
        check_at_least(name("piece_tokens"), size, _LEAST_PIECE)
    if long != "split":
        for option in _OPTIONS_OF_PIECES:
            if options.get(option) is not None:
                needed, given = name("long", "split"), name("long", long)
                raise InputError(f"{name(option)} needs {needed}, got {given}")
        if long == "fail" and profile(model).tokens_per_text is None:
            problem = f"how many tokens {model} reads is not known"
            raise InputError(f"{name('long', long)} can find no long texts: {problem}")
        return
    if options.get("split") is not None:
        if size is not None or options.get("overlap") is not None:
            combined = f"{name('piece_tokens')} and {name('overlap')}"
            raise InputError(f"{combined} can't be combined with a {name('split')} function")
        return
    most = profile(model).tokens_per_text
    if most is None and size is None:
        raise InputError(
            f"{name('long', long)} needs {name('piece_tokens')} for {model}: how many tokens it"
            " reads is not known"
        )
    if most is not None and size is not None and size > most:
        raise InputError(f"{name('piece_tokens')} must be at most {most} for {model}, got {size}")


def _check_checkpoint(value: object) -> Path | None:
    return None if value is None else check_path("checkpoint", value)


# The names are those of the arguments of `embed_many`, without the class.
_is_boolean: Final = instance_of(bool, "true or false", qualified=False)
_is_count: Final = at_least(1, qualified=False)

_DEFAULT_POLLING: Final = Polling()


def _default_polling(polling: Polling | None) -> Polling:
    return _DEFAULT_POLLING if polling is None else polling


def _check_polling(_: object, attribute: "Attribute[Any]", value: object) -> None:
    if not isinstance(value, Polling):
        raise InputError(f"{attribute.name} must be a Polling, got {type(value).__name__}")


@frozen
class Plan:
    """The options of one job, validated. `JobOptions` documents them.

    Raises:
        InputError: An option is out of bounds, or more than the model accepts.
    """

    model: str = field(validator=_check_model)
    column: str | int | None = field(default=None, kw_only=True)
    id_column: str | int | None = field(default=None, kw_only=True)
    batch_size: int | None = field(default=None, kw_only=True, validator=_is_count)
    max_batch_chars: int | None = field(default=None, kw_only=True, validator=_is_count)
    concurrency: Concurrency = field(default=Adaptive(), kw_only=True, validator=_check_concurrency)
    rate: Rate = field(default="auto", kw_only=True)
    ordered: bool = field(default=True, kw_only=True, validator=_is_boolean)
    on_error: OnError = field(default="raise", kw_only=True, validator=one_of(get_args(OnError)))
    mode: Mode = field(default="direct", kw_only=True, validator=one_of(get_args(Mode)))
    polling: Polling = field(
        default=None, kw_only=True, converter=_default_polling, validator=_check_polling
    )
    pooling: Pooling | None = field(default=None, kw_only=True)
    truncate: bool | None = field(default=None, kw_only=True)
    long: LongTexts = field(default="warn", kw_only=True, validator=one_of(get_args(LongTexts)))
    pool: Pool | None = field(
        default=None, kw_only=True, validator=optional(one_of(get_args(Pool)))
    )
    piece_tokens: int | None = field(default=None, kw_only=True)
    overlap: float | None = field(default=None, kw_only=True, validator=_check_share)
    split: Split | None = field(default=None, kw_only=True, validator=_check_split)
    dedupe: bool = field(default=False, kw_only=True, validator=_is_boolean)
    checkpoint: Path | None = field(default=None, kw_only=True, converter=_check_checkpoint)
    retry_failed: bool = field(default=False, kw_only=True, validator=_is_boolean)
    progress: bool | Callable[[Progress], object] = field(
        default=False, kw_only=True, validator=_check_progress
    )

    def __attrs_post_init__(self) -> None:
        requests_per_minute(self.model, self.rate)
        # The task of the requests has the bounds of these two.
        TextEmbeddings(["x"], pooling=self.pooling, truncate_inputs=self.truncate)
        max_texts = profile(self.model).texts_per_request
        if self.batch_size is not None and max_texts is not None and self.batch_size > max_texts:
            raise InputError(
                f"batch_size must be at most {max_texts} for {self.model}, got {self.batch_size}"
            )
        options = {name: getattr(self, name) for name in ("long", *_OPTIONS_OF_PIECES)}
        check_pieces(self.model, options)

    def splitter(self) -> Split | None:
        """What cuts the texts; `None` if they are not split."""
        if self.long != "split" or self.split is not None:
            return self.split
        model_profile = profile(self.model)
        overlap = self.overlap
        if overlap is None:
            overlap = 0.0 if self.pool else _DEFAULT_OVERLAP
        # One of both is known, as `check_pieces` requires.
        max_tokens = self.piece_tokens or model_profile.tokens_per_text or _LEAST_PIECE
        return Splitter(max_tokens, overlap, self._estimate)

    @property
    def _estimate(self) -> TokenEstimate:
        return TokenEstimate(multilingual=not profile(self.model).english)

    @property
    def has_pieces(self) -> bool:
        """Whether the rows of the result are pieces of texts."""
        return self.long == "split" and self.pool is None

    @property
    def texts_per_request(self) -> int:
        """The most texts in one request."""
        return self.batch_size or profile(self.model).texts_per_request or _DEFAULT_BATCH_SIZE

    @property
    def window(self) -> Window | None:
        """What the model reads of a text; `None` if the job need not look for longer ones."""
        if self.long == "split" and self.split is None:
            return None  # No piece is longer.
        model_profile = profile(self.model)
        # A model with a limit per request refuses longer texts, unless it is asked to cut them.
        cuts = self.truncate is True or model_profile.tokens_per_request is None
        tokens = model_profile.tokens_per_text
        if tokens is None or not (cuts or self.long == "fail"):
            return None
        return Window(tokens, self._estimate)

    def token_limits(self) -> TokenLimits | None:
        """The limits of the model in tokens, for one job; `None` if it has none per request."""
        model_profile = profile(self.model)
        if model_profile.tokens_per_request is None:
            return None
        return TokenLimits(
            model_profile.tokens_per_text or model_profile.tokens_per_request,
            model_profile.tokens_per_request,
            truncates=self.truncate is True or (self.long == "split" and self.split is None),
        )
