"""Realtime speech over WebSockets: the server's side of nova-3, flux and aura, with local models.

Messages as Cloudflare's and Deepgram's documents have them: cloudflare-docs,
ai-gateway/usage/websockets-api/realtime-api.mdx@0c50ffa; developers.deepgram.com, "Live Audio",
"Turn-based Audio (Flux)", "Flush" and "Clear".
"""

import asyncio
import math
import re
import secrets
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, suppress
from typing import Any

import orjson
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from attrs import define, field, frozen

from cfai.errors import InputError
from cfai.local import backends, errors, speech
from cfai.local.backends.hibari import RATE as VOICE_RATE
from cfai.local.errors import ApiError
from cfai.local.handlers.voice import check_length, check_script
from cfai.local.models import find_model, find_retirement
from cfai.local.requests import ApiRequest
from cfai.local.resampling import resample
from cfai.local.speech import TurnEvent, TurnSettings
from cfai.local.workers import WorkerPool
from cfai.tasks import Rule, Task, rules
from cfai.tasks.listening import FluxListening, NovaListening
from cfai.tasks.speaking import AuraSpeaking

_ASR = "Automatic Speech Recognition"
_TTS = "Text-to-Speech"

_FRAME = 1 << 14
"""Bytes of one frame of sound."""

_LOWEST_RATE, _HIGHEST_RATE = 8000, 48000
"""Of the voice. Deepgram's rates of linear16 are between them (developers.deepgram.com, "TTS Media
Output Settings")."""

_USED = {
    "encoding", "sample_rate", "interim_results", "endpointing", "utterance_end_ms", "vad_events",
    "eager_eot_threshold", "eot_threshold", "eot_timeout_ms", "speaker",
}  # fmt: skip
"""The parameters that the local models use. The voice is the same for each speaker."""

_HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "channels": (1,),
    "container": ("none",),
    "multichannel": (False,),
    "punctuate": (True,),
    "smart_format": (True,),
    "mip_opt_out": (True, False),
}
"""The values of other parameters that ask for what the models do anyway."""


@frozen
class RealtimeRoutes:
    """Opens the WebSockets."""

    pool: WorkerPool

    async def open_run(self, request: ApiRequest) -> web.StreamResponse:
        """`GET run/{model}` with the upgrade to a WebSocket."""
        return await self._open(request, request.model or "")

    async def open_named(self, request: ApiRequest) -> web.StreamResponse:
        """The same at AI Gateway's address, with the model in the query."""
        model = request.http.query.get("model")
        if model is None:
            raise errors.bad_input("the query must name the model")
        request.recorder.model = model
        return await self._open(request, model)

    async def _open(self, request: ApiRequest, name: str) -> web.StreamResponse:
        if not web.WebSocketResponse().can_prepare(request.http):
            raise errors.method_not_allowed("GET")
        if (day := find_retirement(name)) is not None:
            raise errors.retired_model(day)
        model = find_model(name)
        if model is None:
            raise errors.unknown_model(name)
        if model.task == _TTS:
            speaking = _read_parameters(AuraSpeaking, request)
            if speaking.encoding not in (None, "linear16"):
                raise errors.not_supported("the local voice speaks linear16 only")
            rate = speaking.sample_rate or VOICE_RATE
            if not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
                raise errors.not_supported(
                    f"the local voice has a sample_rate of {_LOWEST_RATE} to {_HIGHEST_RATE} only"
                )
            await self.pool.run(lambda _: backends.speaker())
            socket = await _accept(request, "hibari")
            voice = _Voice(socket, self.pool, rate)
            await _run(socket, voice.run())
        elif model.task == _ASR:
            listening = _read_parameters(
                FluxListening if "flux" in name else NovaListening, request
            )
            _check_audio(listening)
            await self.pool.run(lambda _: _load_listeners())
            socket = await _accept(request, "moonshine")
            await _run(socket, _Ears(socket, self.pool, listening).run())
        else:
            raise errors.not_supported(f"the task {model.task} has no WebSocket")
        return socket


