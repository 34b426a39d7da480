"""Runs models: finds the handler of the task, calls it in a thread, and builds the response.

A handler checks a request's fields, calls a backend, and builds the result. The modules of this
package hold the handlers, one module per kind of task; `HANDLERS` lists them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web
from attrs import frozen

from cfai.local import backends, errors
from cfai.local.backends.roles import IsCancelled
from cfai.local.errors import envelope
from cfai.local.exchange import json_response
from cfai.local.finetunes import FinetuneRegistry
from cfai.local.handlers import generation, text
from cfai.local.handlers.generation import RunningGeneration
from cfai.local.models import ServedModel, find_model, find_retirement
from cfai.local.requests import ApiRequest, JsonBody
from cfai.local.workers import WorkerPool

TaskHandler = Callable[[ServedModel, JsonBody, IsCancelled], tuple[Any, str]]
"""Returns a result and the name of the backend that computed it. Blocks."""

HANDLERS: Mapping[str, TaskHandler] = {
    "Reranking": text.rerank,
    "Summarization": text.summarize,
    "Text Classification": text.classify,
    "Text Embeddings": text.embed,
}
"""The handler of each task, except text generation, which can stream."""

_GENERATION = "Text Generation"

_NOT_APPLIED = {"cfai-lora": "stored-not-applied"}
"""An adapter fits only its own base model, and the local model is another one."""


@frozen
class ModelRunner:
    """Runs models. Text generation has its own threads, so that it cannot block other tasks."""

    generators: WorkerPool
    others: WorkerPool
    finetunes: FinetuneRegistry

    async def run(self, request: ApiRequest) -> web.StreamResponse:
        """`POST run/{model}`."""
        model = find_runnable_model(request.model or "")
        body = await request.read_json()
        if model.task == _GENERATION:
            return await self._generate(request, body)

        def work(is_cancelled: IsCancelled) -> tuple[bytes, str]:
            result, backend = HANDLERS[model.task](model, body, is_cancelled)
            return _encode_json(envelope(result)), backend

        payload, backend = await self.others.run(work, only_if_free=_rejects_if_busy(body))
        return json_response(200, payload, request.recorder.start_response(backend))

    async def run_queued(self, account: str, model: ServedModel, body: JsonBody) -> Any:
        """Return the result of a queued run, which starts as soon as a thread is free.

        Raises:
            ApiError: The request is invalid.
        """
        if body.get("stream") is True:
            raise errors.bad_input("queued requests cannot be streamed")
        if model.task != _GENERATION:
            handler = HANDLERS[model.task]
            await self.others.wait_for_thread()
            result = await self.others.run(
                lambda is_cancelled: _encode_json(handler(model, body, is_cancelled)[0])
            )
            return orjson.Fragment(result)
        generation_request = generation.parse_generation_request(body)
        await self._check_lora(account, body)
        await self.generators.wait_for_thread()
        async with RunningGeneration(backends.text_generator, generation_request) as pieces:
            end = pieces.start(self.generators, only_if_free=True)
            return await generation.collect_result(pieces, end, generation_request)

    async def _generate(self, request: ApiRequest, body: JsonBody) -> web.StreamResponse:
        generation_request = generation.parse_generation_request(body)
        streams = body.get("stream") is True
        if streams and generation_request.schema is not None:
            raise errors.bad_input("JSON Mode is not supported with streaming")
        headers = await self._check_lora(request.account, body)
        async with RunningGeneration(backends.text_generator, generation_request) as pieces:
            end = pieces.start(self.generators, only_if_free=_rejects_if_busy(body))
            request.recorder.end = end
            if streams:
                return await generation.stream_response(pieces, end, request, headers)
            result = await generation.collect_result(pieces, end, generation_request)
            headers = {**request.recorder.start_response(pieces.backend), **headers}
            return json_response(200, envelope(result), headers)

    async def _check_lora(self, account: str, body: JsonBody) -> Mapping[str, str]:
        """Check the requested fine-tune, if any, and return the headers that report its use."""
        name: Any = body.get("lora")
        if name is None:
            return {}
        await self.finetunes.check_lora(account, name)
        return _NOT_APPLIED


def find_runnable_model(name: str) -> ServedModel:
    """Return a model that a local one can stand in for.

    Raises:
        ApiError: The model is unknown or retired, or there is no local model for its task.
    """
    model = find_model(name)
    if model is None:
        raise errors.unknown_model(name)
    if (day := find_retirement(name)) is not None:
        raise errors.retired_model(day)
    if model.task != _GENERATION and model.task not in HANDLERS:
        raise errors.not_supported(f"there is no local model for the task {model.task}")
    return model


def _encode_json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _rejects_if_busy(body: JsonBody) -> bool:
    options = body.get("options")
    return isinstance(options, dict) and options.get("rejectIfBusy") is True
