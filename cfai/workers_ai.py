"""`WorkersAI`: the client of Cloudflare Workers AI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

from attrs import evolve

from cfai import tasks
from cfai._calls import Calls
from cfai._gate import Concurrency, Gate
from cfai._services.services import Services
from cfai._session import Connections, Session
from cfai._tokens import TokenStream
from cfai._wire import requests
from cfai._wire.failures import scrubber
from cfai._wire.results import asked
from cfai.credentials import credentials
from cfai.errors import InputError
from cfai.settings import (
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUTS,
    UNSET,
    Gateway,
    Options,
    Retries,
    Settings,
    Timeouts,
    Unset,
    as_gateway,
)
from cfai.tasks import Answer, Embeddings, Task

if TYPE_CHECKING:
    import aiohttp

    from cfai.embedding import EmbeddingJob, JobOptions, Texts

A = TypeVar("A", bound=Answer)


class WorkersAI(Services):
    """A client of Workers AI for one account.

    Make one for the whole program and share it: over tasks, event loops and threads. Making it
    costs nothing and connects to nothing; connections are made when first needed, and kept.

    ```python
    async with WorkersAI() as ai:
        answer = await ai.run("@cf/meta/llama-3.1-8b-instruct", Prompt("Why is the sky blue?"))
    ```
    """

    def __init__(  # noqa: PLR0913  # everything that a client can be told
        self,
        *,
        account_id: str | None = None,
        api_token: str | None = None,
        api_email: str | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        gateway: Gateway | str | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        retries: Retries = DEFAULT_RETRIES,
        limit: int = 100,
        concurrency: Concurrency = None,
        headers: Mapping[str, str] | None = None,
        proxy: str | None = None,
        session: aiohttp.ClientSession | None = None,
        max_answer_bytes: int = 256 * 2**20,
        max_event_bytes: int = 16 * 2**20,
        allow_insecure: bool = False,
    ) -> None:
        """Make a client. What is left out is read from the environment, here and only here.

        Args:
            account_id: 32 hexadecimal digits; else `CLOUDFLARE_ACCOUNT_ID`.
            api_token: Wins over email and key; else `CLOUDFLARE_API_TOKEN`.
            api_email: Of the previous scheme, with *api_key*; else `CLOUDFLARE_EMAIL`.
            api_key: The global API key; else `CLOUDFLARE_API_KEY`.
            base_url: Where the API is; else `CLOUDFLARE_BASE_URL`, else Cloudflare's own.
            gateway: The AI Gateway to go through, or its id; else `CLOUDFLARE_GATEWAY_ID`.
            timeouts: Time limits of every call.
            retries: When failed attempts are repeated.
            limit: How many requests may be under way at once, on each event loop.
            concurrency: How many attempts of one model may be under way at once, on each event
                loop: a number, or an `Adaptive` limit that falls when the service refuses (429).
                A stream counts until its first event.
            headers: Sent with every request.
            proxy: The address of a proxy; else what the environment names (`HTTPS_PROXY`, …).
            session: An aiohttp session to use instead of our own. It is never closed by us.
            max_answer_bytes: The largest answer that is read, decompressed; streams excepted.
            max_event_bytes: The largest event of a stream that is read.
            allow_insecure: Send credentials over plain http to other machines, too.

        Raises:
            ConfigError: The account or the credentials are missing or can't work.
        """
        if type(limit) is not int or limit < 1:
            raise InputError(f"limit must be a whole number, 1 or more, got {limit!r}")
        self._settings = Settings.resolve(
            account_id=account_id,
            credentials=credentials(api_token, api_email, api_key),
            base_url=base_url,
            gateway=gateway,
            allow_insecure=allow_insecure,
            timeouts=timeouts,
            retries=retries,
            headers=headers,
            proxy=proxy,
            trusts_environment=session is None,
            max_answer_bytes=max_answer_bytes,
            max_event_bytes=max_event_bytes,
        )
        connections = Connections(limit=limit, session=session, concurrency=concurrency)
        self._adopt(connections, owns=True)

    def _adopt(self, connections: Connections, *, owns: bool) -> None:
        settings = self._settings
        self._session, self._scrub = Session(connections), scrubber(settings.secrets)
        self._calls = Calls(self._session, settings, self._scrub)
        self._owns = owns

    def __repr__(self) -> str:
        return f"<WorkersAI {self._settings.base_url}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, if they are this client's own. Safe to repeat."""
        if self._owns:
            await self._calls.session.connections.aclose()

    close = aclose

    def with_options(
        self,
        *,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
        headers: Mapping[str, str] | None = None,
        gateway: Gateway | str | Unset | None = UNSET,
        account_id: str | None = None,
        api_token: str | None = None,
    ) -> Self:
        """A copy that differs in what is given. It shares the connections, and does not close them.

        Args:
            timeouts: In place of the client's own.
            retries: In place of the client's own.
            headers: Added to the client's own.
            gateway: Another AI Gateway; `None` goes through none.
            account_id: Another account.
            api_token: Another token.
        """
        changes: dict[str, Any] = {"timeouts": timeouts, "retries": retries}
        changes["account_id"] = account_id
        changes["credentials"] = None if api_token is None else credentials(api_token)
        if headers is not None:
            added = Options(headers=headers).headers or {}
            changes["headers"] = {**self._settings.headers, **added}
        changes = {name: value for name, value in changes.items() if value is not None}
        if gateway is not UNSET:
            changes["gateway"] = as_gateway(gateway)
        changed = copy(self)
        changed._settings = evolve(self._settings, **changes)
        changed._adopt(self._calls.session.connections, owns=False)
        return changed

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
        return await self._calls.answer(model, task, options, self._calls.gates.for_call(model))

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
        question = asked(task)
        return TokenStream(
            partial(self._calls.begin, model, task, question, options), json_asked=question.json
        )

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

    def embed_many(
        self,
        model: str,
        texts: Texts,
        *,
        options: Options | None = None,
        **job: Unpack[JobOptions],
    ) -> EmbeddingJob:
        """Embed any number of texts, many requests at a time, as fast as the service allows.

        Args:
            model: Its name, `@cf/baai/bge-m3` for one.
            texts: Texts, or pairs of an id and a text, from any iterable or async iterable; they
                are read as they are needed, and memory doesn't grow with their number.
            options: What differs for its requests.
            job: How it shall go; see `cfai.embedding.JobOptions`.

        Returns:
            A job, which begins when it is iterated: each text ends as one vector or one failure.

        Raises:
            InputError: An option is out of its bounds. What the job raises, it says itself.
        """
        from cfai.embedding import EmbeddingJob, Plan

        plan = Plan(model, **job)

        async def send(batch: Sequence[str], gate: Gate) -> Embeddings:
            task = tasks.TextEmbeddings(batch, pooling=plan.pooling, truncate_inputs=plan.truncate)
            answer: Embeddings = await self._calls.answer(model, task, options, gate)
            return answer

        return EmbeddingJob(send, self._calls.gates, texts, plan, endpoint=self._settings.base_url)


def _check(task: object) -> None:
    if not isinstance(task, Task | Mapping):
        raise InputError(f"task must be a task or a mapping, got {type(task).__name__}")
