"""The example apps in a real browser, with a scripted service that the test controls."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from cfai.testing import FakeWorkersAI, Recorded, Script
from tests.browser.conftest import PATIENCE, Chat, Wire, called

expect = pytest.importorskip(
    "playwright.async_api", reason="run nox -s browser, or pip install playwright"
).expect
expect.set_options(timeout=PATIENCE * 1000)
pytestmark = pytest.mark.asyncio(loop_scope="session")

HEL = b'data: {"response":"Hel"}\n\n'
ANSWER = """\
Snow looks white because it **scatters** every colour of sunlight about equally.

1. Each crystal has many *facets*, and light changes its way at every one of them.
2. After many turns, all wavelengths come back out, mixed: that is white.

Deep snow and ice look blue, since red light is absorbed a little on the long way through:

```python
def looks(depth):
    return "white" if depth < 1.5 else "blue"  # in metres
```

Read more on [light scattering](https://en.wikipedia.org/wiki/Light_scattering).
"""


def box(page: Any) -> Any:
    return page.get_by_label("Message")


def answer(page: Any) -> Any:
    return page.get_by_label("Model", exact=True).last


async def ask(page: Any, text: str) -> None:
    await box(page).fill(text)
    await page.keyboard.press("Enter")


# Streaming


async def test_tokens_are_shown_as_they_arrive(chat: Chat) -> None:
    """Each token is on the page before the model sends the next."""
    second, third = asyncio.Event(), asyncio.Event()
    chat.fake.streams("One", second, " two", third, " three")
    page = await chat.tab()
    await ask(page, "Count.")
    await expect(answer(page)).to_have_text("One")
    await expect(page.get_by_role("button", name="Stop")).to_be_visible()
    second.set()
    await expect(answer(page)).to_have_text("One two")
    assert not chat.fake.requests[0].answered.is_set()
    third.set()
    await expect(answer(page)).to_have_text("One two three")
    await expect(page.get_by_role("button", name="Send")).to_be_visible()


async def test_questions_are_sent_with_the_conversation(chat: Chat) -> None:
    """Each question is sent with all messages before it; a new chat starts empty."""
    chat.fake.streams("Paris.").streams("Two million.").streams("Hello.")
    page = await chat.tab()
    await ask(page, "The capital of France?")
    await expect(answer(page)).to_have_text("Paris.")
    await ask(page, "And its people?")
    await expect(answer(page)).to_have_text("Two million.")
    await page.get_by_role("button", name="New chat").click()
    await ask(page, "Hi")
    await expect(answer(page)).to_have_text("Hello.")
    sent = [request.json()["messages"][1:] for request in chat.fake.requests]
    assert sent[1] == [
        {"role": "user", "content": "The capital of France?"},
        {"role": "assistant", "content": "Paris."},
        {"role": "user", "content": "And its people?"},
    ]
    assert sent[2] == [{"role": "user", "content": "Hi"}]


async def test_every_character_arrives(chat: Chat) -> None:
    """All kinds of line ends and separators, and emoji split across tokens."""
    chat.fake.streams("a\n", "b\u2028c\u2029", "d\x85e ", *"👩‍👩‍👧 ", "Grüezi")
    page = await chat.tab()
    await ask(page, "Hi")
    await expect(answer(page)).to_contain_text("Grüezi")
    text = await answer(page).locator("p").evaluate("p => p.textContent")
    assert text == "ab\u2028c\u2029d\x85e 👩‍👩‍👧 Grüezi"  # the line end is a <br>
    assert await answer(page).locator("br").count() == 1


# Stop


async def test_stop_ends_the_generation(
    chat: Chat, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The request ends within 200 ms of the click; the partial answer stays in the conversation."""
    page = await chat.tab()
    await page.evaluate("addEventListener('click', () => { window.at = Date.now() }, true)")
    durations = []
    for number in range(3):
        chat.fake.says(HEL, asyncio.Event())
        await ask(page, "Hi")
        await expect(answer(page)).to_have_text("Hel")
        await page.get_by_role("button", name="Stop").click()
        await chat.fake.until(lambda: chat.fake.connections == 0, within=PATIENCE)
        end = time.time()
        await expect(answer(page)).to_have_text("HelStopped.")
        durations.append(end - await page.evaluate("window.at") / 1000)
        assert await page.get_by_text("Stopped.").count() >= number + 1
    with capsys.disabled():
        milliseconds = median(durations) * 1000
        print(f"\n  from the click to the end of the request: {milliseconds:.0f} ms, median of 3")
    assert median(durations) < 0.2
    await chat.wait_until_closed()
    assert chat.fake.requests[2].json()["messages"][-2] == {"role": "assistant", "content": "Hel"}


async def test_a_double_click_sends_once_and_stops_nothing(chat: Chat) -> None:
    """While an answer is written, the Send button is the Stop button."""
    more = asyncio.Event()
    chat.fake.streams("Hel", more, "lo")
    page = await chat.tab()
    await box(page).fill("Hi")
    await page.get_by_role("button", name="Send").dblclick()
    await expect(answer(page)).to_have_text("Hel")
    more.set()
    await expect(answer(page)).to_have_text("Hello")
    assert len(chat.fake.requests) == 1


async def test_a_new_chat_ends_the_old_one(chat: Chat) -> None:
    """The status announces the new chat, and not that the old answer was stopped."""
    chat.fake.says(HEL, asyncio.Event())
    page = await chat.tab()
    await ask(page, "Hi")
    await expect(answer(page)).to_have_text("Hel")
    await page.get_by_role("button", name="New chat").click()
    await chat.wait_until_closed()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    await expect(page.get_by_role("status")).to_have_text("A new conversation.")
    await expect(box(page)).to_have_value("")


@pytest.mark.parametrize("when", ["before the first token", "in the middle"])
async def test_a_reload_leaks_nothing(chat: Chat, when: str) -> None:
    """The app closes its stream, and the service has no connection left."""
    if when == "in the middle":
        chat.fake.says(HEL, asyncio.Event())
    else:
        chat.fake.stalls()
    page = await chat.tab()
    await ask(page, "Hi")
    if when == "in the middle":
        await expect(answer(page)).to_have_text("Hel")
    await chat.fake.until(lambda: chat.fake.requests)
    await page.reload()
    await chat.wait_until_closed()
    await expect(page.get_by_text("What would you like to know?")).to_be_visible()


async def test_a_closed_tab_leaks_nothing(chat: Chat) -> None:
    chat.fake.says(HEL, asyncio.Event())
    page = await chat.tab()
    await ask(page, "Hi")
    await expect(answer(page)).to_have_text("Hel")
    await page.close()
    await chat.wait_until_closed()


# Tools


async def test_a_tool_call_is_shown_with_its_result(chat: Chat) -> None:
    """The app's own docs are searched, and the model gets what was found."""
    chat.fake.streams("I'll look. ", called("search_docs", '{"query": "retries"}'))
    chat.fake.streams("See Settings.")
    page = await chat.tab()
    await ask(page, "How are requests retried?")
    await expect(answer(page).locator(".text")).to_contain_text("See Settings.")
    call = answer(page).locator(".tool")
    await expect(call.locator("summary")).to_have_text("search_docs")
    await call.locator("summary").click()
    await expect(call.locator("pre")).to_contain_text('"query": "retries"')
    await expect(call.locator("pre")).to_contain_text('"page": "settings"')
    result = chat.fake.requests[1].json()["messages"][-1]
    assert result["role"] == "tool"
    assert "settings" in result["content"]


async def test_a_tool_that_fails_is_shown(chat: Chat) -> None:
    """The page does not get what the tool raised; wrong arguments it does."""
    chat.fake.streams(called("get_time", '{"zone": "Nowhere/At all"}'))
    chat.fake.streams(called("search_docs", '{"text": "x"}')).streams("Sorry.")
    page = await chat.tab()
    await ask(page, "What time is it?")
    await expect(answer(page).locator(".text")).to_have_text("Sorry.")
    calls = answer(page).locator(".tool.failed")
    await expect(calls).to_have_count(2)
    await expect(calls.locator("pre").first).to_contain_text("get_time failed; see the app's log")
    await expect(calls.locator("pre").last).to_contain_text("arguments.text is not a parameter")


# Copying


async def test_an_answer_is_copied(chat: Chat) -> None:
    """As Markdown, the way the model wrote it."""
    chat.fake.streams("**Snow**\n\n- is white")
    page = await chat.tab(permissions=["clipboard-read", "clipboard-write"])
    await ask(page, "Hi")
    await answer(page).get_by_role("button", name="Copy the answer").click()
    await expect(page.get_by_role("status")).to_have_text("Copied.")
    assert await page.evaluate("navigator.clipboard.readText()") == "**Snow**\n\n- is white"


# Errors


async def test_an_error_in_the_middle_is_shown(chat: Chat) -> None:
    """The error is next to the partial answer; "Try again" sends the same question."""
    chat.fake.says(HEL, b'data: {"error":"the model broke"}\n\n').streams("Hello")
    page = await chat.tab()
    await ask(page, "Hi")
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("the model broke")
    await expect(answer(page)).to_contain_text("Hel")
    await alert.get_by_role("button", name="Try again").click()
    await expect(answer(page)).to_have_text("Hello")
    await expect(page.get_by_role("alert")).to_have_count(0)
    first, second = (request.json()["messages"] for request in chat.fake.requests)
    assert first == second


async def test_a_refusal_is_shown(chat: Chat) -> None:
    """With the message of the app and the time to wait."""
    chat.fake.fails(400, 5006, "this model takes no such text")
    page = await chat.tab()
    await ask(page, "Hi")
    await expect(page.get_by_role("alert")).to_contain_text("this model takes no such text")
    await expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    chat.fake.fails(429, 3036, "neurons of account 123 are used up")
    await ask(page, "Hi again")
    await expect(page.get_by_role("alert").last).to_contain_text("used up its daily quota")
    await expect(page.get_by_role("alert").last).to_contain_text("Try again in")
    # That is hours: a button would not help.
    await expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    assert "account 123" not in await page.content()


def last_messages(chat: Chat) -> list[Sequence[Any]]:
    """The messages of the last request, without the system message."""
    messages = chat.fake.requests[-1].json()["messages"][1:]
    return [(message["role"], message["content"]) for message in messages]


async def test_a_refused_question_is_not_sent_again(chat: Chat) -> None:
    """Later questions would be refused because of it. It is back in the box for editing."""
    chat.fake.fails(400, 5006, "too long").streams("Hello").streams("Again")
    page = await chat.tab()
    await ask(page, "bad")
    await expect(page.get_by_role("alert")).to_contain_text("too long")
    await expect(box(page)).to_have_value("bad")
    await ask(page, "good")
    await expect(answer(page)).to_have_text("Hello")
    assert last_messages(chat) == [("user", "good")]
    await ask(page, "more")
    await expect(answer(page)).to_have_text("Again")
    assert last_messages(chat) == [("user", "good"), ("assistant", "Hello"), ("user", "more")]


async def test_a_message_that_is_too_long_is_an_error(chat: Chat) -> None:
    """The next question is not affected."""
    chat.fake.streams("Hello")
    page = await chat.tab()
    await ask(page, "x" * 1_100_000)
    await expect(page.get_by_role("alert")).to_contain_text("too long")
    await ask(page, "short")
    await expect(answer(page)).to_have_text("Hello")
    assert last_messages(chat) == [("user", "short")]


async def test_an_answer_without_text_is_shown_as_such(chat: Chat) -> None:
    """Also if it was stopped before the first token; two questions are never sent in a row."""
    chat.fake.says(b"data: [DONE]\n\n").stalls().streams("Hello")
    page = await chat.tab()
    await ask(page, "Hi")
    await expect(answer(page)).to_have_text("The answer has no text.")
    await expect(page.get_by_role("status")).to_have_text("The answer has no text.")
    await ask(page, "Hi?")
    await chat.fake.until(lambda: len(chat.fake.requests) == 2, within=PATIENCE)
    await page.keyboard.press("Escape")
    await expect(answer(page)).to_have_text("Stopped.")
    await expect(box(page)).to_have_value("Hi?")
    await ask(page, "Hi!")
    await expect(answer(page)).to_have_text("Hello")
    assert last_messages(chat) == [("user", "Hi!")]


async def test_a_long_conversation_is_sent_partially(chat: Chat) -> None:
    """Only as many messages as the app uses, starting with a question."""
    echoes(chat.fake)
    page = await chat.tab()
    sent: list[Any] = []
    page.on("request", lambda request: sent.append(request.post_data_json))
    for number in range(12):
        await ask(page, f"{number}")
        await expect(answer(page)).to_have_text(f"You said {number}.")
        await expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert len(sent[-1]["messages"]) == 19
    assert sent[-1]["messages"][0] == {"role": "user", "content": "2"}
    assert sent[-1]["messages"][-1] == {"role": "user", "content": "11"}


async def test_an_unreachable_app_is_an_error(chat: Chat) -> None:
    page = await chat.tab()
    await page.context.set_offline(True)
    await ask(page, "Hi")
    await expect(page.get_by_role("alert")).to_contain_text("can't be reached")
    await expect(page.get_by_role("button", name="Try again")).to_be_visible()


async def test_a_lost_connection_is_an_error(chat: Chat) -> None:
    """Not to be confused with an app that can't be reached."""
    chat.fake.streams("Hel", asyncio.Event())
    wire = Wire(chat.url)
    async with wire as url:
        page = await chat.open(await chat.browser.new_context(), url)
        await ask(page, "Hi")
        await expect(answer(page)).to_have_text("Hel")
        wire.cut()
        await expect(page.get_by_role("alert")).to_contain_text("The connection was lost")
        await expect(page.get_by_role("button", name="Try again")).to_be_visible()
    await chat.wait_until_closed()


# Rendering


async def test_no_answer_becomes_html(chat: Chat) -> None:
    """Elements, scripts, attributes and URLs written by a model are shown as text."""
    evil = (
        "<img src=x onerror='window.evil=1'><script>window.evil=1</script>\n\n"
        "[click](javascript:window.evil=1) [data](data:text/html,<script>1</script>)\n\n"
        '[a](https://a.example/"onmouseover="window.evil=1)\n\n'
        "```html\n<b onclick='window.evil=1'>bold</b>\n```\n\n"
        "# <i>head</i>\n\n- <iframe src='javascript:window.evil=1'>\n\n`</code><svg onload=evil()>`"
    )
    chat.fake.streams(*evil)
    page = await chat.tab()
    question = "<img src=x onerror='window.evil=2'>"
    await ask(page, question)
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    await expect(page.get_by_label("You")).to_have_text(question)
    for text in ("<img src=x", "<script>window.evil=1</script>", "<b onclick=", "<iframe", "<svg"):
        await expect(answer(page)).to_contain_text(text)
    forbidden = "img, script, iframe, svg, b, i"
    assert await page.get_by_role("log").locator(forbidden).count() == 0
    links = (
        await answer(page)
        .locator("a")
        .evaluate_all("all => all.map(a => [...a.attributes].map(b => b.name + '=' + b.value))")
    )
    assert [names[0].split("=")[0] for names in links] == ["href"]
    assert links[0][0].startswith("href=https://a.example/")
    assert await page.evaluate("window.evil") is None


async def test_markdown_is_rendered(chat: Chat) -> None:
    """Token by token, without duplicating or losing anything."""
    chat.fake.streams(*ANSWER)
    page = await chat.tab()
    await ask(page, "Why is snow white?")
    await expect(answer(page).locator("a")).to_have_attribute(
        "href", "https://en.wikipedia.org/wiki/Light_scattering"
    )
    await expect(answer(page).get_by_role("group", name="Code")).to_have_count(1)
    await expect(answer(page).locator("strong")).to_have_text("scatters")
    await expect(answer(page).locator("em")).to_have_text("facets")
    await expect(answer(page).locator("ol li")).to_have_count(2)
    await expect(answer(page).locator("pre code")).to_contain_text('"blue"  # in metres')
    await expect(answer(page).locator("pre")).to_have_count(1)


async def test_a_url_may_contain_parentheses(chat: Chat) -> None:
    """Images are shown as links, because the page loads nothing."""
    chat.fake.streams("[a](https://a.example/b_(c)) ![d](https://a.example/e.png).")
    page = await chat.tab()
    await ask(page, "Hi")
    await expect(answer(page)).to_have_text("a d.")
    links = await answer(page).locator("a").evaluate_all("all => all.map(a => a.href)")
    assert links == ["https://a.example/b_(c)", "https://a.example/e.png"]


async def test_a_backslash_escapes_markdown(chat: Chat) -> None:
    """Except in code."""
    chat.fake.streams(r"\*not\* so, 2\. and `\*`")
    page = await chat.tab()
    await ask(page, "Hi")
    await expect(answer(page)).to_have_text(r"*not* so, 2. and \*")
    await expect(answer(page).locator("em")).to_have_count(0)


# Concurrency


def echoes(fake: FakeWorkersAI, *parts: Any) -> None:
    """Answer every question with the question itself."""

    def reply(request: Recorded) -> Any:
        question = request.json()["messages"][-1]["content"]
        return Script().streams(f"You said {question}", *parts, ".").take()

    fake.always.answers_by(reply)


async def test_twenty_windows_stream_at_once(chat: Chat) -> None:
    """All answers start before one of them ends."""
    more = asyncio.Event()
    echoes(chat.fake, more)
    pages = await asyncio.gather(*(chat.tab() for _ in range(20)))
    await asyncio.gather(*(ask(page, f"number {number}") for number, page in enumerate(pages)))
    for number, page in enumerate(pages):
        await expect(answer(page)).to_have_text(f"You said number {number}")
    assert chat.fake.connections == 20
    more.set()
    for number, page in enumerate(pages):
        await expect(answer(page)).to_have_text(f"You said number {number}.")


async def test_twenty_tabs_of_one_window_are_all_answered(chat: Chat) -> None:
    """Six at a time, the limit of browsers over HTTP/1.1; the others wait."""
    echoes(chat.fake)
    context = await chat.browser.new_context()
    pages = await asyncio.gather(*(chat.open(context) for _ in range(20)))
    await asyncio.gather(*(ask(page, f"number {number}") for number, page in enumerate(pages)))
    for number, page in enumerate(pages):
        await expect(answer(page)).to_have_text(f"You said number {number}.")


# Accessibility


async def test_the_keyboard_is_enough(chat: Chat) -> None:
    """Enter sends, Shift Enter starts a new line, Escape stops; the focus is always visible."""
    chat.fake.says(HEL, asyncio.Event()).streams("Hello")
    page = await chat.tab()
    press, type_ = page.keyboard.press, page.keyboard.type
    await expect(box(page)).to_be_focused()
    await press("Enter")  # empty: sends nothing
    await type_("one")
    await press("Shift+Enter")
    await type_("two")
    await press("Enter")
    await expect(page.get_by_label("You")).to_have_text("one\ntwo", use_inner_text=True)
    await expect(answer(page)).to_have_text("Hel")
    await expect(box(page)).to_have_value("")
    await press("Escape")
    await expect(page.get_by_text("Stopped.").first).to_be_visible()
    await chat.wait_until_closed()
    await expect(box(page)).to_be_focused()
    await press("Tab")
    await expect(page.get_by_role("button", name="Send")).to_be_focused()
    await press("Shift+Tab")
    await press("Shift+Tab")
    await expect(page.get_by_role("main")).to_be_focused()  # scrolls with the arrows
    outline = "e => getComputedStyle(e).outlineStyle + getComputedStyle(e).outlineWidth"
    assert await page.get_by_role("main").evaluate(outline) == "solid2px"
    await press("Shift+Tab")
    await press("Shift+Tab")
    await expect(page.get_by_role("button", name="New chat")).to_be_focused()
    await press("Enter")
    await expect(box(page)).to_be_focused()
    await press("Shift+Tab")
    await press("Enter")  # the last of the example questions
    await expect(answer(page)).to_have_text("Hello")


async def test_a_screen_reader_announces_answers(chat: Chat) -> None:
    """The answer is read when it is complete; before that, the status says that it is written."""
    more = asyncio.Event()
    chat.fake.streams("Hel", more, "lo")
    page = await chat.tab()
    log, status = page.get_by_role("log"), page.get_by_role("status")
    await expect(log).to_have_attribute("aria-live", "polite")
    await ask(page, "Hi")
    await expect(log).to_have_attribute("aria-busy", "true")
    await expect(status).to_have_text("The model is writing.")
    more.set()
    await expect(log).to_have_attribute("aria-busy", "false")
    await expect(status).to_have_text("The answer is complete.")
    tree = await page.locator("body").aria_snapshot()
    for part in (
        "main",
        "log",
        'article "You": Hi',
        'article "Model"',
        'textbox "Message"',
        "status",
    ):
        assert part in tree
    nameless = "all => all.filter(e => !(e.textContent.trim() || e.ariaLabel)).length"
    assert await page.locator("button").evaluate_all(nameless) == 0


def brightness(colour: str) -> float:
    return sum(map(float, colour.removeprefix("rgb(").removesuffix(")").split(","))) / 3


async def test_the_page_is_light_or_dark(chat: Chat) -> None:
    """Follows the system setting; a choice made on the page survives a reload."""
    shade = "getComputedStyle(document.body).backgroundColor"
    page = await chat.tab(color_scheme="dark")
    assert brightness(await page.evaluate(shade)) < 60
    await page.emulate_media(color_scheme="light")
    assert brightness(await page.evaluate(shade)) > 200
    await page.get_by_role("button", name="Dark colours").click()
    assert brightness(await page.evaluate(shade)) < 60
    await page.reload()
    assert brightness(await page.evaluate(shade)) < 60
    await expect(page.get_by_role("button", name="Light colours")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_contrast_is_sufficient(chat: Chat, scheme: Any) -> None:
    """4.5 to 1 for all text on the page, as WCAG 2.2 requires (1.4.3)."""
    chat.fake.streams(*ANSWER).fails(400, 5006, "no")
    page = await chat.tab(color_scheme=scheme)
    await ask(page, "Hi")
    await expect(answer(page).locator("a")).to_be_visible()
    await ask(page, "Hi")
    await expect(page.get_by_role("alert")).to_be_visible()
    assert await page.evaluate((Path(__file__).parent / "contrast.js").read_text()) == []


async def test_the_focus_is_visible_with_forced_colours(chat: Chat) -> None:
    """In high-contrast mode, borders and shadows lose their colours; outlines are drawn."""
    more = asyncio.Event()
    chat.fake.streams("Hel", more)
    page = await chat.tab(forced_colors="active")
    await expect(box(page)).to_be_focused()
    outline = "e => getComputedStyle(e).outlineStyle + getComputedStyle(e).outlineWidth"
    assert await box(page).evaluate(outline) == "solid2px"
    await ask(page, "Hi")
    await expect(answer(page)).to_have_text("Hel")
    dot = "e => getComputedStyle(e, '::after').backgroundColor"
    ground = "getComputedStyle(document.body).backgroundColor"
    assert await answer(page).locator("p").evaluate(dot) != await page.evaluate(ground)
    more.set()


async def test_pictures(chat: Chat, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The pictures of the docs: a complete answer, and a dark one that is still being written."""
    folder = request.config.getoption("pictures", None) or tmp_path
    half = ANSWER.index("mixed")
    looks = [("light", 900), ("dark", 900), ("light", 360), ("dark", 360)]
    for scheme, width in looks:
        is_whole = scheme == "light"
        chat.fake.streams(*(ANSWER if is_whole else (ANSWER[:half], asyncio.Event())))
        page = await chat.tab(color_scheme=scheme)
        await page.set_viewport_size({"width": width, "height": 720})
        await ask(page, "Why is snow white?")
        await expect(answer(page)).to_contain_text(
            "light scattering" if is_whole else "come back out"
        )
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        path = folder / f"chat-{scheme}{'-narrow' if width < 900 else ''}.png"
        await page.screenshot(path=path, animations="disabled")
        assert path.stat().st_size < 150_000
    assert json.loads(chat.fake.requests[0].body)["stream"] is True
