"""Texts are spoken in the form and the encoding of each model."""

import asyncio
import wave
from base64 import b64decode
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import soundfile

from cfai.local.audio import RawFormat, decode
from cfai.local.speech import transcribe
from tests.local.conftest import Local, running
from tests.local.quality import hold
from tests.local.spoken import SENTENCES, words_of

pytestmark = pytest.mark.usefixtures("speech_weights")

AURA = "@cf/deepgram/aura-1"
AURA_2 = "@cf/deepgram/aura-2-en"
MELO = "@cf/myshell-ai/melotts"
TEXT = SENTENCES[1]


def heard(data: bytes, raw: RawFormat | None = None) -> list[str]:
    segments = transcribe(decode(data, raw=raw).samples)
    return words_of(" ".join(segment.text for segment in segments))


@pytest.mark.parametrize("model", [AURA, AURA_2])
async def test_aura_answers_with_an_mp3_file(local: Local, model: str) -> None:
    reply = await local.post(model, {"text": TEXT})
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "audio/mpeg"
    assert reply.headers["cfai-backend"] == "hibari"
    assert decode(reply.body).format == "MP3"
    assert heard(reply.body) == words_of(TEXT)


async def test_every_sentence_that_is_sent_as_mp3_is_understood(local: Local) -> None:
    """By the recognizer, over HTTP both times."""
    results = []
    for sentence in SENTENCES:
        sound = (await local.post(AURA, {"text": sentence})).body
        text = (await local.post("@cf/openai/whisper", {"audio": list(sound)})).result["text"]
        results.append(words_of(text) == words_of(sentence))
    hold("Speech synthesis", results)


async def test_melotts_answers_with_base64(local: Local) -> None:
    reply = await local.post(MELO, {"prompt": TEXT, "lang": "en"})
    assert reply.headers["cfai-backend"] == "hibari"
    assert list(reply.result) == ["audio"]
    data = b64decode(reply.result["audio"], validate=True)
    assert decode(data).format == "MP3"
    assert heard(data) == words_of(TEXT)


@pytest.mark.parametrize(
    ("fields", "media_type", "name", "raw"),
    [
        ({"encoding": "mp3", "bit_rate": 32000}, "audio/mpeg", "MP3", None),
        ({"encoding": "linear16"}, "audio/wav", "WAV", None),
        (
            {"encoding": "linear16", "container": "none"},
            "audio/l16;rate=24000;channels=1",
            "RAW",
            RawFormat("PCM_16", 24000),
        ),
        (
            {"encoding": "linear16", "container": "none", "sample_rate": 8000},
            "audio/l16;rate=8000;channels=1",
            "RAW",
            RawFormat("PCM_16", 8000),
        ),
        ({"encoding": "flac", "sample_rate": 48000}, "audio/flac", "FLAC", None),
        ({"encoding": "mulaw", "sample_rate": 16000}, "audio/wav", "WAV", None),
        (
            {"encoding": "alaw", "container": "none"},
            "audio/alaw;rate=8000;channels=1",
            "RAW",
            RawFormat("ALAW", 8000),
        ),
        ({"encoding": "opus", "bit_rate": 24000}, "audio/ogg", "OGG", None),
    ],
)
async def test_every_encoding_is_intelligible(
    local: Local, fields: dict[str, Any], media_type: str, name: str, raw: RawFormat | None
) -> None:
    reply = await local.post(AURA, {"text": TEXT, **fields})
    assert reply.headers["Content-Type"] == media_type
    assert decode(reply.body, raw=raw).format == name
    assert heard(reply.body, raw) == words_of(TEXT)


async def test_a_wave_file_states_its_length(local: Local) -> None:
    reply = await local.post(AURA, {"text": TEXT, "encoding": "linear16"})
    with wave.open(BytesIO(reply.body)) as file:
        assert file.getframerate() == 24000
        assert len(file.readframes(file.getnframes())) == len(reply.body) - 44


async def test_bit_rates_and_sample_rates_change_the_sound(local: Local) -> None:
    async def size(**fields: Any) -> int:
        return len((await local.post(AURA, {"text": TEXT, **fields})).body)

    assert await size(bit_rate=32000) < await size(bit_rate=48000) == await size()
    opus = {"encoding": "opus"}
    assert (
        await size(**opus, bit_rate=8000) < await size(**opus) < await size(**opus, bit_rate=64000)
    )
    raw = {"encoding": "linear16", "container": "none"}
    assert await size(**raw, sample_rate=48000) == pytest.approx(2 * await size(**raw), rel=0.01)


