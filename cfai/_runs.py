"""`Runs`: the part of a client that runs models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from cfai import tasks
from cfai._calls import Calls, EmbeddingCalls
from cfai._session.client import Client
from cfai._wire import requests
from cfai.errors import InputError
from cfai.settings import Options
from cfai.tasks import Answer, Embeddings, Task

if TYPE_CHECKING:
    from cfai.embedding import (
        BatchOptions,
        EmbeddedBatch,
        EmbeddingJob,
        EmbedFailure,
        JobOptions,
        Texts,
    )
    from cfai.streaming.stream import TokenStream
    from cfai.tools import AnyTool, ToolRun

A = TypeVar("A", bound=Answer)
T = TypeVar("T")


class Runs(Client):
    """What an account can run. `cfai.WorkersAI` is one."""

    _calls: Calls

    @overload
    async def run(
        self, model: str, task: Task[A], *, stream: None = None, options: Options | None = None
    ) -> A: ...
    @overload
    async def run(
        self, model: str, task: Task[Any], *, stream: Literal[True], options: Options | None = None
    ) -> TokenStream: ...
    @overload
    async def run(
        self, model: str, task: Task[A], *, stream: Literal[False], options: Options | None = None
    ) -> A: ...
    @overload
    async def run(
        self,
        model: str,
        task: Mapping[str, Any],
        *,
        stream: bool | None = None,
        options: Options | None = None,
    ) -> Any: ...
    async def run(
        self,
        model: str,
        task: Task[Any] | Mapping[str, Any],
        *,
        stream: bool | None = None,
        options: Options | None = None,
    ) -> Any:
        """Run *model* on *task*.

        Args:
            model: Its name, `@cf/meta/llama-3.1-8b-instruct` for one.
            task: What is asked. A mapping is sent as it is, for any model and any form of input.
            stream: Give the answer as a `TokenStream`, already begun. Left out, the task's own
                `stream` decides. (Type checkers see only this one: prefer `stream()`.)
            options: What differs for this call.

        Returns:
            The answer of the task. For a mapping, what the Content-Type of the answer names: a
            `Result` of decoded JSON, an `Image`, `Audio` or `Binary`, or a `TokenStream`.

        Raises:
            InputError: The model's name or the media can't be sent. Nothing was.
            StatusError: The service said no; its class says why.
            TransportError: There was no answer.
            DecodeError: The answer has a form that nobody documented.

        Source: Workers AI API, `POST /accounts/{account_id}/ai/run/{model_name}`.
        """
        _check(task)
        if stream or (stream is None and requests.wants_stream(task)):
            return await self.stream(model, task, options=options).open()
        return await self._calls.answer(model, task, options, self._calls.throttles.for_call(model))

    def stream(
        self,
        model: str,
        task: Task[Any] | Mapping[str, Any],
        *,
        options: Options | None = None,
    ) -> TokenStream:
        """Run *model* on *task*, and give the answer token by token.

        Nothing is sent before the stream is entered or iterated.

        ```python
        async with ai.stream(model, TextGeneration([user("Hi")])) as tokens:
            async for token in tokens:
                print(token, end="", flush=True)
        print(tokens.answer.usage)
        ```

        Args:
            model: Its name.
            task: What is asked: a `Prompt`, a `TextGeneration`, or any input of such a model.
            options: What differs for this call.
        """
        _check(task)
        return self._calls.stream(model, task, options)

    def run_tools(
        self,
        model: str,
        messages: tasks.TextGeneration | Sequence[tasks.Message | Mapping[str, Any]],
        *,
        tools: Iterable[AnyTool],
        max_steps: int = 10,
        stream: bool = False,
        on_error: Literal["tell", "raise"] = "tell",
        options: Options | None = None,
    ) -> ToolRun:
        """Let *model* call Python functions until it has its answer.

        ```python
        def get_weather(city: str) -> str:
            return f"{city}: dry, 22 degrees"

        outcome = await ai.run_tools(model, Conversation().user("Lima?"), tools=[get_weather])
        ```

        The functions that one turn calls run at the same time: async ones as tasks, others in
        threads. Wrong arguments and unknown names are told to the model, which can correct itself.

        Args:
            model: Its name.
            messages: The conversation so far; or a `TextGeneration`, for its further fields.
            tools: Functions with typed parameters and a docstring, or `PythonTool` for another
                name. A definition (`Tool`, `Function`, a mapping) has its calls handed to you, in
                `ToolOutcome.open_calls`.
            max_steps: How many turns the model may have.
            stream: Stream each turn, with a `Token` as an event for each piece of it.
            on_error: What to do where a tool raises: tell the model its class and message, or raise
                it here.
            options: What differs for its requests.

        Returns:
            A run: `await` it for its `ToolOutcome`, or iterate it for each of its events.

        Raises:
            InputError: A tool can't be described to a model. What the run raises, it says itself.
        """
        from cfai.tools import Toolbox, ToolRun

        asked = messages
        if not isinstance(asked, tasks.TextGeneration):
            asked = tasks.TextGeneration(asked)
        toolbox = Toolbox(tools, secrets=self._settings.for_call(options).secrets)
        if stream:
            ask: Any = partial(self.stream, model, options=options)
        else:
            ask = partial(self.run, model, stream=False, options=options)
        return ToolRun(ask, asked, toolbox, max_steps=max_steps, on_error=on_error)

    @overload
    async def parse(
        self,
        model: str,
        task: tasks.Prompt | tasks.TextGeneration,
        *,
        into: type[T],
        repair: Literal[0, 1] = 0,
        options: Options | None = None,
    ) -> T: ...
    @overload
    async def parse(
        self,
        model: str,
        task: tasks.Prompt | tasks.TextGeneration,
        *,
        into: Any,
        repair: Literal[0, 1] = 0,
        options: Options | None = None,
    ) -> Any: ...
    async def parse(
        self,
        model: str,
        task: tasks.Prompt | tasks.TextGeneration,
        *,
        into: Any,
        repair: Literal[0, 1] = 0,
        options: Options | None = None,
    ) -> Any:
        """Run *model* on *task*, and give its answer as a value of *into*.

        Args:
            model: Its name; one that has JSON mode.
            task: What is asked.
            into: An attrs class, a dataclass, a TypedDict or a named tuple; or texts, numbers,
                dates, choices, lists, dictionaries and unions of them.
            repair: 1 to show the model a wrong answer and what is wrong with it, once: that is a
                second run.
            options: What differs for this call.

        Raises:
            ParseError: What it wrote is no such value. It keeps the text, and the whole answer.
            InputError: There is no JSON for *into*. Nothing was sent.
            StatusError: The service said no, maybe because the model could not write such JSON.

        Source: Cloudflare docs, Workers AI, "JSON Mode".
        """
        from cfai import objects

        ask = partial(self.run, model, stream=False, options=options)
        return await objects.parse(ask, task, into, repair=repair)

    async def embed(
        self,
        model: str,
        texts: str | Sequence[str],
        *,
        pooling: tasks.Pooling | None = None,
        options: Options | None = None,
    ) -> Embeddings:
        """Embed one request's worth of *texts*.

        Args:
            model: Its name, `@cf/baai/bge-m3` for one.
            texts: At least one, each non-empty, and no more than the model takes at once (100 for
                bge models).
            pooling: How token vectors become one. Vectors of different poolings can't be compared.
            options: What differs for this call.

        Returns:
            One vector a text, in their order: shape (texts, dimension), 32-bit floats.

        Raises:
            InputError: There are too many texts, or an empty one. Nothing was sent.
            DecodeError: The service answered another number of vectors.

        Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text Embeddings".
        """
        return await self.run(model, tasks.TextEmbeddings(texts, pooling=pooling), options=options)

    @overload
    def embed_many(
        self,
        model: str,
        texts: Texts,
        *,
        on_error: Literal["raise", "skip"] = "raise",
        options: Options | None = None,
        **job: Unpack[BatchOptions],
    ) -> EmbeddingJob[EmbeddedBatch]: ...
    @overload
    def embed_many(
        self,
        model: str,
        texts: Texts,
        *,
        options: Options | None = None,
        **job: Unpack[JobOptions],
    ) -> EmbeddingJob[EmbeddedBatch | EmbedFailure]: ...
    def embed_many(
        self,
        model: str,
        texts: Texts,
        *,
        options: Options | None = None,
        **job: Any,
    ) -> EmbeddingJob[Any]:
        """Embed any number of texts, many requests at a time, as fast as the service allows.

        Args:
            model: Its name, `@cf/baai/bge-m3` for one.
            texts: Texts, or tuples of an id and a text, from any iterable or async iterable; they
                are read as they are needed, and memory doesn't grow with their number. What has to
                wait for its texts should be async: an iterable is read on the event loop.
            options: What differs for its requests.
            on_error: What becomes of a text that can't be embedded: "raise" ends the job, "skip"
                leaves it out, "yield" gives an `EmbedFailure` in its place.
            job: How it shall go: batch_size, max_batch_chars, concurrency, rate, ordered, mode,
                polling, pooling, truncate, dedupe, checkpoint, retry_failed and progress; see
                `cfai.embedding.JobOptions`.

        Returns:
            A job, which begins when it is iterated: each text ends as one vector or one failure.

        Raises:
            InputError: An option is out of its bounds. What the job raises, it says itself.
        """
        from cfai.embedding import EmbeddingJob, JobOptions, Plan

        for name in job.keys() - JobOptions.__annotations__.keys():
            raise TypeError(f"embed_many() got an unexpected keyword argument {name!r}")
        plan = Plan(model, **job)
        self._settings.for_call(options)
        asked = EmbeddingCalls(self._calls, model, options, plan.pooling, plan.truncate)
        return EmbeddingJob(
            asked, self._calls.throttles, texts, plan, endpoint=self._settings.base_url
        )


def _check(task: object) -> None:
    if not isinstance(task, Task | Mapping):
        raise InputError(f"task must be a task or a mapping, got {type(task).__name__}")
