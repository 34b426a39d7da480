"""The local server's WebSockets: spoken text in, the same text out, with our client and by hand."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from aiohttp import WSCloseCode, WSMsgType, WSServerHandshakeError, web
from aiohttp.test_utils import TestServer

from cfai import (
    Final,
    Partial,
    ServerError,
    SessionInfo,
    SpeechStarted,
    StatusError,
    TurnEnded,
    TurnStarted,
    UtteranceEnd,
    WorkersAI,
)
from cfai.errors import BadRequest
from cfai.local import Server
from cfai.local.realtime import _run, _Voice
from cfai.local.resampling import resample
from cfai.local.speech import to_pcm
from cfai.local.workers import WorkerPool
from cfai.settings import Retries

from .conftest import Local
from .spoken import SENTENCES, silence, spoken, words_of

NOVA, FLUX, AURA = "@cf/deepgram/nova-3", "@cf/deepgram/flux", "@cf/deepgram/aura-1"
PCM: Any = {"encoding": "linear16", "sample_rate": 16000}

pytestmark = pytest.mark.usefixtures("speech_weights")


@pytest.fixture
async def ai(local: Local) -> AsyncIterator[WorkersAI]:
    async with WorkersAI(**local.server.credentials, retries=Retries(max=0)) as ai:
        yield ai


def recording(*sentences: str) -> list[bytes]:
    """Sentences with a pause after each, in pieces of a tenth of a second."""
    parts = [part for text in sentences for part in (spoken(text), silence(1.5))]
    sound = to_pcm(np.concatenate(parts))
    return [sound[start : start + 3200] for start in range(0, len(sound), 3200)]


async def say(ai: WorkersAI, text: str, **parameters: Any) -> tuple[bytes, int]:
    """The sound of a text, and its rate."""
    async with ai.speak(AURA, **parameters) as voice:
        await voice.say(text)
        await voice.flush()
        chunks = [chunk async for chunk in voice]
    return b"".join(chunk.data for chunk in chunks), chunks[0].sample_rate or 0


# End to end


@pytest.mark.parametrize("model", [NOVA, FLUX])
@pytest.mark.parametrize("rate", [None, 16000])
async def test_what_is_spoken_is_understood(ai: WorkersAI, model: str, rate: int | None) -> None:
    text = "The library opens at nine and closes at six. Turn left at the bridge."
    sound, sent = await say(ai, text, **({} if rate is None else {"sample_rate": rate}))
    assert sent == (rate or 24000)
    samples = (np.frombuffer(sound, "<i2") / 32768).astype(np.float32)
    heard = to_pcm(np.concatenate([resample(samples, sent, 16000), silence(1.5)]))
    async with ai.listen(model, **PCM, audio=heard) as ears:
        transcript = await ears.finish()
    assert words_of(transcript.text) == words_of(text)


async def test_the_events_of_nova(ai: WorkersAI) -> None:
    audio = recording(SENTENCES[1], SENTENCES[2])
    options: Any = {"interim_results": True, "vad_events": True, "utterance_end_ms": 1000}
    async with ai.listen(NOVA, **PCM, **options, audio=audio) as ears:
        events = [event async for event in ears]
    kinds = [type(event) for event in events if not isinstance(event, Partial)]
    passage = [SpeechStarted, Final, UtteranceEnd]
    assert kinds == [SessionInfo, *passage, *passage, SessionInfo]
    finals = [event for event in events if isinstance(event, Final)]
    assert [words_of(event.text) for event in finals] == [
        words_of(SENTENCES[1]), words_of(SENTENCES[2]),
    ]  # fmt: skip
    for event in finals:
        assert event.speech_final
        assert event.start is not None
        assert event.end is not None
        assert [word.punctuated for word in event.words] == event.text.split()
        times = [time for word in event.words for time in (word.start or 0.0, word.end or 0.0)]
        assert times == sorted(times)
        assert event.start <= times[0]
        assert times[-1] <= event.end + 0.001
    first = next(event for event in events if isinstance(event, Partial) and event.text)
    # After at most a second of sound with speech.
    assert (first.end or 9) - (first.start or 0) <= 1.0


async def test_the_events_of_flux(ai: WorkersAI) -> None:
    audio = recording(SENTENCES[3])
    async with ai.listen(FLUX, **PCM, eot_threshold=0.5, audio=audio) as ears:
        events = [event async for event in ears]
    assert type(events[1]) is TurnStarted
    ended = events[-1]
    assert isinstance(ended, TurnEnded)
    assert words_of(ended.text) == words_of(SENTENCES[3])
    assert ended.turn == 0
    assert (ended.end_of_turn_confidence or 0) > 0.5
    assert any(isinstance(event, Partial) for event in events)


async def test_without_interim_results_there_are_none(ai: WorkersAI) -> None:
    async with ai.listen(NOVA, **PCM, audio=recording(SENTENCES[0])) as ears:
        events = [event async for event in ears]
    assert [type(event) for event in events] == [SessionInfo, Final, SessionInfo]


async def test_silence_and_nothing_have_no_text(ai: WorkersAI) -> None:
    for audio in (b"", bytes(32000)):
        async with ai.listen(NOVA, **PCM, audio=audio) as ears:
            assert (await ears.finish()).text == ""


async def test_through_a_gateway(ai: WorkersAI) -> None:
    """Whose documentation has another header, without "Bearer"."""
    through = ai.with_options(gateway="g")
    async with through.listen(FLUX, **PCM, audio=recording(SENTENCES[4])) as ears:
        transcript = await ears.finish()
    assert words_of(transcript.text) == words_of(SENTENCES[4])
    assert ears.meta.backend == "moonshine"
    assert (await say(through, "Hello."))[0]


async def test_a_wrong_token_is_refused() -> None:
    async with Server(token="right-token-here") as server:  # of nobody
        credentials: Any = {**server.credentials, "api_token": "wrong-token-here"}
        async with WorkersAI(**credentials, gateway="g") as ai:
            with pytest.raises(StatusError, match="401"):
                await ai.listen(FLUX, **PCM).open()


# Speaking


async def test_a_clear_drops_what_was_not_spoken(ai: WorkersAI) -> None:
    async with ai.speak(AURA) as voice:
        await voice.say(" ".join(SENTENCES))
        await voice.flush()
        await anext(voice)
        await voice.clear()
        await voice.clear()  # Before it began to speak again.
        await voice.say("Hello.")
        await voice.flush()
        size = sum([len(chunk) async for chunk in voice])
    alone = len((await say(ai, "Hello."))[0])
    assert size == alone


async def test_words_that_arrive_in_pieces_are_one_sentence(ai: WorkersAI) -> None:
    whole, _ = await say(ai, "The museum is closed.")
    async with ai.speak(AURA) as voice:
        for piece in ("The mus", "eum is ", "closed."):
            await voice.say(piece)
        await voice.flush()
        assert b"".join([chunk.data async for chunk in voice]) == whole


# By hand


async def test_the_messages_are_the_documented_ones(local: Local) -> None:
    """With aiohttp's client: the protocol is written twice."""
    url = f"{local.url(NOVA)}?encoding=linear16&sample_rate=16000&interim_results=true"
    async with local.http.ws_connect(url) as socket:
        for piece in recording(SENTENCES[0]):
            await socket.send_bytes(piece)
        await socket.send_str('{"type":"CloseStream"}')
        messages = [json.loads(message.data) async for message in socket]
        assert socket.close_code == 1000
    assert messages[0].keys() == {"type", "request_id", "sequence_id"}
    assert messages[0]["type"] == "Connected"
    *results, metadata = messages[1:]
    assert metadata["type"] == "Metadata"
    assert {message["type"] for message in results} == {"Results"}
    assert [message["is_final"] for message in results][-1] is True
    assert results[-1]["channel"]["alternatives"][0]["transcript"]


