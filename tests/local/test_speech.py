"""Speech is found, transcribed and spoken; live sound becomes turns."""

import asyncio
import threading
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from cfai.local.errors import ApiError
from cfai.local.resampling import resample
from cfai.local.speech import (
    Listener,
    TurnEvent,
    TurnSettings,
    _find_runs,
    listen,
    speak,
    to_pcm,
    transcribe,
)
from cfai.local.workers import WorkerPool

from .quality import hold
from .spoken import SENTENCES, silence, spoken, word_errors, words_of

pytestmark = pytest.mark.usefixtures("speech_weights")


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    pool = WorkerPool("test", size=1, waiting=4)
    yield pool
    await pool.close()


def hear(sound: bytes, size: int, **settings: Any) -> list[TurnEvent]:
    listener = Listener(TurnSettings(**settings))
    pieces = [sound[start : start + size] for start in range(0, len(sound), size)]
    return [event for piece in pieces for event in listener.feed(piece)] + listener.finish()


def test_what_is_spoken_is_read_back_word_for_word() -> None:
    results = []
    for sentence in SENTENCES:
        heard = " ".join(segment.text for segment in transcribe(spoken(sentence)))
        results.append(words_of(heard) == words_of(sentence))
    hold("Speech recognition", results)


def test_segments_are_where_the_speech_is() -> None:
    first, second = spoken(SENTENCES[0]), spoken(SENTENCES[1])
    recording = np.concatenate([silence(1), first, silence(2), second, silence(1)])
    segments = transcribe(recording)
    assert [words_of(segment.text) for segment in segments] == [
        words_of(SENTENCES[0]),
        words_of(SENTENCES[1]),
    ]
    starts = [1.0, 3.0 + len(first) / 16_000]
    for segment, start in zip(segments, starts, strict=True):
        assert abs(segment.start - start) < 0.3
        assert 0 < segment.confidence <= 1
        assert segment.speech > 0.5
    assert segments[0].end <= segments[1].start
    assert segments[1].end <= len(recording) / 16_000


@pytest.mark.parametrize(
    ("frames", "runs"),
    [
        ("", []),
        ("....", []),
        ("#", [(0, 1)]),
        (".#..", [(1, 2)]),
        (".#", [(1, 2)]),
        ("##..#..", [(0, 2), (4, 5)]),
        ("##.#", [(0, 4)]),
        ("#-.-#", [(0, 5)]),
        ("--#--..", [(2, 5)]),
    ],
)
def test_runs_of_speech_are_between_pauses_of_two_frames(
    frames: str, runs: list[tuple[int, int]]
) -> None:
    """What may be speech (-) begins no run, but goes on with one."""
    probabilities = [{"#": 0.9, "-": 0.4, ".": 0.1}[frame] for frame in frames]
    assert list(_find_runs(probabilities, 2)) == runs


@pytest.mark.parametrize("samples", [silence(0), silence(0.01), silence(3)])
def test_silence_has_no_text(samples: np.ndarray) -> None:
    assert transcribe(samples) == []


def test_noise_has_no_text() -> None:
    noise = np.random.default_rng(1).normal(0, 0.05, 32_000).astype(np.float32)
    assert transcribe(noise) == []


def test_long_speech_is_cut_into_pieces_without_losing_words() -> None:
    texts = SENTENCES[:10]
    recording = np.concatenate([spoken(text) for text in texts])
    assert len(recording) > 21 * 16_000
    segments = transcribe(recording, pause=10)
    assert len(segments) > 1
    assert all(segment.end - segment.start < 21 for segment in segments)
    heard = words_of(" ".join(segment.text for segment in segments))
    expected = words_of(" ".join(texts))
    assert word_errors(expected, heard) <= len(expected) * 0.1


def test_a_cancelled_transcription_ends() -> None:
    assert transcribe(spoken(SENTENCES[0]), is_cancelled=lambda: True) == []


# Live


@pytest.mark.parametrize("size", [640, 3200, 1_000_001])
def test_live_sound_becomes_turns(size: int) -> None:
    recording = np.concatenate(
        [silence(0.5), spoken(SENTENCES[2]), silence(1.5), spoken(SENTENCES[3]), silence(1.5)]
    )
    events = hear(to_pcm(recording), size)
    kinds = [event.kind for event in events if event.kind in ("started", "finished")]
    assert kinds == ["started", "finished", "started", "finished"]
    finished = [event for event in events if event.kind == "finished"]
    assert [event.turn for event in finished] == [0, 1]
    texts = [words_of(event.text) for event in finished]
    assert texts == [words_of(SENTENCES[2]), words_of(SENTENCES[3])]
    assert all(event.complete > 0.5 for event in finished)
    assert all(0 < event.confidence <= 1 for event in finished)


