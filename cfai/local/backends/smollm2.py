"""Text by SmolLM2-135M-Instruct, run by llama.cpp (through `xllamacpp`) inside this process.

llama.cpp brings an HTTP server of its own, which can't be switched off. It is given a random key,
and where the system has Unix sockets, one in a private folder that is deleted as soon as the
model is loaded: nothing can connect to it. On Windows, and where the name of that folder is too
long, it listens on a loopback port: whoever has not the key learns only that it is there.
"""

import os
import secrets
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cfai.local.backends.roles import Ask, Ending, Hear
from cfai.local.faults import Fault, not_here, refused_by_model

CONTEXT = 4096
"""How many tokens a conversation may have, with its answer."""

PARALLEL = 4
"""How many generations run at once; the memory of a context is held for each."""

# Between two batches of a prompt, the model can be told to stop: a quarter of a second on a slow
# machine, for a tenth more time on a long prompt.
_BATCH = 64

# In bytes: a Unix socket's name has 104 on macOS, 108 on Linux.
_LONGEST_NAME = 104

# xllamacpp's wheels use these without asking; a processor without them ends the whole process.
_NEEDED = frozenset({"avx2", "fma", "f16c"})


class SmolLM2:
    """The writer. Safe to use from several threads; loading it stops them all for a moment."""

    name = "smollm2-135m-q4_1"

    def __init__(self, weights: Path) -> None:
        import xllamacpp

        with tempfile.TemporaryDirectory(prefix="cfai-") as private:
            parameters = xllamacpp.CommonParams()
            parameters.model.path = str(weights)
            parameters.n_ctx = CONTEXT * PARALLEL
            parameters.n_parallel = PARALLEL
            parameters.n_batch = parameters.n_ubatch = _BATCH
            parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = _threads()
            parameters.verbosity = -1
            parameters.cache_ram_mib = 0
            # Loading holds the interpreter's lock: neither trial runs nor a look for other memory.
            parameters.warmup = parameters.fit_params = False
            parameters.ui = parameters.endpoint_slots = False
            parameters.api_keys = [secrets.token_hex(32)]
            name = f"{private}/model.sock"
            if os.name == "posix" and len(os.fsencode(name)) < _LONGEST_NAME:
                parameters.hostnames = [name]
            self._model: Any = _loaded(parameters)

    def write(self, ask: Ask, hear: Hear) -> Ending:
        """Write what *ask* wants; *hear* gets each piece, and stops it by returning true.

        The same seed gives the same text, also while other generations run.

        Raises:
            Fault: The model refuses: the text is too long, or the JSON schema is none.
        """
        listener = _Listener(hear)
        raw = isinstance(ask.text, str)
        run = self._model.handle_completions if raw else self._model.handle_chat_completions
        try:
            run(_body(ask), listener.on_chunk)
        except (ValueError, TypeError, RuntimeError) as exc:
            raise refused_by_model(str(exc)) from exc
        return listener.ending()


class _Listener:
    """Follows one generation, chunk by chunk."""

    def __init__(self, hear: Hear) -> None:
        self._hear = hear
        self._error: Mapping[str, Any] | None = None
        self._usage: Mapping[str, Any] = {}
        self._reason = "stopped"
        self._pieces = 0

    def on_chunk(self, chunk: Mapping[str, Any]) -> bool:
        """Take a chunk of llama.cpp's, and say whether to stop."""
        if "error" in chunk:
            self._error = chunk["error"]
            return True
        self._usage = chunk.get("usage") or self._usage
        text = ""
        for choice in chunk["choices"]:
            text += choice.get("delta", {}).get("content") or choice.get("text") or ""
            self._reason = choice["finish_reason"] or self._reason
        self._pieces += bool(text)
        # Without text it is the progress of reading the prompt: a moment to stop, all the same.
        return self._hear(text)

    def ending(self) -> Ending:
        if self._error:
            raise _refusal(self._error)
        prompt, written = (self._usage.get(f"{kind}_tokens") for kind in ("prompt", "completion"))
        return Ending(self._reason, prompt or 0, self._pieces if written is None else written)


def _loaded(parameters: Any) -> Any:
    import xllamacpp

    try:
        return xllamacpp.Server(parameters)
    except RuntimeError as exc:
        raise not_here(f"the text model could not be loaded: {exc}") from exc


def _body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,
        "max_tokens": ask.max_tokens,
        **ask.sampling,
    }
    if ask.seed is not None:
        # The highest value means "at random". What is remembered of an earlier prompt was
        # computed in other batches, with other roundings: then it would not repeat.
        body |= {"seed": (ask.seed - 1) % 0xFFFFFFFF, "cache_prompt": False}
    if isinstance(ask.text, str):
        body["prompt"] = ask.text
        if ask.schema is not None:
            body["json_schema"] = ask.schema
    else:
        body["messages"] = list(ask.text)
        if ask.schema is not None:
            wanted = {"type": "json_schema", "json_schema": {"schema": ask.schema}}
            body["response_format"] = wanted
    return body


def _refusal(error: Mapping[str, Any]) -> Fault:
    message = str(error.get("message"))
    if error.get("type") == "exceed_context_size_error":
        tokens, window = error["n_prompt_tokens"], error["n_ctx"]
        message = f"the input has {tokens} tokens, and the model's context window is {window}"
    return refused_by_model(message)


def _threads() -> int:
    # One core stays free: llama.cpp's threads wait for each other many times a token, and each
    # time spin in vain when something else runs in one's place (measured: a tenth of the speed).
    # More than four make so small a model no faster.
    return max(1, min(4, (os.cpu_count() or 1) - 1))


def check_processor(flags: frozenset[str] | None) -> None:
    """Refuse a processor that the model's library would crash on; `None` is not known.

    Raises:
        Fault: Something is missing, and it says what.
    """
    missing = sorted(_NEEDED - flags) if flags is not None else []
    if missing:
        raise not_here(f"the text model needs a processor with {', '.join(missing)}")


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str] | None:
    """Give the names of an x86 processor's abilities; `None` where that can't be read."""
    if sys.platform == "win32":
        import ctypes

        # PF_AVX2_INSTRUCTIONS_AVAILABLE; every processor that has AVX2 has the other two.
        return _NEEDED if ctypes.windll.kernel32.IsProcessorFeaturePresent(40) else frozenset()
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    flags = [line.partition(":")[2] for line in lines if line.startswith("flags")]
    return frozenset(flags[0].split()) if flags else None