@pytest.mark.parametrize(
    ("encoding", "bit_rate", "is_accepted"),
    [
        ("mp3", 31_999, False),
        ("mp3", 32_000, True),
        ("mp3", 40_000, False),
        ("mp3", 48_000, True),
        ("mp3", 48_001, False),
        ("opus", 5999, False),
        ("opus", 6000, True),
        ("opus", 256_000, True),
        ("opus", 256_001, False),
        ("linear16", 48_000, False),
    ],
)
async def test_the_bit_rates_of_an_encoding(
    local: Local, encoding: str, bit_rate: int, *, is_accepted: bool
) -> None:
    body = {"text": "Hello there.", "encoding": encoding, "bit_rate": bit_rate}
    reply = await local.post(AURA, body)
    assert reply.status == (200 if is_accepted else 400)
    if not is_accepted:
        assert "bit_rate must be" in reply.error[2]
    elif encoding == "mp3":
        # The sound has 1.4 seconds, and the file a frame or two more.
        seconds = decode(reply.body).seconds
        assert len(reply.body) * 8 / seconds == pytest.approx(bit_rate, rel=0.1)


async def test_the_default_bit_rates(local: Local) -> None:
    """48 kbit/s of MP3, and 12 kbit/s of Opus."""
    for encoding, bit_rate in (("mp3", 48_000), ("opus", 12_000)):
        body = {"text": TEXT, "encoding": encoding}
        plain = (await local.post(AURA, body)).body
        size = len((await local.post(AURA, {**body, "bit_rate": bit_rate})).body)
        assert len(plain) == pytest.approx(size, rel=0.01)


@pytest.mark.parametrize(
    ("encoding", "default", "others"),
    [
        ("mp3", 22050, []),
        ("linear16", 24000, [8000, 16000, 32000, 48000]),
        ("flac", 22050, [8000, 16000, 32000, 48000]),
        ("mulaw", 8000, [16000]),
        ("alaw", 8000, [16000]),
    ],
)
async def test_the_rates_of_an_encoding(
    local: Local, encoding: str, default: int, others: list[int]
) -> None:
    """Source: Deepgram docs, "Sample Rate"."""
    for rate in (None, default, *others):
        body = {"text": "Hi.", "encoding": encoding, "sample_rate": rate}
        reply = await local.post(AURA, body)
        assert soundfile.info(BytesIO(reply.body)).samplerate == (rate or default)
    reply = await local.post(AURA, {"text": "Hi.", "encoding": encoding, "sample_rate": 44100})
    rates = ", ".join(map(str, sorted([default, *others])))
    assert f"sample_rate must be one of {rates} for encoding {encoding!r}" in reply.error[2]


async def test_sound_is_sent_a_sentence_at_a_time(local: Local) -> None:
    """The first bytes arrive while the rest is not spoken yet."""
    text = " ".join(SENTENCES[:12])
    async with local.open(AURA, {"text": text}) as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
        first = await response.content.readany()
        rest = await response.content.read()
    assert 0 < len(first) < len(rest) / 3


async def test_a_client_that_leaves_stops_the_voice(local: Local) -> None:
    text = " ".join(SENTENCES * 17)
    async with local.open(AURA, {"text": text}) as response:
        await response.content.readany()
        response.close()
    # Twenty minutes of speech are not finished before this.
    exchange = await local.done()
    assert (exchange.status, exchange.backend) == (200, "hibari")


async def test_long_texts_keep_nobody_waiting_and_end_with_their_clients() -> None:
    """Also those whose sound is sent only when it is complete."""
    text = ("Hello there, this is a sentence. " * 600)[:20_000]
    bodies: list[tuple[str, dict[str, Any]]] = [
        (MELO, {"prompt": text}),
        (MELO, {"prompt": "\n".join("a" * 10_000)[:20_000]}),
        (AURA, {"text": text, "encoding": "flac"}),
        (AURA, {"text": "a " + "🙂" * 19_000 + " b", "encoding": "linear16"}),
    ]
    async with asyncio.timeout(100):
        async with running() as local:
            # Twice as many as threads.
            long = [asyncio.create_task(local.post(*body)) for body in bodies]
            reply = await local.post(AURA, {"text": TEXT})
            assert heard(reply.body) == words_of(TEXT)
            assert not any(task.done() for task in long[:3])
            for task in long:
                task.cancel()
            await asyncio.gather(*long, return_exceptions=True)


@pytest.mark.parametrize(("model", "name"), [(AURA, "text"), (AURA_2, "text"), (MELO, "prompt")])
async def test_a_text_has_at_most_20_000_characters(local: Local, model: str, name: str) -> None:
    reply = await local.post(model, {name: "Hello. " * 2858})
    message = f"{name} has 20006 characters, more than the 20000 that the local model reads"
    assert reply.error[:2] == (400, 5006)
    assert message in reply.error[2]


async def test_a_text_of_20_000_characters_is_spoken(local: Local) -> None:
    async with local.open(AURA, {"text": "Hi. " * 5000}) as response:
        assert response.status == 200
        assert await response.content.readany()
        response.close()


