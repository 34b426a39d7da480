"""How soon the local server speaks and understands, over WebSockets: `python -m tests.bench.voice`.

The first audio is counted from the first sentence that was said; the first partial text in seconds
of sound, from where the speech began.
"""

import asyncio
import time
from statistics import median
from typing import Any

import numpy as np

from cfai import Partial, WorkersAI
from cfai.local import Server, weights
from cfai.local.resampling import resample
from cfai.local.speech import to_pcm
from tests.local.spoken import SENTENCES, words_of

PCM: Any = {"encoding": "linear16", "sample_rate": 16000}


async def first_audio(ai: WorkersAI, text: str) -> tuple[float, bytes]:
    """Seconds from the first sentence to the first audio, and all of the audio."""
    async with ai.speak("@cf/deepgram/aura-1") as voice:
        started = time.perf_counter()
        await voice.say(f"{text} ")
        await voice.flush()
        chunk = await anext(voice)
        seconds = time.perf_counter() - started
        return seconds, chunk.data + b"".join([chunk.data async for chunk in voice])


async def first_partial(ai: WorkersAI, sound: bytes) -> tuple[float, str]:
    """Seconds of speech before the first partial text, and the whole text."""
    samples = (np.frombuffer(sound, "<i2") / 32768).astype(np.float32)
    heard = to_pcm(np.concatenate([resample(samples, 24000, 16000), np.zeros(16000, np.float32)]))
    pieces = [heard[start : start + 3200] for start in range(0, len(heard), 3200)]
    async with ai.listen("@cf/deepgram/flux", **PCM, audio=pieces) as ears:
        partials = [event async for event in ears if isinstance(event, Partial) and event.text]
    return (partials[0].end or 0) - (partials[0].start or 0), ears.transcript.text


async def main() -> None:
    """Print the medians."""
    for model in weights.BY_TASK["speech"]:
        weights.ensure(model)
    audio, partial, errors = [], [], 0
    async with Server() as server, WorkersAI(**server.credentials) as ai:
        await first_audio(ai, "Warm.")
        for text in SENTENCES:
            seconds, sound = await first_audio(ai, text)
            audio.append(seconds)
            speech, heard = await first_partial(ai, sound)
            partial.append(speech)
            errors += words_of(heard) != words_of(text)
    print(f"first audio after a sentence: median {median(audio) * 1000:.0f} ms")
    print(f"                              worst {max(audio) * 1000:.0f} ms")
    print(f"first partial text: median {median(partial):.2f} s of speech, worst {max(partial):.2f}")
    print(f"sentences that came back different: {errors} of {len(SENTENCES)}")


if __name__ == "__main__":
    asyncio.run(main())