def _load_listeners() -> None:
    backends.speech_detector()
    backends.speech_recognizer()
    backends.turn_detector()


async def _accept(request: ApiRequest, backend: str) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    socket.headers.update(request.recorder.start_response(backend))
    request.recorder.status = 101
    await socket.prepare(request.http)
    return socket


async def _run(socket: web.WebSocketResponse, session: Any) -> None:
    """Run a session to its end; an error becomes a message and a close frame."""
    try:
        await session
        await socket.close()
    except ConnectionError:
        pass  # The client left.
    except ApiError as error:
        with suppress(ConnectionError):
            await _send(socket, type="Error", description=error.message, code=str(error.code))
            await socket.close(code=WSCloseCode.INTERNAL_ERROR, message=b"see the last message")


async def _send(socket: web.WebSocketResponse, **document: Any) -> None:
    await socket.send_str(orjson.dumps(document).decode())


# Parameters


def _read_parameters(kind: type[Any], request: ApiRequest) -> Any:
    """Read the query as the fields of a task.

    Raises:
        ApiError: A parameter is unknown, invalid, or nothing that the local models can do.
    """
    fields, values = rules(kind), {}
    for name in dict.fromkeys(request.http.query):
        if name == "model" and "model" not in fields:
            continue
        if name not in fields:
            raise errors.bad_input(f"{name} is no parameter of this model")
        texts = request.http.query.getall(name)
        values[name] = _read_value(fields[name], texts)
        if name not in _USED and values[name] not in _HARMLESS.get(name, ()):
            if name == "language" and texts[0].lower().startswith("en"):
                continue
            raise errors.not_supported(f"the local model does not know {name}={texts[0]}")
    try:
        task: Task[Any] = kind(**values)
        return task
    except InputError as exc:
        raise errors.bad_input(exc) from exc
    except TypeError as exc:
        required = [name for name, rule in fields.items() if rule.required and name not in values]
        raise errors.bad_input(f"the query must have {', '.join(required)}") from exc


def _read_value(rule: Rule, texts: list[str]) -> Any:
    """Read a parameter, which is text; what is none of its type stays text, which is refused."""
    text = texts[-1]
    if text in ("true", "false") and rule.kind in ("boolean", "JSON"):
        return text == "true"
    if rule.kind in ("integer", "JSON") and re.fullmatch(r"-?[0-9]{1,9}", text):
        return int(text)
    if rule.kind == "number":
        with suppress(ValueError):
            return float(text)
    return texts if rule.kind in ("texts", "text or texts") and len(texts) > 1 else text


def _check_audio(listening: NovaListening | FluxListening) -> None:
    if listening.encoding != "linear16" or listening.sample_rate != speech.RATE:
        raise errors.not_supported(
            f"the local model listens to encoding=linear16 with sample_rate={speech.RATE} only"
        )


# Listening


