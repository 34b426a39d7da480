"""The voice chat in a real browser, whose microphone is a file, with a scripted service."""

import asyncio
import math
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from cfai.media import wav_header
from cfai.testing import FakeSocket, FakeWorkersAI
from tests.browser.conftest import CHROMIUM, PATIENCE, example

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


@pytest_asyncio.fixture(loop_scope="session")
async def page(fake: FakeWorkersAI, account: None, tmp_path: Path) -> AsyncIterator[Any]:
    """The page of the app, in a browser that hears a tone."""
    if CHROMIUM is None:
        pytest.skip("Chromium is missing: apt-get install chromium")
    sound = tone(2, 48000)
    file = tmp_path / "microphone.wav"
    file.write_bytes(wav_header(len(sound), 48000) + sound)
    runner = web.AppRunner(
        example("voice_aiohttp").application(), access_log=None, shutdown_timeout=1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={file}",
                "--autoplay-policy=no-user-gesture-required",
            ],
        )
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(f"http://127.0.0.1:{runner.addresses[0][1]}/")
        yield page
        await browser.close()
    assert problems == []
    await runner.cleanup()


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
