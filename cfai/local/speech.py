"""Speech with the local models: recordings cut at pauses, live listening, and speaking by sentence.

`transcribe` is for whole recordings. `listen` turns live sound into events of turns, and `speak`
turns a text into sound, a sentence at a time; both run in the threads of a `WorkerPool`.
"""

import math
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from attrs import define, evolve, field, frozen

from cfai.local import backends
from cfai.local.backends.roles import IsCancelled, Recognized
from cfai.local.backends.silero import FRAME
from cfai.local.workers import WorkerPool

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

RATE = 16_000
"""Of everything that is heard, in samples per second."""

_FRAME_SECONDS = FRAME / RATE

_ON = 0.5
_OFF = 0.35
"""Speech begins at the first probability and lasts while it is above the second."""

_PAD = 0.2
"""Seconds that are kept before and after speech."""

_LONGEST = 20.0
"""Seconds of a piece of speech: the recognizer reads half a minute at most."""


# Recordings


@frozen
class Segment:
    """A piece of speech between two pauses. Times are in seconds from the beginning."""

    start: float
    end: float
    text: str = ""
    log_probability: float = 0.0
    """The mean of the logarithms of the tokens' probabilities."""
    speech: float = 0.0
    """The mean probability that it is speech."""

    @property
    def confidence(self) -> float:
        """From 0 to 1."""
        return math.exp(self.log_probability)


def transcribe(
    samples: "Samples", *, pause: float = 0.5, is_cancelled: IsCancelled = lambda: False
) -> list[Segment]:
    """Transcribe a recording: 16 kHz, mono, from -1 to 1. Blocks.

    Args:
        samples: The recording.
        pause: The shortest pause between two segments, in seconds.
        is_cancelled: Asked in between; if it is true, the rest is left out.

    Returns:
        The segments that have a text, in order.
    """
    recognizer = backends.speech_recognizer()
    segments = []
    for segment in find_speech(samples, pause=pause, is_cancelled=is_cancelled):
        if is_cancelled():
            break
        piece = samples[round(segment.start * RATE) : round(segment.end * RATE)]
        recognized = recognizer.transcribe(piece, is_cancelled=is_cancelled)
        if recognized.text:
            segments.append(
                evolve(segment, text=recognized.text, log_probability=recognized.log_probability)
            )
    return segments


def find_speech(
    samples: "Samples", *, pause: float = 0.5, is_cancelled: IsCancelled = lambda: False
) -> list[Segment]:
    """Return where there is speech, without its text, in pieces of up to 20 seconds."""
    import numpy as np

    meter = backends.speech_detector().start()
    probabilities = []
    for start in range(0, len(samples), FRAME):
        if is_cancelled():
            break
        frame = samples[start : start + FRAME]
        probabilities.append(meter.measure(np.pad(frame, (0, FRAME - len(frame)))))
    length = len(samples) / RATE
    segments: list[Segment] = []
    for first, last in _find_runs(probabilities, round(pause / _FRAME_SECONDS)):
        for begin, end in _split_run(probabilities, first, last):
            earliest = segments[-1].end if segments else 0.0
            segments.append(
                Segment(
                    max(earliest, begin * _FRAME_SECONDS - _PAD),
                    min(length, end * _FRAME_SECONDS + _PAD),
                    speech=sum(probabilities[begin:end]) / (end - begin),
                )
            )
    return segments


def _find_runs(probabilities: Sequence[float], pause: int) -> Iterator[tuple[int, int]]:
    """Yield the first frame of each run of speech, and the one after its last."""
    first, last = None, 0
    for index, probability in enumerate(probabilities):
        if first is None:
            if probability >= _ON:
                first, last = index, index + 1
        elif probability >= _OFF:
            last = index + 1
        elif index + 1 - last >= max(pause, 1):
            yield first, last
            first = None
    if first is not None:
        yield first, last