@define
class _Ears:
    """One session that listens."""

    _socket: web.WebSocketResponse
    _pool: WorkerPool
    _task: NovaListening | FluxListening
    _request_id: str = field(factory=lambda: secrets.token_hex(16), init=False)
    _sequence: int = field(default=0, init=False)
    _seconds: float = field(default=0.0, init=False)
    """How much sound was heard."""
    _is_eager: bool = field(default=False, init=False)
    """Whether the turn was probably over."""
    _word_end: float | None = field(default=None, init=False)
    """When the last passage ended, until an `UtteranceEnd` was sent."""

    async def run(self) -> None:
        await _send(self._socket, type="Connected", request_id=self._request_id, sequence_id=0)
        async with aclosing(self._hear()) as sound:
            async for event in speech.listen(sound, self._pool, self._settings()):
                if isinstance(self._task, FluxListening):
                    await self._report_turn(event, self._task)
                else:
                    await self._report_passage(event, self._task)
        if not self._socket.closed and isinstance(self._task, NovaListening):
            await _send(
                self._socket,
                type="Metadata",
                request_id=self._request_id,
                duration=round(self._seconds, 3),
                channels=1,
            )

    def _settings(self) -> TurnSettings:
        task = self._task
        if isinstance(task, FluxListening):
            silence = 5.0 if task.eot_timeout_ms is None else task.eot_timeout_ms / 1000
            return TurnSettings(complete=task.eot_threshold or 0.7, silence=silence, interval=0.25)
        endpointing = task.endpointing
        # Not by equality: 0 is a pause, too.
        pause = 300 if endpointing is None or endpointing is False else endpointing
        # Any pause ends a passage of nova-3.
        ends = math.inf if endpointing is False else 0.0
        interval = 0.5 if task.interim_results else None
        return TurnSettings(pause=max(pause, 100) / 1000, complete=ends, interval=interval)

    async def _hear(self) -> AsyncGenerator[bytes, None]:
        """Yield the sound that the client sends, until it ends the audio or leaves."""
        async for message in self._socket:
            if message.type is WSMsgType.BINARY:
                self._seconds += len(message.data) / 2 / speech.RATE
                yield message.data
                await self._report_silence()
            elif message.type is WSMsgType.ERROR:
                raise ConnectionError  # Invalid frames: aiohttp has closed the socket.
            elif _read_type(message.data) == "CloseStream":
                return
            else:
                # As the service did with `KeepAlive` and `Finalize` in June 2026.
                raise errors.bad_input(f"this message is not supported: {message.data[:100]}")

    async def _report_turn(self, event: TurnEvent, task: FluxListening) -> None:
        eager = task.eager_eot_threshold
        if event.kind == "paused" and eager is not None and event.complete >= eager:
            self._is_eager, name = True, "EagerEndOfTurn"
        elif event.kind == "resumed":
            if not self._is_eager:
                return
            self._is_eager, name = False, "TurnResumed"
        else:
            names = {"started": "StartOfTurn", "finished": "EndOfTurn"}
            name = names.get(event.kind, "Update")
        if event.kind == "finished":
            self._is_eager = False
        self._sequence += 1
        await _send(
            self._socket,
            type="TurnInfo",
            request_id=self._request_id,
            sequence_id=self._sequence,
            event=name,
            turn_index=event.turn,
            audio_window_start=round(event.start, 3),
            audio_window_end=round(event.end, 3),
            transcript=event.text,
            words=[{"word": w, "confidence": event.confidence} for w in event.text.split()],
            end_of_turn_confidence=event.complete,
        )

    async def _report_passage(self, event: TurnEvent, task: NovaListening) -> None:
        if event.kind == "started":
            self._word_end = None
            if task.vad_events:
                start = round(event.start, 3)
                await _send(self._socket, type="SpeechStarted", channel=[0, 1], timestamp=start)
        elif event.kind in ("partial", "finished"):
            is_final = event.kind == "finished"
            await _send(self._socket, **_results(event, is_final=is_final))
            if is_final:
                self._word_end = event.end

    async def _report_silence(self) -> None:
        limit = self._task.utterance_end_ms if isinstance(self._task, NovaListening) else None
        if limit is None or self._word_end is None:
            return
        if self._seconds - self._word_end >= limit / 1000:
            end, self._word_end = round(self._word_end, 3), None
            await _send(self._socket, type="UtteranceEnd", channel=[0, 1], last_word_end=end)


def _results(event: TurnEvent, *, is_final: bool) -> dict[str, Any]:
    words = list(_spread_words(event))
    best = {"transcript": event.text, "confidence": event.confidence, "words": words}
    return {
        "type": "Results",
        "channel_index": [0, 1],
        "start": round(event.start, 3),
        "duration": round(event.end - event.start, 3),
        "is_final": is_final,
        "speech_final": is_final,
        "channel": {"alternatives": [best]},
    }