async def test_a_text_that_the_voice_cannot_read_is_refused(local: Local) -> None:
    async with local.http.ws_connect(local.url(AURA)) as socket:
        await socket.receive()
        await socket.send_json({"type": "Speak", "text": "Hello 世界"})
        error = await socket.receive_json()
        assert error["type"] == "Error"
        assert "speaks only English: text has '世'" in error["description"]


async def test_a_sentence_has_at_most_20_000_characters(local: Local) -> None:
    """Also if it comes in parts."""
    async with local.http.ws_connect(local.url(AURA)) as socket:
        await socket.receive()
        for _ in range(2):
            await socket.send_json({"type": "Speak", "text": "x" * 10_001})
        error = await socket.receive_json()
        assert error["type"] == "Error"
        assert "text has 20002 characters, more than the 20000" in error["description"]


@pytest.mark.parametrize(
    "message", ['{"type":"KeepAlive"}', '{"type":"Finalize"}', "no JSON", "[]"]
)
@pytest.mark.parametrize("model", [NOVA, AURA])
async def test_other_messages_are_refused(local: Local, model: str, message: str) -> None:
    query = "" if model == AURA else "?encoding=linear16&sample_rate=16000"
    async with local.http.ws_connect(local.url(model) + query) as socket:
        await socket.receive()
        await socket.send_str(message)
        error = await socket.receive_json()
        assert error["type"] == "Error"
        assert "this message is not supported" in error["description"]
        assert (await socket.receive()).type is WSMsgType.CLOSE
        assert socket.close_code == 1011


