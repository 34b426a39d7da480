"""The React example in a real browser: built by Vite, with the AI SDK and a scripted service."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from cfai.testing import FakeWorkersAI
from tests.browser.conftest import (
    EXAMPLES,
    PATIENCE,
    Chat,
    called,
    install_npm_packages,
    on_one_loop,
)
from tests.web.conftest import serve_on_uvicorn

expect = pytest.importorskip(
    "playwright.async_api", reason="run nox -s browser, or pip install playwright"
).expect
expect.set_options(timeout=PATIENCE * 1000)
pytestmark = pytest.mark.asyncio(loop_scope="session")

HEL = b'data: {"response":"Hel"}\n\n'


@pytest.fixture(scope="session")
def built_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as built from its sources."""
    folder = tmp_path_factory.mktemp("react") / "page"
    install_npm_packages(EXAMPLES / "chat_react", folder)
    build = ["npm", "run", "build", "--silent"]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    return folder / "dist"


@on_one_loop
async def chat(
    fake: FakeWorkersAI,
    browser: Any,
    built_page: Path,
    account: None,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Chat]:
    monkeypatch.setattr(sys, "path", [str(EXAMPLES / "chat_react"), *sys.path])
    app = import_module("server").application(built_page)
    async with serve_on_uvicorn(app) as port:
        yield Chat(fake, browser, f"http://127.0.0.1:{port}/")
        await asyncio.gather(*(context.close() for context in browser.contexts))


def answer(page: Any) -> Any:
    return page.get_by_label("Model", exact=True).last


async def ask(page: Any, text: str) -> None:
    await page.get_by_label("Message").fill(text)
    await page.keyboard.press("Enter")


async def test_tokens_are_shown_as_they_arrive(chat: Chat) -> None:
    more = asyncio.Event()
    chat.fake.streams({"reasoning": "Hm"}, "One", more, " two")
    page = await chat.tab()
    await ask(page, "Count.")
    await expect(answer(page).locator(".text").last).to_have_text("One")
    assert not chat.fake.requests[0].answered.is_set()
    more.set()
    await expect(answer(page).locator(".text").last).to_have_text("One two")
    await expect(answer(page).locator("summary")).to_have_text("Reasoning")
    await expect(page.get_by_role("button", name="Send")).to_be_visible()


async def test_stop_ends_the_generation(chat: Chat, capsys: pytest.CaptureFixture[str]) -> None:
    """The request ends within 200 ms of the click; the partial answer stays."""
    page = await chat.tab()
    await page.evaluate("addEventListener('click', () => { window.at = Date.now() }, true)")
    durations = []
    for _ in range(3):
        chat.fake.says(HEL, asyncio.Event())
        await ask(page, "Hi")
        await expect(answer(page)).to_have_text("Hel")
        await page.get_by_role("button", name="Stop").click()
        await chat.fake.until(lambda: chat.fake.connections == 0, within=PATIENCE)
        durations.append(time.time() - await page.evaluate("window.at") / 1000)
        await expect(page.get_by_role("button", name="Send")).to_be_visible()
        await expect(answer(page)).to_have_text("Hel")
    with capsys.disabled():
        milliseconds = median(durations) * 1000
        print(f"\n  from the click to the end of the request: {milliseconds:.0f} ms, median of 3")
    assert median(durations) < 0.2
    await chat.wait_until_closed()


async def test_a_tool_call_and_a_reload(chat: Chat) -> None:
    """The call is shown with its result, before and after a reload, and sent with the next one."""
    chat.fake.streams("I'll look. ", called("search_docs", '{"query": "retries"}'))
    chat.fake.streams("See Settings.").streams("You're welcome.")
    page = await chat.tab()
    await ask(page, "How are requests retried?")
    for _ in range(2):
        await expect(answer(page).locator(".text").last).to_have_text("See Settings.")
        call = answer(page).locator(".tool")
        await expect(call.locator("summary")).to_have_text("search_docs")
        await call.locator("summary").click()
        await expect(call.locator("pre").first).to_contain_text('"query": "retries"')
        await expect(call.locator("pre").last).to_contain_text('"page": "settings"')
        await page.reload()
    await ask(page, "Thanks")
    await expect(answer(page)).to_have_text("You're welcome.")
    sent = chat.fake.requests[-1].json()["messages"]
    roles = [message["role"] for message in sent]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert sent[2]["tool_calls"][0]["function"]["name"] == "search_docs"
    assert "settings" in sent[3]["content"]


async def test_a_reload_in_the_middle_leaks_nothing(chat: Chat) -> None:
    """What had arrived is still there."""
    chat.fake.says(HEL, asyncio.Event())
    page = await chat.tab()
    await ask(page, "Hi")
    await expect(answer(page)).to_have_text("Hel")
    await page.reload()
    await chat.wait_until_closed()
    await expect(answer(page)).to_have_text("Hel")


async def test_errors_are_shown(chat: Chat) -> None:
    """A refused question has no "Try again"; an answer that broke has one."""
    chat.fake.fails(400, 5004, "the text is too long")
    page = await chat.tab()
    await ask(page, "Hi")
    await expect(page.get_by_role("alert")).to_contain_text("the text is too long")
    await expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    chat.fake.says(HEL, b'data: {"error":"the model broke"}\n\n').streams("Hello")
    await ask(page, "Hi")
    await expect(page.get_by_role("alert")).to_contain_text("the model broke")
    await page.get_by_role("button", name="Try again").click()
    await expect(answer(page)).to_have_text("Hello")
    await expect(page.get_by_role("alert")).to_have_count(0)


