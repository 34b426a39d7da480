"""The local server's WebSockets: spoken text in, the same text out, with our client and by hand."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from itertools import pairwise
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
from cfai.local import Server, backends
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


async def listen(local: Local, model: str, query: str, *parts: np.ndarray) -> list[Any]:
    """All messages of a session."""
    sound = to_pcm(np.concatenate(parts))
    url = f"{local.url(model)}?encoding=linear16&sample_rate=16000&{query}"
    async with local.http.ws_connect(url) as socket:
        for start in range(0, len(sound), 3200):
            await socket.send_bytes(sound[start : start + 3200])
        await socket.send_str('{"type":"CloseStream"}')
        return [json.loads(message.data) async for message in socket]


def in_two(pause: float) -> list[np.ndarray]:
    """A sentence with a pause in its middle, after which it could be complete."""
    samples = spoken(SENTENCES[7])
    half = len(samples) // 2
    return [silence(0.5), samples[:half], silence(pause), samples[half:], silence(1.5)]


@pytest.mark.parametrize(
    ("query", "pause", "expected"),
    [
        (
            "eager_eot_threshold=0.3&eot_threshold=0.9",
            0.8,
            [("StartOfTurn", 0), ("EagerEndOfTurn", 0), ("TurnResumed", 0), ("EndOfTurn", 0)],
        ),
        ("eager_eot_threshold=0.9&eot_threshold=0.9", 0.8, [("StartOfTurn", 0), ("EndOfTurn", 0)]),
        ("eot_threshold=0.9", 2.0, [("StartOfTurn", 0), ("EndOfTurn", 0)]),
        ("", 0.8, [("StartOfTurn", 0), ("EndOfTurn", 0), ("StartOfTurn", 1), ("EndOfTurn", 1)]),
        (
            "eot_threshold=0.9&eot_timeout_ms=500",
            0.8,
            [("StartOfTurn", 0), ("EndOfTurn", 0), ("StartOfTurn", 1), ("EndOfTurn", 1)],
        ),
    ],
)
async def test_the_turns_of_flux(
    local: Local, query: str, pause: float, expected: list[tuple[str, int]]
) -> None:
    """The sentence's first half is complete with a probability of 0.84. Source of the events:
    developers.deepgram.com, "Flux"."""
    first, *messages = await listen(local, FLUX, query, *in_two(pause))
    assert first.pop("request_id") == messages[0]["request_id"]
    assert first == {"type": "Connected", "sequence_id": 0}
    events = [(m["event"], m["turn_index"]) for m in messages if m["event"] != "Update"]
    assert events == expected
    assert [message["sequence_id"] for message in messages] == list(range(1, len(messages) + 1))
    for message in messages:
        confidences = {word["confidence"] for word in message["words"]}
        assert [word["word"] for word in message["words"]] == message["transcript"].split()
        assert len(confidences) <= 1
        assert all(0 < confidence <= 1 for confidence in confidences)
        assert message["type"] == "TurnInfo"
        ends = message["event"] in ("EndOfTurn", "EagerEndOfTurn")
        if ends:
            assert message["end_of_turn_confidence"] > 0.3
    assert messages[0]["audio_window_start"] == pytest.approx(0.704, abs=0.07)
    ends_ = [message["audio_window_end"] for message in messages]
    assert ends_ == sorted(ends_)
    texts = " ".join(m["transcript"] for m in messages if m["event"] == "EndOfTurn")
    assert words_of(texts) == words_of(SENTENCES[7])


async def test_only_a_turn_that_was_probably_over_is_resumed(local: Local) -> None:
    """The first pause has a probability of 0.84, and the second of 0.01: no event says that it
    may be the end, and none that it is not."""
    first, gap = in_two(0.8)[1:3]
    question = spoken(SENTENCES[2])
    half = round(len(question) * 0.45)
    parts = (silence(0.5), first, gap, question[:half], gap, question[half:], silence(1.5))
    query = "eager_eot_threshold=0.5&eot_threshold=0.9"
    messages = await listen(local, FLUX, query, *parts)
    events = [m["event"] for m in messages[1:] if m["event"] != "Update"]
    assert events == ["StartOfTurn", "EagerEndOfTurn", "TurnResumed", "EndOfTurn"]


async def test_the_updates_of_flux_are_a_quarter_of_a_second_apart(local: Local) -> None:
    """Chunks are a tenth of a second long, and frames 32 ms."""
    messages = await listen(local, FLUX, "", spoken(SENTENCES[0]), silence(1))
    times = [m["audio_window_end"] for m in messages if m.get("event") == "Update"]
    assert len(times) >= 3
    for first, second in pairwise(times):
        assert 0.25 <= second - first + 0.001 <= 0.39


async def test_a_turn_ends_after_the_silence_that_was_asked_for(local: Local) -> None:
    """At 5 s without `eot_timeout_ms`; a pause of flux has 0.3 s. The half sentence could go on."""
    samples = spoken(SENTENCES[7])
    half = samples[: len(samples) // 2]
    ends = {}
    for query, seconds in (("eot_timeout_ms=1000&", 1.0), ("", 5.0)):
        messages = await listen(
            local, FLUX, f"{query}eot_threshold=0.9", silence(0.5), half, silence(6)
        )
        updates = [m["audio_window_end"] for m in messages[1:] if m["event"] == "Update"]
        (end,) = [m["audio_window_end"] for m in messages[1:] if m["event"] == "EndOfTurn"]
        assert end - updates[-1] == pytest.approx(seconds - 0.3, abs=0.04)
        ends[seconds] = end
    assert ends[5.0] - ends[1.0] == pytest.approx(4, abs=0.04)


async def test_the_passages_of_nova(local: Local) -> None:
    """With words whose times are in proportion to their letters."""
    parts = (silence(0.5), spoken(SENTENCES[0]), silence(0.6), spoken(SENTENCES[1]), silence(1.5))
    messages = await listen(local, NOVA, "vad_events=true&utterance_end_ms=1000", *parts)
    kinds = [message["type"] for message in messages]
    passage = ["SpeechStarted", "Results"]
    assert kinds == ["Connected", *passage, *passage, "UtteranceEnd", "Metadata"]
    connected, *_, utterance, metadata = messages
    assert metadata == {
        "type": "Metadata",
        "request_id": connected["request_id"],
        "duration": pytest.approx(sum(map(len, parts)) / 16_000, abs=0.001),
        "channels": 1,
    }
    assert re.fullmatch("[0-9a-f]{32}", connected["request_id"])
    starts, results = messages[1:5:2], messages[2:5:2]
    for start, result in zip(starts, results, strict=True):
        begin, end = result["start"], result["start"] + result["duration"]
        assert start == {"type": "SpeechStarted", "channel": [0, 1], "timestamp": begin}
        (best,) = result.pop("channel")["alternatives"]
        assert result == {
            "type": "Results",
            "channel_index": [0, 1],
            "start": begin,
            "duration": pytest.approx(end - begin),
            "is_final": True,
            "speech_final": True,
        }
        words = best["words"]
        assert best["transcript"] == " ".join(word["punctuated_word"] for word in words)
        assert [word["word"] for word in words] == words_of(best["transcript"])
        assert {word["confidence"] for word in words} == {best["confidence"]}
        assert (words[0]["start"], words[-1]["end"]) == (begin, pytest.approx(end, abs=0.002))
        letters = sum(len(word["punctuated_word"]) for word in words)
        for first, second in pairwise(words):
            assert first["end"] == second["start"]
            share = len(first["punctuated_word"]) / letters * (end - begin)
            assert first["end"] - first["start"] == pytest.approx(share, abs=0.002)
    last = {"type": "UtteranceEnd", "channel": [0, 1]}
    end = results[-1]["start"] + results[-1]["duration"]
    assert utterance == {**last, "last_word_end": pytest.approx(end, abs=0.002)}


async def test_the_pause_that_ends_a_passage(local: Local) -> None:
    """0.3 s if nothing is said, 0.1 s at least, and with false, no pause does."""
    parts = (silence(0.5), spoken(SENTENCES[0]), silence(0.6), spoken(SENTENCES[1]), silence(1.5))
    ends = {}
    for value in ("", "endpointing=0", "endpointing=100", "endpointing=300", "endpointing=900"):
        first, second = [m for m in await listen(local, NOVA, value, *parts) if "is_final" in m]
        ends[value.removeprefix("endpointing=")] = first["start"] + first["duration"]
        assert second["start"] > ends[value.removeprefix("endpointing=")]
    assert ends["0"] == ends["100"]
    assert ends[""] == ends["300"] == pytest.approx(ends["100"] + 0.2, abs=0.04)
    assert ends["900"] == pytest.approx(ends["300"] + 0.6, abs=0.04)
    (only,) = [m for m in await listen(local, NOVA, "endpointing=false", *parts) if "is_final" in m]
    text = only["channel"]["alternatives"][0]["transcript"]
    assert words_of(text) == words_of(f"{SENTENCES[0]} {SENTENCES[1]}")


async def test_interim_results_are_half_a_second_apart(local: Local) -> None:
    sound = (spoken(SENTENCES[1]), silence(1))
    messages = await listen(local, NOVA, "interim_results=true", *sound)
    results = [message for message in messages if message["type"] == "Results"]
    assert [m["is_final"] for m in results] == [False] * (len(results) - 1) + [True]
    assert [m["speech_final"] for m in results] == [m["is_final"] for m in results]
    times = [m["start"] + m["duration"] for m in results[:-1]]
    assert len(times) >= 3
    for first, second in pairwise(times):
        assert 0.5 <= second - first + 0.002 <= 0.64


@pytest.mark.parametrize("rate", [8000, 24000, 48000])
async def test_the_messages_of_a_voice(local: Local, rate: int) -> None:
    """Frames of 16 KiB at most, in the rate that was asked for; flushes are counted."""
    url = f"{local.url(AURA)}?encoding=linear16&sample_rate={rate}&speaker=luna"
    async with local.http.ws_connect(url) as socket:
        metadata = await socket.receive_json()
        assert re.fullmatch("[0-9a-f]{32}", metadata.pop("request_id"))
        assert metadata == {"type": "Metadata", "model_name": "hibari", "model_version": "local"}
        for number, message in enumerate(("Flush", "Flush", "Close")):
            await socket.send_json({"type": "Speak", "text": "Hello there. How are you?"})
            await socket.send_json({"type": message})
            frames = []
            while (received := await socket.receive()).type is WSMsgType.BINARY:
                frames.append(received.data)
            if message == "Flush":
                flushed = {"type": "Flushed", "sequence_id": number}
                assert json.loads(received.data) == flushed
            samples = sum(map(len, backends.speaker().speak("Hello there. How are you?")))
            size = sum(map(len, frames))
            assert size == pytest.approx(samples * 2 * rate / 24000, abs=16)
            assert max(map(len, frames)) == 1 << 14
        assert socket.close_code == 1000
    exchange = await local.done()
    assert (exchange.model, exchange.status, exchange.backend) == (AURA, 101, "hibari")


async def test_a_clear_says_which_flushes_it_followed(local: Local) -> None:
    async with local.http.ws_connect(local.url(AURA)) as socket:
        await socket.receive()
        await socket.send_json({"type": "Clear"})
        assert await socket.receive_json() == {"type": "Cleared", "sequence_id": 0}
        await socket.send_json({"type": "Flush"})
        assert await socket.receive_json() == {"type": "Flushed", "sequence_id": 0}
        await socket.send_json({"type": "Speak", "text": "Not spoken"})
        await socket.send_json({"type": "Clear"})
        assert await socket.receive_json() == {"type": "Cleared", "sequence_id": 1}
        await socket.send_json({"type": "Flush"})
        assert await socket.receive_json() == {"type": "Flushed", "sequence_id": 1}


@pytest.mark.parametrize(
    ("model", "query", "status"),
    [
        (NOVA, "punctuate=true&smart_format=true&channels=1&multichannel=false", 101),
        (NOVA, "language=en&mip_opt_out=true", 101),
        (NOVA, "language=EN-us&mip_opt_out=false", 101),
        (NOVA, "model=nova-3", 101),
        (NOVA, "punctuate=false", 501),
        (NOVA, "channels=2", 501),
        (NOVA, "multichannel=true", 501),
        (NOVA, "endpointing=true", 400),
        (NOVA, "endpointing=-1", 400),
        (NOVA, "utterance_end_ms=0", 400),
        (NOVA, "utterance_end_ms=1.5", 400),
        (NOVA, "utterance_end_ms=9999999999", 400),
        (FLUX, "eot_threshold=0.5&eager_eot_threshold=0.3&eot_timeout_ms=0", 101),
        (FLUX, "eot_threshold=x", 400),
        (FLUX, "interim_results=true", 400),
        (AURA, "container=none&speaker=luna", 101),
        (AURA, "container=wav", 501),
        (AURA, "sample_rate=48001", 501),
    ],
)
async def test_the_parameters_of_a_session(
    local: Local, model: str, query: str, status: int
) -> None:
    audio = "" if model == AURA else "encoding=linear16&sample_rate=16000&"
    url = f"{local.url(model)}?{audio}{query}"
    if status == 101:
        async with local.http.ws_connect(url) as socket:
            await socket.receive()
    else:
        with pytest.raises(WSServerHandshakeError) as caught:
            await local.http.ws_connect(url)
        assert caught.value.status == status


async def test_at_the_gateway_the_query_names_the_model(local: Local) -> None:
    root = local.server.base_url.removesuffix("/client/v4")
    async with local.http.get(f"{root}/v1/0/g/workers-ai", headers=_UPGRADE) as response:
        assert response.status == 400
        assert "the query must name the model" in await response.text()
    async with local.http.ws_connect(f"{root}/v1/0/g/workers-ai?model={AURA}") as socket:
        await socket.receive()
    assert [(await local.done()).model for _ in range(2)] == [None, AURA]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"type": "Speak"}, "text must be a string"),
        ({"type": "Speak", "text": 5}, "text must be a string"),
        (b"sound", "this message is not supported: "),
    ],
)
async def test_invalid_messages_to_a_voice_end_the_session(
    local: Local, message: Any, words: str
) -> None:
    async with local.http.ws_connect(local.url(AURA)) as socket:
        await socket.receive()
        await (socket.send_bytes if isinstance(message, bytes) else socket.send_json)(message)
        error = await socket.receive_json()
        assert (error["type"], error["code"]) == ("Error", "5006")
        assert words in error["description"]
        closing = await socket.receive()
        assert (closing.data, closing.extra) == (1011, "see the last message")


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
async def test_an_error_shows_the_first_100_characters_of_a_message(
    local: Local, model: str
) -> None:
    query = "" if model == AURA else "?encoding=linear16&sample_rate=16000"
    async with local.http.ws_connect(local.url(model) + query) as socket:
        await socket.receive()
        await socket.send_str("y" * 101)
        error = await socket.receive_json()
        expected = f"Bad input: Error: this message is not supported: {'y' * 100}"
        assert (error["description"], error["code"]) == (expected, "5006")


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
