"""Recordings are transcribed in the form of each model; no field of theirs is ignored."""

import io
import json
import zlib
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from cfai.local.handlers.transcription import _build_vtt, _strip_format
from cfai.local.speech import Segment
from tests.local.conftest import Local, Reply
from tests.local.spoken import SENTENCES, silence, spoken, words_of

pytestmark = pytest.mark.usefixtures("speech_weights")

WHISPER = "@cf/openai/whisper"
TURBO = "@cf/openai/whisper-large-v3-turbo"
NOVA = "@cf/deepgram/nova-3"
NEMOTRON = "@cf/nvidia/nemotron-speech-streaming-en-0.6b"
TURN = "@cf/pipecat-ai/smart-turn-v2"

TEXT = SENTENCES[0]
CARDS = json.loads((Path(__file__).parents[2] / "wire/model_inputs.json").read_text())["cards"]


@cache
def sound(name: str = "WAV", subtype: str = "PCM_16", rate: int = 16000) -> bytes:
    """The first sentence and, after a pause of a second, the second one."""
    samples = np.concatenate([spoken(SENTENCES[0]), silence(1.2), spoken(SENTENCES[1])])
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=name, subtype=subtype)
    return buffer.getvalue()


def short() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, spoken(TEXT), 16000, format="WAV")
    return buffer.getvalue()


def base64(data: bytes) -> str:
    return b64encode(data).decode()


async def send(local: Local, model: str, data: bytes, /, **query: str) -> Reply:
    return await local.post(model, data, params=query, headers={"Content-Type": "audio/wav"})


async def test_whisper(local: Local) -> None:
    reply = await send(local, WHISPER, sound())
    assert reply.headers["cfai-backend"] == "moonshine-tiny-en"
    result = reply.result
    assert list(result) == ["text", "word_count", "vtt"]
    assert words_of(result["text"]) == words_of(f"{SENTENCES[0]} {SENTENCES[1]}")
    assert result["word_count"] == 14
    heading, first, second = result["vtt"].split("\n\n")
    assert heading == "WEBVTT"
    times, text = first.split("\n")
    assert words_of(text) == words_of(SENTENCES[0])
    start, _, end = times.partition(" --> ")
    assert "00:00.000" <= start < end < "00:03.000"
    assert second > first


@pytest.mark.parametrize("form", ["bytes", "integers"])
async def test_whisper_takes_bytes_and_integers(local: Local, form: str) -> None:
    body: Any = short() if form == "bytes" else {"audio": list(short())}
    reply = await local.post(WHISPER, body)
    assert words_of(reply.result["text"]) == words_of(TEXT)


@pytest.mark.parametrize(
    ("name", "subtype"), [("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS")]
)
async def test_files_of_other_formats(local: Local, name: str, subtype: str) -> None:
    reply = await send(local, WHISPER, sound(name, subtype))
    assert words_of(reply.result["text"]) == words_of(f"{SENTENCES[0]} {SENTENCES[1]}")


async def test_turbo(local: Local) -> None:
    result = (await local.post(TURBO, {"audio": base64(sound()), "language": "en-GB"})).result
    info = result["transcription_info"]
    assert info["language"] == "en"
    assert info["duration"] == info["duration_after_vad"]
    assert result["word_count"] == 14
    first, second = result["segments"]
    assert set(first) == {
        "start",
        "end",
        "text",
        "temperature",
        "avg_logprob",
        "compression_ratio",
        "no_speech_prob",
    }
    assert 0 <= first["start"] < first["end"] <= second["start"] < second["end"]
    assert second["end"] <= info["duration"]
    assert first["temperature"] == 0, "the likeliest words are taken"
    assert first["avg_logprob"] <= 0
    assert 0 <= first["no_speech_prob"] < 0.6
    filtered = await local.post(TURBO, {"audio": base64(sound()), "vad_filter": True})
    info = filtered.result["transcription_info"]
    assert info["duration_after_vad"] < info["duration"]


async def test_nova(local: Local) -> None:
    """Without case and punctuation, unless they are asked for."""
    (channel,) = (await send(local, NOVA, sound())).result["results"]["channels"]
    (alternative,) = channel["alternatives"]
    assert alternative["transcript"] == (
        "hello from the local server the train to the coast leaves twice an hour"
    )
    assert 0 < alternative["confidence"] <= 1
    for name in ("punctuate", "smart_format"):
        results = (await send(local, NOVA, sound(), **{name: "true"})).result["results"]
        text = results["channels"][0]["alternatives"][0]["transcript"]
        assert text == f"{SENTENCES[0]} {SENTENCES[1]}"


