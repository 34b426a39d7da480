"""Every public call that sends a request, with documented bodies for its response."""

import copy
import json
import pickle
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from attrs import frozen

from cfai import (
    Decide,
    Extract,
    Noul,
    NumberField,
    Options,
    Polling,
    Prompt,
    SpeechSynthesis,
    TextEmbeddings,
    TextField,
    TextGeneration,
    TextToSpeech,
    Tool,
    WorkersAI,
    user,
)
from cfai.cohere import BaseModel, BaseType, Cohere, Settings
from cfai.errors import CfaiError
from cfai.tasks import Answer
from tests.cohere import data as cohere_data
from tests.fuzz.inputs import Samples
from tests.resources import test_finetunes, test_markdown, test_models, test_queue, test_runs
from tests.tools import test_runner
from tests.wire import test_answers, test_decisions, test_errors, test_extraction, test_text
from tests.wire.dialects import DIALECTS, DONE

CHAT: Final = "@cf/meta/llama-3.3-70b-instruct-fp8-fast"
M3: Final = "@cf/baai/bge-m3"
CHAT_ROUTE: Final = Options(route="chat")


@frozen
class Clients:
    """The clients of a session, and a folder for files."""

    ai: WorkersAI
    cohere: Cohere
    folder: Path


@frozen
class Call:
    """One public call."""

    name: str
    run: Callable[[Clients], Awaitable[object]]
    fitting: Samples
    """Documented bodies of its response."""


# Bodies

