"""The voice chat in a real browser, whose microphone is a file, with a scripted service."""

import asyncio
import math
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from aiohttp import web

from cfai.local import weights
from cfai.local.resampling import resample
from cfai.local.speech import to_pcm
from cfai.media import wav_header
from cfai.testing import FakeSocket, FakeWorkersAI
from tests.browser.conftest import CHROMIUM, PATIENCE, example
from tests.limits import extend_limit
from tests.local.spoken import silence, spoken

playwright = pytest.importorskip(
    "playwright.async_api", reason="run nox -s browser, or pip install playwright"
)
expect = playwright.expect
expect.set_options(timeout=PATIENCE * 1000)
pytestmark = pytest.mark.asyncio(loop_scope="session")


def tone(seconds: float, rate: int) -> bytes:
    return b"".join(
        struct.pack("<h", round(9000 * math.sin(2 * math.pi * 440 * n / rate)))
        for n in range(round(seconds * rate))
    )


@asynccontextmanager
async def calling(
    folder: Path, pcm: bytes, rate: int, *, local: bool = False
) -> AsyncIterator[Any]:
    """The page of the app, in a browser whose microphone hears a sound."""
    if CHROMIUM is None:
        pytest.skip("Chromium is missing: apt-get install chromium")
    file = folder / "microphone.wav"
    file.write_bytes(wav_header(len(pcm), rate) + pcm)
    runner = web.AppRunner(
        example("voice_aiohttp").application(local=local), access_log=None, shutdown_timeout=1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    problems: list[str] = []
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={file}",
            ],
        )
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(f"http://127.0.0.1:{runner.addresses[0][1]}/")
        yield page
        await browser.close()
    await runner.cleanup()
    assert problems == []


@pytest_asyncio.fixture(loop_scope="session")
async def page(fake: FakeWorkersAI, account: None, tmp_path: Path) -> AsyncIterator[Any]:
    async with calling(tmp_path, tone(2, 48000), 48000) as page:
        yield page


def turn(event: str, text: str) -> dict[str, Any]:
    return {"type": "TurnInfo", "event": event, "turn_index": 0, "transcript": text, "words": []}


def loudness(sound: bytes) -> float:
    samples = struct.unpack(f"<{len(sound) // 2}h", sound)
    return max(map(abs, samples), default=0)


async def voice(socket: FakeSocket) -> None:
    while (message := await socket.receive()) is not None:
        if '"Speak"' in str(message):
            await socket.send(tone(5, 24000))
        if message == '{"type":"Flush"}':
            await socket.send({"type": "Flushed"})
        if message == '{"type":"Clear"}':
            await socket.send({"type": "Cleared"})


async def test_a_conversation_with_an_interruption(fake: FakeWorkersAI, page: Any) -> None:
    """What is said appears, the answer is written and spoken, and speaking stops it."""
    interrupts = asyncio.Event()

    async def ears(socket: FakeSocket) -> None:
        while loudness(socket.audio[-3200:]) < 1000:
            await socket.receive()
        await socket.send(turn("StartOfTurn", ""), turn("Update", "Is it"))
        await socket.receive()
        await socket.send(turn("EndOfTurn", "Is it snowing?"))
        while not interrupts.is_set():
            await socket.receive()
        await socket.send(turn("StartOfTurn", "Stop"))
        await socket.receive_end()
        await socket.close()
        await socket.receive()

    fake.on("flux").connects_by(ears)
    fake.on("aura").connects_by(voice)
    fake.streams("Yes, it ", "snows. ", "Take a coat.")
    await page.get_by_role("button", name="Call").click()
    await expect(page.locator("#log p.you")).to_have_text("Is it snowing?")
    await expect(page.locator("#log p.model")).to_have_text("Yes, it snows. Take a coat.")
    await expect(page.get_by_role("status")).to_have_text("Speaking")
    interrupts.set()
    await expect(page.get_by_role("status")).to_have_text("Listening")
    spoken = fake.sockets[1]
    await fake.until(lambda: {"type": "Clear"} in spoken.texts, within=PATIENCE)
    texts = [message["text"] for message in spoken.texts if message["type"] == "Speak"]
    assert texts == ["Yes, it snows. ", "Take a coat."]
    assert fake.sockets[0].request.target.endswith("flux?encoding=linear16&sample_rate=16000")
    chat = next(request for request in fake.requests if request.method == "POST")
    assert chat.json()["messages"][-1] == {"role": "user", "content": "Is it snowing?"}
    await page.get_by_role("button", name="Hang up").click()
    await expect(page.get_by_role("status")).to_have_text("Not connected")
    await fake.until(lambda: fake.connections <= 1, within=PATIENCE)


async def test_a_refused_call_says_so(fake: FakeWorkersAI, page: Any) -> None:
    fake.on("flux").fails(403, 5035, "paid")
    await page.get_by_role("button", name="Call").click()
    await expect(page.get_by_role("status")).to_have_text("The call failed. Try again.")


async def test_with_local_models(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """A spoken question appears word for word, and an answer is written and spoken."""
    extend_limit(pytestconfig, 600)
    for model in (weights.SMOLLM2, *weights.BY_TASK["speech"]):
        await asyncio.to_thread(weights.ensure, model)
    question = "What is the weather like in Paris today?"
    samples = np.concatenate([silence(1), spoken(question), silence(8)])
    async with calling(
        tmp_path, to_pcm(resample(samples, 16000, 48000)), 48000, local=True
    ) as page:
        await page.get_by_role("button", name="Call").click()
        await expect(page.locator("#log p.you").first).to_have_text(question)
        await expect(page.locator("#log p.model").first).to_contain_text(re.compile(r"\w+"))
        await expect(page.get_by_role("status")).to_have_text("Speaking")
        await page.get_by_role("button", name="Hang up").click()
        await expect(page.get_by_role("status")).to_have_text("Not connected")
