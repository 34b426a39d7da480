"""The body of a stream -> its events, its tokens, or the answer that a task promised."""

from __future__ import annotations

from typing import Any

from cfai._redaction import Scrub
from cfai._session.body import Body
from cfai._wire import answers
from cfai._wire.results import Asked
from cfai.settings import Settings
from cfai.streaming.events import Events
from cfai.streaming.stream import TokenStream
from cfai.tasks import Result, Text


async def begun(scrub: Scrub, settings: Settings, body: Body) -> Events | Text:
    """The events of a stream, once the first of them is there."""
    return await Events.begun(body, max_event_bytes=settings.max_event_bytes, scrub=scrub)


async def unasked(question: Asked, scrub: Scrub, settings: Settings, body: Body) -> Any:
    """A stream that the model sends unasked: whole for a task, as it is for an open run."""
    events = await begun(scrub, settings, body)

    async def opened() -> Events | Text:
        return events

    tokens = await TokenStream(opened, json_asked=question.json).open()
    if question.answer is Result:
        return tokens
    async with tokens:
        return answers.from_text(question, await tokens.collect())