STREAMS: Final[Samples] = (
    *(dialect.stream for dialect in DIALECTS.values()),
    *(
        b"".join(b"data: " + event + b"\n\n" for event in stream) + DONE
        for stream in test_runner.STREAMS.values()
    ),
)
TEXTS: Final[Samples] = tuple(
    body.encode()
    for body in (
        *(body for body, _ in test_text.FORMS.values()),
        *test_runner.CALLS.values(),
        test_runs.COMPLETION,
        test_runs.CALLS,
    )
)
ERRORS: Final[Samples] = tuple(form[0].encode() for form in test_errors.FORMS.values())
JSON_TEXTS: Final[Samples] = tuple(
    b'{"response":%b}' % text
    for text in (
        rb'"{\"title\": \"Pie\", \"minutes\": 40, \"steps\": [\"Bake.\"]}"',
        b'{"title":"Pie","minutes":40,"steps":["Bake."]}',
        rb'"```json\n{\"title\": \"Pie\", \"minutes\": 4.0, \"steps\": []}\n```"',
        b'"[1, 2, 3]"',
        b"[1,2.5,null]",
    )
)
VECTORS: Final[Samples] = (
    b'{"shape":[2,3],"data":[[0.5,-1,0],[1,2,3.25]],"pooling":"cls"}',
    b'{"shape":[1,2],"data":[[0.5,1]]}',
    b'{"data":[[0.5,1],[1e-9,-2]],"usage":{"prompt_tokens":3,"total_tokens":3}}',
    b'{"response":[[0.5,1],[2,3]],"shape":[2,2],"pooling":"cls"}',
    b'{"shape":[2,1024],"data":[[%b],[%b]]}' % ((b",".join([b"0.123456"] * 1024),) * 2),
)
AUDIO: Final[Samples] = (
    b"ID3\x04" + bytes(range(256)) * 8,
    b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(2000),
    b'{"audio":"SUQzBAAAAAAAAA=="}',
)
QUEUED: Final[Samples] = (
    test_queue.QUEUED,
    test_queue.DONE,
    test_queue.QUEUED.replace(b"queued", b"running"),
    (
        b'{"responses":[{"id":0,"result":{"shape":[2,1],"data":[[1],[2]]},"success":true,'
        b'"external_reference":"1"},{"id":1,"success":false,"errors":[{"code":5006,"message":"no"}],'
        b'"external_reference":"2"}],"usage":{"prompt_tokens":12,"total_tokens":12}}'
    ),
    b'{"responses":[{"id":0,"result":{"response":"Hello"},"success":true,"external_reference":"0"}]}',
)
COHERE: Final[Samples] = (
    cohere_data.LISTED,
    cohere_data.ONE,
    b"{}",
    b'{"message":"no api key supplied"}',
    (
        b'{"events":[{"user_id":"u","status":"STATUS_QUEUED","created_at":"2024-01-15T09:30:00Z"},'
        b'{"status":"STATUS_NEW"},{}],"total_size":3}'
    ),
    (
        b'{"step_metrics":[{"created_at":"2024-01-15T09:30:00Z","metrics":{"loss":1}},'
        b'{"step_number":1,"metrics":{"loss":"NaN"}}],"next_page_token":"t"}'
    ),
)
MODELS: Final[Samples] = (
    test_models.page(test_models.LLAMA),
    test_models.page(
        test_models.LLAMA, rest=b',"result_info":{"count":1,"page":1,"per_page":1,"total_count":2}'
    ),
    test_models.page(b'{"id":"1","name":"Text Generation","description":"a"}', b'{"name":"b"}'),
    b'{"result":{"input":{"type":"object"},"output":{"oneOf":[]}},"success":true}',
)
FINETUNES: Final[Samples] = (
    test_finetunes.LISTED,
    test_finetunes.CREATED,
    test_finetunes.PUBLIC,
    test_finetunes.NESTED,
    test_finetunes.UPLOADED,
)
MARKDOWN: Final[Samples] = (
    test_markdown.ANSWER,
    b'{"success":true,"result":[{"extension":".html","mimeType":"text/html"}]}',
)
DECISIONS: Final[Samples] = (test_decisions.DOCUMENTED,)
EXTRACTIONS: Final[Samples] = (test_extraction.KNOWN,)
UNIVERSAL: Final[Samples] = (
    *TEXTS[:6],
    b'{"result":{"image":"http://127.0.0.1:1/a.png"},"success":true}',
    b'{"state":"Completed","result":{"image":"https://127.0.0.1:1/a.png"}}',
)
EVERYTHING: Final[Samples] = tuple(
    {
        *STREAMS, *TEXTS, *ERRORS, *JSON_TEXTS, *VECTORS, *AUDIO, *QUEUED, *COHERE, *MODELS,
        *FINETUNES, *MARKDOWN, *DECISIONS, *EXTRACTIONS, *UNIVERSAL,
        *(body.encode() for _, body, _ in test_answers.RESULTS.values()),
    }
)  # fmt: skip
EVERY_BODY: Final[Samples] = tuple(sorted(EVERYTHING))


# Runs

_RUNS: Final[dict[str, tuple[Any, list[bytes]]]] = {}
for _task, _body, _ in test_answers.RESULTS.values():
    _kind = "mapping" if isinstance(_task, dict) else type(_task).__name__
    _RUNS.setdefault(_kind, (_task, []))[1].append(_body.encode())
_RUNS["TextToSpeech"] = (TextToSpeech("a"), [*AUDIO])
_RUNS["SpeechSynthesis"] = (SpeechSynthesis("a"), [*AUDIO])
_RUNS["Decide"] = (Decide("a", {"spam": Noul("Is it spam?")}), [*DECISIONS])
_RUNS["Extract"] = (Extract("a", {"name": TextField()}), [*EXTRACTIONS])
_MODELS: Final = {"Decide": "@cf/cloudflare/clef", "Extract": "@cf/cloudflare/clairic"}
for _chat in ("Prompt", "TextGeneration", "mapping"):
    _RUNS[_chat] = (_RUNS[_chat][0], [*_RUNS[_chat][1], *TEXTS, *STREAMS])


def _run(task: Any, model: str = CHAT, **how: Any) -> Callable[[Clients], Awaitable[object]]:
    async def run(clients: Clients) -> object:
        answer: Any = await clients.ai.run(model, task, **how)
        if hasattr(answer, "__aiter__"):
            async with answer as tokens:
                return [repr(token) async for token in tokens]
        return answer

    return run