async def test_the_numbers_of_a_recording(local: Local) -> None:
    """Times have three decimals."""
    result = (await local.post(TURBO, {"audio": base64(sound()), "vad_filter": True})).result
    info, segments = result["transcription_info"], result["segments"]
    samples = len(spoken(SENTENCES[0])) + round(1.2 * 16000) + len(spoken(SENTENCES[1]))
    assert info["duration"] == pytest.approx(samples / 16000, abs=0.001)
    times = [info["duration"], info["duration_after_vad"]]
    times += [segment[name] for segment in segments for name in ("start", "end")]
    assert all(time == round(time, 3) for time in times)
    lengths = [segment["end"] - segment["start"] for segment in segments]
    assert info["duration_after_vad"] == pytest.approx(sum(lengths), abs=0.003)
    for segment in segments:
        text = segment["text"].encode()
        assert segment["compression_ratio"] == len(text) / len(zlib.compress(text))
        assert segment["avg_logprob"] < 0
        assert 0 <= segment["no_speech_prob"] < 0.5
    assert result["text"] == " ".join(segment["text"] for segment in segments)
    blocks = result["vtt"].split("\n\n")[1:]
    assert [block.split("\n")[1] for block in blocks] == [s["text"] for s in segments]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"encoding": "linear16", "sample_rate": "4000"}, 200),
        ({"encoding": "linear16", "sample_rate": "3999"}, 400),
        ({"encoding": "linear16", "sample_rate": "192000"}, 200),
        ({"encoding": "linear16", "sample_rate": "192001"}, 400),
        ({"encoding": "linear16", "sample_rate": "16000", "channels": "8"}, 200),
        ({"encoding": "linear16", "sample_rate": "16000", "channels": "9"}, 400),
        ({"encoding": "linear16", "sample_rate": "16000", "channels": "0"}, 400),
        ({"encoding": "mulaw", "sample_rate": "8000", "channels": "1"}, 200),
        ({"utt_split": "0.1"}, 200),
        ({"utt_split": "0.09"}, 400),
        ({"utt_split": "10"}, 200),
        ({"utt_split": "10.1"}, 400),
        ({"channels": "1"}, 400),
        ({"language": "en_US"}, 200),
        ({"language": "English"}, 200),
        ({"language": "eng"}, 501),
        ({"punctuate": "false", "utterances": "false"}, 200),
        ({"mode": "general", "mip_opt_out": "true", "diarize": "false", "search": ""}, 200),
        ({"paragraphs": "false"}, 200),
        ({"paragraphs": "true"}, 400),
    ],
)
async def test_the_bounds_of_parameters(local: Local, query: dict[str, str], status: int) -> None:
    is_raw = "encoding" in query
    data = bytes(32_000) if is_raw else write_silence()
    reply = await send(local, NOVA, data, **query)
    assert reply.status == status, reply.body
    if status == 200:
        results = {"channels": [{"alternatives": [{"transcript": "", "confidence": 0}]}]}
        assert reply.result == {"results": results}


def write_silence() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, silence(1), 16000, format="WAV")
    return buffer.getvalue()


async def test_the_channels_of_samples_without_a_header(local: Local) -> None:
    """They are mixed, or kept apart; utterances are in the order of their beginnings."""
    first, second = spoken(SENTENCES[0]), spoken(SENTENCES[10])
    second = np.concatenate([silence(0.5), second])
    size = max(len(first), len(second))
    both = np.stack([np.pad(x, (0, size - len(x))) for x in (second, first)], axis=1)
    data = (both * 32767).astype("<i2").tobytes()
    query = {"encoding": "linear16", "sample_rate": "16000", "channels": "2"}
    results = (
        await send(local, NOVA, data, **query, multichannel="true", utterances="true")
    ).result["results"]
    assert len(results["channels"]) == 2
    utterances = [(row["channel"], words_of(row["transcript"])) for row in results["utterances"]]
    assert utterances == [(1, words_of(SENTENCES[0])), (0, words_of(SENTENCES[10]))]
    for row in results["utterances"]:
        assert row.keys() == {"start", "end", "confidence", "channel", "transcript"}
        assert row["start"] == round(row["start"], 3)
        alternative = results["channels"][row["channel"]]["alternatives"][0]
        assert alternative["confidence"] == row["confidence"]
    (mixed,) = (await send(local, NOVA, data, **query)).result["results"]["channels"]
    assert mixed["alternatives"][0]["transcript"]


