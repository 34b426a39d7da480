"""One run, from its question to its answer: the request is built, sent and read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import define

from cfai._gate import Gate, Gates
from cfai._redaction import Scrub
from cfai._session import Body, Session
from cfai._wire import answers, requests
from cfai._wire.replies import Reply
from cfai._wire.results import Asked, asked
from cfai.settings import Options, Settings
from cfai.tasks import Task, Text

if TYPE_CHECKING:
    from cfai._tokens import Events, TokenStream

Input = Task[Any] | Mapping[str, Any]


@define
class Calls:
    """What the runs of one client have in common."""

    session: Session
    settings: Settings

    @property
    def gates(self) -> Gates:
        """The gates of the client, and of those that share its connections."""
        return self.session.connections.gates

    async def answer(
        self, model: str, task: Input, options: Options | None, gate: Gate | None
    ) -> Any:
        """The whole answer; of an open run, also a stream that the model chose to send."""
        settings = self.settings.for_call(options)
        request = await self._request(settings, model, task, False, options)
        question, scrub = asked(task), settings.scrub
        return await self.session.call(
            request,
            settings,
            read=partial(answers.answer, question, scrub=scrub),
            stream=partial(_unasked, question, scrub, settings),
            gate=gate,
        )

    def stream(self, model: str, task: Input, options: Options | None) -> TokenStream:
        """A stream of the answer, which sends the request when it is opened."""
        from cfai._tokens import TokenStream  # What streams need is loaded by the first one.

        question = asked(task)
        opening = partial(self.begin, model, task, question, options)
        return TokenStream(opening, json_asked=question.json)

    async def begin(
        self, model: str, task: Input, question: Asked, options: Options | None
    ) -> Events | Text:
        """The events of a stream, or its whole text where the model sends no stream."""
        from cfai._tokens import begun

        settings = self.settings.for_call(options)
        request = await self._request(settings, model, task, True, options)
        scrub = settings.scrub

        def whole(reply: Reply) -> Events | Text:
            return answers.unstreamed(question, reply, scrub=scrub)

        return await self.session.call(
            request,
            settings,
            read=whole,
            stream=partial(begun, scrub, settings),
            gate=self.gates.for_call(model),
        )

    async def _request(
        self, settings: Settings, model: str, task: Input, stream: bool, options: Options | None
    ) -> requests.Request:
        """Build the request: off the event loop where media have to be read and encoded."""
        if not requests.has_media(task):
            return requests.run(settings, model, task, stream=stream, options=options)
        build = partial(requests.run, settings, model, task, stream=stream, options=options)
        return await asyncio.to_thread(build)


async def _unasked(question: Asked, scrub: Scrub, settings: Settings, body: Body) -> Any:
    from cfai._tokens import unasked

    return await unasked(question, scrub, settings, body)
