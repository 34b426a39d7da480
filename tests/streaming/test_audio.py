"""`AudioStream`: chunks as they arrive, its ends, and files that are never half a sound."""

import asyncio
import base64
import gc
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cfai import AudioStream, Prompt, SpeechSynthesis, Spent, TextToImage, TextToSpeech
from cfai.errors import (
    AuthenticationError,
    BudgetExceeded,
    CapacityExceeded,
    CfaiError,
    DecodeError,
    InputError,
    QuotaExceeded,
    RequestTimeout,
    StatusError,
    StreamInterrupted,
)
from cfai.observers import Call, Ending, Observation
from cfai.settings import Retries, Timeouts
from cfai.testing import FakeWorkersAI

AURA = "@cf/deepgram/aura-1"
HELLO = SpeechSynthesis("Hello")
MP3 = b"ID3\x04\x00" + bytes(range(40))
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(16)
NEVER = Retries(max=0)
AT_ONCE = Retries(base=0)

# A measured answer of aura-1 (github.com/xujialiu/Zotero-TTS, 72), with another sound.
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n"
    b"cf-ai-neurons: 2.73\r\ncf-ray: 8f1-AMS\r\n\r\n"
)


@pytest.fixture(autouse=True)
def without_garbage_collector() -> Iterator[None]:
    """Dropped streams have to be closed without the garbage collector."""
    gc.disable()
    yield
    gc.enable()


def audio(fake: FakeWorkersAI, **options: Any) -> AudioStream:
    return fake.client(**options).audio(AURA, HELLO)


def speaks(fake: FakeWorkersAI, *parts: Any, media_type: str = "audio/mpeg", **reply: Any) -> None:
    fake.says(*parts, content_type=media_type, **({"framing": "chunked"} | reply))


async def all_closed(fake: FakeWorkersAI) -> None:
    """Wait until no connection is open."""
    await fake.until(lambda: fake.connections == 0)


async def received(sound: AudioStream, size: int) -> None:
    """Wait until the reader, another task, got so many bytes."""
    for _ in range(100_000):
        if sound.received >= size:
            return
        await asyncio.sleep(0)
    raise TimeoutError


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def read_all(sound: AudioStream) -> bytes:
    return b"".join([chunk async for chunk in sound])


# Reading


async def test_the_request_is_that_of_a_run(fake: FakeWorkersAI) -> None:
    """It is sent at the first read."""
    sound = audio(fake)
    assert repr(sound) == "<AudioStream new, 0 bytes>"
    assert (sound.media_type, fake.requests) == ("", [])
    speaks(fake, MP3)
    async with sound:
        assert repr(sound) == "<AudioStream open, 0 bytes>"
        assert await read_all(sound) == MP3
    (request,) = fake.requests
    assert request.target == f"/client/v4/accounts/account/ai/run/{AURA}"
    assert request.json() == {"text": "Hello"}
    assert repr(sound) == f"<AudioStream over, {len(MP3)} bytes>"


@pytest.mark.parametrize("cut", range(1, len(MP3)))
async def test_the_first_chunk_arrives_before_the_last_is_sent(
    fake: FakeWorkersAI, cut: int
) -> None:
    """Wherever the sound is cut; the type and the facts are known before the first chunk."""
    heard = asyncio.Event()
    speaks(fake, MP3[:cut], heard, MP3[cut:], headers={"cf-ray": "8f1-AMS", "cf-ai-neurons": "2"})
    async with audio(fake) as sound:
        assert sound.media_type == "audio/mpeg"
        assert (sound.meta.ray_id, sound.meta.neurons) == ("8f1-AMS", 2.0)
        assert await anext(sound) == MP3[:cut]
        heard.set()
        assert await read_all(sound) == MP3[cut:]
        assert sound.received == len(MP3)


async def test_a_recorded_response_is_read_wherever_it_is_cut(fake: FakeWorkersAI) -> None:
    body = HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(MP3), MP3)
    ai = fake.client()
    for cut in range(1, len(body)):
        fake.says_raw(body[:cut], body[cut:])
        sound = ai.audio(AURA, HELLO)
        assert await read_all(sound) == MP3
        assert sound.media_type == "audio/mpeg"
    assert ai.spent.neurons == pytest.approx(2.73 * (len(body) - 1))