@pytest.mark.parametrize(
    ("model", "query", "kind", "message"),
    [
        (NOVA, {"encoding": "opus"}, ServerError, "encoding=linear16 with sample_rate=16000 only"),
        (NOVA, {**PCM, "sample_rate": 8000}, ServerError, "sample_rate=16000 only"),
        (NOVA, {**PCM, "diarize": True}, ServerError, "does not know diarize=true"),
        (NOVA, {**PCM, "language": "de"}, ServerError, "does not know language=de"),
        (NOVA, {**PCM, "keyterm": ["a", "b"]}, ServerError, "does not know keyterm=a"),
        (NOVA, {**PCM, "nonsense": "x"}, BadRequest, "nonsense is no parameter of this model"),
        (NOVA, {**PCM, "interim_results": "maybe"}, BadRequest, "interim_results must be true or"),
        (FLUX, {"encoding": "linear16"}, BadRequest, "the query must have sample_rate"),
        (FLUX, {**PCM, "eot_threshold": 2}, BadRequest, "eot_threshold must be between 0.5 and"),
        (AURA, {"encoding": "mp3"}, ServerError, "the local voice speaks linear16 only"),
        (AURA, {"sample_rate": 7999}, ServerError, "a sample_rate of 8000 to 48000 only"),
        (AURA, {"sample_rate": 999_999_999}, ServerError, "a sample_rate of 8000 to 48000 only"),
        ("@cf/baai/bge-m3", {}, ServerError, "the task Text Embeddings has no WebSocket"),
        ("@cf/nobody/nothing", {}, BadRequest, "No such model"),
    ],
)
async def test_what_the_local_models_cannot_do_is_refused_by_name(
    local: Local, model: str, query: dict[str, Any], kind: type[StatusError], message: str
) -> None:
    with pytest.raises(WSServerHandshakeError):
        await local.http.ws_connect(local.url(model), params=_encode(query))
    async with local.http.get(
        local.url(model), params=_encode(query), headers=_UPGRADE
    ) as response:
        (error,) = (await response.json())["errors"]
        assert message in error["message"]
        assert response.status >= 500 if kind is ServerError else response.status < 500


_UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def _encode(query: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, str(item).lower() if isinstance(item, bool) else str(item))
        for name, value in query.items()
        for item in (value if isinstance(value, list) else [value])
    ]


async def test_a_get_that_is_no_handshake_is_refused(local: Local) -> None:
    async with local.http.get(local.url(NOVA)) as response:
        assert response.status == 405


@pytest.mark.parametrize("model", [NOVA, AURA])
async def test_invalid_frames_end_the_session(
    local: Local, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    query = "" if model == AURA else "?encoding=linear16&sample_rate=16000"
    async with local.http.ws_connect(local.url(model) + query) as socket:
        await socket.receive()
        reserved: Any = 15
        await socket.send_frame(b"", reserved)
        assert (await socket.receive()).data == WSCloseCode.PROTOCOL_ERROR
    await local.done()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_voice_that_fails_ends_the_session(local: Local) -> None:
    """All threads are busy: a client that waits for its audio is told."""
    pool, gate = WorkerPool("test", size=1, waiting=0), threading.Event()
    busy = pool.start(gate.wait)

    async def speak(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await _run(socket, _Voice(socket, pool, 24000).run())
        return socket

    app = web.Application()
    app.router.add_get("/", speak)
    async with (
        TestServer(app) as server,
        local.http.ws_connect(server.make_url("/")) as socket,
    ):
        await socket.receive()
        await socket.send_json({"type": "Speak", "text": "Hello. "})
        await socket.send_json({"type": "Flush"})
        error = await socket.receive_json()
        assert (error["type"], error["code"]) == ("Error", "3040")
        assert (await socket.receive()).data == WSCloseCode.INTERNAL_ERROR
    gate.set()
    await busy
    await pool.close()


async def test_clients_that_leave_end_their_session(local: Local) -> None:
    url = f"{local.url(NOVA)}?encoding=linear16&sample_rate=16000"
    for _ in range(3):
        socket = await local.http.ws_connect(url)
        await socket.send_bytes(bytes(3200))
        await socket.close()
        assert (await local.done()).status == 101
        async with local.http.ws_connect(local.url(AURA)) as voice:
            await voice.send_str('{"type":"Speak","text":"A long text. And more."}')
            await voice.send_str('{"type":"Flush"}')
            voice._response.close()
        assert (await local.done()).status == 101
    tasks = [task for task in asyncio.all_tasks() if "_Voice" in repr(task)]
    assert tasks == []