async def _run_on_two_routes(clients: Clients) -> object:
    return await clients.ai.run("openai/gpt-4.1", [user("Hi")])


async def _run_an_image_of_a_provider(clients: Clients) -> object:
    return await clients.ai.run("openai/gpt-image-1", {"prompt": "a"})


# Streams

_TOOLS: Final = TextGeneration(
    [user("Hi")], tools=[Tool("add", "Adds.", {"a": {"type": "string"}})]
)


async def _stream(clients: Clients) -> object:
    async with clients.ai.stream(CHAT, "Hi") as tokens:
        shown = [(str(token), repr(token)) async for token in tokens]
    return shown, tokens.answer, tokens.meta


async def _collect(clients: Clients) -> object:
    return await clients.ai.stream(CHAT, _TOOLS).collect()


async def _stream_text(clients: Clients) -> object:
    return [text async for text in clients.ai.stream(CHAT, [user("Hi")]).text()]


async def _stream_chat(clients: Clients) -> object:
    return await clients.ai.stream("dynamic/a", _TOOLS, options=CHAT_ROUTE).collect()


async def _events(clients: Clients) -> object:
    return [(e.event, e.data) async for e in clients.ai.stream(CHAT, "Hi").events()]


async def _relay_sse(clients: Clients) -> object:
    return [frame async for frame in clients.ai.stream(CHAT, "Hi").sse()]


async def _relay_ndjson(clients: Clients) -> object:
    return [frame async for frame in clients.ai.stream(CHAT, _TOOLS).ndjson()]


async def _leave_early(clients: Clients) -> object:
    async with clients.ai.stream(CHAT, "Hi") as tokens:
        return await anext(aiter(tokens), None)


async def _audio(clients: Clients) -> object:
    async with clients.ai.audio("@cf/deepgram/aura-1", SpeechSynthesis("a")) as sound:
        chunks = [chunk async for chunk in sound]
    return sum(map(len, chunks)), sound.media_type, sound.meta


async def _save_audio(clients: Clients) -> object:
    sound = clients.ai.audio("@cf/deepgram/aura-1", {"text": "a"})
    return await sound.save(clients.folder / "sound")


# Tools and objects


@dataclass
class Recipe:
    """A recipe."""

    title: str
    minutes: int
    steps: list[str]
    kind: Literal["cake", "pie"] | None = None


@dataclass
class Ticket:
    """A ticket."""

    spam: Annotated[bool, "Is it spam?"]
    team: Literal["billing", "support"]


@dataclass
class Invoice:
    """An invoice."""

    name: str
    items: list[str]
    total: Annotated[float | None, NumberField("With shipping")]


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


async def get_weather(city: str) -> dict[str, Any]:
    """Get the weather of a city."""
    return {"city": city, "dry": True}


def bake(recipe: Recipe) -> Recipe:
    """Bake by a recipe."""
    return recipe


def _run_tools(*, stream: bool) -> Callable[[Clients], Awaitable[object]]:
    async def run(clients: Clients) -> object:
        tools = clients.ai.run_tools(
            CHAT, "Hi", tools=[add, get_weather, bake], max_steps=3, stream=stream
        )
        events = [repr(event) async for event in tools]
        return events, tools.messages, tools.usage

    return run


def _parse(into: Any, repair: Literal[0, 1]) -> Callable[[Clients], Awaitable[object]]:
    async def run(clients: Clients) -> object:
        return await clients.ai.parse(CHAT, "A pie.", into=into, repair=repair)

    return run


async def _decide(clients: Clients) -> object:
    return await clients.ai.decide("@cf/cloudflare/clef", "Mail", into=Ticket)


async def _extract(clients: Clients) -> object:
    return await clients.ai.extract("@cf/cloudflare/clairic", "Mail", into=Invoice)


# Embeddings and the queue

_AT_ONCE: Final = Polling(base=0)