@pytest.mark.parametrize("media_type", ["application/octet-stream", None])
@pytest.mark.parametrize("size", [1, 5, 11, 64])
async def test_a_missing_type_is_detected_from_the_first_bytes(
    fake: FakeWorkersAI, media_type: str | None, size: int
) -> None:
    """They may come one by one."""
    head = b"" if media_type is None else b"Content-Type: %b\r\n" % media_type.encode()
    pieces = [WAV[start : start + size] for start in range(0, len(WAV), size)]
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    fake.says_raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n" % head, *chunks, b"0\r\n\r\n"
    )
    async with audio(fake) as sound:
        assert sound.media_type == "audio/wav"
        assert await read_all(sound) == WAV


async def test_bare_samples_have_no_known_type(fake: FakeWorkersAI) -> None:
    """They may even begin like JSON."""
    speaks(fake, b'{"', b"\x00\x01", media_type="application/octet-stream")
    async with audio(fake) as sound:
        assert sound.media_type == "application/octet-stream"
        assert await read_all(sound) == b'{"\x00\x01'


@pytest.mark.parametrize("task", [TextToSpeech("Hello"), {"prompt": "Hello"}])
async def test_an_answer_in_json_is_one_chunk(fake: FakeWorkersAI, task: Any) -> None:
    fake.answers({"audio": base64.b64encode(MP3).decode()}, headers={"cf-ai-neurons": "1"})
    ai = fake.client()
    async with ai.audio("@cf/myshell-ai/melotts", task) as sound:
        assert sound.media_type == "audio/mpeg"
        assert [chunk async for chunk in sound] == [MP3]
    assert sound.meta.status == 200
    assert ai.spent == Spent(1.0, calls=1)


async def test_a_sound_at_an_address_is_one_chunk(fake: FakeWorkersAI) -> None:
    """As models of other providers send it (Cloudflare docs, run-api.mdx)."""
    result = {"state": "Completed", "result": {"audio": f"{fake.origin}/hello.mp3"}}
    fake.on("/ai/run").answers(result, headers={"cf-ai-neurons": "3"})
    fake.on("/hello.mp3").says(MP3, content_type="audio/mpeg")
    ai = fake.client()
    sound = ai.audio("openai/tts-1", {"text": "Hello"})
    assert [chunk async for chunk in sound] == [MP3]
    assert ai.spent == Spent(3.0, calls=1)


async def test_the_size_limit_of_an_answer_does_not_limit_a_sound(
    fake: FakeWorkersAI,
) -> None:
    """Nothing is kept. An answer in JSON is one piece, and is limited."""
    speaks(fake, *[MP3] * 10)
    assert await read_all(audio(fake, max_answer_bytes=100)) == MP3 * 10
    fake.answers({"audio": base64.b64encode(MP3 * 10).decode()})
    with pytest.raises(DecodeError, match="max_answer_bytes"):
        await read_all(audio(fake, max_answer_bytes=100))


async def test_a_finished_sound_returns_its_connection_to_the_pool(fake: FakeWorkersAI) -> None:
    ai = fake.client()
    for _ in range(3):
        speaks(fake, MP3)
        assert await read_all(ai.audio(AURA, HELLO)) == MP3
    assert fake.accepted == 1


# Refusals


@pytest.mark.parametrize("task", [Prompt("Hi"), TextToImage("a cat"), "Hello", None, [HELLO]])
async def test_a_task_that_asks_for_no_sound_is_refused(fake: FakeWorkersAI, task: Any) -> None:
    with pytest.raises(InputError, match="task must be a SpeechSynthesis, a TextToSpeech or a"):
        fake.client().audio(AURA, task)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (401, 10000, AuthenticationError),
        (429, 3040, CapacityExceeded),
        (429, 4006, QuotaExceeded),
        (400, 5006, StatusError),
    ],
)
async def test_a_refusal_raises_as_for_a_run(
    fake: FakeWorkersAI, status: int, code: int, error: type[CfaiError]
) -> None:
    for _ in range(2):
        fake.fails(status, code, "no")
    ai = fake.client(retries=NEVER)
    with pytest.raises(error) as by_run:
        await ai.run(AURA, HELLO)
    with pytest.raises(error) as by_audio:
        await ai.audio(AURA, HELLO).open()
    assert str(by_audio.value) == str(by_run.value)


