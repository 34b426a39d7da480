"""One run of a model: builds and sends the request, reads the response, and calls the observers.

`WorkersAI` and embedding jobs run models with this.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit

import attrs
from attrs import field, frozen

from cfai import tasks
from cfai._session.addresses import is_loopback
from cfai._session.client import Account
from cfai._session.redaction import redact_error
from cfai._session.timeouts import Deadline
from cfai._types.excerpts import format_value
from cfai._types.values import Value
from cfai._wire.answers import (
    AnswerSpec,
    RemoteMedia,
    answer_spec,
    read_answer,
    read_media,
    read_neurons,
    read_universal_answer,
    read_whole_text,
)
from cfai._wire.requests import (
    Request,
    build_download_request,
    build_run_request,
    has_media,
    wants_stream,
)
from cfai._wire.responses import Response
from cfai.errors import CfaiError, DecodeError, InputError, StreamUnsupported
from cfai.profiles import profile
from cfai.resources.fallback import ModelNames, ask_in_turn, read_models
from cfai.settings import Options, Retries, Retry, Settings
from cfai.tasks import (
    Answer,
    Prompt,
    Result,
    Task,
    Text,
)

if TYPE_CHECKING:
    from cfai._session.body import StreamBody
    from cfai._session.observation import CallObservation
    from cfai._session.throttle import Throttle
    from cfai.observers import Observer
    from cfai.resources.queue import BatchStatus, QueuedTask
    from cfai.streaming.audio import AudioStream, OpenedAudio
    from cfai.streaming.events import EventReader
    from cfai.streaming.stream import TokenStream
    from cfai.tasks import Audio, Embeddings, Message, Pooling, TextEmbeddings, TextGeneration

T = TypeVar("T")

RunInput = Task[Any] | Mapping[str, Any]
"""A task, or the JSON object that is sent."""

_NO_RETRIES: Final = Retries(max=0)

TextInput: TypeAlias = "str | Sequence[Message | Mapping[str, Any]]"
"""Short for the task of a language model: a text for a `Prompt`, messages for `TextGeneration`."""

ChatInput: TypeAlias = "Prompt | TextGeneration | TextInput"
"""A text, or a conversation."""

_OTHER_INPUTS: Final = {
    "Automatic Speech Recognition": "pass an AutomaticSpeechRecognition",
    "Image Classification": "pass an ImageClassification",
    "Image-to-Text": "pass an ImageToText or an ImageTextToText",
    "Object Detection": "pass an ObjectDetection",
    "Summarization": "pass a Summarization",
    "Text Classification": "pass a TextClassification or a Rerank",
    "Text Embeddings": "use embed() or embed_many()",
    "Text-to-Image": "pass a TextToImage",
    "Text-to-Speech": "pass a TextToSpeech or a SpeechSynthesis",
    "Translation": "pass a Translation",
}
"""What models that don't generate text take, by the service's name of their task."""

_TYPED: Final = {
    "@cf/cloudflare/clef": "call decide(), or pass a Decide",
    "@cf/cloudflare/clairic": "call extract(), or pass an Extract",
}
"""The same for models whose task is text generation in the service's words, or is not known."""


def read_task(model: ModelNames, task: Any) -> RunInput:
    """Return the task that *task* is short for. A task or a mapping is returned unchanged.

    Raises:
        InputError: It is something else, or *model* is known not to generate text.
    """
    if type(task) is not list:  # A list is none of these, and checking for a mapping takes longer.
        if isinstance(task, Task) or isinstance(task, Mapping):  # noqa: SIM101  # twice as fast
            return task
        if not isinstance(task, Sequence) or isinstance(task, bytes | bytearray):
            kinds = "a string, a list of messages, a task or a mapping"
            raise InputError(f"task must be {kinds}, got {type(task).__name__}")
    check_generates_text(model)
    return Prompt(task) if isinstance(task, str) else tasks.TextGeneration(task)


