"""Another server that speaks OpenAI's protocol, such as Ollama or vLLM: text and other tasks.

Source: platform.openai.com/docs/api-reference; for `/rerank`, the protocol of Jina and Cohere that
vLLM and llama.cpp have.
"""

import http.client
import secrets
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson
from attrs import field, frozen

from cfai.errors import ConfigError
from cfai.local import errors
from cfai.local.backends.chunks import ChunkReader
from cfai.local.backends.roles import (
    GenerationEnd,
    GenerationRequest,
    IsCancelled,
    OnPiece,
    Pooling,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TIMEOUT = 300.0
"""In seconds, to connect and between two reads: a large model may take long to load."""

UPSTREAM_TASKS = (
    "Automatic Speech Recognition",
    "Reranking",
    "Text Embeddings",
    "Text Generation",
    "Text-to-Image",
    "Text-to-Speech",
)
"""The service's names of the tasks that OpenAI's protocol has."""

_MAX_EVENT = 1 << 20
_MAX_ERROR = 300

# llama.cpp's names of the sampling parameters that have others elsewhere.
_OTHER_NAMES = {"repeat_penalty": "repetition_penalty"}


@frozen
class Upstream:
    """Another server, and which of its models stand in for which models of the service.

    Args:
        url: The base of its OpenAI protocol: `http://localhost:11434/v1`.
        names: Its models by tasks, or by patterns of the service's models: `{"Text Embeddings":
            "nomic-embed-text", "@cf/meta/*": "llama3.2"}`. The first match is used; models without
            one are answered by the local models.
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

    def find_name(self, model: str, task: str) -> str | None:
        """Return its model for a model of the service; `None` if there is none."""
        names = (
            name
            for pattern, name in self.names.items()
            if pattern == task or fnmatchcase(model, pattern)
        )
        return next(names, None)

    @contextmanager
    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Iterator[Any]:
        """Send a request with the key, and yield the response to read from.

        Raises:
            ApiError: The server cannot be reached, refused the request, or ended too early.
        """
        key = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        url = f"{self.url.rstrip('/')}/{path}"
        # The URL is the user's own; its scheme was checked.
        request = urllib.request.Request(url, body, {**headers, **key}, method="POST")  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310
                yield response
        except urllib.error.HTTPError as exc:
            with exc:
                raise _translate(exc) from exc
        except (OSError, http.client.HTTPException) as exc:
            reason = getattr(exc, "reason", exc)
            raise errors.upstream_failed(f"{type(exc).__name__}: {reason}") from exc


class UpstreamGenerator:
    """Generates text on another server. Thread-safe."""

    def __init__(self, upstream: Upstream, model: str) -> None:
        self.name: str = _describe_name(model)
        self._upstream = upstream
        self._model = model

    def generate(self, request: GenerationRequest, on_piece: OnPiece) -> GenerationEnd:
        """Generate text and call *on_piece* with each piece until it returns true.

        Raises like `Upstream.post`.
        """
        path = "completions" if isinstance(request.prompt, str) else "chat/completions"
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        body = orjson.dumps(_build_body(self._model, request))
        with self._upstream.post(path, body, headers) as response:
            return _follow(_read_events(response), on_piece)


def _describe_name(model: str) -> str:
    """Return the name of a backend for a model of another server, which can be sent in a header."""
    ascii_name = "".join(c if c.isascii() and c.isprintable() else "-" for c in model)
    return f"upstream:{ascii_name}"


def _build_body(model: str, request: GenerationRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": request.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body |= request.extra
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
    # The headers have arrived, so the request was accepted.
    if on_piece(""):
        return GenerationEnd("stopped", 0, 0)
    reader = ChunkReader(on_piece)
    for event in events:
        if reader.read(event):
            break
    return reader.end()


def _translate(error: urllib.error.HTTPError) -> errors.ApiError:
    text = error.read(_MAX_ERROR).decode(errors="replace")
    if error.code == http.client.TOO_MANY_REQUESTS:
        return errors.capacity_exceeded()
    if error.code in (400, 413, 422):
        return errors.rejected_by_model(f"the upstream server refused the request: {text}")
    return errors.upstream_failed(f"status {error.code}: {text}")


def parse_names(texts: Sequence[str]) -> dict[str, str]:
    """Read the models of an upstream server from texts such as `@cf/meta/*=llama3.2`. A name
    without an `@` or a `*` is one of a task.

    Raises:
        ConfigError: A text has another form.
    """
    names = {}
    for text in texts:
        pattern, separator, name = (part.strip() for part in text.partition("="))
        if not pattern or not separator or not name:
            raise ConfigError(f"map must be TASK=NAME or PATTERN=NAME, got {text[:60]!r}")
        names[_read_task(pattern)] = name
    return names


def _read_task(pattern: str) -> str:
    """Return the exact name of a task, which may be written in small letters and with hyphens."""
    names = {task.casefold().replace("-", " "): task for task in UPSTREAM_TASKS}
    return names.get(pattern.casefold().replace("-", " "), pattern)


# Other tasks than text

_MAX_RESPONSE = 256 << 20


class UpstreamModel:
    """A model of another server. Thread-safe."""

    def __init__(self, upstream: Upstream, model: str) -> None:
        self.name: str = _describe_name(model)
        self._upstream = upstream
        self._model = model

    def embed(
        self, texts: Sequence[str], *, dimensions: int, pooling: Pooling, is_cancelled: IsCancelled
    ) -> "NDArray[np.float32]":
        """Return one vector per text, as long as the model makes them.

        Raises:
            ApiError: The server failed, or sent something else.
        """
        import numpy as np

        document = self._post_json("embeddings", {"input": list(texts), "encoding_format": "float"})
        try:
            rows = sorted(document["data"], key=lambda row: row["index"])
            vectors = np.asarray([row["embedding"] for row in rows], np.float32)
        except (KeyError, TypeError, ValueError) as exc:
            raise errors.upstream_failed(f"the embeddings are malformed: {exc!r}") from exc
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise errors.upstream_failed(f"{len(vectors)} vectors for {len(texts)} texts")
        return vectors

    def rank(
        self, query: str, contexts: Sequence[str], *, is_cancelled: IsCancelled
    ) -> list[tuple[int, float]]:
        """Return the index and the score of each context, best first. Raises like `embed`."""
        body = {"query": query, "documents": list(contexts), "top_n": len(contexts)}
        document = self._post_json("rerank", body)
        try:
            rows = [
                (int(row["index"]), float(row["relevance_score"])) for row in document["results"]
            ]
        except (KeyError, TypeError, ValueError) as exc:
            raise errors.upstream_failed(f"the ranking is malformed: {exc!r}") from exc
        if {index for index, _ in rows} != set(range(len(contexts))):
            raise errors.upstream_failed("the ranking has not exactly one score for each context")
        return sorted(rows, key=lambda row: -row[1])

    def generate_image(self, prompt: str, size: str | None) -> bytes:
        """Return an image of *size*, such as "512x512". Raises like `embed`."""
        body = {"prompt": prompt, "n": 1, "response_format": "b64_json"}
        document = self._post_json("images/generations", body | ({"size": size} if size else {}))
        try:
            return b64decode(document["data"][0]["b64_json"], validate=True)
        except (KeyError, IndexError, TypeError, ValueError) as exc:
            raise errors.upstream_failed(f"the image is malformed: {exc!r}") from exc

    def transcribe(self, audio: bytes, fields: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the transcript of an audio file: its `text`, and `segments` if there are any.

        Raises like `embed`.
        """
        parts = {"model": self._model, "response_format": "verbose_json", **fields}
        boundary = secrets.token_hex(16)
        body = _encode_form(boundary, parts, audio)
        kind = f"multipart/form-data; boundary={boundary}"
        document = _parse_json(self._post("audio/transcriptions", body, kind))
        if not isinstance(document.get("text"), str):
            raise errors.upstream_failed("the transcript has no text")
        return document

    def speak(self, text: str, voice: str) -> bytes:
        """Return speech as MP3. Raises like `embed`."""
        body = {"model": self._model, "input": text, "voice": voice, "response_format": "mp3"}
        return self._post("audio/speech", orjson.dumps(body), "application/json")

    def _post_json(self, path: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        body = orjson.dumps({"model": self._model, **fields})
        return _parse_json(self._post(path, body, "application/json"))

    def _post(self, path: str, body: bytes, content_type: str) -> bytes:
        with self._upstream.post(path, body, {"Content-Type": content_type}) as response:
            content: bytes = response.read(_MAX_RESPONSE)
        return content


def _parse_json(content: bytes) -> Mapping[str, Any]:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as exc:
        raise errors.upstream_failed("the response is not JSON") from exc
    if not isinstance(document, dict):
        raise errors.upstream_failed("the response is not a JSON object")
    return document


def _encode_form(boundary: str, fields: Mapping[str, str], audio: bytes) -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="audio"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return b"".join([*parts, head.encode(), audio, f"\r\n--{boundary}--\r\n".encode()])
