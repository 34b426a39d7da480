"""Speech is found, transcribed and spoken; live sound becomes turns."""

import asyncio
import threading
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from cfai.local import backends
from cfai.local.errors import ApiError
from cfai.local.resampling import resample
from cfai.local.speech import (
    Listener,
    TurnEvent,
    TurnSettings,
    _find_runs,
    _split_run,
    find_speech,
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


def test_speech_begins_and_ends_a_moment_around_what_is_probable() -> None:
    """0.2 s before the first frame with 0.5, and after the last one with 0.35."""
    recording = np.concatenate([silence(1), spoken(SENTENCES[0]), silence(1)])
    meter = backends.speech_detector().start()
    frames = [recording[start : start + 512] for start in range(0, len(recording), 512)]
    padded = [np.pad(frame, (0, 512 - len(frame))) for frame in frames]
    probabilities = np.array([meter.measure(frame) for frame in padded])
    first = int((probabilities >= 0.5).argmax())
    last = len(probabilities) - int((probabilities[::-1] >= 0.35).argmax())
    (segment,) = find_speech(recording)
    assert segment.start == pytest.approx(first * 0.032 - 0.2)
    assert segment.end == pytest.approx(last * 0.032 + 0.2)
    assert segment.speech == pytest.approx(probabilities[first:last].mean())
    (whole_,) = find_speech(spoken(SENTENCES[0]))
    assert whole_.start >= 0
    assert whole_.end <= len(spoken(SENTENCES[0])) / 16_000
    assert find_speech(recording, is_cancelled=lambda: True) == []


def test_segments_do_not_overlap() -> None:
    """Although each has a margin of 0.2 s on both sides."""
    parts = [part for text in SENTENCES[:3] for part in (spoken(text), silence(0.1))]
    segments = find_speech(np.concatenate(parts), pause=0.05)
    assert len(segments) >= 3
    assert all(first.end <= second.start for first, second in pairwise(segments))


@pytest.mark.parametrize(
    ("dips", "length", "runs"),
    [
        ({}, 625, [(0, 625)]),
        ({}, 626, [(0, 312), (312, 626)]),
        ({400: 0.5}, 626, [(0, 400), (400, 626)]),
        ({624: 0.5}, 626, [(0, 624), (624, 626)]),
        ({311: 0.1, 400: 0.5}, 626, [(0, 400), (400, 626)]),
        ({400: 0.5, 500: 0.4}, 626, [(0, 500), (500, 626)]),
        ({600: 0.5, 1100: 0.4}, 1500, [(0, 600), (600, 1100), (1100, 1500)]),
    ],
)
def test_a_run_of_more_than_20_seconds_is_cut_where_it_is_quiet(
    dips: dict[int, float], length: int, runs: list[tuple[int, int]]
) -> None:
    """In the second half of each piece. 625 frames are 20 seconds."""
    probabilities = [dips.get(index, 0.9) for index in range(length)]
    assert list(_split_run(probabilities, 0, length)) == runs


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


def test_a_silence_of_three_seconds_ends_a_turn() -> None:
    """If nothing else is said: a pause is a silence of 0.3 s, and partial texts are 0.5 s apart."""
    sound = to_pcm(np.concatenate([silence(1), spoken(SENTENCES[7]), silence(4)]))
    events = hear(sound, 3200, complete=2)
    kinds = [event.kind for event in events if event.kind != "partial"]
    assert kinds == ["started", "paused", "finished"]
    started, paused, finished = [event for event in events if event.kind != "partial"]
    assert finished.end - paused.end == pytest.approx(2.7, abs=0.033)
    assert 1 < started.end < 1.6
    assert started.end - started.start == pytest.approx(0.192)
    assert {event.start for event in events} == {started.start}
    assert {event.turn for event in events} == {0}
    assert (started.text, started.confidence, started.complete) == ("", 0, 0)
    assert paused.text == finished.text == SENTENCES[7]
    assert paused.complete == pytest.approx(finished.complete, abs=0.2)
    partial = [event.end for event in events if event.kind == "partial"]
    assert len(partial) >= 3
    for first, second in pairwise(partial):
        assert 0.5 <= second - first + 0.001 <= 0.64
    # By default, a probability of 0.5 ends it at the pause.
    assert hear(sound, 3200, interval=None)[-1].end == paused.end


def test_the_turns_of_a_session_are_counted_from_0() -> None:
    parts = [part for text in SENTENCES[:3] for part in (spoken(text), silence(1))]
    events = hear(to_pcm(np.concatenate(parts)), 1_000_000, interval=None)
    assert [(event.kind, event.turn) for event in events] == [
        (kind, turn) for turn in range(3) for kind in ("started", "finished")
    ]
    assert all(first.end <= second.end for first, second in pairwise(events))


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
