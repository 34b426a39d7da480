"""Hides secrets where they leave the SDK, in errors above all: the only place that does.

The service, a gateway or a proxy may repeat the credentials it was sent. Errors are built from
what it answers. These callers redact what leaves the SDK:

* `Session.call` and `Session.call_for_vectors`, each error before it is raised or retried;
* `TokenStream` and `AudioStream` (`streaming/audio.py`), the error that ends a stream;
* `SocketStream` (`streaming/sockets.py`), the errors of a session over a WebSocket;
* `WorkersAI.parse`, `decide` and `extract`, the error of a complete answer;
* `resources/queue.py`, the errors that the items of a batch keep as values;
* `resources/markdown.py`, the errors of single files, which are values too;
* `Toolbox` (`tools/toolbox.py`), the errors and results of tools that a model is shown;
* `telemetry`, the attributes of spans and metrics, with `Call.redact`.
"""

import re
import string
from collections.abc import Container, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final

from attrs import asdict, evolve

from cfai.errors import BODY_LIMIT, CfaiError
from cfai.meta import Meta
from cfai.settings import SHORTEST_SECRET

_HIDDEN: Final = "***"

_ANSWERS: Final = {"answer", "messages", "text"}
"""The attributes of an error that hold what the model wrote, for the caller to use."""

_INTERNAL: Final = {"aiohttp", "cfai", "codecs", "json"}
"""The packages whose frames hold requests and responses."""

_SHORTEST_END: Final = 3
"""Characters. A text does not always show that it was cut, so the beginning of a secret at the end
of any text is hidden from this length on: a word rarely ends so."""

# Compiled when they are used first, as are all expressions that few programs need: each compilation
# takes one to two million instructions.
_PATTERNS: Final = (
    # A key of Weights & Biases in Cohere's JSON, also if it is cut or not a string.
    (r'("api_key"\s*:\s*)("(?:[^"\\]|\\.)*"?|[^,}\]]*)', rf'\1"{_HIDDEN}"'),
    # The same inside a string of JSON, or in a sentence.
    (
        r"""(api_key(?:\\*["'])?\s*[:=]\s*)(?:\\*["'])?[^\s"'\\,;}\])]+""",
        rf"\1{_HIDDEN}",
    ),
    # Cloudflare's edge repeats a path that it cannot route (code 7003). It contains the account
    # id, for which users sometimes paste a token.
    (r"(?i)(?<=/accounts/)[^/\s?#\"'\\]+|(?<=bearer )[^\s\"'\\]+", _HIDDEN),
)

# A Content-Type is kept in lower case, so case is ignored.
_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def redact_error(error: CfaiError, secrets: Sequence[str]) -> None:
    """Remove *secrets* and pieces of them from everything that *error* says and keeps.

    If anything was hidden, or if an error that led to this one shows a secret, its cause and its
    context are dropped. So are the frames of its traceback below the caller, because error trackers
    collect their variables, such as the body of a response.
    """
    redactor = _Redactor(secrets)
    error.args = redactor.value(error.args)
    for name, value in vars(error).items():
        if name not in _ANSWERS:
            setattr(error, name, redactor.value(value))
    for origin in _origins(error):
        redactor.text(f"{origin} {origin!r}")
    if redactor.has_hidden:
        error.__cause__ = error.__context__ = None
    error.__traceback__ = None
    for origin in _origins(error):
        _cut_traceback(origin, _INTERNAL)


def cut_tracebacks(error: BaseException) -> None:
    """Remove the frames of aiohttp from the tracebacks of an error and of those that led to it.

    Their variables hold the headers of the request, and error trackers collect variables.
    """
    for origin in (error, *_origins(error)):
        _cut_traceback(origin, {"aiohttp"})


def _cut_traceback(error: BaseException, packages: Container[str]) -> None:
    """End the traceback of an error above its first frame in one of these packages."""
    traceback = error.__traceback__
    if traceback is not None and _package(traceback) in packages:
        error.__traceback__ = None
    while traceback is not None:
        if traceback.tb_next is not None and _package(traceback.tb_next) in packages:
            traceback.tb_next = None
        traceback = traceback.tb_next


def _package(traceback: TracebackType) -> str:
    name: str = traceback.tb_frame.f_globals.get("__name__", "")
    return name.partition(".")[0]


