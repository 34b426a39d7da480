"""Runs models: finds the handler of the task, calls it in a thread, and builds the response.

A handler checks a request's fields, calls a backend, and builds the result. The modules of this
package hold the handlers, one module per kind of task; `HANDLERS` lists them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson
from aiohttp import web
from attrs import evolve, field, frozen

from cfai.local import backends, errors
from cfai.local.backends.roles import Abilities, IsCancelled, TextGenerator
from cfai.local.backends.upstream import UPSTREAM_TASKS, Upstream, UpstreamGenerator, UpstreamModel
from cfai.local.errors import envelope
from cfai.local.exchange import json_response
from cfai.local.finetunes import FinetuneRegistry
from cfai.local.handlers import (
    cards,
    generation,
    inputs,
    questions,
    text,
    transcription,
    vision,
    voice,
)
from cfai.local.handlers.generation import Latency, RunningGeneration
from cfai.local.handlers.inputs import GenerationInput
from cfai.local.handlers.media import MEDIA_FIELDS, Media, read_run
from cfai.local.handlers.upstream import UPSTREAM_HANDLERS
from cfai.local.handlers.voice import SoundStream, build_sound_result
from cfai.local.models import ServedModel, find_model, find_retirement
from cfai.local.requests import (
    ApiRequest,
    JsonBody,
    check_names,
    missing_fields,
    rejects_if_busy,
)
from cfai.local.workers import WorkerPool
from cfai.tasks.task import shorten

TaskHandler = Callable[[ServedModel, JsonBody, IsCancelled], tuple[Any, str]]
"""Returns a result and the name of the backend that computed it. Blocks."""

HANDLERS: Mapping[str, TaskHandler] = {
    "Automatic Speech Recognition": transcription.recognize,
    "Image Classification": vision.classify,
    "Image-to-Text": vision.describe,
    "Object Detection": vision.detect,
    "Reranking": text.rerank,
    "Summarization": text.summarize,
    "Text Classification": text.classify,
    "Text Embeddings": text.embed,
    "Text-to-Speech": voice.speak,
    "Voice Activity Detection": transcription.detect_turn,
}
"""The handler of each task, except text generation, which can stream."""

WITH_TEST_CARD: Mapping[str, TaskHandler] = {**HANDLERS, "Text-to-Image": cards.draw_card}
"""The same, with a test card for the images that no model here can generate."""

_GENERATION = "Text Generation"

_MEDIA_TASKS = (*MEDIA_FIELDS, "Text-to-Image", "Text-to-Speech")

_UPSTREAM_ABILITIES = Abilities(reads_images=True, calls_tools=True, is_remote=True)

_NOT_APPLIED = {"cfai-lora": "stored-not-applied"}
"""An adapter fits only its own base model, and the local model is another one."""


@frozen
class ModelRunner:
    """Runs models. Text, media and other servers have their own threads, so that they cannot block
    other tasks.
    """

    generators: WorkerPool
    others: WorkerPool
    media: WorkerPool
    remotes: WorkerPool
    finetunes: FinetuneRegistry
    load_generator: Callable[[], TextGenerator] = backends.text_generator
    upstream: Upstream | None = None
    latency: Latency = field(factory=Latency)
    abilities: Abilities = field(factory=Abilities)
    """What the local text generator can do."""
    handlers: Mapping[str, TaskHandler] = HANDLERS

    def find_model(
        self,
        name: str,
        find: Callable[[str], ServedModel | None] = find_model,
        task: str = _GENERATION,
    ) -> ServedModel:
        """Return a model that a local or an upstream one can stand in for.

        Names that are new to the catalogue, and retired ones, are answered if they are mapped; the
        *task* is that of a new one.

        Raises:
            ApiError: The model is unknown or retired, or no model here can do its task.
        """
        model = find(name)
        mapped = model or ServedModel(name, task)
        if self.find_upstream(mapped) is not None:
            return evolve(mapped, abilities=_UPSTREAM_ABILITIES)
        return evolve(check_runnable(name, model, self.handlers), abilities=self.abilities)

    def find_upstream(self, model: ServedModel) -> UpstreamModel | None:
        """Return the upstream model that stands in for a model; `None` if there is none."""
        if self.upstream is None or model.task not in UPSTREAM_TASKS:
            return None
        name = self.upstream.find_name(model.name, model.task)
        return None if name is None else UpstreamModel(self.upstream, name)

    async def run(self, request: ApiRequest) -> web.StreamResponse:
        """`POST run/{model}`."""
        model = self.find_model(request.model or "")
        return await self._run_model(request, model, await read_run(request, model))

    async def run_named(self, request: ApiRequest) -> web.StreamResponse:
        """`POST run`: the model in the body, beside the `input` with the fields of the run.

        Source: Cloudflare docs, ai-gateway/usage/rest-api.mdx@0309c8b.
        """
        body = await request.read_json()
        check_names(body, "model", "input")
        model = self.find_model(read_model_name(request, body))
        if not isinstance(body.get("input"), dict):
            raise errors.bad_input("input must be an object with the fields of the run")
        return await self._run_model(request, model, body["input"])

    async def _run_model(
        self, request: ApiRequest, model: ServedModel, body: JsonBody
    ) -> web.StreamResponse:
        model = _guess_task(model, body)
        if (parsed := _parse_generation(model, body)) is not None:
            return await self.generate(request, parsed, body, in_envelope=True)
        if (remote := self.find_upstream(model)) is not None:
            return await self._run_upstream(request, remote, model, body)
        handler = self.handlers[model.task]

        def work(is_cancelled: IsCancelled) -> tuple[bytes | SoundStream | Media, str]:
            result, backend = handler(model, body, is_cancelled)
            if isinstance(result, SoundStream | Media):
                return result, backend
            return encode_json(envelope(result)), backend

        pool = self._find_pool(model)
        answer, backend = await pool.run(work, only_if_free=rejects_if_busy(body))
        if isinstance(answer, SoundStream):
            return await _answer_sound(answer, request, pool)
        headers = request.recorder.start_response(backend)
        if isinstance(answer, Media):
            return _build_media_response(answer, headers)
        return json_response(200, answer, headers)

    def _find_pool(self, model: ServedModel) -> WorkerPool:
        return self.media if model.task in _MEDIA_TASKS else self.others

    async def _run_upstream(
        self, request: ApiRequest, remote: UpstreamModel, model: ServedModel, body: JsonBody
    ) -> web.StreamResponse:
        handler = UPSTREAM_HANDLERS[model.task]
        result = await self.remotes.run(
            lambda is_cancelled: handler(remote, model, body, is_cancelled),
            only_if_free=rejects_if_busy(body),
        )
        headers = request.recorder.start_response(remote.name)
        if isinstance(result, Media):
            return _build_media_response(result, headers)
        return json_response(200, encode_json(envelope(result)), headers)

    async def run_queued(self, account: str, model: ServedModel, body: JsonBody) -> Any:
        """Return the result of a queued run, which starts as soon as a thread is free.

        Raises:
            ApiError: The request is invalid.
        """
        if body.get("stream") is True:
            raise errors.bad_input("queued requests cannot be streamed")
        model = _guess_task(model, body)
        parsed = _parse_generation(model, body)
        if parsed is None:
            return await self._run_queued_task(model, body)
        parsed = await self._choose_tool(parsed)
        await self._check_lora(account, body)
        load_generator, pool = self._find_generator(parsed)
        await pool.wait_for_thread()
        async with RunningGeneration(load_generator, parsed.request, self.latency) as pieces:
            end = pieces.start(pool, only_if_free=True)
            return await generation.collect_result(pieces, end, parsed.dialect)

    async def _run_queued_task(self, model: ServedModel, body: JsonBody) -> orjson.Fragment:
        remote = self.find_upstream(model)
        pool = self._find_pool(model) if remote is None else self.remotes
        await pool.wait_for_thread()

        def work(is_cancelled: IsCancelled) -> Any:
            if remote is not None:
                return UPSTREAM_HANDLERS[model.task](remote, model, body, is_cancelled)
            return self.handlers[model.task](model, body, is_cancelled)[0]

        result = await pool.run(work)
        if isinstance(result, SoundStream) and result.in_json:
            result = build_sound_result(
                b"".join([part async for part in pool.iterate(result.chunks)])
            )
        if isinstance(result, SoundStream | Media):
            raise errors.bad_input(
                f"queueRequest must be left out for {model.name}: its answer is a file"
            )
        return orjson.Fragment(encode_json(result))

    async def generate(
        self, request: ApiRequest, parsed: GenerationInput, body: JsonBody, *, in_envelope: bool
    ) -> web.StreamResponse:
        """Answer a request for text."""
        only_if_free = rejects_if_busy(body)
        headers = await self._check_lora(request.account, body)
        parsed = await self._choose_tool(parsed)
        load_generator, pool = self._find_generator(parsed)
        async with RunningGeneration(load_generator, parsed.request, self.latency) as pieces:
            end = pieces.start(pool, only_if_free=only_if_free)
            request.recorder.end = end
            if parsed.stream is not None:
                return await generation.stream_response(
                    pieces, end, parsed.stream, request, headers
                )
            result = await generation.collect_result(pieces, end, parsed.dialect)
            headers = {**request.recorder.start_response(pieces.backend), **headers}
            return json_response(200, envelope(result) if in_envelope else result, headers)

    def _find_generator(
        self, parsed: GenerationInput
    ) -> tuple[Callable[[], TextGenerator], WorkerPool]:
        """Return what loads the generator of a request, and the threads that it runs in."""
        upstream = self.upstream
        name = None if upstream is None else upstream.find_name(parsed.model, parsed.task)
        if upstream is None or name is None:
            return self.load_generator, self.generators
        return partial(UpstreamGenerator, upstream, name), self.remotes

    async def _choose_tool(self, parsed: GenerationInput) -> GenerationInput:
        """Replace the request by one for the arguments of a tool, if one is called."""
        choice = parsed.tools
        if choice is None:
            return parsed
        tool = await self.others.run(lambda _: choice.choose(backends.embedder()))
        return parsed if tool is None else parsed.with_call(tool)

    async def _check_lora(self, account: str, body: JsonBody) -> Mapping[str, str]:
        """Check the requested fine-tune, if any, and return the headers that report its use."""
        name: Any = body.get("lora")
        if name is None:
            return {}
        await self.finetunes.check_lora(account, name)
        return _NOT_APPLIED


_TASKS_BY_FIELDS = {
    "contexts": "Reranking",
    "audio": "Automatic Speech Recognition",
    "text": "Text Embeddings",
}


def _guess_task(model: ServedModel, body: JsonBody) -> ServedModel:
    """Return a model that is new to the catalogue with a task that has the fields of its run."""
    if find_model(model.name) is not None:
        return model
    tasks = (task for name, task in _TASKS_BY_FIELDS.items() if name in body)
    return evolve(model, task=next(tasks, model.task))


def _parse_generation(model: ServedModel, body: JsonBody) -> GenerationInput | None:
    """Read a run that the text generator answers, if it is one."""
    if model.task == _GENERATION:
        return inputs.parse_run(model, body)
    if model.task == questions.TASK and model.abilities.reads_images:
        return questions.parse_question(model, body)
    return None


def find_runnable_model(name: str) -> ServedModel:
    """Return a model that a local one can stand in for.

    Raises:
        ApiError: The model is unknown or retired, or there is no local model for its task.
    """
    return check_runnable(name, find_model(name))


def check_runnable(
    name: str, model: ServedModel | None, handlers: Mapping[str, TaskHandler] = HANDLERS
) -> ServedModel:
    """Return *model*, if a local one can stand in for it. Raises like `find_runnable_model`."""
    if model is None:
        raise errors.unknown_model(name)
    if (day := find_retirement(name)) is not None:
        raise errors.retired_model(day)
    if model.task != _GENERATION and model.task not in handlers:
        raise errors.not_supported(f"there is no local model for the task {model.task}")
    return model


def read_model_name(request: ApiRequest, body: JsonBody) -> str:
    """Return the model that a body names, and record it.

    Raises:
        ApiError: It names none.
    """
    name = body.get("model")
    if name is None:
        raise missing_fields("model")
    if not isinstance(name, str):
        raise errors.bad_input(f"model must be a string, got {shorten(name)}")
    # The name that AI Gateway's compatible paths use.
    request.recorder.model = name = name.removeprefix("workers-ai/")
    return name


def _build_media_response(media: Media, headers: Mapping[str, str]) -> web.Response:
    return web.Response(body=media.content, headers={**headers, "Content-Type": media.content_type})


async def _answer_sound(
    sound: SoundStream, request: ApiRequest, pool: WorkerPool
) -> web.StreamResponse:
    """Answer with sound: while it is spoken, or as JSON.

    A long text keeps nobody else waiting, and nothing is spoken for a client that has left.
    """
    parts = (part async for part in pool.iterate(sound.chunks) if part)
    if sound.in_json:
        result = build_sound_result(b"".join([part async for part in parts]))
        headers = request.recorder.start_response(sound.voice)
        return json_response(200, encode_json(envelope(result)), headers)
    # A text without a sound is an error, which is raised here.
    part = await anext(parts)
    headers = {"Content-Type": sound.media_type, "cfai-voice": sound.voice}
    headers |= request.recorder.start_response(sound.voice)
    response = await request.start_stream(headers)
    await response.write(part)
    async for part in parts:
        await response.write(part)
    return response


def encode_json(value: Any) -> bytes:
    """Encode a result, which can have vectors."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