@pytest.mark.parametrize("encoding", ["mp3", "linear16", "flac", "mulaw", "opus"])
async def test_a_text_without_a_sound_is_refused(local: Local, encoding: str) -> None:
    reply = await local.post(AURA, {"text": "Ĉ Ð", "encoding": encoding})
    assert reply.error[:2] == (400, 5006)
    assert "text must have words" in reply.error[2]


async def test_a_known_speaker_is_accepted_and_the_header_says_who_speaks(local: Local) -> None:
    plain = await local.post(AURA, {"text": TEXT})
    reply = await local.post(AURA, {"text": TEXT, "speaker": "luna"})
    assert reply.headers["cfai-voice"] == "hibari"
    assert reply.body == plain.body


async def test_long_words_and_sentences_are_spoken_in_pieces(local: Local) -> None:
    for text in ("word " * 80, "x" * 400):
        reply = await local.post(AURA, {"text": text})
        assert reply.status == 200
        assert decode(reply.body).seconds > 5


@pytest.mark.parametrize("text", ["Café ½ µm", "naïve", "Straẞe", "5"])
async def test_latin_letters_and_signs_are_spoken(local: Local, text: str) -> None:
    reply = await local.post(AURA, {"text": text})
    assert reply.status == 200


@pytest.mark.parametrize(
    ("model", "body", "status", "words"),
    [
        (AURA, {}, 400, "text"),
        (AURA, {"text": " "}, 400, "text must not be empty"),
        (AURA, {"text": "?! 🙂"}, 400, "text must have a letter or a digit"),
        (AURA, {"text": "日本語"}, 501, "only English: text has '日'"),
        (AURA, {"text": "Hello Мир"}, 501, "only English: text has 'М'"),
        (AURA, {"text": "Room ٣"}, 501, "only English: text has '٣'"),
        (MELO, {"prompt": "日本語"}, 501, "only English: prompt has '日'"),
        (MELO, {"prompt": "..."}, 400, "prompt must have a letter or a digit"),
        (AURA, {"prompt": "Hi"}, 400, "prompt"),
        (AURA, {"text": "Hi", "speaker": "bob"}, 400, "speaker must be one of angus"),
        (AURA, {"text": "Hi", "speaker": "thalia"}, 400, "speaker must be one of"),
        (AURA, {"text": "Hi", "encoding": "aac"}, 501, "encoding is 'aac'"),
        (AURA, {"text": "Hi", "encoding": "wma"}, 400, "encoding must be one of"),
        (AURA, {"text": "Hi", "container": "ogg"}, 400, "container must be one of none"),
        (AURA, {"text": "Hi", "encoding": "opus", "container": "wav"}, 400, "container must be"),
        (AURA, {"text": "Hi", "sample_rate": 8000}, 400, "sample_rate must be one of 22050"),
        (AURA, {"text": "Hi", "bit_rate": 64000}, 400, "bit_rate must be 32000 or 48000"),
        (AURA, {"text": "Hi", "encoding": "flac", "bit_rate": 1}, 400, "bit_rate must be omitted"),
        (AURA, {"text": "Hi", "encoding": "opus", "bit_rate": 1}, 400, "bit_rate must be from"),
        (AURA, {"text": "Hi", "stream": True}, 400, "stream"),
        (MELO, {"prompt": ""}, 400, "prompt must have at least 1 character"),
        (MELO, {"prompt": "Hi", "lang": "fr"}, 501, "only English: lang is 'fr'"),
        (MELO, {"prompt": "Hi", "lang": 5}, 400, "lang"),
        (MELO, {"text": "Hi"}, 400, "text"),
        ("@cf/deepgram/aura-2-es", {"text": "Hola"}, 501, "only English"),
    ],
)
async def test_invalid_requests_are_refused(
    local: Local, model: str, body: dict[str, Any], status: int, words: str
) -> None:
    reply = await local.post(model, body)
    assert reply.status == status
    assert words in reply.error[2]


async def test_a_queued_request_for_a_file_is_refused(local: Local) -> None:
    url, query = local.url(AURA), {"queueRequest": "true"}
    async with local.http.post(url, json={"requests": [{"text": "Hi"}]}, params=query) as response:
        batch = (await response.json())["result"]["request_id"]
    while True:
        poll = {"request_id": batch}
        async with local.http.post(url, json=poll, params=query) as response:
            result = (await response.json())["result"]
        if "responses" in result:
            break
    assert "its answer is a file" in result["responses"][0]["errors"][0]["message"]


async def test_loud_sound_is_not_distorted(local: Local) -> None:
    reply = await local.post(AURA, {"text": TEXT, "encoding": "linear16"})
    samples = decode(reply.body).samples
    assert 0.05 < np.abs(samples).max() <= 1
    assert (np.abs(samples) > 0.99).mean() < 0.001