@pytest.mark.parametrize(
    ("body", "media_type", "message"),
    [
        (b"<html>", "text/html", "not JSON"),
        (b"hello", "text/plain", "expected Audio, got text/plain"),
        (b"\x89PNG\r\n\x1a\n", "image/png", "expected Audio, got image/png"),
        (b"\x89PNG\r\n\x1a\n", "application/octet-stream", "expected Audio, got"),
        (b"", "audio/mpeg", "with no bytes"),
        (b"", "application/octet-stream", "with no bytes"),
        (b'{"result":{"audio":"?"}}', "application/json", "base64"),
        (b'data: {"response":"Hi"}\n\n', "text/event-stream", "stream of events"),
    ],
)
async def test_an_answer_that_is_no_sound_raises_a_typed_error(
    fake: FakeWorkersAI, body: bytes, media_type: str, message: str
) -> None:
    speaks(fake, body, media_type=media_type, headers={"cf-ray": "8f1-AMS"})
    with pytest.raises(DecodeError, match=message) as caught:
        await audio(fake, retries=NEVER).open()
    assert caught.value.meta is not None
    assert caught.value.meta.ray_id == "8f1-AMS"


async def test_an_error_in_a_stream_of_events_is_raised(fake: FakeWorkersAI) -> None:
    event = b'data: {"errors":[{"code":4006,"message":"used up"}],"success":false}\n\n'
    speaks(fake, event, media_type="text/event-stream")
    with pytest.raises(QuotaExceeded):
        await audio(fake).open()
    await all_closed(fake)


async def test_a_used_up_budget_sends_nothing(fake: FakeWorkersAI) -> None:
    with pytest.raises(BudgetExceeded):
        await audio(fake, budget=0).open()
    assert not fake.requests


# Retries and cuts


async def test_an_attempt_is_repeated_before_the_first_byte(fake: FakeWorkersAI) -> None:
    """After a refusal, and after headers without a body."""
    fake.fails(429, 3040, "busy")
    fake.says_raw(HEAD, then_hangs_up=True)
    speaks(fake, MP3)
    async with audio(fake, retries=AT_ONCE) as sound:
        assert sound.meta.attempts == 3
        assert await read_all(sound) == MP3


@pytest.mark.parametrize("cut", range(1, len(MP3)))
@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_a_cut_sound_raises_after_its_last_byte(
    fake: FakeWorkersAI, cut: int, framing: Any
) -> None:
    """It is not repeated."""
    length = {"Content-Length": str(len(MP3))} if framing == "length" else {}
    speaks(fake, MP3[:cut], framing=framing, headers=length, then_hangs_up=True)
    sound = audio(fake, retries=AT_ONCE)
    chunks = bytearray()
    with pytest.raises(StreamInterrupted, match=f"cut after {cut} bytes?"):
        async for chunk in sound:
            chunks += chunk
    assert chunks == MP3[:cut]
    assert len(fake.requests) == 1
    with pytest.raises(StreamInterrupted):
        await anext(sound)


# Closing and time limits


async def test_leaving_the_block_closes_the_connection(fake: FakeWorkersAI) -> None:
    speaks(fake, MP3, asyncio.Event())
    async with audio(fake) as sound:
        assert await anext(sound)
    await all_closed(fake)
    with pytest.raises(StreamInterrupted, match="closed after 45 bytes"):
        await anext(sound)
    await sound.aclose()


@pytest.mark.parametrize("is_open", [True, False])
async def test_dropping_a_sound_closes_the_connection(fake: FakeWorkersAI, is_open: bool) -> None:
    speaks(fake, MP3, asyncio.Event())
    sound = audio(fake)
    if is_open:
        await anext(sound)
    del sound
    await all_closed(fake)
    assert len(fake.requests) == is_open


