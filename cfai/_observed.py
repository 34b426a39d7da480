"""Calls of a client with observers: the same calls, each with its `CallObservation`."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import urlsplit

from attrs import define

from cfai._calls import Calls, Input
from cfai._session.observation import CallObservation
from cfai._session.throttle import Throttle
from cfai._wire.results import Asked, asked
from cfai.observers import Call, Observer, operation_of
from cfai.settings import Options, Settings
from cfai.streaming.events import EventReader
from cfai.streaming.stream import TokenStream
from cfai.tasks import Text

_PORTS = {"http": 80, "https": 443}


@define
class ObservedCalls(Calls):
    """The calls of a client with observers."""

    observers: tuple[Observer, ...]

    async def answer(
        self,
        model: str,
        task: Input,
        options: Options | None,
        throttle: Throttle | None,
        observation: CallObservation | None = None,
    ) -> Any:
        """The answer; of an open run, also a stream, which is observed to its end."""
        settings = self.settings.for_call(options)
        observation = observation or CallObservation(self.observers)
        observation.start(_call(settings, model, task, stream=False))
        try:
            with observation.running():
                options = observation.call_options(options, settings)
                answer = await Calls.answer(self, model, task, options, throttle, observation)
        except BaseException as exc:
            observation.fail(exc)
            raise
        if isinstance(answer, TokenStream):
            observation.stream_began()
        else:
            observation.end("done", answer=answer)
        return answer

    def stream(self, model: str, task: Input, options: Options | None) -> TokenStream:
        """A stream of the answer, observed from the moment it is opened."""
        question, observation = asked(task), CallObservation(self.observers)
        open_events = partial(self._open_events, observation, model, task, question, options)
        return TokenStream(open_events, json_mode=question.json, observation=observation)

    async def _open_events(
        self,
        observation: CallObservation,
        model: str,
        task: Input,
        question: Asked,
        options: Options | None,
    ) -> EventReader | Text:
        settings = self.settings.for_call(options)
        observation.start(_call(settings, model, task, stream=True))
        with observation.running():
            options = observation.call_options(options, settings)
            events = await self.begin(model, task, question, options)
        observation.stream_began()
        return events


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