def _split_run(probabilities: Sequence[float], first: int, last: int) -> Iterator[tuple[int, int]]:
    """Cut a run that is too long where it is most like a pause, in the second half of a piece."""
    longest = round(_LONGEST / _FRAME_SECONDS)
    while last - first > longest:
        half = range(first + longest // 2, first + longest)
        cut = min(half, key=lambda index: probabilities[index])
        yield first, cut
        first = cut
    yield first, last


# Live


@frozen
class TurnEvent:
    """What is heard of a turn, which is what one speaker says until it is another's turn.

    A turn has one "started", any number of "partial", "paused" and "resumed", and one "finished".
    """

    kind: Literal["started", "partial", "paused", "resumed", "finished"]
    turn: int
    """The number of the turn, from 0."""
    start: float
    """When the turn started, in seconds from the beginning of the sound."""
    end: float
    """Up to when the sound was heard."""
    text: str = ""
    """Everything said in this turn; of "partial", it may still change."""
    confidence: float = 0.0
    """In the text, from 0 to 1."""
    complete: float = 0.0
    """Of "paused" and "finished": how likely the speaker has finished, from 0 to 1."""


@frozen(kw_only=True)
class TurnSettings:
    """When a turn ends, and how often its text is renewed meanwhile. Times are in seconds."""

    pause: float = 0.3
    """How long a silence must be to be a pause."""
    complete: float = 0.5
    """The least probability with which a pause ends the turn."""
    silence: float = 3.0
    """How long a silence ends the turn in any case."""
    interval: float | None = 0.5
    """The least time between two "partial" events; `None` for no such events."""


@define
class Listener:
    """Hears live sound and finds turns in it. It belongs to one caller at a time; `feed` blocks."""

    settings: TurnSettings = field(factory=TurnSettings)
    _meter: Any = field(factory=lambda: backends.speech_detector().start(), init=False)
    _rest: bytes = field(default=b"", init=False)
    _frame_count: int = field(default=0, init=False)
    """The number of frames."""
    _frames: list[Any] = field(factory=list, init=False)
    """The sound of the turn, or the last moment before one."""
    _pieces: list[Recognized] = field(factory=list, init=False)
    """The texts of the turn's earlier pieces, if it is long."""
    _cut: int = field(default=0, init=False)
    """Where in `_frames` the current piece starts."""
    _turn: int = field(default=-1, init=False)
    _start: float | None = field(default=None, init=False)
    """The time of the turn's start; `None` between two turns."""
    _silent: int = field(default=0, init=False)
    """The number of frames since the last speech."""
    _paused: bool = field(default=False, init=False)
    _reported: int = field(default=0, init=False)
    """The length of `_frames` at the last partial event."""

    def feed(self, sound: bytes, is_cancelled: IsCancelled = lambda: False) -> list[TurnEvent]:
        """Hear more sound and return what happened: 16-bit samples, little-endian, 16 kHz."""
        import numpy as np

        data = self._rest + sound
        size = FRAME * 2
        usable = len(data) - len(data) % size
        self._rest = data[usable:]
        samples = np.frombuffer(data[:usable], "<i2").astype(np.float32) / 32768
        events: list[TurnEvent] = []
        for frame in samples.reshape(-1, FRAME):
            if is_cancelled():
                break
            events += self._hear(frame)
        if self._start is not None and not self._paused:
            events += self._report()
        return events

    def finish(self) -> list[TurnEvent]:
        """End the current turn, if there is one, because the sound has ended."""
        return [] if self._start is None else [self._end_turn(self._measure_turn())]

    def _hear(self, frame: Any) -> Iterator[TurnEvent]:
        self._frames.append(frame)
        self._frame_count += 1
        probability = self._meter.measure(frame)
        if self._start is None:
            del self._frames[: -round(_PAD / _FRAME_SECONDS)]
            if probability >= _ON:
                yield self._start_turn()
            return
        if probability >= _OFF:
            self._silent = 0
            if self._paused:
                self._paused = False
                yield self._event("resumed")
        else:
            self._silent += 1
            yield from self._hear_silence()
        if len(self._frames) - self._cut > _LONGEST / _FRAME_SECONDS:
            self._pieces.append(self._recognize())
            self._cut = len(self._frames)

    def _start_turn(self) -> TurnEvent:
        self._turn += 1
        self._start = (self._frame_count - len(self._frames)) * _FRAME_SECONDS
        self._silent = self._cut = 0
        self._reported = len(self._frames)
        self._pieces, self._paused = [], False
        return self._event("started")

    def _hear_silence(self) -> Iterator[TurnEvent]:
        seconds = self._silent * _FRAME_SECONDS
        if not self._paused and seconds >= self.settings.pause:
            self._paused = True
            complete = self._measure_turn()
            if complete >= self.settings.complete:
                yield self._end_turn(complete)
            else:
                yield self._event("paused", self._read_text(), complete)
        elif self._paused and seconds >= self.settings.silence:
            yield self._end_turn(self._measure_turn())

    def _report(self) -> Iterator[TurnEvent]:
        interval = self.settings.interval
        if interval is None or self._silent:
            return
        if (len(self._frames) - self._reported) * _FRAME_SECONDS >= interval:
            self._reported = len(self._frames)
            yield self._event("partial", self._read_text())

    def _end_turn(self, complete: float) -> TurnEvent:
        event = self._event("finished", self._read_text(), complete)
        self._start, self._frames = None, []
        return event

    def _measure_turn(self) -> float:
        return backends.turn_detector().measure(self._join(self._frames))

    def _recognize(self) -> Recognized:
        return backends.speech_recognizer().transcribe(self._join(self._frames[self._cut :]))

    def _read_text(self) -> Recognized:
        """Return the text of the turn so far."""
        pieces = (
            [*self._pieces, self._recognize()] if self._cut < len(self._frames) else self._pieces
        )
        text = " ".join(piece.text for piece in pieces if piece.text)
        return Recognized(text, min((piece.log_probability for piece in pieces), default=0.0))

    def _event(
        self, kind: Any, recognized: Recognized | None = None, complete: float = 0.0
    ) -> TurnEvent:
        text, confidence = "", 0.0
        if recognized is not None:
            text, confidence = recognized.text, math.exp(recognized.log_probability)
        end = self._frame_count * _FRAME_SECONDS
        return TurnEvent(kind, self._turn, self._start or 0.0, end, text, confidence, complete)

    def _join(self, frames: Iterable[Any]) -> "Samples":
        import numpy as np

        return np.concatenate(list(frames))


async def listen(
    sound: AsyncIterator[bytes], pool: WorkerPool, settings: TurnSettings | None = None
) -> AsyncIterator[TurnEvent]:
    """Yield the events of the turns in live sound: 16-bit samples, little-endian, mono, 16 kHz.

    The chunks may have any size; after each, its events are yielded. At the end of the sound, the
    current turn is finished.

    Raises:
        ApiError: The models' libraries or weights are missing, or *pool* has no capacity.
    """
    listener = await pool.run(lambda _: Listener(settings or TurnSettings()))
    async for chunk in sound:
        for event in await pool.run(partial(_feed, listener, chunk)):
            yield event
    for event in await pool.run(lambda _: listener.finish()):
        yield event


def _feed(listener: Listener, chunk: bytes, is_cancelled: IsCancelled) -> list[TurnEvent]:
    return listener.feed(chunk, is_cancelled)


async def speak(text: str, pool: WorkerPool) -> AsyncIterator[bytes]:
    """Yield the sound of each sentence: 16-bit samples, little-endian, mono, 24 kHz.

    Raises:
        ApiError: The voice's library is missing, or *pool* has no capacity.
    """
    sentences = await pool.run(lambda _: backends.speaker().speak(text))
    async for samples in pool.iterate(sentences):
        yield to_pcm(samples)


def to_pcm(samples: "Samples") -> bytes:
    """Encode samples from -1 to 1 as 16-bit integers, little-endian."""
    import numpy as np

    return np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