async def test_an_error_that_remains_has_no_second_try_in_a_later_turn(chat: Chat) -> None:
    chat.fake.streams("I'll look. ", called("search_docs", '{"query": "retries"}'))
    chat.fake.fails(429, 4006, "you have used up your daily free allocation")
    page = await chat.tab()
    await ask(page, "Hi")
    await expect(page.get_by_role("alert")).to_contain_text("daily quota")
    await expect(page.get_by_role("button", name="Try again")).to_have_count(0)


@pytest.mark.parametrize("first", [[], [called("get_time", "{}")]], ids=["at once", "after a tool"])
@pytest.mark.parametrize("is_reloaded", [False, True])
async def test_a_refused_question_is_not_sent_again(
    chat: Chat, first: list[Any], is_reloaded: bool
) -> None:
    """It would be refused again, and with it every later question."""
    for turn in first:
        chat.fake.streams(turn)
    chat.fake.fails(400, 2016, "the prompt was blocked").streams("Hello").streams("Bye")
    page = await chat.tab()
    await ask(page, "bad words")
    await expect(page.get_by_role("alert")).to_contain_text("the prompt was blocked")
    await expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    if is_reloaded:
        await page.reload()
    for text, reply in (("innocent", "Hello"), ("thanks", "Bye")):
        await ask(page, text)
        await expect(answer(page)).to_have_text(reply)
    sent = [message["content"] for message in chat.fake.requests[-1].json()["messages"][1:]]
    assert sent == ["innocent", "Hello", "thanks"]


SAVED = [
    "null",
    "{",
    '{"a": 1}',
    "[1, null]",
    '[{"id": "1", "role": "user"}]',
    *(
        f'[{{"id": "1", "role": "{role}", "parts": [{part}]}}]'
        for role in ("assistant", "user", "system", "other")
        for part in ("", "null", "5", "{}", '{"type": 5}', '{"type": "text", "text": {"a": 1}}')
    ),
    '[{"id": "1", "role": "assistant", "parts": [{"type": "tool-x"}]}]',
    json.dumps(
        [
            {"id": f"{index}", "role": role, "parts": [{"type": "text", "text": "x" * 9_000}]}
            for index, role in enumerate(["user", "assistant"] * 30)
        ]
    ),
]


@pytest.mark.parametrize("saved", SAVED, ids=lambda saved: saved[:80])
async def test_whatever_was_saved_the_chat_goes_on(chat: Chat, saved: str) -> None:
    chat.fake.streams("Hello")
    page = await chat.tab()
    await page.evaluate("text => localStorage.setItem('cfai-chat-react', text)", saved)
    await page.reload()
    await ask(page, "Hi")
    await expect(answer(page)).to_have_text("Hello")


async def test_messages_that_are_not_valid_are_left_out_of_the_saved_ones(chat: Chat) -> None:
    chat.fake.streams("It is late.").streams("Good night.")
    texts = [{"type": "text", "text": "What time is it?"}]
    failed = {"type": "tool-get_time", "toolCallId": "1", "state": "output-error"}
    messages: list[Any] = [
        None,
        {"id": "1", "role": "user", "parts": texts},
        {"id": "2", "role": "assistant", "parts": [{**failed, "rawInput": "{", "errorText": "no"}]},
        {"id": "3", "role": "user", "parts": [None]},
    ]
    page = await chat.tab()
    saved = json.dumps(messages)
    await page.evaluate("text => localStorage.setItem('cfai-chat-react', text)", saved)
    await page.reload()
    await expect(page.locator("article")).to_have_count(2)
    await ask(page, "And now?")
    await expect(answer(page)).to_have_text("It is late.")
    sent = chat.fake.requests[-1].json()["messages"]
    roles = [message["role"] for message in sent]
    assert roles == ["system", "user", "assistant", "tool", "user"]


@pytest.mark.parametrize("refused", ["getItem", "setItem"])
async def test_a_refused_storage_does_not_end_the_chat(chat: Chat, refused: str) -> None:
    chat.fake.streams("Hello")
    context = await chat.browser.new_context()
    await context.add_init_script(
        f"Storage.prototype.{refused} = () => {{ throw new DOMException('', 'SecurityError') }}"
    )
    page = await chat.open(context)
    await ask(page, "Hi")
    await expect(answer(page)).to_have_text("Hello")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [900, 360])
async def test_pictures(
    chat: Chat, tmp_path: Path, request: pytest.FixtureRequest, scheme: Any, width: int
) -> None:
    """The pictures of the docs. Nothing is wider than the window; the contrast is sufficient."""
    folder = request.config.getoption("pictures", None) or tmp_path
    chat.fake.streams("I'll look in the docs.", called("search_docs", '{"query": "retry"}'))
    chat.fake.streams("A request is retried up to twice, after a pause that grows.")
    page = await chat.tab(color_scheme=scheme)
    await page.set_viewport_size({"width": width, "height": 640})
    await ask(page, "How often is a request retried, and can I change that?")
    await expect(answer(page).locator(".text").last).to_contain_text("A request is retried")
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    assert await page.evaluate((Path(__file__).parent / "contrast.js").read_text()) == []
    path = folder / f"chat-react-{scheme}{'-narrow' if width < 900 else ''}.png"
    await page.screenshot(path=path, animations="disabled")
    assert path.stat().st_size < 150_000