@pytest.mark.parametrize("read", [0, 1])
async def test_cancelling_the_reader_closes_the_connection(fake: FakeWorkersAI, read: int) -> None:
    speaks(fake, *[MP3] * read, asyncio.Event())
    sound = audio(fake)
    reader = asyncio.ensure_future(read_all(sound))
    await fake.until(lambda: len(fake.requests) == 1)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await all_closed(fake)


async def test_closing_from_another_task_raises_for_the_reader(fake: FakeWorkersAI) -> None:
    speaks(fake, MP3, asyncio.Event())
    sound = await audio(fake).open()
    await anext(sound)
    reader = asyncio.ensure_future(read_all(sound))
    await asyncio.sleep(0)
    with pytest.raises(InputError, match="one reader"):
        await anext(sound)
    await sound.aclose()
    with pytest.raises(StreamInterrupted, match="closed"):
        await reader
    await all_closed(fake)


@pytest.mark.parametrize("headers_arrive", [False, True])
@pytest.mark.parametrize("way", ["enter", "iterate", "save"])
async def test_closing_before_the_first_bytes_takes_effect_at_once(
    fake: FakeWorkersAI, tmp_path: Path, headers_arrive: bool, way: str
) -> None:
    """A model may need seconds for them."""
    never = asyncio.Event()
    if headers_arrive:
        speaks(fake, never)
    else:
        speaks(fake, MP3, after=never)
    sound = audio(fake)
    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "enter": sound.open,
        "iterate": sound.__anext__,
        "save": lambda: sound.save(tmp_path / "a"),
    }
    reader = asyncio.ensure_future(ways[way]())
    await fake.until(lambda: fake.requests)
    with pytest.raises(InputError, match="one reader"):
        await anext(sound)
    await sound.aclose()
    with pytest.raises(StreamInterrupted, match="closed after 0 bytes"):
        await reader
    await all_closed(fake)
    assert not files(tmp_path)
    assert reader.cancelling() == 0
    with pytest.raises(StreamInterrupted, match="closed after 0 bytes"):
        await anext(sound)


async def test_cancelling_the_reader_while_it_is_closed_cancels_it(fake: FakeWorkersAI) -> None:
    """Its own cancellation is not mistaken for that of the stream."""
    speaks(fake, MP3, after=asyncio.Event())
    sound = audio(fake)
    reader = asyncio.ensure_future(sound.open())
    await fake.until(lambda: fake.requests)
    await sound.aclose()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await all_closed(fake)


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("phase", ["idle", "content", "total"])
async def test_an_exceeded_time_limit_ends_the_sound(
    fake: FakeWorkersAI, phase: str, framing: str, tmp_path: Path
) -> None:
    speaks(fake, MP3, asyncio.Event(), framing=framing)
    limits: dict[str, Any] = {"idle": None, phase: 0.1}
    with pytest.raises(RequestTimeout, match=f"Timeouts.{phase}"):
        await audio(fake, timeouts=Timeouts(**limits)).save(tmp_path / "hello.mp3")
    await all_closed(fake)
    assert files(tmp_path) == []


# Files


async def test_a_sound_is_saved_as_it_arrives(fake: FakeWorkersAI, tmp_path: Path) -> None:
    """The file appears when it is complete, and replaces an older one."""
    target = tmp_path / "hello.mp3"
    target.write_bytes(b"old")
    more = asyncio.Event()
    speaks(fake, MP3, more, MP3)
    sound = audio(fake)
    saving = asyncio.ensure_future(sound.save(target))
    await received(sound, len(MP3))
    assert target.read_bytes() == b"old"
    more.set()
    assert await saving == target
    assert target.read_bytes() == MP3 * 2
    assert files(tmp_path) == [target]


async def test_a_saved_file_is_that_of_a_link(fake: FakeWorkersAI, tmp_path: Path) -> None:
    target, link = tmp_path / "target.mp3", tmp_path / "link.mp3"
    target.touch()
    link.symlink_to(target)
    speaks(fake, MP3)
    async with audio(fake) as sound:
        await sound.save(os.fspath(link))
    assert link.is_symlink()
    assert target.read_bytes() == MP3


