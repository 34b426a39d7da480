"""Another server that speaks OpenAI's protocol, such as Ollama or vLLM: text and other tasks.

Source: platform.openai.com/docs/api-reference; for `/rerank`, the protocol of Jina and Cohere that
vLLM and llama.cpp have.
"""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import orjson
from aiohttp.http_exceptions import LineTooLong
from attrs import field, frozen

from cfai._types.excerpts import format_count
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
from cfai.local.requests import is_loopback

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=300.0, sock_read=300.0)
"""In seconds: a large model may take long to load."""

CONNECTIONS = 16
"""Requests that wait for another server at once."""

_CHECK_INTERVAL = 0.1
"""In seconds, how often to check whether the caller has gone."""

UPSTREAM_TASKS = (
    "Automatic Speech Recognition",
    "Image-to-Text",
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
        for pattern in self.names:
            if not {*pattern} & {*"*?[/"} and pattern not in UPSTREAM_TASKS:
                tasks = ", ".join(UPSTREAM_TASKS)
                raise ConfigError(
                    f"the models of an upstream are for a pattern of models, such as @cf/meta/*, or"
                    f" for one of the tasks {tasks}, got {pattern[:60]!r}"
                )

    def find_name(self, model: str, task: str) -> str | None:
        """Return its model for a model of the service; `None` if there is none."""
        names = (
            name
            for pattern, name in self.names.items()
            if pattern == task or fnmatchcase(model, pattern)
        )
        return next(names, None)

    def post(
        self, path: str, read: "_Read[T]", is_cancelled: IsCancelled, **request: Any
    ) -> T | None:
        """Send a request with the key, and return what *read* makes of the response.

        Blocks; `None` if the caller has gone. The arguments of the *request* are aiohttp's.

        Raises:
            ApiError: The server cannot be reached, refused the request, or ended too early.
        """
        try:
            return asyncio.run(_until_cancelled(self._post(path, read, **request), is_cancelled))
        except (OSError, aiohttp.ClientError, TimeoutError) as exc:
            raise errors.upstream_failed(f"{type(exc).__name__}: {exc}") from exc

    async def _post(self, path: str, read: "_Read[T]", **request: Any) -> T:
        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        url = f"{self.url.rstrip('/')}/{path}"
        # A proxy of the environment is for other machines.
        uses_proxies = not is_loopback(urlsplit(self.url).hostname or "")
        async with (
            aiohttp.ClientSession(
                timeout=_TIMEOUT,
                headers=headers,
                trust_env=uses_proxies,
                read_bufsize=_MAX_EVENT,
            ) as session,
            # Redirected, the request would lose its body and take the key to another server.
            session.post(url, allow_redirects=False, **request) as response,
        ):
            if response.status >= 300:
                raise await _translate(response)
            return await read(response)


_Read = Callable[[aiohttp.ClientResponse], Awaitable[T]]


async def _until_cancelled(work: Awaitable[T], is_cancelled: IsCancelled) -> T | None:
    """Return the result of *work*, or `None` as soon as the caller has gone."""
    task = asyncio.ensure_future(work)
    while not task.done():
        if is_cancelled():
            task.cancel()
            await asyncio.wait([task])
            return None
        await asyncio.wait([task], timeout=_CHECK_INTERVAL)
    return task.result()


class UpstreamGenerator:
    """Generates text on another server. Thread-safe."""

    def __init__(self, upstream: Upstream, model: str) -> None:
        self.name: str = _describe_name(model)
        self._upstream = upstream
        self._model = model

    def generate(
        self, request: GenerationRequest, on_piece: OnPiece, is_cancelled: IsCancelled
    ) -> GenerationEnd:
        """Generate text and call *on_piece* with each piece, until the caller has gone.

        Raises like `Upstream.post`.
        """
        path = "completions" if isinstance(request.prompt, str) else "chat/completions"
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        body = orjson.dumps(_build_body(self._model, request))
        reader = ChunkReader(on_piece, is_cancelled)

        async def follow(response: aiohttp.ClientResponse) -> GenerationEnd:
            on_piece("")  # The headers have arrived, so the request was accepted.
            if request.schema is not None:
                reader.read(_as_chunk(_parse_json(await _read_content(response))))
                return reader.end()
            async for event in _read_events(response):
                if reader.read(event):
                    break
            return reader.end()

        end = self._upstream.post(path, follow, is_cancelled, data=body, headers=headers)
        return end or GenerationEnd("stopped", 0, 0)


def _describe_name(model: str) -> str:
    """Return the name of a backend for a model of another server, which can be sent in a header."""
    ascii_name = "".join(c if c.isascii() and c.isprintable() else "-" for c in model)
    return f"upstream:{ascii_name}"


def _build_body(model: str, request: GenerationRequest) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "max_tokens": request.max_tokens}
    if request.schema is None:
        # Some servers, such as the service, do not stream JSON.
        body |= {"stream": True, "stream_options": {"include_usage": True}}
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