async def test_a_pause_of_eight_tenths_separates_utterances(local: Local) -> None:
    """Unless another one is asked for: of the recorder's frames of 32 ms, 25 are 0.8 s."""
    parts = [spoken(SENTENCES[0])[:-6000]]
    for pause in (0.1, 1.2):
        parts += [silence(pause), spoken(SENTENCES[1])]
    buffer = io.BytesIO()
    soundfile.write(buffer, np.concatenate(parts), 16000, format="WAV")

    async def count(**query: str) -> int:
        query["utterances"] = "true"
        reply = await send(local, NOVA, buffer.getvalue(), **query)
        return len(reply.result["results"]["utterances"])

    counts = [await count(utt_split=split) for split in ("0.3", "0.8", "3")]
    assert counts == [3, 2, 1]
    assert await count() == 2


async def test_nova_utterances(local: Local) -> None:
    results = (await send(local, NOVA, sound(), utterances="true")).result["results"]
    first, second = results["utterances"]
    assert first["transcript"] == "hello from the local server"
    assert first["end"] <= second["start"]
    assert (first["channel"], second["channel"]) == (0, 0)
    query = {"utterances": "true", "utt_split": "3"}
    (only,) = (await send(local, NOVA, sound(), **query)).result["results"]["utterances"]
    assert only["start"] == first["start"]
    assert only["end"] == second["end"]


async def test_nova_channels(local: Local) -> None:
    first, second = spoken(SENTENCES[0]), spoken(SENTENCES[10])
    size = max(len(first), len(second))
    both = np.stack([np.pad(x, (0, size - len(x))) for x in (first, second)], axis=1)
    buffer = io.BytesIO()
    soundfile.write(buffer, both, 16000, format="WAV")
    reply = await send(local, NOVA, buffer.getvalue(), multichannel="true", punctuate="true")
    texts = [
        channel["alternatives"][0]["transcript"] for channel in reply.result["results"]["channels"]
    ]
    assert texts == [SENTENCES[0], SENTENCES[10]]


@pytest.mark.parametrize(("encoding", "subtype"), [("linear16", "PCM_16"), ("mulaw", "ULAW")])
async def test_nova_reads_samples_without_a_header(
    local: Local, encoding: str, subtype: str
) -> None:
    data = sound("RAW", subtype)
    reply = await send(local, NOVA, data, encoding=encoding, sample_rate="16000")
    text = reply.result["results"]["channels"][0]["alternatives"][0]["transcript"]
    assert text.startswith("hello from the local server")


async def test_nemotron(local: Local) -> None:
    reply = await local.post(NEMOTRON, {"audio": base64(short()), "encoding": "wav"})
    assert words_of(reply.result["text"]) == words_of(TEXT)
    assert reply.result["duration"] == pytest.approx(len(spoken(TEXT)) / 16000, abs=0.01)
    raw = {"audio": base64(sound("RAW")), "encoding": "linear16", "sample_rate": 16000}
    assert (await local.post(NEMOTRON, raw)).result["text"].startswith("Hello")


async def test_the_end_of_a_turn(local: Local) -> None:
    whole, cut = spoken(SENTENCES[1]), spoken(SENTENCES[1])[:20_000]
    for samples, complete in ((whole, True), (cut, False)):
        for dtype in ("float32", "float64"):
            data = samples.astype(dtype).tobytes()
            reply = await local.post(TURN, {"audio": base64(data), "dtype": dtype})
            assert reply.headers["cfai-backend"] == "smart-turn-v3.2"
            assert reply.result["is_complete"] is complete
            assert (reply.result["probability"] >= 0.5) is complete
    for reply in (
        await local.post(TURN, {"audio": base64(short())}),
        await send(local, TURN, short()),
    ):
        assert reply.result["is_complete"] is True