def check_generates_text(model: ModelNames) -> None:
    """Check that a model, and each one of a list, is not known to do something else.

    Raises:
        InputError: It does. The message names what it takes.
    """
    for name in read_models(model):
        if problem := _text_problem(name):
            raise InputError(problem)


@lru_cache(maxsize=256)
def _text_problem(model: str) -> str | None:
    """Why a model does not generate text; `None` if it is not known not to."""
    for start, way in _TYPED.items():
        if model.startswith(start):
            return f"{model} does not generate text: {way}"
    kind = profile(model).task
    if kind in (None, "Text Generation"):
        return None
    way = _OTHER_INPUTS.get(kind, "pass a mapping of its fields")
    return f"{model} does not generate text (its task is {kind}): {way}"


def _check_no_embeddings(models: Sequence[str], task: RunInput) -> None:
    """Check that no vectors of another model can stand in for those of the first."""
    kinds = {profile(model).task for model in models}
    if answer_spec(task).answer.has_vectors or kinds & {"Text Embeddings"}:
        raise InputError(
            "model must be a single name for embeddings: vectors of different models can't be"
            f" compared, got {format_value(list(models), 200)}"
        )


def _check_streams(task: RunInput) -> None:
    """Check that the answer of a task is text. Other answers don't come in events.

    Raises:
        InputError: It is something else.
    """
    if isinstance(task, Task) and not issubclass(task.answer, Text | tasks.Description | Result):
        way = "audio()" if issubclass(task.answer, tasks.Audio) else "run()"
        raise InputError(
            f"a stream is made of text, and {type(task).__name__} has none: call {way}"
        )


def _check_observers(observers: Iterable[Observer]) -> tuple[Observer, ...]:
    """Check that the observers are callable, and copy them: the list may change later."""
    try:
        checked = tuple(observers)
    except TypeError as exc:
        raise InputError(f"observers must be an iterable, got {format_value(observers)}") from exc
    for observer in checked:
        if not callable(observer):
            raise InputError(f"an observer must be callable, got {format_value(observer)}")
    return checked