def _as_chunk(completion: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a chat completion as the only chunk of a stream."""
    choices = completion.get("choices")
    if not isinstance(choices, list):
        raise errors.upstream_failed("the chat completion has no choices")
    renamed = [
        {**choice, "delta": choice.get("message")} if isinstance(choice, dict) else choice
        for choice in choices
    ]
    return {**completion, "choices": renamed}


async def _read_events(response: aiohttp.ClientResponse) -> AsyncIterator[Mapping[str, Any]]:
    """Yield the events of a stream up to `[DONE]`."""
    while line := await _read_line(response):
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


async def _read_line(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.content.readline()
    except LineTooLong as exc:  # It does not fit into twice the buffer of aiohttp.
        raise errors.upstream_failed(f"an event has more than {2 * _MAX_EVENT} bytes") from exc


async def _translate(response: aiohttp.ClientResponse) -> errors.ApiError:
    """Return the error for a status that is no success."""
    if response.status < 400:
        return errors.upstream_failed(f"status {response.status}: redirects are not followed")
    text = (await response.content.read(_MAX_ERROR)).decode(errors="replace")
    if response.status == 429:
        seconds = response.headers.get("Retry-After", "")
        return errors.capacity_exceeded(int(seconds) if seconds.isdecimal() else None)
    if response.status in (400, 413, 422):
        return errors.rejected_by_model(f"the upstream server refused the request: {text}")
    return errors.upstream_failed(f"status {response.status}: {text}")


def parse_names(texts: Sequence[str]) -> dict[str, str]:
    """Read the models of an upstream server from texts such as `@cf/meta/*=llama3.2`.

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

        body = {"input": list(texts), "encoding_format": "float"}
        document = self._post_json("embeddings", body, is_cancelled)
        try:
            rows = sorted(document["data"], key=lambda row: row["index"])
            vectors = np.asarray([row["embedding"] for row in rows], np.float32)
        except (KeyError, TypeError, ValueError) as exc:
            raise errors.upstream_failed(f"the embeddings are malformed: {exc!r}") from exc
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise errors.upstream_failed(
                f"{format_count(len(vectors), 'vector')} for {format_count(len(texts), 'text')}"
            )
        return vectors

    def rank(
        self, query: str, contexts: Sequence[str], *, is_cancelled: IsCancelled
    ) -> list[tuple[int, float]]:
        """Return the index and the score of each context, best first. Raises like `embed`."""
        body = {"query": query, "documents": list(contexts), "top_n": len(contexts)}
        document = self._post_json("rerank", body, is_cancelled)
        try:
            rows = [
                (int(row["index"]), float(row["relevance_score"])) for row in document["results"]
            ]
        except (KeyError, TypeError, ValueError) as exc:
            raise errors.upstream_failed(f"the ranking is malformed: {exc!r}") from exc
        if {index for index, _ in rows} != set(range(len(contexts))):
            raise errors.upstream_failed("the ranking has not exactly one score for each context")
        return sorted(rows, key=lambda row: -row[1])

    def generate_image(self, prompt: str, size: str | None, *, is_cancelled: IsCancelled) -> bytes:
        """Return an image of *size*, such as "512x512". Raises like `embed`."""
        body: dict[str, Any] = {"prompt": prompt, "n": 1, "response_format": "b64_json"}
        body |= {"size": size} if size else {}
        document = self._post_json("images/generations", body, is_cancelled)
        try:
            return b64decode(document["data"][0]["b64_json"], validate=True)
        except (KeyError, IndexError, TypeError, ValueError) as exc:
            raise errors.upstream_failed(f"the image is malformed: {exc!r}") from exc

    def transcribe(
        self, audio: bytes, fields: Mapping[str, str], *, is_cancelled: IsCancelled
    ) -> Mapping[str, Any]:
        """Return the transcript of an audio file: its `text`, and `segments` if there are any.

        Raises like `embed`.
        """
        form = aiohttp.FormData({"model": self._model, "response_format": "verbose_json", **fields})
        form.add_field("file", audio, filename="audio", content_type="application/octet-stream")
        document = _parse_json(self._post("audio/transcriptions", is_cancelled, data=form))
        if not isinstance(document.get("text"), str):
            raise errors.upstream_failed("the transcript has no text")
        return document

    def speak(self, text: str, voice: str, *, is_cancelled: IsCancelled) -> bytes:
        """Return speech as MP3. Raises like `embed`."""
        body = {"model": self._model, "input": text, "voice": voice, "response_format": "mp3"}
        return self._post("audio/speech", is_cancelled, json=body)

    def _post_json(
        self, path: str, fields: Mapping[str, Any], is_cancelled: IsCancelled
    ) -> Mapping[str, Any]:
        return _parse_json(self._post(path, is_cancelled, json={"model": self._model, **fields}))

    def _post(self, path: str, is_cancelled: IsCancelled, **request: Any) -> bytes:
        content = self._upstream.post(path, _read_content, is_cancelled, **request)
        if content is None:
            raise errors.upstream_failed("the client left before it answered")
        return content


async def _read_content(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for data in response.content.iter_any():
        content += data
        if len(content) > _MAX_RESPONSE:
            raise errors.upstream_failed(f"its response has more than {_MAX_RESPONSE} bytes")
    return bytes(content)


def _parse_json(content: bytes) -> Mapping[str, Any]:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as exc:
        raise errors.upstream_failed("the response is not JSON") from exc
    if not isinstance(document, dict):
        raise errors.upstream_failed("the response is not a JSON object")
    return document
