"""The text generator: SmolLM2-135M-Instruct or the user's own model, run by llama.cpp (`xllamacpp`)
in this process.

llama.cpp starts an HTTP server of its own, which cannot be disabled. It gets a random key. On
systems with Unix sockets it listens on one in a private folder, which is deleted as soon as the
model is loaded, so that nothing can connect. On Windows, and if the folder's name is too long, it
listens on a loopback port: without the key, a client learns only that it exists.
"""

import os
import platform
import re
import secrets
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cfai._types.excerpts import format_count
from cfai.errors import ConfigError
from cfai.local.backends.chunks import ChunkReader
from cfai.local.backends.roles import (
    GenerationEnd,
    GenerationRequest,
    IsCancelled,
    OnPiece,
    Piece,
)
from cfai.local.backends.schemas import check_answer, check_schema
from cfai.local.errors import ApiError, not_supported, rejected_by_model

CONTEXT = 4096
"""The most tokens of a conversation, including the answer."""

PARALLEL = 2
"""Generations that run at once. Each takes 94 MB for its context, and more are not faster on few
cores."""

# Between two batches of a prompt the generation can be stopped: within a quarter of a second on a
# slow machine, at the cost of a tenth more time for a long prompt.
_BATCH_TOKENS = 64

_BYTES_PER_TOKEN = 81
"""The longest token of SmolLM2's vocabulary: a line break and 80 spaces."""

_OTHER_BYTES_PER_TOKEN = 1024
"""No vocabulary is known to have longer tokens."""

# In bytes: the path of a Unix socket is limited to 104 on macOS, 108 on Linux.
_MAX_SOCKET_PATH = 104

# xllamacpp's wheels use these without checking; on a processor without them the process crashes.
_REQUIRED_FLAGS = frozenset({"avx2", "fma", "f16c"})

_CPUINFO = Path("/proc/cpuinfo")


class SmolLM2:
    """The text generator. Thread-safe; loading it blocks every thread for a moment.

    Args:
        weights: A GGUF file.
        name: The name of another model than SmolLM2.
        mmproj: A GGUF file with its image encoder, if it reads images.
        cpuinfo: The file in which Linux describes the processor.

    Raises:
        ApiError: The processor lacks a feature that the library needs, or it cannot load a file.
    """

    def __init__(
        self,
        weights: Path,
        name: str | None = None,
        mmproj: Path | None = None,
        *,
        cpuinfo: Path = _CPUINFO,
    ) -> None:
        import xllamacpp

        if platform.machine().lower() in {"x86_64", "amd64"}:
            check_processor(processor_flags(cpuinfo))

        self.name: str = name or "smollm2-135m-q4_1"
        self._bytes_per_token = _BYTES_PER_TOKEN if name is None else _OTHER_BYTES_PER_TOKEN
        with tempfile.TemporaryDirectory(prefix="cfai-") as private:
            parameters = xllamacpp.CommonParams()
            parameters.model.path = str(weights)
            if mmproj is not None:
                parameters.mmproj.path = str(mmproj)
            parameters.n_ctx = CONTEXT * PARALLEL
            parameters.n_parallel = PARALLEL
            parameters.n_batch = parameters.n_ubatch = _BATCH_TOKENS
            # Leave one core free: the threads synchronize many times per token and spin if one of
            # them is preempted (measured: a tenth of the speed). More than four do not speed up a
            # model of this size.
            threads = max(1, min(4, (os.cpu_count() or 1) - 1))
            parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
            parameters.verbosity = -1
            parameters.cache_ram_mib = 0
            # Loading holds the interpreter lock, so skip the warm-up and the memory fitting.
            parameters.warmup = parameters.fit_params = False
            parameters.ui = parameters.endpoint_slots = False
            parameters.api_keys = [secrets.token_hex(32)]
            socket_path = f"{private}/model.sock"
            if os.name == "posix" and len(os.fsencode(socket_path)) < _MAX_SOCKET_PATH:
                parameters.hostnames = [socket_path]
            try:
                self._model: Any = xllamacpp.Server(parameters)
            except RuntimeError as exc:
                files = " and ".join(str(path) for path in (weights, mmproj) if path)
                raise not_supported(f"cannot load the text model {files}: {exc}") from exc

    def generate(
        self, request: GenerationRequest, on_piece: OnPiece, is_cancelled: IsCancelled
    ) -> GenerationEnd:
        """Generate text and call *on_piece* with each piece, until the caller has gone.

        The same seed gives the same text, even while other generations run.

        Raises:
            ApiError: The prompt is too long for the model, or the JSON schema is invalid, or one
                that the text cannot follow.
        """
        _check_size(request, CONTEXT * self._bytes_per_token)
        schema = request.schema
        if schema is not None:
            check_schema(schema)
        texts: list[str] = []

        def put(piece: Piece) -> None:
            if isinstance(piece, str):
                texts.append(piece)
            on_piece(piece)

        reader = ChunkReader(on_piece if schema is None else put, is_cancelled)
        failures: list[Mapping[str, Any]] = []

        def on_chunk(chunk: Mapping[str, Any]) -> bool:
            if "error" in chunk:
                failures.append(chunk["error"])
                return True
            return reader.read(chunk)

        raw = isinstance(request.prompt, str)
        run = self._model.handle_completions if raw else self._model.handle_chat_completions
        try:
            run(_build_body(request), on_chunk)
        except (ValueError, TypeError, RuntimeError) as exc:
            raise rejected_by_model(str(exc)) from exc
        if failures:
            raise _translate(failures[0])
        end = reader.end()
        if schema is not None and end.reason == "stop":
            check_answer("".join(texts), schema)
        return end


