"""One run, from its question to its answer: the request is built, sent and read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import define, frozen

from cfai._session.account import Account
from cfai._session.body import StreamBody
from cfai._session.session import Session
from cfai._session.throttle import Throttle, Throttles
from cfai._wire import answers, requests
from cfai._wire.answers import Decode
from cfai._wire.responses import Reply
from cfai._wire.results import Asked, asked
from cfai.resources import queue
from cfai.resources.queue import BatchStatus, QueuedTask
from cfai.settings import Options, Retries, Settings
from cfai.tasks import Embeddings, Pooling, Task, Text, TextEmbeddings

if TYPE_CHECKING:
    from cfai._session.observation import CallObservation
    from cfai.streaming.events import EventReader
    from cfai.streaming.stream import TokenStream

Input = Task[Any] | Mapping[str, Any]


@define
class Calls:
    """What the runs of one client have in common."""

    session: Session
    settings: Settings

    @property
    def account(self) -> Account:
        """The same as an account."""
        return Account(self.session, self.settings)

    @property
    def throttles(self) -> Throttles:
        """The throttles of the client, and of those that share its connections."""
        return self.session.connections.throttles

    async def answer(
        self,
        model: str,
        task: Input,
        options: Options | None,
        throttle: Throttle | None,
        observation: CallObservation | None = None,
    ) -> Any:
        """The whole answer; of an open run, also a stream that the model chose to send."""
        settings = self.settings.for_call(options)
        request = await self._request(settings, model, task, False, options)
        question = asked(task)

        def read(response: Reply, decode: Decode = Reply.json) -> Any:
            return answers.answer(question, response, decode=decode)

        stream = partial(_read_unrequested_stream, question, observation)
        if question.answer is Embeddings:
            return await self.account.send_for_vectors(
                request, settings, read, stream=stream, throttle=throttle
            )
        return await self.session.call(
            request, settings, read=read, stream=stream, throttle=throttle
        )

    def stream(self, model: str, task: Input, options: Options | None) -> TokenStream:
        """A stream of the answer, which sends the request when it is opened."""
        from cfai.streaming.stream import (
            TokenStream,  # What streams need is loaded by the first one.
        )

        question = asked(task)
        open_events = partial(self.begin, model, task, question, options)
        return TokenStream(open_events, json_mode=question.json)

    async def begin(
        self, model: str, task: Input, question: Asked, options: Options | None
    ) -> EventReader | Text:
        """The events of a stream, or its whole text where the model sends no stream."""
        from cfai.streaming.events import EventReader

        settings = self.settings.for_call(options)
        request = await self._request(settings, model, task, True, options)
        return await self.session.call(
            request,
            settings,
            read=partial(answers.unstreamed, question),
            stream=EventReader.open,
            throttle=self.throttles.for_call(model),
        )

    async def _request(
        self, settings: Settings, model: str, task: Input, stream: bool, options: Options | None
    ) -> requests.Request:
        """Build the request: off the event loop where media have to be read and encoded."""
        if not requests.has_media(task):
            return requests.run(settings, model, task, stream=stream, options=options)
        build = partial(requests.run, settings, model, task, stream=stream, options=options)
        return await asyncio.to_thread(build)


async def _read_unrequested_stream(
    question: Asked, observation: CallObservation | None, body: StreamBody
) -> Any:
    from cfai.streaming.stream import read_unrequested_stream

    return await read_unrequested_stream(question, body, observation)


@frozen
class EmbeddingCalls:
    """What a job of many texts asks of one model."""

    calls: Calls
    model: str
    options: Options | None
    pooling: Pooling | None
    truncate: bool | None

    @property
    def retries(self) -> Retries:
        """How often what failed is asked for again, and when."""
        return self.calls.settings.for_call(self.options).retries

    def _task(self, texts: Sequence[str]) -> TextEmbeddings:
        return TextEmbeddings(texts, pooling=self.pooling, truncate_inputs=self.truncate)

    async def send(self, texts: Sequence[str], throttle: Throttle) -> Embeddings:
        """Embed one request's worth of texts."""
        task = self._task(texts)
        answer: Embeddings = await self.calls.answer(self.model, task, self.options, throttle)
        return answer

    def queued(self, texts: Sequence[str], reference: str) -> QueuedTask:
        """One request's worth of texts for the queue."""
        (request,) = queue.build_queued_tasks({reference: self._task(texts)})
        return request

    async def hand_over(
        self, requests: Sequence[QueuedTask], throttle: Throttle
    ) -> BatchStatus[Embeddings]:
        """Submit a batch. It may be repeated, as a run may: at worst, vectors are made twice."""
        settings = self.calls.settings.for_call(self.options)
        request = queue.build_submit_request(
            settings, self.options, self.model, requests, repeatable=True
        )
        return await queue.send_batch(self.calls.account, request, settings, requests, throttle)

    async def look(
        self, requests: Sequence[QueuedTask], request_id: str, throttle: Throttle | None
    ) -> BatchStatus[Embeddings]:
        """Poll a batch."""
        settings = self.calls.settings.for_call(self.options)
        request = queue.build_poll_request(settings, self.options, self.model, request_id)
        return await queue.send_batch(self.calls.account, request, settings, requests, throttle)