async def _embed(clients: Clients) -> object:
    return await clients.ai.embed(M3, ["a", "b"])


def _embed_many(**options: Any) -> Callable[[Clients], Awaitable[object]]:
    async def run(clients: Clients) -> object:
        texts = ["a", "b", "c", "a"]
        async with clients.ai.embed_many(M3, texts, batch_size=2, rate=None, **options) as job:
            items = [repr(item) async for item in job]
        return items, job.stats

    return run


async def _embed_to_array(clients: Clients) -> object:
    job = clients.ai.embed_many(M3, ["a", "b"], rate=None, on_error="yield")
    return (await job.numpy()).shape


async def _embed_to_table(clients: Clients) -> object:
    job = clients.ai.embed_many(M3, [(1, "a"), (2, "b")], rate=None, on_error="yield")
    return (await job.arrow()).num_rows


async def _queue(clients: Clients) -> object:
    tasks = [Prompt("a"), TextGeneration([user("b")])]
    batch = await clients.ai.queue(CHAT, tasks, polling=_AT_ONCE)
    items = await batch.wait(10)
    return [item if item.failed else item.result() for item in items]


async def _queued(clients: Clients) -> object:
    tasks = {"reference-1": TextEmbeddings(["a", "b"])}
    batch = clients.ai.queued(M3, "768f15b7", tasks, polling=_AT_ONCE)
    return repr(batch), await batch.poll(), batch.usage


async def _queued_unknown(clients: Clients) -> object:
    return await clients.ai.queued(M3, "768f15b7", polling=_AT_ONCE).poll()


# Resources

_FEW: Final = 300
"""Rows that are read of a list at most."""


async def _rows(pager: Any) -> object:
    rows = []
    async for row in pager:
        rows.append(row)
        if len(rows) >= _FEW:
            break
    return rows


def _finetunes() -> dict[str, Callable[[Clients], Awaitable[object]]]:
    config = b'{"r": 8, "model_type": "mistral"}'

    async def adapter(clients: Clients) -> object:
        folder = clients.folder / "adapter"
        if not folder.exists():
            folder.mkdir()
            test_finetunes.adapter(folder)
        return await clients.ai.finetunes.upload_adapter("mine", folder)

    return {
        "list": lambda clients: _rows(clients.ai.finetunes.list()),
        "public": lambda clients: _rows(clients.ai.finetunes.public()),
        "create": lambda clients: clients.ai.finetunes.create("@cf/a/b-lora", "mine"),
        "upload": lambda clients: clients.ai.finetunes.upload(
            "mine", config, file_name="adapter_config.json"
        ),
        "upload_adapter": adapter,
    }


def _models() -> dict[str, Callable[[Clients], Awaitable[object]]]:
    async def search(clients: Clients) -> object:
        models: Any = await _rows(clients.ai.models.search())
        return [(m.context_window, m.lora, m.price, m.deprecated) for m in models]

    return {
        "search": search,
        "tasks": lambda clients: _rows(clients.ai.models.tasks()),
        "authors": lambda clients: _rows(clients.ai.models.authors()),
        "schema": lambda clients: clients.ai.models.schema(CHAT),
        "first": lambda clients: clients.ai.models.search().first(),
    }


def _cohere() -> dict[str, Callable[[Clients], Awaitable[object]]]:
    rerank = Settings(BaseModel(BaseType.RERANK), "dataset")
    return {
        "finetuned_models": lambda clients: _rows(clients.cohere.finetuned_models()),
        "create": lambda clients: clients.cohere.create("a", rerank),
        "get": lambda clients: clients.cohere.get("m"),
        "update": lambda clients: clients.cohere.update("m", name="a", settings=rerank),
        "delete": lambda clients: clients.cohere.delete("m"),
        "events": lambda clients: _rows(clients.cohere.events("m")),
        "metrics": lambda clients: _rows(clients.cohere.training_step_metrics("m")),
    }