@pytest.mark.parametrize("sample", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
async def test_samples_that_are_no_numbers_are_refused(
    local: Local, sample: float, dtype: str
) -> None:
    samples = spoken(SENTENCES[1]).astype(dtype)
    samples[100] = sample
    reply = await local.post(TURN, {"audio": base64(samples.tobytes()), "dtype": dtype})
    assert reply.error[:2] == (400, 5006)
    assert "the samples of that dtype must be finite" in reply.error[2]


async def test_a_queued_recording_is_transcribed(local: Local) -> None:
    url = local.url(TURBO)
    body = {"requests": [{"audio": base64(short())}, {"audio": "no base64"}]}
    async with local.http.post(url, json=body, params={"queueRequest": "true"}) as response:
        batch = (await response.json())["result"]["request_id"]
    while True:
        poll = {"request_id": batch}
        async with local.http.post(url, json=poll, params={"queueRequest": "true"}) as response:
            result = (await response.json())["result"]
        if "responses" in result:
            break
    first, second = result["responses"]
    assert words_of(first["result"]["text"]) == words_of(TEXT)
    assert second["success"] is False


# No field is ignored

VALUES: dict[str, dict[str, Any]] = {
    WHISPER: {},
    "@cf/openai/whisper-tiny-en": {},
    TURBO: {
        "task": "translate",
        "language": "de",
        "vad_filter": True,
        "initial_prompt": "Names: Ana.",
        "prefix": "Hello",
    },
    TURN: {"dtype": "float32"},
    NOVA: {
        "custom_topic_mode": "strict",
        "custom_topic": "tea",
        "custom_intent_mode": "strict",
        "custom_intent": "buy",
        "detect_entities": True,
        "detect_language": True,
        "diarize": True,
        "dictation": True,
        "encoding": "flac",
        "extra": "a:b",
        "filler_words": True,
        "keyterm": "cfai",
        "keywords": "cfai",
        "language": "de",
        "measurements": True,
        "mip_opt_out": True,
        "mode": "medical",
        "multichannel": True,
        "numerals": True,
        "paragraphs": True,
        "profanity_filter": True,
        "punctuate": True,
        "redact": "pci",
        "replace": "a:b",
        "search": "tea",
        "sentiment": True,
        "smart_format": True,
        "topics": True,
        "utterances": True,
        "utt_split": 3.0,
        "channels": 2,
        "interim_results": True,
        "endpointing": "300",
        "vad_events": True,
        "utterance_end_ms": True,
    },
}

# The first concerns the account; the second has an effect on files with several channels and the
# third on utterances, which are tested above.
ELSEWHERE = {"mip_opt_out", "multichannel", "utt_split"}


def properties_of(model: str) -> set[str]:
    card = CARDS[model]
    parts = card.get("oneOf", [card])
    return {name for part in parts for name in part.get("properties", {})}


@pytest.mark.parametrize("model", VALUES)
async def test_every_field_is_used_or_refused_by_its_name(local: Local, model: str) -> None:
    assert properties_of(model) - {"audio"} == set(VALUES[model])
    in_query = model == NOVA

    async def post(**fields: Any) -> Reply:
        if in_query:
            query = {name: json.dumps(value).strip('"') for name, value in fields.items()}
            return await send(local, model, sound(), **query)
        data = sound()
        is_list = model in (WHISPER, "@cf/openai/whisper-tiny-en")
        return await local.post(model, {"audio": list(data) if is_list else base64(data), **fields})

    plain = (await post()).result
    for name, value in VALUES[model].items():
        reply = await post(**{name: value})
        if reply.status == 200:
            assert reply.result != plain or name in ELSEWHERE, f"{name} is ignored"
        else:
            assert reply.status in (400, 501)
            assert name in reply.error[2]


@pytest.mark.parametrize("first", ["7b", "207b", "0a7b", "ff"])
async def test_samples_may_begin_like_json(local: Local, first: str) -> None:
    """The Content-Type, or the encoding in the query, says that they are sound."""
    samples = (spoken(SENTENCES[0]) * 32767).astype("<i2").tobytes()
    data = bytes.fromhex(first).ljust(2, b"\0") + samples[len(samples) % 2 :]
    for kind in ("audio/l16", "application/x-www-form-urlencoded"):
        query = {"encoding": "linear16", "sample_rate": "16000"}
        headers = {"Content-Type": kind}
        reply = await local.post(NOVA, data, params=query, headers=headers)
        (channel,) = reply.result["results"]["channels"]
        transcript = channel["alternatives"][0]["transcript"]
        assert words_of(transcript) == words_of(SENTENCES[0])


@pytest.mark.parametrize("data", [b"", b"abc"])
async def test_a_turn_needs_sound(local: Local, data: bytes) -> None:
    reply = await local.post(TURN, {"audio": base64(data), "dtype": "float32"})
    assert reply.error[:2] == (400, 5006)
    assert "audio must" in reply.error[2]


@pytest.mark.parametrize(
    ("model", "body", "status", "words"),
    [
        (WHISPER, {}, 400, "audio"),
        (WHISPER, {"audio": []}, 400, "audio must be a list of integers"),
        (WHISPER, {"audio": [1, 256]}, 400, "audio must be a list of integers"),
        (WHISPER, {"audio": [1, -1]}, 400, "audio must be a list of integers"),
        (WHISPER, {"audio": [1.5]}, 400, "audio must be a list of integers"),
        (WHISPER, {"audio": "aGk="}, 400, "audio must be a list of integers"),
        (WHISPER, {"audio": [1, 2, 3]}, 400, "audio cannot be read"),
        (WHISPER, {"audio": [1], "source_lang": "de"}, 501, "only English: source_lang is 'de'"),
        (WHISPER, {"audio": [1], "target_lang": "fr"}, 501, "only English: target_lang is 'fr'"),
        (WHISPER, {"audio": [1], "source_lang": 5}, 400, "source_lang must be a language code"),
        (WHISPER, {"audio": [1], "language": "en"}, 400, "language"),
        (TURBO, {"audio": [1, 2]}, 400, "audio must be a base64 text"),
        (TURBO, {"audio": "no base64!"}, 400, "audio must be base64"),
        (TURBO, {"audio": "é"}, 400, "audio must be base64"),
        (TURBO, {"audio": ""}, 400, "audio must be a base64 text"),
        (TURBO, {"audio": "aGk=", "language": "french"}, 501, "language is 'french'"),
        (TURBO, {"audio": "aGk=", "task": "sing"}, 400, "task"),
        (TURBO, {"audio": "aGk=", "prefix": True}, 400, "prefix must be omitted"),
        (TURBO, {"audio": "aGk=", "prefix": False}, 400, "audio cannot be read"),
        (TURBO, {"audio": "aGk=", "vad_filter": "yes"}, 400, "vad_filter must be true or false"),
        (TURBO, {"audio": "aGk=", "stream": True}, 400, "stream"),
        (NOVA, {"audio": {"body": {}, "contentType": "audio/wav"}}, 400, "body of the request"),
        (NEMOTRON, {"audio": "aGk=", "encoding": "mp3"}, 400, "encoding must be one of"),
        (NEMOTRON, {"audio": "aGk=", "encoding": "linear16"}, 400, "sample_rate must be given"),
        (NEMOTRON, {"audio": "aGk=", "sample_rate": 16000}, 400, "sample_rate must be omitted"),
        (TURN, {"audio": "aGk=", "dtype": "int16"}, 400, "dtype must be one of uint8"),
        ("@cf/deepgram/flux", {"audio": "aGk="}, 501, "only over WebSockets"),
    ],
)
async def test_invalid_requests_are_refused(
    local: Local, model: str, body: dict[str, Any], status: int, words: str
) -> None:
    reply = await local.post(model, body)
    assert reply.status == status
    assert words in reply.error[2]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"encoding": "flac"}, "encoding must be that of the audio, which is WAV, got 'flac'"),
        ({"encoding": "speex"}, "encoding must be one of linear16"),
        ({"encoding": "linear16"}, "sample_rate must be given"),
        ({"encoding": "linear16", "sample_rate": "many"}, "sample_rate must be from 4000"),
        ({"encoding": "linear16", "sample_rate": "1e9"}, "sample_rate must be from 4000"),
        ({"utt_split": "nan"}, "utt_split must be from 0.1"),
        ({"punctuate": "maybe"}, "punctuate must be true or false"),
        ({"model": "nova-3"}, "unknown field 'model'"),
    ],
)
async def test_invalid_queries_are_refused(local: Local, query: dict[str, str], words: str) -> None:
    status, code, message = (await send(local, NOVA, short(), **query)).error
    assert (status, code) == (400, 5006)
    assert words in message


@pytest.mark.parametrize("data", [b"no sound", bytes(1000), b"RIFF\xff\xff\xff\xffWAVE"])
async def test_what_is_no_sound_is_refused(local: Local, data: bytes) -> None:
    status, code, message = (await send(local, WHISPER, data)).error
    assert (status, code) == (400, 5006)
    assert "audio cannot be read" in message


def test_subtitles_of_an_hour() -> None:
    segments = [Segment(59.9996, 61.25, "Hi."), Segment(3599.5, 3600.0, "Bye.")]
    assert _build_vtt(segments) == (
        "WEBVTT\n\n01:00.000 --> 01:01.250\nHi.\n\n59:59.500 --> 60:00.000\nBye."
    )


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Hello, world!", "hello world"),
        ("It's $1,284.50, I think.", "it's $1,284.50 i think"),
        ("At 9:30?", "at 9:30"),
        ("Well... yes", "well yes"),
    ],
)
def test_case_and_punctuation_are_removed(text: str, plain: str) -> None:
    assert _strip_format(text) == plain