def redact_error_text(text: str, secrets: Sequence[str]) -> str:
    """Remove *secrets*, pieces of them, and credentials in a known form from an error's text."""
    return _Redactor(secrets).text(text)


def redact_whole_secrets(text: str, secrets: Sequence[str]) -> str:
    """Remove *secrets* from a text that is no error's, where a piece of one may be a word."""
    for secret in secrets:
        text = _replace_pieces(text, secret, len(secret))
    return text


class _Redactor:
    """Redacts values, and remembers whether there was anything to hide."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = secrets
        self.has_hidden = False

    def value(self, value: Any) -> Any:
        """Redact the texts in a value, at any depth."""
        match value:
            case str():
                return self.text(value)
            case bytes():
                # Each byte is one character of Latin-1.
                return self.text(value.decode("latin-1")).encode("latin-1")
            case Mapping():
                return {self.value(key): self._field(key, item) for key, item in value.items()}
            case tuple():
                return tuple(self.value(item) for item in value)
            case list():
                return [self.value(item) for item in value]
            case Meta():
                fields = asdict(value)
                return evolve(value, **{name: self.value(item) for name, item in fields.items()})
        return value

    def _field(self, key: object, item: Any) -> Any:
        if key == "api_key":
            self.has_hidden = True
            return _HIDDEN
        return self.value(item)

    def text(self, text: str) -> str:
        redacted = text
        # Patterns first: a secret may be a word that a pattern needs.
        for pattern, replacement in _PATTERNS:
            redacted = re.sub(pattern, replacement, redacted)
        for secret in self._secrets:
            redacted = _replace_cut_secret(redacted, secret, 1 if _was_cut(text) else _SHORTEST_END)
            redacted = _replace_pieces(redacted, secret, min(SHORTEST_SECRET, len(secret)))
        self.has_hidden = self.has_hidden or redacted != text
        # A header's stray bytes are read as lone surrogates, which cannot be written or printed.
        return redacted.encode("utf-8", "replace").decode()


def _was_cut(text: str) -> bool:
    """Whether a text is known to be cut at its end."""
    # Errors keep the first BODY_LIMIT characters of a body. A body of exactly this length counts
    # as cut, too: at worst, its last character is hidden although it belongs to no secret.
    return len(text) == BODY_LIMIT or text.endswith("…")


def _replace_pieces(text: str, secret: str, shortest: int) -> str:
    """Hide *secret*, and every piece of it that has at least *shortest* characters.

    Bodies and messages are cut, at the end or in the middle, and may keep half of a secret.
    """
    parts, position = [], 0
    for start, end in sorted(_find_pieces(_lower(text), _lower(secret), shortest)):
        if start >= position:
            parts += [text[position:start], _HIDDEN]
        position = end
    return "".join(parts) + text[position:]


def _find_pieces(text: str, secret: str, size: int) -> Iterator[tuple[int, int]]:
    """Find where pieces of *size* characters of *secret* stand in *text*."""
    for piece in {secret[start : start + size] for start in range(len(secret) - size + 1)} - {""}:
        start = text.find(piece)
        while start >= 0:
            yield start, start + size
            start = text.find(piece, start + 1)


def _lower(text: str) -> str:
    """Lower the case of ASCII, and so keep the length."""
    return text.translate(_LOWER)


def _replace_cut_secret(text: str, secret: str, shortest: int) -> str:
    """Hide the beginning of *secret* at the end of a text, if it has *shortest* characters."""
    body = text.removesuffix("…")
    end = _lower(body[-SHORTEST_SECRET:])
    for size in range(min(len(secret), SHORTEST_SECRET) - 1, shortest - 1, -1):
        if end.endswith(_lower(secret[:size])):
            return body[:-size] + _HIDDEN + text[len(body) :]
    return text


def _origins(error: BaseException) -> Iterator[BaseException]:
    """The errors that led to this one."""
    seen: set[int] = set()
    waiting = [error.__cause__, error.__context__]
    while waiting:
        origin = waiting.pop()
        if origin is not None and id(origin) not in seen:
            seen.add(id(origin))
            yield origin
            waiting += [origin.__cause__, origin.__context__]
