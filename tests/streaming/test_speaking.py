"""`Speaker` over real sockets: text out, audio in, interruptions, and every end."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from cfai import (
    Audio,
    AudioChunk,
    Cleared,
    Flushed,
    SessionInfo,
    Speaker,
    SpeechEvent,
    SpeechWarning,
    WorkersAI,
)
from cfai.errors import (
    BadRequest,
    BudgetExceeded,
    InputError,
    RequestTimeout,
    ServerError,
    StreamInterrupted,
)
from cfai.observers import Call, Ending, Observation
from cfai.settings import Retries, Timeouts
from cfai.testing import FakeSocket, FakeWorkersAI

AURA = "@cf/deepgram/aura-1"
MODELS = [AURA, "@cf/deepgram/aura-2-en", "@cf/deepgram/aura-2-es"]
PCM = b"\x00\x01" * 2400
METADATA = {"type": "Metadata", "request_id": "r", "model_name": "aura", "model_version": "1"}
FLUSHED = {"type": "Flushed", "sequence_id": 0}
CLEARED = {"type": "Cleared", "sequence_id": 0}


@pytest.fixture(autouse=True)
def without_garbage_collector() -> Iterator[None]:
    """Dropped sessions have to be closed without the garbage collector."""
    gc.disable()
    yield
    gc.enable()


def speak(fake: FakeWorkersAI, **options: Any) -> Speaker:
    return fake.client(**options).speak(AURA)


async def all_closed(fake: FakeWorkersAI) -> None:
    await fake.until(lambda: fake.connections == 0)


async def talk(socket: FakeSocket) -> None:
    """A service that speaks each text, answers each flush, and obeys each clear."""
    await socket.send(METADATA)
    while await socket.receive() is not None:
        match socket.texts[-1]:
            case {"type": "Speak", "text": text}:
                await socket.send(text.encode())
            case {"type": "Flush"}:
                await socket.send(FLUSHED)
            case {"type": "Clear"}:
                await socket.send(CLEARED)
            case {"type": "Close"}:
                await socket.close()


async def read(voice: Speaker) -> bytes:
    return b"".join([chunk.data async for chunk in voice])


# Speaking


@pytest.mark.parametrize("model", MODELS)
async def test_text_goes_out_and_audio_comes_in(fake: FakeWorkersAI, model: str) -> None:
    """Source: realtime-api.mdx@0c50ffa; the documented bytes: tests/wire/test_realtime.py."""
    fake.connects_by(talk)
    async with fake.client().speak(model, speaker="luna") as voice:
        await voice.say("Hello. How are you? Fine")
        await voice.flush()
        assert await read(voice) == b"Hello. How are you? Fine"
    assert fake.requests[0].target.endswith(f"/ai/run/{model}?speaker=luna")
    await fake.until(lambda: fake.sockets[0].close_code == 1000)
    assert fake.sockets[0].messages == [
        '{"type":"Speak","text":"Hello. "}',
        '{"type":"Speak","text":"How are you? "}',
        '{"type":"Speak","text":"Fine"}',
        '{"type":"Flush"}',
        '{"type":"Close"}',
    ]


async def test_a_chunk_has_what_playing_it_needs(fake: FakeWorkersAI) -> None:
    fake.connects(PCM, FLUSHED).connects(PCM, FLUSHED).connects(PCM, FLUSHED)
    ai = fake.client()
    formats: list[tuple[Any, Any, Any]] = []
    for parameters in ({}, {"encoding": "linear16", "sample_rate": 8000}, {"encoding": "mp3"}):
        async with ai.speak(AURA, **parameters) as voice:
            await voice.flush()
            async for chunk in voice:
                assert bytes(chunk) == chunk.data == PCM
                assert len(chunk) == voice.bytes_received == len(PCM)
                formats.append((chunk.encoding, chunk.sample_rate, chunk.seconds))
    assert formats == [("linear16", 24000, 0.1), ("linear16", 8000, 0.3), ("mp3", None, None)]


async def test_replies_follow_each_other(fake: FakeWorkersAI) -> None:
    fake.connects_by(talk)
    async with speak(fake) as voice:
        for text in ("One.", "Two.", "Three."):
            await voice.say(text)
            await voice.flush()
            assert await read(voice) == text.encode()


async def test_the_iteration_ends_with_the_last_flush(fake: FakeWorkersAI) -> None:
    fake.connects_by(talk)
    async with speak(fake) as voice:
        for text in ("One. ", "Two. "):
            await voice.say(text)
            await voice.flush()
        assert await read(voice) == b"One. Two. "


async def test_a_token_stream_is_spoken_sentence_by_sentence(fake: FakeWorkersAI) -> None:
    fake.streams("It", " snows. ", "Take", " a coat", ". Bye")
    fake.connects_by(talk)
    ai = fake.client()
    fake.on("aura").connects_by(talk)
    async with ai.speak(AURA) as voice:
        await voice.say(ai.stream("@cf/meta/x", "Weather?"))
        await voice.flush()
        assert await read(voice) == b"It snows. Take a coat. Bye"
    texts = [message["text"] for message in fake.sockets[0].texts if message["type"] == "Speak"]
    assert texts == ["It snows. ", "Take a coat. ", "Bye"]


async def test_a_sentence_is_spoken_before_the_next_one_is_written(fake: FakeWorkersAI) -> None:
    written = asyncio.Event()

    async def words() -> AsyncIterator[str]:
        yield "Hello."
        yield " "
        yield "And"
        await written.wait()
        yield " more."

    fake.connects_by(talk)
    async with speak(fake) as voice:
        saying = asyncio.create_task(voice.say(words()))
        assert (await anext(voice)).data == b"Hello. "
        written.set()
        await saying
        await voice.flush()
        assert await read(voice) == b"And more."


@pytest.mark.parametrize("kind", [list, tuple, iter])
async def test_pieces_in_any_iterable_are_spoken_sentence_by_sentence(
    fake: FakeWorkersAI, kind: Callable[[list[str]], Any]
) -> None:
    fake.connects_by(talk)
    async with speak(fake) as voice:
        await voice.say(kind(["Hel", "lo. How ", "are", " you?"]))
        await voice.flush()
        assert await read(voice) == b"Hello. How are you?"
    spoken = [message["text"] for message in fake.sockets[0].texts if message["type"] == "Speak"]
    assert spoken == ["Hello. ", "How are you?"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *[
            (text, "^text must be text, or an iterable")
            for text in (5, None, b"a", bytearray(b"a"))
        ],
        (memoryview(b"a"), "^text must be text, or an iterable"),
        ([b"bytes"], "^each piece of text must be text or a Token, got b'bytes'"),
        ([5], "^each piece of text must be text or a Token, got 5"),
    ],
)
async def test_text_is_text(fake: FakeWorkersAI, text: Any, message: str) -> None:
    fake.connects_by(talk)
    async with speak(fake) as voice:
        with pytest.raises(InputError, match=message):
            await voice.say(text)
    assert [message["type"] for message in fake.sockets[0].texts] == ["Close"]


async def test_half_a_pair_does_not_break_the_session(fake: FakeWorkersAI) -> None:
    fake.connects_by(talk)
    async with speak(fake) as voice:
        await voice.say("oh \ud83d!")
        await voice.flush()
        assert await read(voice) == b"oh ?!"


@pytest.mark.parametrize(
    ("model", "parameters", "error", "message"),
    [
        (AURA, {"encoding": "wav"}, InputError, "encoding must be one of linear16"),
        (AURA, {"speaker": ""}, InputError, "speaker must have at least 1 character"),
        (AURA, {"sample_rate": 0}, InputError, "sample_rate must be at least 1"),
        (AURA, {"voice": "luna"}, TypeError, "unexpected keyword argument 'voice'"),
        ("@cf/deepgram/nova-3", {}, InputError, "does not speak"),
    ],
)
async def test_wrong_arguments_are_refused_at_once(
    fake: FakeWorkersAI, model: str, parameters: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fake.client().speak(model, **parameters)


# Barge-in


async def test_audio_of_before_a_clear_never_comes_out(fake: FakeWorkersAI) -> None:
    async def talk(socket: FakeSocket) -> None:
        for _ in range(3):
            await socket.receive()  # Speak, Flush, Clear
        await socket.send(b"old", b"older", FLUSHED, b"oldest", CLEARED)
        for _ in range(2):
            await socket.receive()
        await socket.send(b"new", FLUSHED)
        await socket.receive_end()

    fake.connects_by(talk)
    async with speak(fake) as voice:
        await voice.say("Old.")
        await voice.flush()
        await voice.clear()
        await voice.say("New.")
        await voice.flush()
        assert await read(voice) == b"new"
        assert voice.bytes_received == 3


@pytest.mark.parametrize("late", [True, False])
async def test_a_late_answer_to_an_old_flush_ends_nothing(fake: FakeWorkersAI, late: bool) -> None:
    async def talk(socket: FakeSocket) -> None:
        for _ in range(5):
            await socket.receive()
        before = (CLEARED, FLUSHED) if late else (FLUSHED, CLEARED)
        await socket.send(*before, b"new", FLUSHED)
        await socket.receive_end()

    fake.connects_by(talk)
    async with speak(fake) as voice:
        await voice.say("Old.")
        await voice.flush()
        await voice.clear()
        await voice.say("New.")
        await voice.flush()
        assert await read(voice) == b"new"


async def test_a_clear_ends_a_running_iteration(fake: FakeWorkersAI) -> None:
    async def talk(socket: FakeSocket) -> None:
        await socket.send(b"old")
        await socket.receive_end()

    async def service(socket: FakeSocket) -> None:
        await socket.send(b"old")
        while (message := await socket.receive()) is not None:
            if "Clear" in str(message):
                await socket.send(b"late", CLEARED)
            if "New" in str(message):
                await socket.send(b"new", FLUSHED)

    fake.connects_by(service)
    async with speak(fake) as voice:
        await voice.say("Old.")
        await voice.flush()
        played = [(await anext(voice)).data]
        playing = asyncio.create_task(read(voice))
        await asyncio.sleep(0)
        await voice.clear()
        assert await playing == b""
        assert played == [b"old"]
        await voice.say("New.")
        await voice.flush()
        assert await read(voice) == b"new"


@pytest.mark.parametrize("first", ["audio", "events"])
@pytest.mark.parametrize("second", ["audio", "events"])
async def test_a_session_has_one_reader(fake: FakeWorkersAI, first: str, second: str) -> None:
    """Of two, one would get the end of the reply, and the other would wait for it."""
    fake.connects_by(talk)
    async with speak(fake) as voice:
        readers: dict[str, Callable[[], Any]] = {
            "audio": lambda: anext(voice),
            "events": lambda: anext(voice.events()),
        }
        reading = asyncio.ensure_future(readers[first]())
        await asyncio.sleep(0)
        with pytest.raises(InputError, match="another task is reading this stream"):
            await readers[second]()
        await voice.say("Hello.")
        await voice.flush()
        assert isinstance(await reading, SpeechEvent)
        assert await read(voice) in (b"Hello.", b"")


async def test_a_clear_ends_what_is_still_being_said(fake: FakeWorkersAI) -> None:
    cleared = asyncio.Event()

    async def words() -> AsyncIterator[str]:
        yield "One. Two"
        await cleared.wait()
        yield ". Three. Four"

    fake.connects_by(talk)
    async with speak(fake) as voice:
        saying = asyncio.create_task(voice.say(words()))
        assert (await anext(voice)).data == b"One. "
        await voice.clear()
        cleared.set()
        await saying
    assert [message["type"] for message in fake.sockets[0].texts] == ["Speak", "Clear", "Close"]


async def test_a_service_that_confirms_no_clear_is_heard_again(fake: FakeWorkersAI) -> None:
    """After the next flush at the latest."""

    async def talk(socket: FakeSocket) -> None:
        while (message := await socket.receive()) is not None:
            if "Flush" in str(message):
                await socket.send(b"audio", FLUSHED)

    fake.connects_by(talk)
    async with speak(fake) as voice:
        await voice.clear()
        await voice.flush()
        assert await read(voice) == b""
        await voice.flush()
        assert await read(voice) == b"audio"


@pytest.mark.parametrize("count", [1, 2])
async def test_a_clear_that_nobody_asked_for_drops_nothing(fake: FakeWorkersAI, count: int) -> None:
    """Nor does it count for a later one."""
    fake.connects(*[CLEARED] * count, b"heard", FLUSHED, *[CLEARED] * count, b"again", FLUSHED)
    async with speak(fake) as voice:
        for audio in (b"heard", b"again"):
            await voice.flush()
            assert await read(voice) == audio


# Everything that arrives


async def test_all_events_can_be_read(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture
) -> None:
    warning = {"type": "Warning", "description": "slow fake-api-token", "code": "W1"}
    fake.connects(METADATA, b"a", warning, {"type": "New"}, FLUSHED, CLEARED)
    async with speak(fake) as voice:
        events = voice.events()
        with caplog.at_level(logging.WARNING, "cfai"):
            read = [await anext(events) for _ in range(6)]
    kinds = [type(event) for event in read]
    assert kinds == [SessionInfo, AudioChunk, SpeechWarning, SpeechEvent, Flushed, Cleared]
    assert read[0] == SessionInfo(request_id="r", model_name="aura", model_version="1")
    assert caplog.messages == [f"{AURA}: slow ***"]


async def test_a_flush_that_is_refused_ends_the_iteration(fake: FakeWorkersAI) -> None:
    """Deepgram refuses the 21st in a minute, with a warning only ("Flush", "Limits")."""
    warning = {"type": "Warning", "description": "Exceeded flush limit", "code": "RATE"}
    fake.connects(b"a", warning)
    async with speak(fake) as voice:
        await voice.flush()
        assert await read(voice) == b"a"


# Ends


async def test_a_cut_is_interrupted(fake: FakeWorkersAI) -> None:
    async def talk(socket: FakeSocket) -> None:
        await socket.send(b"half")
        socket.hang_up("reset")

    fake.connects_by(talk)
    async with speak(fake) as voice:
        assert (await anext(voice)).data == b"half"
        with pytest.raises(StreamInterrupted, match=r"after 1 message$"):
            await anext(voice)
        with pytest.raises(StreamInterrupted):
            await voice.say("Hello.")


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4000])
async def test_a_session_that_the_service_closes_is_interrupted(
    fake: FakeWorkersAI, code: int
) -> None:
    async def talk(socket: FakeSocket) -> None:
        await socket.close(code, "bye")
        await socket.receive()

    fake.connects_by(talk)
    async with speak(fake) as voice:
        with pytest.raises(StreamInterrupted, match=f"code {code}: bye"):
            await anext(voice)


async def test_an_error_message_is_raised(fake: FakeWorkersAI) -> None:
    fake.connects({"type": "Error", "description": "no such voice"})
    async with speak(fake) as voice:
        with pytest.raises(ServerError, match="no such voice"):
            await anext(voice)


async def test_a_silent_service_is_a_timeout(fake: FakeWorkersAI) -> None:
    fake.connects()
    async with speak(fake, timeouts=Timeouts(content=0.05)) as voice:
        await voice.flush()
        with pytest.raises(RequestTimeout) as caught:
            await anext(voice)
    assert caught.value.phase == "content"


async def test_closing_does_not_wait_for_a_service_that_does_not_read(fake: FakeWorkersAI) -> None:
    async def talk(socket: FakeSocket) -> None:
        await over.wait()

    over = asyncio.Event()
    fake.connects_by(talk)
    voice = await speak(fake).open()
    filling = asyncio.create_task(voice.say("word " * 5_000_000))
    await asyncio.wait({filling}, timeout=0.3)
    assert not filling.done()
    async with asyncio.timeout(8):
        await voice.aclose()
    with pytest.raises(StreamInterrupted):
        await filling
    over.set()
    await all_closed(fake)


async def test_dropping_closes_the_connection(fake: FakeWorkersAI) -> None:
    fake.connects_by(talk)
    voice = await speak(fake).open()
    await anext(voice.events())
    del voice
    await all_closed(fake)


class Recorder(Observation):
    """Keeps what an observer is called with."""

    def __init__(self) -> None:
        self.call: Call | None = None
        self.ending: Ending | None = None
        self.retries = 0

    def __call__(self, call: Call) -> Observation:
        self.call = call
        return self

    def retried(self, retry: Any) -> None:
        self.retries += 1

    def ended(self, ending: Ending) -> None:
        assert self.ending is None
        self.ending = ending


@pytest.mark.parametrize("flushes", [True, False])
async def test_sessions_are_observed(fake: FakeWorkersAI, flushes: bool) -> None:
    """A session whose audio was not all read is `closed`, and not `done`."""
    recorder = Recorder()
    fake.fails(429, 3040, "busy")
    fake.connects_by(talk)
    ai = fake.client(observers=[recorder], retries=Retries(base=0))
    async with ai.speak(AURA, speaker="luna") as voice:
        await voice.say("Hello.")
        if flushes:
            await voice.flush()
            await read(voice)
    assert recorder.call is not None
    assert recorder.ending is not None
    assert (recorder.call.model, recorder.call.asked("speaker")) == (AURA, "luna")
    assert recorder.call.stream
    assert recorder.retries == 1
    assert recorder.ending.outcome == ("done" if flushes else "closed")
    assert recorder.ending.meta.status == 101


@pytest.mark.parametrize(
    ("encoding", "media_type"),
    [(None, "audio/L16"), ("linear16", "audio/L16"), ("mp3", "audio/mp3"), ("opus", "audio/opus")],
)
async def test_an_observed_session_has_the_kind_of_its_sound(
    fake: FakeWorkersAI, encoding: Any, media_type: str
) -> None:
    """But not its bytes. One that never opened has no answer."""
    opened, refused = Recorder(), Recorder()
    fake.connects_by(talk).fails(400, 5004, "no")
    ai = fake.client()
    options: Any = {} if encoding is None else {"encoding": encoding}
    async with ai.with_options(observers=[opened]).speak(AURA, **options):
        pass
    assert opened.ending is not None
    assert opened.ending.answer == Audio(b"", media_type)
    with pytest.raises(BadRequest):
        await ai.with_options(observers=[refused]).speak(AURA, **options).open()
    assert refused.ending is not None
    assert (refused.ending.outcome, refused.ending.answer) == ("failed", None)


@pytest.mark.parametrize("gateway", [None, "g"])
async def test_the_address_of_an_observed_session_is_where_it_goes(gateway: str | None) -> None:
    recorder = Recorder()
    credentials: Any = {"account_id": "account", "api_token": "fake-api-token"}
    async with WorkersAI(
        **credentials, gateway=gateway, observers=[recorder], budget=0, proxy="http://127.0.0.1:9"
    ) as ai:
        with pytest.raises(BudgetExceeded):
            await ai.speak(AURA).open()
    assert recorder.call is not None
    host = "api.cloudflare.com" if gateway is None else "gateway.ai.cloudflare.com"
    assert (recorder.call.address, recorder.call.port) == (host, 443)
