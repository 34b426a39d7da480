"""`WorkersAI`: the client of Cloudflare Workers AI."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Never, Self, TypeVar, Unpack, overload

from attrs import evolve

from cfai import tasks
from cfai._session.client import Account, Client, redact_parse_errors
from cfai._session.connections import Connections
from cfai._session.credentials import resolve_credentials, resolve_settings
from cfai._session.logs import configure_logging
from cfai._session.session import Session, Spending, Spent
from cfai._validators import check_account_id, hide_arguments
from cfai.resources.fallback import ModelNames, read_models
from cfai.resources.keywords import check_keywords
from cfai.resources.runs import (
    ChatInput,
    EmbeddingRuns,
    RunInput,
    Runs,
    TextInput,
    check_generates_text,
    read_task,
)
from cfai.settings import DEFAULT_RETRIES, DEFAULT_TIMEOUTS, UNSET, Options
from cfai.tasks import Answer, Task

if TYPE_CHECKING:
    from datetime import date
    from ssl import SSLContext

    import aiohttp

    from cfai._session.limits import Concurrency
    from cfai._wire.multipart import FileSource
    from cfai.embedding import BatchOptions, EmbeddedBatch, EmbeddingJob, EmbedFailure, JobOptions
    from cfai.embedding.source import Texts
    from cfai.objects import ObjectStream
    from cfai.observers import Observer
    from cfai.resources.finetunes import Finetunes
    from cfai.resources.markdown import Markdown, MarkdownFormat, ToConvert
    from cfai.resources.models import Models
    from cfai.resources.queue import QueuedBatch
    from cfai.settings import Gateway, Polling, Retries, Timeouts, Unset
    from cfai.streaming.audio import AudioStream
    from cfai.streaming.listening import AudioSource, Listener
    from cfai.streaming.speaking import Speaker
    from cfai.streaming.stream import TokenStream
    from cfai.tasks import Audio, Embeddings, Pooling, Text, TextGeneration
    from cfai.tasks.attachments import Attachment
    from cfai.tasks.classes import Decided, Extracted
    from cfai.tasks.listening import ListenParameters
    from cfai.tasks.speaking import SpeakParameters
    from cfai.tools import AnyTool, ToolRun

__all__ = ["WorkersAI"]

A = TypeVar("A", bound=Answer)
T = TypeVar("T")


class WorkersAI(Client):
    """A client of Workers AI for one account.

    Create one for the whole program and share it between tasks, event loops and threads. Creating
    it does no I/O; connections are opened when they are first needed, and kept.

    ```python
    async with WorkersAI() as ai:
        answer = await ai.run("@cf/meta/llama-3.1-8b-instruct-fast", "Why is the sky blue?")
    ```
    """

    @hide_arguments
    def __init__(  # noqa: PLR0913  # every option of a client
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
        budget: float | None = None,
        headers: Mapping[str, str] | None = None,
        proxy: str | None = None,
        ssl: SSLContext | None = None,
        session: aiohttp.ClientSession | None = None,
        max_answer_bytes: int = 256 * 2**20,
        max_event_bytes: int = 16 * 2**20,
        allow_insecure: bool = False,
        observers: Iterable[Observer] = (),
        **unknown: Never,
    ) -> None:
        """Create a client. Environment variables are read here and nowhere else.

        Args:
            account_id: 32 hexadecimal digits. Defaults to `CLOUDFLARE_ACCOUNT_ID`.
            api_token: Takes precedence over email and key. Defaults to `CLOUDFLARE_API_TOKEN`.
            api_email: For use with *api_key*. Defaults to `CLOUDFLARE_EMAIL`.
            api_key: The global API key. Defaults to `CLOUDFLARE_API_KEY`.
            base_url: The address of the API. Defaults to `CLOUDFLARE_BASE_URL`, else Cloudflare's.
            gateway: The AI Gateway to use, or its id. Defaults to `CLOUDFLARE_GATEWAY_ID`.
            timeouts: Time limits of every call.
            retries: When failed attempts are repeated.
            limit: The most concurrent requests, per event loop.
            concurrency: The most concurrent attempts per model, per event loop: a number, or an
                `Adaptive` limit that falls after a 429. Attempts of embedding jobs count too. A
                stream counts until its first event.
            budget: Once `spent` has as many neurons, calls raise `BudgetExceeded` and are not sent;
                requests that are already on their way are completed.
            headers: Sent with every request.
            proxy: The address of a proxy. Defaults to the environment's (`HTTPS_PROXY`, …).
            ssl: Trusted certificates, as of `ssl.create_default_context(cafile=…)`.
            session: An aiohttp session to use instead; the client does not close it.
            max_answer_bytes: The size limit of a response, decompressed. Streams have none.
            max_event_bytes: The size limit of one event of a stream.
            allow_insecure: Send credentials over plain http to other machines, too.
            observers: Called with each run, as `cfai.telemetry.spans()` is; see `cfai.observers`.

        Raises:
            ConfigError: The account or the credentials are missing or invalid.
        """
        check_keywords("WorkersAI", unknown)
        configure_logging()
        self._settings = resolve_settings(
            account_id=account_id,
            credentials=resolve_credentials(api_token, api_email, api_key),
            base_url=base_url,
            gateway=gateway,
            allow_insecure=allow_insecure,
            timeouts=timeouts,
            retries=retries,
            headers=headers,
            proxy=proxy,
            use_environment_proxy=session is None,
            max_answer_bytes=max_answer_bytes,
            max_event_bytes=max_event_bytes,
        )
        connections = Connections(limit=limit, session=session, ssl=ssl, concurrency=concurrency)
        self._session = Session(connections, Spending(budget))
        self._owns_connections = True
        self._account = Account(self._session, self._settings)
        self._runs = Runs(self._account, observers)

    @hide_arguments
    def with_options(
        self,
        *,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
        headers: Mapping[str, str] | None = None,
        gateway: Gateway | str | Unset | None = UNSET,
        account_id: str | None = None,
        api_token: str | None = None,
        observers: Iterable[Observer] | None = None,
        **unknown: Never,
    ) -> Self:
        """Return a copy with other options. It shares the connections and does not close them.

        Args:
            timeouts, retries, observers: Replace the client's.
            headers: Added to the client's.
            gateway, account_id, api_token: Others; `gateway=None` uses no gateway.
        """
        check_keywords("with_options", unknown)
        options = Options(timeouts=timeouts, retries=retries, headers=headers)
        changes: dict[str, Any] = {} if gateway is UNSET else {"gateway": gateway}
        if account_id is not None:
            changes["account_id"] = check_account_id(account_id)
        if api_token is not None:
            changes["credentials"] = resolve_credentials(api_token)
        settings = evolve(self._settings.for_call(options), **changes)
        changed = self._copy(evolve(self._account, settings=settings), owns_connections=False)
        if observers is not None:
            changed._runs = Runs(changed._account, observers)
        return changed

    def _copy(self, account: Account, *, owns_connections: bool) -> Self:
        copied = super()._copy(account, owns_connections=owns_connections)
        copied._runs = Runs(account, self._runs.observers)
        return copied

    # Runs

    @overload
    async def run(
        self,
        model: ModelNames,
        task: Task[A],
        *,
        stream: Literal[False] | None = None,
        options: Options | None = None,
    ) -> A: ...
    @overload
    async def run(
        self,
        model: ModelNames,
        task: TextInput,
        *,
        stream: Literal[False] | None = None,
        options: Options | None = None,
    ) -> Text: ...
    @overload
    async def run(
        self,
        model: ModelNames,
        task: Task[Any] | TextInput,
        *,
        stream: Literal[True],
        options: Options | None = None,
    ) -> TokenStream: ...
    @overload
    async def run(
        self,
        model: ModelNames,
        task: Mapping[str, Any],
        *,
        stream: bool | None = None,
        options: Options | None = None,
    ) -> Any: ...
    async def run(
        self,
        model: ModelNames,
        task: RunInput | TextInput,
        *,
        stream: bool | None = None,
        options: Options | None = None,
        **unknown: Never,
    ) -> Any:
        """Run *model* on *task*.

        Args:
            model: The model's name, such as `@cf/meta/llama-3.1-8b-instruct-fast`; or a list: if
                one is retired, busy or failing, the next is asked, and `meta.model` names it.
            task: The input. A string is short for a `Prompt`, a list of messages for a
                `TextGeneration`. A mapping is sent as it is, for any model and any input.
            stream: Return an open `TokenStream`. If omitted, the task's own `stream` decides, which
                type checkers can't see: prefer `stream()`.
            options: Options for this call only.

        Returns:
            The answer of the task. For a mapping, the Content-Type of the response decides: a
            `Result` of decoded JSON, an `Image`, `Audio` or `Binary`, or a `TokenStream`.

        Raises:
            InputError: The model's name, the input or the media are invalid. Nothing was sent.
            StatusError: An error response; its subclass says why.
            TransportError: There was no complete response.
            DecodeError: The response has an undocumented form.

        Source: Workers AI API, `POST /accounts/{account_id}/ai/run/{model_name}`.
        """
        if unknown:
            check_keywords("run", unknown)
        return await self._runs.run(model, task, options, stream=stream)

    def stream(
        self,
        model: ModelNames,
        task: RunInput | TextInput,
        *,
        options: Options | None = None,
        **unknown: Never,
    ) -> TokenStream:
        """Run *model* on *task* and return its answer token by token.

        Nothing is sent until the stream is entered or iterated.

        ```python
        async with ai.stream(model, "Tell me a story.") as tokens:
            async for token in tokens:
                print(token, end="", flush=True)
        print(tokens.answer.usage)
        ```

        Args:
            model: The model's name, or a list of names as for `run`. After the first event of a
                stream, no other model is asked.
            task: A string or a `Prompt`, a list of messages or a `TextGeneration`, or any input of
                a model that streams.
            options: Options for this call only.
        """
        check_keywords("stream", unknown)
        return self._runs.stream(model, task, options)

    def audio(
        self,
        model: str,
        task: Task[Audio] | Mapping[str, Any],
        *,
        options: Options | None = None,
        **unknown: Never,
    ) -> AudioStream:
        """Run a text-to-speech *model* and return its sound as it arrives.

        Nothing is sent until the stream is entered, iterated or saved.

        Args:
            model: The model's name, such as `@cf/deepgram/aura-1`.
            task: A `SpeechSynthesis`, a `TextToSpeech`, or a mapping for any model that speaks.
            options: Options for this call only.
        """
        check_keywords("audio", unknown)
        return self._runs.audio(model, task, options)

    def listen(
        self,
        model: str,
        *,
        audio: AudioSource | None = None,
        extra: Mapping[str, Any] | None = None,
        options: Options | None = None,
        **parameters: Unpack[ListenParameters],
    ) -> Listener:
        """Transcribe audio while it is spoken: opens a WebSocket once it is entered or iterated.

        Args:
            model: The model's name: `@cf/deepgram/nova-3` or `@cf/deepgram/flux`.
            audio: Bytes, an iterable or async iterable of bytes, or a binary file: the session
                sends it, and then ends. Without it, call `send` and `finish`.
            extra: Further parameters, sent unchecked.
            options: Options for this session only.
            parameters: Those of the model, such as `encoding` and `sample_rate`.

        Raises:
            InputError: A parameter is invalid. The session raises its own errors.
        """
        from cfai.resources import speech

        return speech.listen(self._runs, model, parameters, extra, audio, options)

    def speak(
        self,
        model: str,
        *,
        extra: Mapping[str, Any] | None = None,
        options: Options | None = None,
        **parameters: Unpack[SpeakParameters],
    ) -> Speaker:
        """Speak text while it is written: opens a WebSocket once it is entered or given text.

        Args:
            model: The model's name, such as `@cf/deepgram/aura-1`.
            extra, options: As for `listen`.
            parameters: Those of the model, such as `speaker`.

        Raises:
            InputError: A parameter is invalid. The session raises its own errors.
        """
        from cfai.resources import speech

        return speech.speak(self._runs, model, parameters, extra, options)

    def run_tools(
        self,
        model: ModelNames,
        messages: TextGeneration | TextInput,
        *,
        tools: Iterable[AnyTool],
        max_steps: int = 10,
        stream: bool = False,
        on_error: Literal["tell", "raise"] = "tell",
        options: Options | None = None,
        **unknown: Never,
    ) -> ToolRun:
        """Let *model* call Python functions until it gives its answer.

        ```python
        def get_weather(city: str) -> str:
            return f"{city}: dry, 22 degrees"

        outcome = await ai.run_tools(model, "How is the weather in Lima?", tools=[get_weather])
        ```

        The calls of one turn run concurrently: async functions as tasks, others in threads. If the
        model passes wrong arguments or an unknown name, it is told so and can correct itself.

        Args:
            model: The model's name, or a list of names as for `run`. The model that answered a turn
                is asked first in the next.
            messages: The conversation so far, or a string for a single message of the user; or a
                `TextGeneration`, to set its other fields. Its `tool_choice` holds for the first
                turn, so that a forced call is not forced again.
            tools: Functions with typed parameters and a docstring, or `PythonTool` for another
                name. Calls of a tool that is only a definition (`Tool`, `Function`, a mapping) are
                returned in `ToolOutcome.open_calls`.
            max_steps: The most turns of the model.
            stream: Stream each turn, with a `Token` event for each piece of it.
            on_error: If a tool raises, "tell" sends its class and message to the model, and "raise"
                raises it here.
            options: Options for these requests only.

        Returns:
            A run: `await` it for its `ToolOutcome`, or iterate it for its events.

        Raises:
            InputError: A tool can't be described to a model, or *model* is known not to generate
                text. The run raises its own errors.
        """
        from cfai.tools import Toolbox, ToolRun

        check_keywords("run_tools", unknown)
        task = messages
        if not isinstance(task, tasks.TextGeneration):
            check_generates_text(model)
            task = tasks.TextGeneration([tasks.user(task)] if isinstance(task, str) else task)
        toolbox = Toolbox(tools, secrets=self._settings.for_call(options).secrets)
        return ToolRun(
            self,
            model if isinstance(model, str) else read_models(model),
            task,
            toolbox,
            max_steps=max_steps,
            stream=stream,
            on_error=on_error,
            options=options,
            open_call=self._session.connections.open_call,
        )

    @overload
    async def parse(
        self,
        model: ModelNames,
        task: ChatInput,
        *,
        into: type[T],
        repair: Literal[0, 1] = 0,
        options: Options | None = None,
    ) -> T: ...
    @overload
    async def parse(
        self,
        model: ModelNames,
        task: ChatInput,
        *,
        into: Any,
        repair: Literal[0, 1] = 0,
        options: Options | None = None,
    ) -> Any: ...
    @redact_parse_errors
    async def parse(
        self,
        model: ModelNames,
        task: RunInput | TextInput,
        *,
        into: Any,
        repair: Literal[0, 1] = 0,
        options: Options | None = None,
        **unknown: Never,
    ) -> Any:
        """Run *model* on *task* and return its answer as a value of type *into*.

        Args:
            model: The name of a model that has JSON mode, or a list of names as for `run`.
            task: The input. A string is short for a `Prompt`, a list of messages for a
                `TextGeneration`.
            into: An attrs class, a dataclass, a TypedDict, a named tuple or a pydantic model; or
                strings, numbers, dates, choices, lists, dictionaries and unions of them.
            repair: 1 to send a wrong answer back to the model once, with what is wrong with it.
                That is a second run.
            options: Options for this call only.

        Raises:
            ParseError: The text is not such a value. The error holds the text and the answer.
            InputError: *into* has no JSON form. Nothing was sent.
            StatusError: An error response, perhaps because the model could not write such JSON.

        Source: Cloudflare docs, Workers AI, "JSON Mode".
        """
        from cfai import objects

        check_keywords("parse", unknown)
        task = read_task(model, task)
        return await objects.parse(self, model, task, into=into, repair=repair, options=options)

    @overload
    def parse_stream(
        self, model: ModelNames, task: ChatInput, *, into: type[T], options: Options | None = None
    ) -> ObjectStream[T]: ...
    @overload
    def parse_stream(
        self, model: ModelNames, task: ChatInput, *, into: Any, options: Options | None = None
    ) -> ObjectStream[Any]: ...
    def parse_stream(
        self,
        model: ModelNames,
        task: RunInput | TextInput,
        *,
        into: Any,
        options: Options | None = None,
        **unknown: Never,
    ) -> ObjectStream[Any]:
        """Run *model* on *task* and show its answer as it becomes a value of type *into*.

        Nothing is sent until the stream is entered or iterated.

        ```python
        async for city in ai.parse_stream(model, "Describe Lima.", into=City):
            print(city)  # a dict of what is there so far, and at last a City
        ```

        Args:
            model: The model's name, or a list of names as for `stream`. JSON mode does not stream:
                the schema is a part of the instructions instead, which any model can follow.
            task: As for `parse`.
            into: As for `parse`.
            options: Options for this call only.

        Raises:
            InputError: *into* has no JSON form. The stream raises its own errors.
        """
        from cfai import objects

        check_keywords("parse_stream", unknown)
        task = objects.build_stream_task(model, read_task(model, task), into)
        return objects.ObjectStream(self.stream(model, task, options=options), into)

    # Decisions and extraction

    @redact_parse_errors
    async def decide(
        self,
        model: ModelNames,
        state: str | Mapping[str, Any] | Sequence[Any],
        *,
        into: type[T],
        images: Sequence[Attachment] | None = None,
        audio: Sequence[Attachment] | None = None,
        videos: Sequence[Attachment] | None = None,
        options: Options | None = None,
        **unknown: Never,
    ) -> Decided[T]:
        """Decide the fields of a class from *state* (the Clef models).

        Each field is a question: `bool` and `float` with a `Noul` a yes/no question, which is
        true from a probability of 0.5; a `Literal` or an `Enum` a choice; an `IntEnum` a score
        from its lowest to its highest member. The first text in `Annotated`, the `description` in
        the metadata, or the docstring of the class is the instructions; without them, the name.

        ```python
        @dataclass
        class Ticket:
            refund: Annotated[bool, "Does the customer want money back?"]
            team: Literal["billing", "support"]
            anger: Annotated[float, Score("How angry is the customer?", ["calm", "furious"])]

        ticket = await ai.decide("@cf/cloudflare/clef", mail, into=Ticket)
        print(ticket.value.team, ticket.decisions.choice("team").probabilities)
        ```

        Args:
            model: The model's name, such as `@cf/cloudflare/clef`, or a list of names as for `run`.
            state: What to decide about: text, an object or a list.
            into: A class with 1 to 64 fields: attrs, a dataclass, pydantic, msgspec and others.
            images: Up to 4 images, as in `Decide`.
            audio, videos: Up to 4 sounds and 2 videos, as in `Decide` (clef-omni).
            options: Options for this call only.

        Raises:
            InputError: A field is no question, or the media are invalid. Nothing was sent.
            ParseError: An answer is missing or no value of its field; the error holds the
                `Decisions`.
            StatusError: An error response.

        Source: the model card of @cf/cloudflare/clef.
        """
        from cfai.tasks import Decide
        from cfai.tasks.classes import Decided, questions_of, read_decided

        check_keywords("decide", unknown)
        deciders = questions_of(into)
        questions = {name: decider.question for name, decider in deciders.items()}
        task = Decide(state, questions, images=images, audio=audio, videos=videos)
        decisions = await self.run(model, task, stream=False, options=options)
        return Decided(read_decided(into, deciders, decisions), decisions)

    @redact_parse_errors
    async def extract(
        self,
        model: ModelNames,
        text: str,
        *,
        into: type[T],
        images: Sequence[Attachment] | None = None,
        reference_date: date | str | None = None,
        options: Options | None = None,
        **unknown: Never,
    ) -> Extracted[T]:
        """Extract the fields of a class from *text* (the Clairic models).

        A field is `str`, `int`, `float`, `Decimal`, `date`, `time`, `datetime`, `timedelta`, or a
        list of texts, numbers or dates; with `| None`, it is `None` if the text does not determine
        it. The instructions are found as by `decide`. A field of `Extract` inside `Annotated`
        replaces the one that the type would give.

        ```python
        @dataclass
        class Invoice:
            number: str
            total: Annotated[float, NumberField("With shipping", unit="USD", decimals=2)]
            due: date | None

        invoice = await ai.extract("@cf/cloudflare/clairic", mail, into=Invoice)
        print(invoice.value.total, invoice.extraction["total"].span)
        ```

        The facts about Clairic are compiled and not official; see `Extract`.

        Args:
            model: A name such as `@cf/cloudflare/clairic`, or a list of names as for `run`.
            text: The text. It may be empty only if there are images.
            into: A class with 1 to 100 fields: attrs, a dataclass, pydantic, msgspec and others.
            images, reference_date: As in `Extract`.
            options: Options for this call only.

        Raises:
            InputError: A field can't be extracted, or the media are invalid. Nothing was sent.
            ParseError: An answer is missing, null or no value of its field; the error holds the
                `Extraction`.
            StatusError: An error response.
        """
        from cfai.tasks import Extract
        from cfai.tasks.classes import Extracted, extractors_of, read_extracted

        check_keywords("extract", unknown)
        extractors = extractors_of(into)
        fields = {name: extractor.request for name, extractor in extractors.items()}
        task = Extract(text, fields, images=images, reference_date=reference_date)
        extraction = await self.run(model, task, stream=False, options=options)
        return Extracted(read_extracted(into, extractors, extraction), extraction)

    # Embeddings

    async def embed(
        self,
        model: str,
        texts: str | Sequence[str],
        *,
        pooling: Pooling | None = None,
        truncate: bool | None = None,
        options: Options | None = None,
        **unknown: Never,
    ) -> Embeddings:
        """Embed *texts* in one request.

        Args:
            model: The model's name, such as `@cf/baai/bge-m3`.
            texts: One text or several, and no more than the model takes (100 for bge models).
            pooling: How token vectors are combined. Different poolings can't be compared.
            truncate: See `truncate_inputs` of `TextEmbeddings`.
            options: Options for this call only.

        Returns:
            One vector per text, in their order: shape (texts, dimension), 32-bit floats.

        Raises:
            InputError: There are too many texts, or an empty one. Nothing was sent.
            DecodeError: The number of vectors differs from the number of texts.

        Source: Workers AI API, "Text Embeddings".
        """
        from cfai.tasks import TextEmbeddings

        check_keywords("embed", unknown)
        task = TextEmbeddings(texts, pooling=pooling, truncate_inputs=truncate)
        return await self.run(model, task, options=options)

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
        self, model: str, texts: Texts, *, options: Options | None = None, **job: Unpack[JobOptions]
    ) -> EmbeddingJob[EmbeddedBatch | EmbedFailure]: ...
    def embed_many(
        self, model: str, texts: Texts, *, options: Options | None = None, **job: Any
    ) -> EmbeddingJob[Any]:
        """Embed any number of texts, many requests at a time, as fast as the service allows.

        Args:
            model: The model's name, such as `@cf/baai/bge-m3`.
            texts: An iterable or async iterable of texts, or of tuples (id, text), which is read as
                needed on the event loop; a column; with `column=`, a table or rows.
            options: Options for these requests only.
            on_error: For a text that fails: "raise", "skip", or "yield" an `EmbedFailure`.
            job: Options of the job; see `cfai.embedding.JobOptions`.

        Returns:
            A job, which starts when it is iterated. Each text becomes one vector or one failure.

        Raises:
            InputError: An option is out of its bounds. The job raises its own errors.
        """
        from cfai.embedding import EmbeddingJob, JobOptions, Plan

        if unknown := job.keys() - JobOptions.__annotations__.keys():
            check_keywords("embed_many", unknown)
        plan = Plan(model, **job)
        runs = EmbeddingRuns(self._runs, model, options, plan.pooling, plan.truncate)
        return EmbeddingJob(
            runs, self._session.connections.throttles, texts, plan, endpoint=self._settings.base_url
        )

    @property
    def spent(self) -> Spent:
        """What this client and its copies, which share a budget, have cost, as reported."""
        return self._account.spending.spent

    # Resources

    @property
    def finetunes(self) -> Finetunes:
        """Fine-tunes: list, create and upload them."""
        from cfai.resources.finetunes import Finetunes

        return Finetunes(self._account)

    @property
    def models(self) -> Models:
        """The model catalogue: search it, and look up a model's schema."""
        from cfai.resources.models import Models

        return Models(self._account)

    async def to_markdown(
        self,
        files: ToConvert | Iterable[ToConvert] | Mapping[str, FileSource],
        options: Mapping[str, Any] | None = None,
        *,
        call: Options | None = None,
        **unknown: Never,
    ) -> list[Markdown]:
        """Convert files to Markdown, all in one request.

        Args:
            files: One file or several: each a path, an open, seekable binary file, or
                `(name, source)`, whose source may also be bytes. Or a mapping of names to sources.
                The service recognizes a file's format by the ending of its name. A tuple of two
                strings is two paths.
            options: Conversion options, as the service documents them: `{"pdf": {"metadata":
                False}}` omits a PDF's metadata.
            call: Options for this call only.

        Returns:
            One result per file, in the service's order. A failed file has an `error`; the other
            files keep their results.

        Raises:
            InputError: There are no files, or one is empty or can't be read. Nothing was sent.
            StatusError: An error response, for all files.

        Source: Cloudflare docs, Workers AI, "Markdown conversion", `POST …/ai/tomarkdown`.
        """
        from cfai.resources import markdown

        check_keywords("to_markdown", unknown, options="call")
        return await markdown.convert(self._account, files, options, call)

    async def to_markdown_formats(self, *, options: Options | None = None) -> list[MarkdownFormat]:
        """List the file formats that `to_markdown` supports.

        Source: Cloudflare docs, Workers AI, "Markdown conversion", `GET …/ai/tomarkdown/supported`.
        """
        from cfai.resources import markdown

        return await markdown.list_formats(self._account, options)

    @overload
    async def queue(
        self,
        model: str,
        tasks: Iterable[Task[A]] | Mapping[str, Task[A]],
        *,
        polling: Polling | None = None,
        options: Options | None = None,
    ) -> QueuedBatch[A]: ...
    @overload
    async def queue(
        self,
        model: str,
        tasks: Iterable[RunInput] | Mapping[str, RunInput],
        *,
        polling: Polling | None = None,
        options: Options | None = None,
    ) -> QueuedBatch[Any]: ...
    async def queue(
        self,
        model: str,
        tasks: Iterable[RunInput] | Mapping[str, RunInput],
        *,
        polling: Polling | None = None,
        options: Options | None = None,
        **unknown: Never,
    ) -> QueuedBatch[Any]:
        """Submit many runs of a model to the service's queue, to be done when it has capacity.

        That takes minutes, and is not rate-limited for lack of capacity. To avoid submitting it
        twice, only a 429 and a failed connect are retried.

        Args:
            model: The model's name. Not every model has a queue (`async_queue` in its properties).
            tasks: The inputs, without media. The keys of a mapping become the references of the
                tasks; otherwise, a task's `external_reference` is its number, from 0.
            polling: When to poll. By default, first after one second.
            options: Options for this call and for the polls.

        Raises:
            InputError: There are no tasks, or one can't be queued. Nothing was sent.
            StatusError: An error response.

        Source: Cloudflare docs, Workers AI, "Batch API", `POST …/ai/run/{model}?queueRequest=true`.
        """
        from cfai.resources.queue import submit_batch

        check_keywords("queue", unknown)
        return await submit_batch(self._account, model, tasks, polling, options)

    def queued(
        self,
        model: str,
        request_id: str,
        tasks: Iterable[RunInput] | Mapping[str, RunInput] | None = None,
        *,
        polling: Polling | None = None,
        options: Options | None = None,
        **unknown: Never,
    ) -> QueuedBatch[Any]:
        """Return a batch that was submitted before. Nothing is sent until it is polled.

        Args:
            model: The model it was submitted to.
            request_id: `QueuedBatch.request_id`.
            tasks: The tasks, as given to `queue`. If omitted, each answer is a `Result`.
            polling: As for `queue`.
            options: Options for the polls.
        """
        from cfai.resources.queue import find_batch

        check_keywords("queued", unknown)
        return find_batch(self._account, model, request_id, tasks, polling, options)