def _build_calls() -> list[Call]:
    calls = [
        *(
            Call(f"run {kind}", _run(task, _MODELS.get(kind, CHAT)), bodies)
            for kind, (task, bodies) in _RUNS.items()
        ),
        Call("run stream", _run("Hi", stream=True), STREAMS),
        Call("run chat route", _run([user("Hi")], options=CHAT_ROUTE), TEXTS),
        Call("run provider", _run_on_two_routes, UNIVERSAL),
        Call("run provider's image", _run_an_image_of_a_provider, UNIVERSAL),
        Call("stream", _stream, STREAMS),
        Call("stream collect", _collect, (*STREAMS, *TEXTS)),
        Call("stream text", _stream_text, STREAMS),
        Call("stream chat route", _stream_chat, STREAMS),
        Call("stream left early", _leave_early, STREAMS),
        Call("events", _events, STREAMS),
        Call("sse", _relay_sse, STREAMS),
        Call("ndjson", _relay_ndjson, STREAMS),
        Call("audio", _audio, AUDIO),
        Call("audio save", _save_audio, AUDIO),
        Call("run_tools", _run_tools(stream=False), TEXTS),
        Call("run_tools streamed", _run_tools(stream=True), STREAMS),
        Call("parse class", _parse(Recipe, 0), JSON_TEXTS),
        Call("parse class, repair", _parse(Recipe, 1), JSON_TEXTS),
        Call("parse list", _parse(list[float], 0), JSON_TEXTS),
        Call("parse union", _parse(Recipe | dict[str, int] | str | None, 0), JSON_TEXTS),
        Call("decide", _decide, DECISIONS),
        Call("extract", _extract, EXTRACTIONS),
        Call("embed", _embed, VECTORS),
        Call("embed_many", _embed_many(), VECTORS),
        Call("embed_many yield", _embed_many(on_error="yield", dedupe=True), VECTORS),
        Call("embed_many queue", _embed_many(mode="queue", polling=_AT_ONCE), QUEUED),
        Call("embed_many numpy", _embed_to_array, VECTORS),
        Call("embed_many arrow", _embed_to_table, VECTORS),
        Call("queue", _queue, QUEUED),
        Call("queued", _queued, QUEUED),
        Call("queued, open", _queued_unknown, QUEUED),
        Call("to_markdown", lambda c: c.ai.to_markdown({"a.html": b"<p>"}), MARKDOWN),
        Call("to_markdown_formats", lambda c: c.ai.to_markdown_formats(), MARKDOWN),
    ]
    groups = (
        ("finetunes", _finetunes(), FINETUNES),
        ("models", _models(), MODELS),
        ("cohere", _cohere(), COHERE),
    )
    for group, functions, fitting in groups:
        calls += [Call(f"{group} {name}", run, fitting) for name, run in functions.items()]
    return calls


CALLS: Final = _build_calls()


# What a caller does with the result


def look_at(value: object) -> None:
    """Use all that a result or an error offers.

    Raises:
        Exception: A property is broken: it raises an error that is not a `CfaiError`, nor named in
            its docstring.
    """
    repr(value), str(value)
    if isinstance(value, list | tuple):
        for item in value[:5]:
            look_at(item)
        return
    kind = type(value)
    if isinstance(value, Answer):
        # No text has half of a surrogate pair, which can't be sent anywhere.
        json.dumps(value.to_dict(), ensure_ascii=False, default=repr).encode()
    if not kind.__module__.startswith("cfai."):
        return
    for name in dir(kind):
        attribute = getattr(kind, name, None)
        if not name.startswith("_") and isinstance(attribute, property):
            _try_property(value, name, attribute.__doc__ or "")
    if isinstance(value, CfaiError):
        pickle.loads(pickle.dumps(value))  # noqa: S301  # made in this very line
        copy.copy(value)


def _try_property(value: object, name: str, documentation: str) -> None:
    try:
        repr(getattr(value, name))
    except CfaiError as error:
        str(error)
    except Exception as exc:
        if f"Raises `{type(exc).__name__}`" not in documentation:
            raise