@pytest.mark.parametrize("end", ["cut", "cancel"])
@pytest.mark.parametrize("exists", [True, False])
async def test_an_interrupted_sound_leaves_no_file(
    fake: FakeWorkersAI, tmp_path: Path, end: str, exists: bool
) -> None:
    """An older file stays."""
    target = tmp_path / "hello.mp3"
    if exists:
        target.write_bytes(b"old")
    if end == "cut":
        speaks(fake, MP3, then_hangs_up=True)
        with pytest.raises(StreamInterrupted):
            await audio(fake).save(target)
    else:
        speaks(fake, MP3, asyncio.Event())
        sound = audio(fake)
        saving = asyncio.ensure_future(sound.save(target))
        await received(sound, len(MP3))
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        await all_closed(fake)
    assert files(tmp_path) == [target] * exists
    assert not exists or target.read_bytes() == b"old"


async def test_a_file_that_cannot_be_written_sends_nothing(
    fake: FakeWorkersAI, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        await audio(fake).save(tmp_path / "no folder" / "hello.mp3")
    with pytest.raises(InputError, match="path must be a regular file"):
        await audio(fake).save(tmp_path)
    with pytest.raises(InputError, match="path must be a regular file"):
        await audio(fake).save(os.devnull)
    assert not fake.requests


async def test_a_sound_that_was_read_in_part_is_not_saved(
    fake: FakeWorkersAI, tmp_path: Path
) -> None:
    speaks(fake, MP3, MP3)
    async with audio(fake) as sound:
        await anext(sound)
        with pytest.raises(InputError, match="read already"):
            await sound.save(tmp_path / "hello.mp3")
    assert files(tmp_path) == []


@pytest.mark.parametrize("path", ["a\0.mp3", "a\ud800.mp3"])
async def test_a_path_that_no_file_can_have_is_refused(fake: FakeWorkersAI, path: str) -> None:
    """Nothing is sent."""
    with pytest.raises(InputError, match="path must be a path that a file can have"):
        await audio(fake).save(path)
    assert fake.requests == []


async def test_awaiting_a_sound_names_the_way(fake: FakeWorkersAI) -> None:
    sound: Any = audio(fake)
    with pytest.raises(TypeError, match=r"await audio\.save\(path\)"):
        await sound


# Observers and costs


class Recorder(Observation):
    def __init__(self, call: Call) -> None:
        self.call = call
        self.endings: list[Ending] = []
        self.begun = 0

    def began(self, seconds: float) -> None:
        self.begun += 1

    def ended(self, ending: Ending) -> None:
        self.endings.append(ending)


@pytest.mark.parametrize(
    ("end", "outcome"), [("read", "done"), ("leave", "closed"), ("cut", "failed")]
)
async def test_a_sound_is_observed_as_a_stream(fake: FakeWorkersAI, end: str, outcome: str) -> None:
    """Once, with the facts of the exchange; its cost is counted at its end."""
    recorders: list[Recorder] = []

    def observer(call: Call) -> Recorder:
        recorders.append(Recorder(call))
        return recorders[-1]

    speaks(fake, MP3, MP3, headers={"cf-ai-neurons": "2.73"}, then_hangs_up=end == "cut")
    ai = fake.client(observers=[observer])
    sound = ai.audio(AURA, HELLO)
    await anext(sound)
    assert ai.spent == Spent()
    if end == "read":
        await read_all(sound)
    elif end == "leave":
        await sound.aclose()
    else:
        with pytest.raises(StreamInterrupted):
            await read_all(sound)
    del sound
    (recorder,) = recorders
    assert recorder.call.stream
    assert recorder.begun == 1
    (ending,) = recorder.endings
    assert ending.outcome == outcome
    assert ending.meta.neurons == 2.73
    assert ai.spent == Spent(2.73, calls=1)


async def test_a_refused_sound_is_observed_as_failed(fake: FakeWorkersAI) -> None:
    endings: list[Ending] = []

    class Observed(Observation):
        def ended(self, ending: Ending) -> None:
            endings.append(ending)

    fake.fails(400, 5006, "no")
    ai = fake.client(observers=[lambda _: Observed()])
    with pytest.raises(StatusError):
        await ai.audio(AURA, HELLO).open()
    assert [ending.outcome for ending in endings] == ["failed"]
    assert ai.spent == Spent()
