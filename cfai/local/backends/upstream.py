"""A text generator on another server that speaks OpenAI's protocol, such as Ollama or vLLM."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

import orjson
from attrs import field, frozen

from cfai.errors import ConfigError
from cfai.local import errors
from cfai.local.backends.roles import GenerationEnd, GenerationRequest, OnPiece

_TIMEOUT = 300.0
"""In seconds, to connect and between two reads: a large model may take long to load."""

_MAX_EVENT = 1 << 20
_MAX_ERROR = 300

# llama.cpp's names of the sampling parameters that have others elsewhere.
_OTHER_NAMES = {"repeat_penalty": "repetition_penalty"}


@frozen
class Upstream:
    """Another server, and which of its models stand in for which models of the service.

    Args:
        url: The base of its OpenAI protocol: `http://localhost:11434/v1`.
        names: Its models by patterns of the service's models: `{"@cf/meta/*": "llama3.2"}`. The
            first match is used; models without one are answered by the local model.
        key: Its API key, if it needs one.

    Raises:
        ConfigError: *url* is not an address with http or https, or *names* is empty.
    """

    url: str
    names: Mapping[str, str]
    key: str | None = field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"upstream must be an http or https URL, got {self.url[:60]!r}")
        if parts.username is not None or parts.query:
            raise ConfigError("upstream must be a URL without credentials and query")
        if not self.names:
            raise ConfigError("upstream needs at least one model: {'*': 'its-model'}")

    def find_name(self, model: str) -> str | None:
        """Return its model for a model of the service; `None` if there is none."""
        names = (name for pattern, name in self.names.items() if fnmatchcase(model, pattern))
        return next(names, None)


class UpstreamGenerator:
    """Generates text on another server. Thread-safe."""

    def __init__(self, upstream: Upstream, model: str) -> None:
        ascii_name = "".join(c if c.isascii() and c.isprintable() else "-" for c in model)
        self.name: str = f"upstream:{ascii_name}"
        self._upstream = upstream
        self._model = model

    def generate(self, request: GenerationRequest, on_piece: OnPiece) -> GenerationEnd:
        """Generate text and call *on_piece* with each piece until it returns true.

        Raises:
            ApiError: The server cannot be reached, refused the request, or ended too early.
        """
        path = "completions" if isinstance(request.prompt, str) else "chat/completions"
        http_request = self._build_request(path, request)
        try:
            # The URL is the user's own; its scheme was checked.
            with urllib.request.urlopen(http_request, timeout=_TIMEOUT) as response:  # noqa: S310
                return _follow(_read_events(response), on_piece)
        except urllib.error.HTTPError as exc:
            with exc:
                raise _translate(exc) from exc
        except (OSError, http.client.HTTPException) as exc:
            reason = getattr(exc, "reason", exc)
            raise errors.upstream_failed(f"{type(exc).__name__}: {reason}") from exc

    def _build_request(self, path: str, request: GenerationRequest) -> urllib.request.Request:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if self._upstream.key is not None:
            headers["Authorization"] = f"Bearer {self._upstream.key}"
        body = orjson.dumps(_build_body(self._model, request))
        url = f"{self._upstream.url.rstrip('/')}/{path}"
        return urllib.request.Request(url, body, headers, method="POST")  # noqa: S310


def _build_body(model: str, request: GenerationRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": request.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body |= {_OTHER_NAMES.get(name, name): value for name, value in request.sampling.items()}
    if isinstance(request.prompt, str):
        body["prompt"] = request.prompt
    else:
        body["messages"] = list(request.prompt)
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    if request.schema is not None:
        json_schema = {"name": "answer", "schema": request.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": json_schema}
    return body


def _read_events(response: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the events of a stream up to `[DONE]`."""
    while line := response.readline(_MAX_EVENT):
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise errors.upstream_failed("an event is not JSON") from exc
        if not isinstance(event, dict) or event.get("error"):
            raise errors.upstream_failed(f"an event is an error: {data[:_MAX_ERROR]!r}")
        yield event
    raise errors.upstream_failed("the stream ended without [DONE]")


def _follow(events: Iterator[Mapping[str, Any]], on_piece: OnPiece) -> GenerationEnd:
    reason, pieces = "stop", 0
    usage: Mapping[str, Any] = {}
    # The headers have arrived, so the request was accepted.
    if on_piece(""):
        return GenerationEnd("stopped", 0, 0)
    for event in events:
        usage = event.get("usage") or usage
        text = ""
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            text += delta.get("content") or choice.get("text") or ""
            reason = choice.get("finish_reason") or reason
        pieces += bool(text)
        if text and on_piece(text):
            reason = "stopped"
            break
    prompt_tokens = usage.get("prompt_tokens") or 0
    return GenerationEnd(reason, prompt_tokens, usage.get("completion_tokens") or pieces)


def _translate(error: urllib.error.HTTPError) -> errors.ApiError:
    text = error.read(_MAX_ERROR).decode(errors="replace")
    if error.code == http.client.TOO_MANY_REQUESTS:
        return errors.capacity_exceeded()
    if error.code in (400, 413, 422):
        return errors.rejected_by_model(f"the upstream server refused the request: {text}")
    return errors.upstream_failed(f"status {error.code}: {text}")


def parse_names(texts: Sequence[str]) -> dict[str, str]:
    """Read the models of an upstream server from texts such as `@cf/meta/*=llama3.2`.

    Raises:
        ConfigError: A text has another form.
    """
    names = {}
    for text in texts:
        pattern, separator, name = (part.strip() for part in text.partition("="))
        if not pattern or not separator or not name:
            raise ConfigError(f"map must be PATTERN=NAME, got {text[:60]!r}")
        names[pattern] = name
    return names