@frozen(eq=False, repr=False)
class Runs(Value):
    """Runs models for one account."""

    account: Account
    observers: tuple[Observer, ...] = field(converter=_check_observers)

    def run(
        self,
        model: ModelNames,
        task: RunInput | TextInput,
        options: Options | None,
        *,
        stream: bool | None = None,
        throttle: Throttle | None = None,
    ) -> Awaitable[Any]:
        """Run *model* and return its answer, or an open stream. *throttle* replaces the model's."""
        if not isinstance(model, str):
            return self._run_with_fallback(read_models(model), task, options, stream)
        task = read_task(model, task)
        if stream or (stream is None and wants_stream(task)):
            return self.stream(model, task, options).open()
        if throttle is None:
            throttle = self.account.session.connections.throttle_for_call(model)
        if self.observers:
            return self._run_observed(model, task, options, throttle)
        return self._run(model, task, options, throttle)

    async def _run_with_fallback(
        self,
        models: Sequence[str],
        task: RunInput | TextInput,
        options: Options | None,
        stream: bool | None,
    ) -> Any:
        """Run the first of *models* that answers."""
        task = read_task(models, task)
        if stream or (stream is None and wants_stream(task)):
            return await self.stream(models, task, options).open()

        async def run(model: str, deadline: Deadline) -> Any:
            throttle = self.account.session.connections.throttle_for_call(model)
            if self.observers:
                return await self._run_observed(model, task, options, throttle, deadline)
            return await self._run(model, task, options, throttle, deadline=deadline)

        settings = await self._check_models(models, task, options, stream=False)
        return await ask_in_turn(models, settings, run)

    async def _check_models(
        self, models: Sequence[str], task: RunInput, options: Options | None, *, stream: bool
    ) -> Settings:
        """Check that each model takes the task, before the first one is asked.

        Only the requests of the others are built here; they are built again if they are needed.

        Returns:
            The settings of the call.
        """
        settings = self.account.settings.for_call(options)
        if len(models) > 1:
            _check_no_embeddings(models, task)
        for model in models[1:]:
            await _build_request(settings, model, task, options, stream=stream)
        return settings

    async def _run(
        self,
        model: str,
        task: RunInput,
        options: Options | None,
        throttle: Throttle | None,
        observation: CallObservation | None = None,
        deadline: Deadline | None = None,
    ) -> Any:
        session = self.account.session
        spending = session.spending
        settings = self.account.settings
        if options is not None:
            settings = settings.for_call(options)
        if has_media(task):
            request = await _build_request(settings, model, task, options, stream=False)
        else:  # Without a coroutine for it.
            request = build_run_request(settings, model, task, stream=False, options=options)
        spec = answer_spec(task)
        read = read_universal_answer if request.route == "universal" else read_answer

        def read_response(response: Response) -> Any:
            return read(spec, response)

        async def open_stream(body: StreamBody) -> Any:
            # What streams need is imported by the first of them.
            from cfai.streaming.stream import read_unexpected_stream

            return await read_unexpected_stream(spec, body, observation, spending)

        call = session.call_for_vectors if spec.answer.has_vectors else session.call
        try:
            answer = await call(
                request,
                settings,
                read_response=read_response,
                open_stream=open_stream,
                throttle=throttle,
                deadline=deadline,
            )
        except DecodeError as exc:
            spending.add(None if exc.meta is None else exc.meta.neurons)
            raise
        if isinstance(answer, Answer):
            spending.add(read_neurons(answer))
        elif isinstance(answer, RemoteMedia):
            spending.add(answer.meta.neurons)
            if deadline is not None:
                deadline.may_fall_back = False  # The model has answered, whatever happens next.
            return await self._download(answer, settings)
        return answer

    async def _download(self, media: RemoteMedia, settings: Settings) -> Answer:
        """Fetch media from their address, without the account's credentials."""
        parts = urlsplit(media.url)
        started = time.monotonic() - media.meta.elapsed
        try:
            if parts.scheme != "https" and not is_loopback(parts.hostname):
                raise DecodeError("expected media at an https address", meta=media.meta)
            return await self.account.session.call(
                build_download_request(media.url),
                attrs.evolve(settings, base_url=f"{parts.scheme}://{parts.netloc}"),
                read_response=lambda response: read_media(media, response),
                deadline=Deadline(started=started, total=settings.timeouts.total),
            )
        except CfaiError as exc:
            exc.add_note(f"the model answered; its media are at {media.url}")
            # The service wrote the address and the metadata: they can repeat a credential.
            redact_error(exc, settings.secrets)
            raise

    async def _run_observed(
        self,
        model: str,
        task: RunInput,
        options: Options | None,
        throttle: Throttle | None,
        deadline: Deadline | None = None,
    ) -> Any:
        observation = self.observe()
        settings = self.account.settings.for_call(options)
        observation.start(settings, model, task, stream=False)
        try:
            with observation.running():
                options = observation.call_options(options, settings)
                answer = await self._run(model, task, options, throttle, observation, deadline)
        except BaseException as exc:
            observation.fail(exc)
            raise
        if isinstance(answer, Answer):
            observation.end("done", answer=answer)
        else:
            observation.stream_began()
        return answer

    def stream(
        self, model: ModelNames, task: RunInput | TextInput, options: Options | None
    ) -> TokenStream:
        """Return a stream of the answer. It sends the request when it is opened."""
        from cfai.streaming.stream import TokenStream

        models = read_models(model)
        task = read_task(models, task)
        _check_streams(task)
        spec = answer_spec(task)
        observation = self.observe() if self.observers else None

        async def open_events(*, raw: bool = False) -> EventReader | Text:
            async def open_model(
                model: str, deadline: Deadline | None = None
            ) -> EventReader | Text:
                return await self.open_observed(
                    observation,
                    model,
                    task,
                    options,
                    lambda options: self._open_events(
                        model, task, spec, options, deadline, raw=raw
                    ),
                )

            if len(models) == 1:
                return await open_model(models[0])
            settings = await self._check_models(models, task, options, stream=True)
            return await ask_in_turn(models, settings, open_model)

        return TokenStream(
            open_events,
            json_mode=spec.json,
            tools=spec.tools,
            observation=observation,
            spending=self.account.spending,
        )

    def audio(self, model: str, task: Any, options: Options | None) -> AudioStream:
        """Return a stream of a sound. It sends the request when it is opened."""
        from cfai.streaming.audio import AudioStream

        speaks = isinstance(task, Task) and issubclass(task.answer, tasks.Audio)
        if not speaks and not isinstance(task, Mapping):
            kinds = "a SpeechSynthesis, a TextToSpeech or a mapping of fields"
            raise InputError(f"task must be {kinds}, got {type(task).__name__}")
        observation = self.observe() if self.observers else None

        async def open_source() -> OpenedAudio:
            return await self.open_observed(
                observation,
                model,
                task,
                options,
                lambda options: self._open_audio(model, task, options),
            )

        return AudioStream(open_source, observation=observation, spending=self.account.spending)

    async def _open_audio(self, model: str, task: RunInput, options: Options | None) -> OpenedAudio:
        """The first bytes of a sound with the body of the rest, or the whole sound."""
        from cfai.streaming.audio import open_audio

        settings = self.account.settings.for_call(options)
        request = await _build_request(settings, model, task, options, stream=False)
        request.streams_media = True
        spec = AnswerSpec(tasks.Audio)
        read = read_universal_answer if request.route == "universal" else read_answer

        def read_response(response: Response) -> OpenedAudio | RemoteMedia:
            answer = read(spec, response)
            return answer if isinstance(answer, RemoteMedia) else (cast("Audio", answer), None)

        opened = await self.account.session.call(
            request,
            settings,
            read_response=read_response,
            open_stream=open_audio,
            throttle=self.account.session.connections.throttle_for_call(model),
        )
        if isinstance(opened, RemoteMedia):
            return cast("Audio", await self._download(opened, settings)), None
        return opened

    async def open_observed(
        self,
        observation: CallObservation | None,
        model: str,
        task: RunInput,
        options: Options | None,
        open_source: Callable[[Options | None], Awaitable[T]],
        *,
        origin: str | None = None,
    ) -> T:
        """Call *open_source* with the options to open a stream with, and report how it goes.

        *origin* is where the request goes to, if that is not `base_url`.
        """
        if observation is None:
            return await open_source(options)
        settings = self.account.settings.for_call(options)
        address = settings if origin is None else attrs.evolve(settings, base_url=origin)
        observation.start(address, model, task, stream=True)
        try:
            with observation.running():
                source = await open_source(observation.call_options(options, settings))
        except BaseException as exc:
            observation.fail(exc)
            raise
        observation.stream_began()
        return source

    async def _open_events(
        self,
        model: str,
        task: RunInput,
        spec: AnswerSpec,
        options: Options | None,
        deadline: Deadline | None,
        *,
        raw: bool,
    ) -> EventReader | Text:
        """The events of a stream, or the whole text if the model does not stream.

        The first event may be an error, and there may be none, only if the events are *raw*.
        """
        from cfai.streaming.events import EventReader

        settings = self.account.settings.for_call(options)
        deadline = deadline or Deadline(total=settings.timeouts.total)

        async def send(request: Request) -> EventReader | Text:
            request.streams_events = True
            return await self.account.session.call(
                request,
                settings,
                read_response=lambda response: read_whole_text(spec, response),
                open_stream=EventReader.open_raw if raw else EventReader.open,
                throttle=self.account.session.connections.throttle_for_call(model),
                deadline=deadline,
            )

        async def build_chat() -> Request | None:
            """The same on the other route; `None` if the task or the options don't fit it."""
            if profile(model).route != "run" or (options is not None and options.route is not None):
                return None
            as_chat = attrs.evolve(options or Options(), route="chat")
            try:
                return await _build_request(settings, model, task, as_chat, stream=True)
            except InputError:
                return None

        chat_models = self.account.session.chat_models
        if model in chat_models and (request := await build_chat()) is not None:
            return await send(request)
        try:
            return await send(await _build_request(settings, model, task, options, stream=True))
        except StreamUnsupported as exc:
            # Models that send an empty stream here do stream as chats.
            request = await build_chat()
            if request is None:
                raise
            if settings.retries.on_retry is not None:
                settings.retries.on_retry(Retry(deadline.attempts, exc, 0.0))
            source = await send(request)
        chat_models.add(model)
        return source

    def observe(self) -> CallObservation:
        """A new observation, which starts with the call."""
        from cfai._session.observation import CallObservation

        return CallObservation(self.observers)