def _translate(error: Mapping[str, Any]) -> ApiError:
    """Return the error that llama.cpp reports in a chunk."""
    message = str(error.get("message"))
    if error.get("type") == "exceed_context_size_error":
        tokens, window = error["n_prompt_tokens"], error["n_ctx"]
        message = f"the input has {tokens} tokens, and the model's context window is {window}"
    return rejected_by_model(message)


def _check_size(request: GenerationRequest, limit: int) -> None:
    """Reject a prompt that cannot fit, before llama.cpp needs a hundred times its size to count.

    Raises:
        ApiError: It has more bytes than the most that the context window can hold.
    """
    prompt = request.prompt
    texts = [prompt] if isinstance(prompt, str) else [_text_of(message) for message in prompt]
    size = sum(len(text.encode(errors="surrogatepass")) for text in texts)
    # Each message adds at least one token.
    if size > limit or len(texts) > CONTEXT:
        raise rejected_by_model(
            f"the input has {size} bytes in {format_count(len(texts), 'message')}, more than the "
            f"model's context window of {CONTEXT} tokens can hold"
        )


def _text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message, without its images."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _build_body(request: GenerationRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,
        "max_tokens": request.max_tokens,
        **request.sampling,
    }
    if request.stop:
        body["stop"] = list(request.stop)
    if request.seed is not None:
        # The highest seed means "random". A cached prompt was computed in other batches with other
        # rounding errors, so the text would not be reproducible.
        body |= {"seed": (request.seed - 1) % 0xFFFFFFFF, "cache_prompt": False}
    if isinstance(request.prompt, str):
        body["prompt"] = request.prompt
        if request.schema is not None:
            body["json_schema"] = request.schema
    else:
        body["messages"] = list(request.prompt)
        if request.schema is not None:
            json_schema = {"schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": json_schema}
    return body


_IMAGE_ENCODERS = "clip"
"""The architecture that all image encoders name. Source: llama.cpp, docs/multimodal.md."""

_ARCHITECTURE = re.compile(rb"general\.architecture\x08\0{3}(.)\0{7}([\w-]+)", re.DOTALL)
"""A key, the number of the type "string", a length and the text. Source: ggml, docs/gguf.md."""


def check_file(path: Path, name: str, *, encodes_images: bool) -> None:
    """Check that a file of the user is a model for text, or an image encoder.

    Raises:
        ConfigError: It is something else.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; {name} must be a GGUF file")
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if not head.startswith(b"GGUF"):
        raise ConfigError(f"{path} is not a GGUF file; {name} must be one")
    match = _ARCHITECTURE.search(head)
    architecture = match[2][: match[1][0]].decode() if match else "none"
    if (architecture == _IMAGE_ENCODERS) != encodes_images:
        rule = "an image encoder" if encodes_images else "a language model"
        reason = f"the architecture in {path} is {architecture}"
        raise ConfigError(f"{name} must be a GGUF file with {rule}; {reason}")


def check_processor(flags: frozenset[str] | None) -> None:
    """Reject a processor on which the model's library would crash; `None` means unknown.

    Raises:
        ApiError: The processor lacks a feature; the message names it.
    """
    missing = sorted(_REQUIRED_FLAGS - flags) if flags is not None else []
    if missing:
        raise not_supported(f"the text model needs a processor with {', '.join(missing)}")


def processor_flags(cpuinfo: Path = _CPUINFO) -> frozenset[str] | None:
    """Return the feature flags of an x86 processor; `None` if they cannot be read."""
    if sys.platform == "win32":
        import ctypes

        # PF_AVX2_INSTRUCTIONS_AVAILABLE; every processor with AVX2 has the other two.
        return (
            _REQUIRED_FLAGS if ctypes.windll.kernel32.IsProcessorFeaturePresent(40) else frozenset()
        )
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    flags = [line.partition(":")[2] for line in lines if line.startswith("flags")]
    return frozenset(flags[0].split()) if flags else None
