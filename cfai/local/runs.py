"""Runs: models compute what is asked for, and the result is sent, whole or streamed."""

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web
from attrs import frozen

from cfai.local import backends, faults, replies, writing
from cfai.local.answers import ANSWERS, Answer
from cfai.local.backends.roles import Stopped
from cfai.local.checks import Body
from cfai.local.crew import Crew, Generation
from cfai.local.faults import envelope
from cfai.local.finetunes import Finetunes
from cfai.local.journal import Note
from cfai.local.models import Model, look_up
from cfai.local.places import Visit

_NOT_APPLIED = {"cfai-lora": "stored-not-applied"}
"""An adapter is made for one model, and what answers here is another."""


@frozen
class Runs:
    """Runs models. What a text model is busy with has a crew of its own."""

    writers: Crew
    others: Crew
    finetunes: Finetunes

    async def run(self, visit: Visit, note: Note) -> web.StreamResponse:
        """Answer a request to run the model in its path."""
        model = runnable(visit.model or "")
        body = await visit.body()
        if model.task == "Text Generation":
            return await self._write(visit, body, note)
        return await self._compute(ANSWERS[model.task], model, body, note)

    async def later(self, account: str, model: Model, body: Body) -> Any:
        """Give the result of a run that nobody waits for, as soon as a thread is free for it.

        Raises:
            Fault: The request is no good.
        """
        if body.get("stream") is True:
            raise faults.bad_input("what is queued can't be streamed")
        if model.task != "Text Generation":
            answer = ANSWERS[model.task]
            await self.others.free()
            return await self.others.run(
                lambda stopped: orjson.Fragment(_encoded(answer(model, body, stopped).result))
            )
        ask = writing.asked(body)
        await self._adapted(account, body)
        await self.writers.free()
        async with Generation(backends.writer, ask) as generation:
            ending = generation.start(self.writers, only_if_free=True)
            return await writing.written(generation, ending, ask)

    async def _compute(
        self, answer: Answer, model: Model, body: Body, note: Note
    ) -> web.StreamResponse:
        def work(stopped: Stopped) -> tuple[bytes, str]:
            answered = answer(model, body, stopped)
            return _encoded(envelope(answered.result)), answered.backend

        payload, backend = await self.others.run(work, only_if_free=_rejects_if_busy(body))
        note.backend = backend
        return replies.document(200, payload, replies.headers(backend))

    async def _write(self, visit: Visit, body: Body, note: Note) -> web.StreamResponse:
        ask = writing.asked(body)
        streams = body.get("stream") is True
        if streams and ask.schema is not None:
            raise faults.bad_input("JSON Mode is not supported with streaming")
        adapted = await self._adapted(visit.account, body)

        def begun(backend: str) -> dict[str, str]:
            note.status, note.backend = 200, backend
            return {**replies.headers(backend), **adapted}

        async with Generation(backends.writer, ask) as generation:
            ending = generation.start(self.writers, only_if_free=_rejects_if_busy(body))
            note.ending = ending
            if streams:
                return await writing.stream(generation, ending, visit.request, begun)
            result = await writing.written(generation, ending, ask)
            payload = orjson.dumps(envelope(result))
            return replies.document(200, payload, begun(generation.backend))

    async def _adapted(self, account: str, body: Body) -> Mapping[str, str]:
        """Give the headers that say what became of the fine-tune that was asked for."""
        named: Any = body.get("lora")
        if named is None:
            return {}
        await self.finetunes.check_lora(account, named)
        return _NOT_APPLIED


def runnable(name: str) -> Model:
    """Give a model that something here can stand in for.

    Raises:
        Fault: There is no such model, or nothing that can.
    """
    model = look_up(name)
    if model is None:
        raise faults.no_such_model(name)
    if model.task != "Text Generation" and model.task not in ANSWERS:
        raise faults.not_here(f"{model.task}: there is no local model for it")
    return model


def _encoded(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _rejects_if_busy(body: Body) -> bool:
    options = body.get("options")
    return isinstance(options, dict) and options.get("rejectIfBusy") is True