async def _build_request(
    settings: Settings, model: str, task: RunInput, options: Options | None, *, stream: bool
) -> Request:
    """Build a request, in a thread if media have to be read and encoded."""
    if not has_media(task):
        return build_run_request(settings, model, task, stream=stream, options=options)
    return await asyncio.to_thread(
        build_run_request, settings, model, task, stream=stream, options=options
    )


@frozen(eq=False, repr=False)
class EmbeddingRuns(Value):
    """The requests of one embedding job: directly, or through the service's queue.

    Each is one attempt: the job decides over the next.
    """

    runs: Runs
    model: str
    options: Options | None
    pooling: Pooling | None
    truncate: bool | None
    retries: Retries = field(init=False)
    """When failed attempts are repeated."""
    _attempt: Options = field(init=False)
    """The options of one attempt."""

    @retries.default
    def _find_retries(self) -> Retries:
        # A job waits for a busy model by itself.
        retries = self.runs.account.settings.for_call(self.options).retries
        return attrs.evolve(retries, max_busy=0)

    @_attempt.default
    def _disable_retries(self) -> Options:
        return attrs.evolve(self.options or Options(), retries=_NO_RETRIES)

    def _task(self, texts: Sequence[str]) -> TextEmbeddings:
        from cfai.tasks import TextEmbeddings

        return TextEmbeddings(texts, pooling=self.pooling, truncate_inputs=self.truncate)

    def open_call(self) -> AbstractContextManager[object]:
        """A context that ends with a `ConfigError` as soon as the client is closed."""
        return self.runs.account.session.connections.open_call()

    async def embed(self, texts: Sequence[str], throttle: Throttle) -> Embeddings:
        """Embed the texts of one request."""
        task = self._task(texts)
        answer: Embeddings = await self.runs.run(
            self.model, task, self._attempt, stream=False, throttle=throttle
        )
        return answer

    def build_request(self, texts: Sequence[str], reference: str) -> QueuedTask:
        """The texts of one request as a task for the queue."""
        from cfai.resources import queue

        (task,) = queue.build_queued_tasks(self.model, {reference: self._task(texts)})
        return task

    async def submit(
        self, requests: Sequence[QueuedTask], throttle: Throttle
    ) -> BatchStatus[Embeddings]:
        """Submit a batch. It may be repeated, as a run may: at worst, vectors are made twice."""
        fields = {"requests": [task.fields for task in requests]}
        return await self._send(fields, requests, throttle)

    async def poll(
        self, requests: Sequence[QueuedTask], request_id: str, throttle: Throttle | None
    ) -> BatchStatus[Embeddings]:
        """Poll a batch."""
        return await self._send({"request_id": request_id}, requests, throttle)

    async def _send(
        self, fields: Mapping[str, Any], requests: Sequence[QueuedTask], throttle: Throttle | None
    ) -> BatchStatus[Embeddings]:
        from cfai.resources import queue

        account, model, attempt = self.runs.account, self.model, self._attempt
        return await queue.send_batch(
            account, model, fields, requests, attempt, repeatable=True, throttle=throttle
        )