def test_partial_texts_come_while_someone_speaks() -> None:
    events = hear(to_pcm(np.concatenate([spoken(SENTENCES[5]), silence(1)])), 3200)
    kinds = [event.kind for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert kinds.count("partial") >= 2
    assert all(event.text for event in events[1:])
    assert all(first.end <= second.end for first, second in pairwise(events))


def test_no_partial_texts_if_none_are_wanted() -> None:
    sound = to_pcm(np.concatenate([spoken(SENTENCES[5]), silence(1)]))
    assert {event.kind for event in hear(sound, 3200, interval=None)} == {"started", "finished"}


def test_a_turn_with_a_pause_goes_on() -> None:
    """If a pause is not the end, the turn resumes; the text has both parts."""
    whole = spoken(SENTENCES[7])
    cut = len(whole) // 2
    recording = np.concatenate([whole[:cut], silence(0.8), whole[cut:], silence(1.5)])
    events = hear(to_pcm(recording), 3200, complete=0.99999, silence=1.4)
    kinds = [event.kind for event in events if event.kind != "partial"]
    assert kinds[:3] == ["started", "paused", "resumed"]
    assert kinds[-1] == "finished"
    assert kinds.count("finished") == 1
    assert word_errors(words_of(SENTENCES[7]), words_of(events[-1].text)) <= 3


def test_the_end_of_the_sound_ends_the_turn() -> None:
    sound = to_pcm(spoken(SENTENCES[0])[:-8000])
    assert [event.kind for event in hear(sound, 3200, interval=None)] == ["started", "finished"]


def test_a_long_turn_keeps_its_beginning() -> None:
    texts = SENTENCES[:10]
    recording = np.concatenate([spoken(text)[1600:-3200] for text in texts])
    (last,) = [
        event
        for event in hear(to_pcm(recording), 64_000, interval=None, pause=5)
        if event.kind == "finished"
    ]
    expected = words_of(" ".join(texts))
    assert word_errors(expected, words_of(last.text)) <= len(expected) * 0.15


@pytest.mark.parametrize("sound", [b"", b"\x00", to_pcm(silence(2))])
def test_nothing_is_heard_in_silence(sound: bytes) -> None:
    assert hear(sound, 1000) == []


async def test_what_is_spoken_is_heard_live(pool: WorkerPool) -> None:
    """Both ends as a realtime connection uses them."""
    text = f"{SENTENCES[1]} {SENTENCES[10]}"
    sentences = [sound async for sound in speak(text, pool)]
    assert len(sentences) == 2
    samples = np.frombuffer(b"".join(sentences), "<i2").astype(np.float32) / 32768

    async def chunks() -> AsyncIterator[bytes]:
        sound = to_pcm(resample(np.append(samples, silence(1)), 24_000, 16_000))
        for start in range(0, len(sound), 5000):
            yield sound[start : start + 5000]

    events = [event async for event in listen(chunks(), pool, TurnSettings(interval=None))]
    heard = " ".join(event.text for event in events if event.kind == "finished")
    assert words_of(heard) == words_of(text)


async def test_the_same_text_sounds_the_same(pool: WorkerPool) -> None:
    first = [sound async for sound in speak("Hello there.", pool)]
    assert first == [sound async for sound in speak("Hello there.", pool)]


@pytest.mark.parametrize("text", ["", " ", "\n\n"])
async def test_a_text_without_words_is_silent(pool: WorkerPool, text: str) -> None:
    assert not b"".join([sound async for sound in speak(text, pool)])


async def test_speaking_does_not_block_the_loop(pool: WorkerPool) -> None:
    speaking = asyncio.ensure_future(anext(speak(SENTENCES[0] * 3, pool)))
    turns = 0
    while not speaking.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    assert await speaking


async def test_a_busy_pool_refuses() -> None:
    pool = WorkerPool("test", size=1, waiting=0)
    gate = threading.Event()
    busy = pool.start(gate.wait)
    with pytest.raises(ApiError, match="Capacity"):
        await anext(speak("Hello.", pool))
    gate.set()
    await busy
    await pool.close()