def _spread_words(event: TurnEvent) -> Iterator[dict[str, Any]]:
    """Give the words times in proportion to their letters: the recognizer has none."""
    words = event.text.split()
    letters = sum(map(len, words)) or 1
    start, seconds = event.start, event.end - event.start
    for word in words:
        end = start + seconds * len(word) / letters
        yield {
            "word": re.sub(r"[^\w']", "", word).lower() or word,
            "punctuated_word": word,
            "start": round(start, 3),
            "end": round(end, 3),
            "confidence": event.confidence,
        }
        start = end


def _read_type(text: Any) -> Any:
    try:
        document = orjson.loads(text)
    except ValueError:
        return None
    return document.get("type") if isinstance(document, dict) else None


# Speaking

_FLUSH, _END = object(), object()

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+")


@define
class _Voice:
    """One session that speaks."""

    _socket: web.WebSocketResponse
    _pool: WorkerPool
    _rate: int
    _queue: "asyncio.Queue[Any]" = field(factory=asyncio.Queue, init=False)
    """Sentences to speak, flushes, and the end."""
    _rest: str = field(default="", init=False)
    """The beginning of a sentence."""
    _sequence: int = field(default=0, init=False)

    async def run(self) -> None:
        ids = {"request_id": secrets.token_hex(16)}
        await _send(
            self._socket, type="Metadata", **ids, model_name="hibari", model_version="local"
        )
        speaking = self._start()
        try:
            async for message in self._socket:
                kind = self._read(message)
                if kind == "Close":
                    await speaking
                    return
                if kind == "Clear":
                    speaking.cancel()
                    await asyncio.wait({speaking})
                    self._queue, self._rest = asyncio.Queue(), ""
                    await _send(self._socket, type="Cleared", sequence_id=self._sequence)
                    speaking = self._start()
        finally:
            speaking.cancel()
            await asyncio.wait({speaking})

    def _start(self) -> "asyncio.Task[None]":
        return asyncio.create_task(self._speak_to_end())

    def _read(self, message: WSMessage) -> Any:
        """Queue what a message has to be done for; returns its type."""
        text = message.data if message.type is WSMsgType.TEXT else ""
        kind = _read_type(text)
        if kind == "Speak":
            spoken = orjson.loads(text).get("text")
            if not isinstance(spoken, str):
                raise errors.bad_input("text must be a string")
            check_length("text", self._rest + spoken)
            check_script("text", spoken)
            *sentences, self._rest = _SENTENCE_END.split(self._rest + spoken)
            for sentence in sentences:
                self._queue.put_nowait(sentence)
        elif kind in ("Flush", "Close"):
            self._queue.put_nowait(self._rest)
            self._queue.put_nowait(_FLUSH if kind == "Flush" else _END)
            self._rest = ""
        elif kind != "Clear":
            raise errors.bad_input(f"this message is not supported: {text[:100]}")
        return kind

    async def _speak_to_end(self) -> None:
        """Speak what is queued. At the end, or with an error, the socket is closed."""
        await _run(self._socket, self._speak())

    async def _speak(self) -> None:
        while (item := await self._queue.get()) is not _END:
            if item is _FLUSH:
                await _send(self._socket, type="Flushed", sequence_id=self._sequence)
                self._sequence += 1
            elif item.strip():
                async for sound in speech.speak(item, self._pool):
                    await self._play(sound)

    async def _play(self, sound: bytes) -> None:
        if self._rate != VOICE_RATE:
            sound = await self._pool.run(lambda _: _change_rate(sound, self._rate))
        for start in range(0, len(sound), _FRAME):
            await self._socket.send_bytes(sound[start : start + _FRAME])


def _change_rate(sound: bytes, rate: int) -> bytes:
    import numpy as np

    samples = (np.frombuffer(sound, "<i2") / 32768).astype(np.float32)
    return speech.to_pcm(resample(samples, VOICE_RATE, rate))
