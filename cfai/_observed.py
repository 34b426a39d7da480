"""Runs that are observed: the same calls, and a watch around each."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import urlsplit

from attrs import define

from cfai._calls import Calls, Input
from cfai._session.observation import Watch
from cfai._session.throttle import Gate
from cfai._wire.results import Asked, asked
from cfai.observers import Call, Observer, operation_of
from cfai.settings import Options, Settings
from cfai.streaming.events import Events
from cfai.streaming.stream import TokenStream
from cfai.streaming.watched import WatchedStream
from cfai.tasks import Text

_PORTS = {"http": 80, "https": 443}


@define
class ObservedCalls(Calls):
    """What the runs of one client have in common, where somebody observes them."""

    observers: tuple[Observer, ...]

    async def answer(
        self, model: str, task: Input, options: Options | None, gate: Gate | None
    ) -> Any:
        """The whole answer; of an open run, also a stream, which is then observed to its end."""
        settings = self.settings.for_call(options)
        watch = Watch(self.observers)
        watch.begin(_call(settings, model, task, stream=False))
        try:
            with watch.running():
                told = watch.options(options, settings)
                answer = await Calls.answer(self, model, task, told, gate)
        except BaseException as exc:
            watch.raised(exc)
            raise
        if isinstance(answer, TokenStream):
            watch.began()
            return await WatchedStream.of(answer, watch)
        watch.ended("done", answer=answer)
        return answer

    def stream(self, model: str, task: Input, options: Options | None) -> TokenStream:
        """A stream of the answer, observed from the moment it is opened."""
        question, watch = asked(task), Watch(self.observers)
        opening = partial(self._opened, watch, model, task, question, options)
        return WatchedStream(opening, watch, json_asked=question.json)

    async def _opened(
        self, watch: Watch, model: str, task: Input, question: Asked, options: Options | None
    ) -> Events | Text:
        settings = self.settings.for_call(options)
        watch.begin(_call(settings, model, task, stream=True))
        with watch.running():
            told = watch.options(options, settings)
            opened = await self.begin(model, task, question, told)
        watch.began()
        return opened


def _call(settings: Settings, model: str, task: Input, *, stream: bool) -> Call:
    parts = urlsplit(settings.base_url)
    return Call(
        operation_of(task),
        model,
        task,
        stream=stream,
        address=parts.hostname or "",
        port=parts.port or _PORTS[parts.scheme],
        gateway=settings.gateway.id if settings.gateway else None,
    )
