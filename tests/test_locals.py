"""No frame that an exception keeps has a secret among its variables: error trackers collect them.

Every way out of every public call, with a service that repeats the credentials it was sent.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from rich.traceback import Traceback

from cfai import (
    Cohere,
    Options,
    Prompt,
    SpeechSynthesis,
    TextEmbeddings,
    WorkersAI,
    user,
)
from cfai.cohere import BaseModel, BaseType, Settings, WandbConfig
from cfai.errors import CfaiError
from cfai.settings import Gateway, Retries, Timeouts
from cfai.testing import FakeWorkersAI
from tests.fuzz import calls as fuzz_calls

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
EMBEDDER = "@cf/baai/bge-m3"
TOKEN = "v1_0-S3CR3T-T0KEN-0123456789abcdefghij"  # noqa: S105  # made up
GATEWAY = "gw_SECRET-of-the-gateway-9876543210"
HEADER = "hdr_SECRET-of-a-header-5432109876"
SECRETS = (TOKEN, GATEWAY, HEADER)


@attrs.frozen
class Answer:
    word: str


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


async def iterate(items: Any) -> None:
    async for _ in items:
        pass


async def read_stream(ai: WorkersAI) -> None:
    async with ai.stream(MODEL, Prompt("Hello?")) as tokens:
        await iterate(tokens)


async def read_audio(ai: WorkersAI) -> None:
    async with ai.audio("@cf/deepgram/aura-1", SpeechSynthesis("Hello")) as sound:
        await iterate(sound)


async def embed_many(ai: WorkersAI, **options: Any) -> None:
    patience = Options(retries=Retries(max=0))
    await iterate(ai.embed_many(EMBEDDER, ["one", "two"], options=patience, **options))


CALLS: dict[str, Callable[[WorkersAI], Awaitable[Any]]] = {
    "run": lambda ai: ai.run(MODEL, Prompt("Hello?")),
    "run anything": lambda ai: ai.run("@cf/own/model", {"prompt": "Hello?"}),
    "run on two models": lambda ai: ai.run([MODEL, "@cf/own/model"], "Hello?"),
    "run chat": lambda ai: ai.run(MODEL, [user("Hi")], options=Options(route="chat")),
    "stream": read_stream,
    "run a stream": lambda ai: ai.run(MODEL, Prompt("Hello?"), stream=True),
    "collect": lambda ai: ai.stream(MODEL, Prompt("Hello?")).collect(),
    "audio": read_audio,
    "tools": lambda ai: ai.run_tools(MODEL, "Hello?", tools=[multiply]),
    "streamed tools": lambda ai: iterate(
        ai.run_tools(MODEL, "Hello?", tools=[multiply], stream=True)
    ),
    "parse": lambda ai: ai.parse(MODEL, "Hello?", into=Answer, repair=1),
    "embed": lambda ai: ai.embed(EMBEDDER, ["one"]),
    "embed many": embed_many,
    "embed through the queue": lambda ai: embed_many(ai, mode="queue"),
    "queue": lambda ai: ai.queue(EMBEDDER, [TextEmbeddings(["one"])]),
    "poll": lambda ai: ai.queued(EMBEDDER, "an-id").poll(),
    "models": lambda ai: ai.models.search().to_list(),
    "schema": lambda ai: ai.models.schema(MODEL),
    "fine-tunes": lambda ai: ai.finetunes.list().to_list(),
    "public fine-tunes": lambda ai: ai.finetunes.public().to_list(),
    "create": lambda ai: ai.finetunes.create(MODEL, "name"),
    "markdown": lambda ai: ai.to_markdown([("a.txt", b"text")]),
    "formats": lambda ai: ai.to_markdown_formats(),
}

ECHO = f"Bearer {TOKEN} {GATEWAY} {HEADER}"
JSON = '{"success": false, "errors": [{"code": 1, "message": "%s"}], "result": {"%s": ["%s"]}}' % (
    (ECHO,) * 3
)
EVENTS = (
    'data: {"response": "a"}\n\n',
    f'data: ["{ECHO}"]\n\n',
)

Script = Callable[[FakeWorkersAI], Any]
EXITS: dict[str, Script] = {
    "nothing": lambda fake: fake.always.stalls(),
    "no HTTP": lambda fake: fake.always.says_raw(f"HTTP/9 {ECHO}\r\n\r\n"),
    "a header that is too long": lambda fake: fake.always.says_raw(
        f"HTTP/1.1 200 OK\r\nX-Echo: {ECHO * 2000}\r\n\r\n"
    ),
    "a lost connection": lambda fake: fake.always.hangs_up(),
    "a reset connection": lambda fake: fake.always.hangs_up(reset=True),
    "half of a body": lambda fake: fake.always.says(JSON[:200], then_hangs_up=True),
    "no gzip": lambda fake: fake.always.says(JSON, headers={"Content-Encoding": "gzip"}),
    "no JSON": lambda fake: fake.always.says(JSON[:-9]),
    "a page": lambda fake: fake.always.says(f"<p>{ECHO}</p>", content_type="text/html"),
    "a wrong answer": lambda fake: fake.always.answers({ECHO: [ECHO]}),
    "a text": lambda fake: fake.always.answers({"response": ECHO}, headers={"cf-ray": ECHO}),
    "headers": lambda fake: fake.always.says(
        JSON, headers={"cf-ray": ECHO, "Ratelimit": ECHO, "Content-Type": f"text/{TOKEN}"}
    ),
    "a stream with an error": lambda fake: fake.always.says(*EVENTS),
    "a stream that is cut": lambda fake: fake.always.says(EVENTS[0], then_hangs_up=True),
    "a stream that ends in a word": lambda fake: fake.always.says(EVENTS[0], f"data: {ECHO}"),
    "a stream with an error that is an event": lambda fake: fake.always.says(
        EVENTS[0], f'data: {{"errors": [{{"code": 3040, "message": "{ECHO}"}}]}}\n\n'
    ),
    **{
        f"status {status}": lambda fake, status=status: fake.always.says(JSON, status=status)  # type: ignore[misc]
        for status in (302, 400, 401, 403, 404, 405, 408, 409, 413, 429, 500, 503)
    },
}


def frames(error: BaseException) -> Iterator[tuple[str, object]]:
    """The variables of all frames that an error keeps, except those of this file."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        origin = waiting.pop()
        if origin is None or id(origin) in seen:
            continue
        seen.add(id(origin))
        waiting += [origin.__cause__, origin.__context__]
        for frame, line in traceback.walk_tb(origin.__traceback__):
            path = Path(frame.f_code.co_filename)
            if path != Path(__file__):
                for name, value in frame.f_locals.items():
                    yield f"{path.parent.name}/{path.name}:{line} {name}", value


def find_secrets(error: BaseException) -> list[str]:
    """Where a secret is: in the variables of the frames, and as rich shows them."""
    places = [
        where for where, value in frames(error) if any(secret in repr(value) for secret in SECRETS)
    ]
    shown = Traceback.from_exception(
        type(error),
        error,
        error.__traceback__,
        show_locals=True,
        locals_max_string=10_000,
        suppress=[str(Path(__file__))],
    )
    for stack in shown.trace.stacks:
        for frame in stack.frames:
            if frame.filename != __file__:
                for name, node in (frame.locals or {}).items():
                    text = str(node)
                    if any(secret in text for secret in SECRETS):
                        places.append(f"rich: {Path(frame.filename).name}:{frame.lineno} {name}")
    for origin in (error, error.__cause__, error.__context__):
        if isinstance(origin, CfaiError):
            places += [
                f"{name} of the error"
                for name, value in vars(origin).items()
                if any(secret in repr(value) for secret in SECRETS)
                and name not in ("answer", "text", "messages")
            ]
    return places


def new_client(fake: FakeWorkersAI, **options: Any) -> WorkersAI:
    settings: dict[str, Any] = {
        "api_token": TOKEN,
        "gateway": Gateway("gw", authorization=GATEWAY),
        "headers": {"X-Signature": HEADER},
        "retries": Retries(max=1, base=0.001, cap=0.001),
        "timeouts": Timeouts(response=0.05, idle=0.05),
        "max_event_bytes": 10_000,
    }
    return fake.client(**(settings | options))


async def check(call: Awaitable[Any]) -> BaseException | None:
    """The error of a call, which shows no secret."""
    outcome: Any = await asyncio.gather(call, return_exceptions=True)
    (error,) = outcome
    if not isinstance(error, Exception):
        return None
    places = find_secrets(error)
    assert not places
    return error


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("exit_", EXITS)
async def test_no_variable_of_a_frame_shows_a_secret(
    fake: FakeWorkersAI, call: str, exit_: str
) -> None:
    EXITS[exit_](fake)
    error = await check(CALLS[call](new_client(fake)))
    assert error is None or isinstance(error, CfaiError)


# Calls of the fuzz session: uploads, exports, typed questions, and those of Cohere's API.
OTHER_CALLS = {
    call.name: call
    for call in fuzz_calls.CALLS
    if call.name.startswith(("cohere", "finetunes upload", "queue", "run provider", "audio save"))
    or call.name in ("decide", "extract", "events", "sse", "ndjson", "embed_many numpy")
    or call.name in ("run AutomaticSpeechRecognition", "run TextToImage", "to_markdown")
}
OTHER_EXITS = [name for name in EXITS if "status" not in name] + ["status 400", "status 503"]


def new_cohere(fake: FakeWorkersAI) -> Cohere:
    with pytest.warns(DeprecationWarning, match="Cohere deprecated"):
        return Cohere(
            api_key=TOKEN,
            base_url=fake.origin,
            headers={"X-Signature": HEADER},
            retries=Retries(max=1, base=0.001, cap=0.001),
            timeouts=Timeouts(response=0.05),
        )


@pytest.mark.parametrize("call", OTHER_CALLS)
@pytest.mark.parametrize("exit_", OTHER_EXITS)
async def test_no_other_call_shows_a_secret(
    fake: FakeWorkersAI, tmp_path: Path, call: str, exit_: str
) -> None:
    EXITS[exit_](fake)
    async with new_cohere(fake) as cohere:
        clients = fuzz_calls.Clients(new_client(fake, retries=Retries(max=0)), cohere, tmp_path)
        error = await check(OTHER_CALLS[call].run(clients))
    assert error is None or isinstance(error, CfaiError)


@pytest.mark.parametrize("exit_", OTHER_EXITS)
@pytest.mark.parametrize("update", [False, True])
async def test_a_key_in_the_body_of_a_request_is_not_shown(
    fake: FakeWorkersAI, exit_: str, update: bool
) -> None:
    """That of Weights & Biases, to which Cohere's API reports."""
    EXITS[exit_](fake)
    wandb = WandbConfig("project", api_key=GATEWAY)
    settings = Settings(BaseModel(BaseType.CHAT), "dataset", wandb=wandb)
    async with new_cohere(fake) as cohere:
        if update:
            error = await check(cohere.update("model", name="name", settings=settings))
        else:
            error = await check(cohere.create("name", settings))
    assert isinstance(error, CfaiError)


# The other ways out


async def test_a_refused_connection_shows_no_secret(fake: FakeWorkersAI) -> None:
    client = new_client(fake, base_url="http://127.0.0.1:9")
    for name, call in CALLS.items():
        error = await check(call(client))
        assert isinstance(error, CfaiError), name


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 No\r\n\r\n", b"HTTP/1.1 502 No\r\n\r\n", b""])
async def test_a_proxy_that_refuses_shows_no_secret(fake: FakeWorkersAI, answer: bytes) -> None:
    """Its password stays hidden, too, which it may repeat."""
    password = "pwd_SECRET-of-the-proxy"  # noqa: S105  # made up
    fake.always.says_raw(answer, then_hangs_up=True)
    proxy = fake.origin.replace("//", f"//me:{password}@")
    client = new_client(fake, base_url="https://api.example/client/v4", proxy=proxy)
    error = await check(client.run(MODEL, Prompt("Hello?")))
    assert isinstance(error, CfaiError)
    fake.always.says(JSON.replace(ECHO, password), status=400)
    through = new_client(fake, proxy=proxy)
    error = await check(through.run(MODEL, Prompt("Hello?")))
    assert isinstance(error, CfaiError)
    for _, value in frames(error):
        assert password not in repr(value)
    assert password not in repr(vars(error))


@pytest.mark.parametrize("call", ["run", "stream", "embed", "embed many", "tools", "audio"])
async def test_a_timeout_of_the_caller_shows_no_secret(fake: FakeWorkersAI, call: str) -> None:
    """Their `TimeoutError` has our `CancelledError` as its cause."""
    fake.always.stalls()
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.05):
            await CALLS[call](new_client(fake, timeouts=Timeouts()))
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert not find_secrets(caught.value)


async def test_an_error_of_a_callback_shows_no_secret_and_keeps_its_traceback(
    fake: FakeWorkersAI,
) -> None:
    """The caller wants to see where their own function failed."""

    def on_retry(retry: Any) -> None:
        raise LookupError("own")

    fake.always.fails(503, 0, ECHO)
    client = new_client(fake, retries=Retries(base=0.001, on_retry=on_retry))
    with pytest.raises(LookupError) as caught:
        await client.run(MODEL, Prompt("Hello?"))
    assert not find_secrets(caught.value)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "on_retry"


async def test_what_happened_before_keeps_its_traceback(fake: FakeWorkersAI) -> None:
    """An error that the caller is handling is the context of ours, and theirs to read."""

    def fail() -> None:
        raise LookupError("own")

    fake.always.fails(400, 1, "no")
    client = new_client(fake)
    with pytest.raises(CfaiError) as caught:
        try:
            fail()
        except LookupError:
            await client.run(MODEL, Prompt("Hello?"))
    own = caught.value.__context__
    assert isinstance(own, LookupError)
    assert traceback.extract_tb(own.__traceback__)[-1].name == "fail"
    with pytest.raises(CfaiError) as again:
        await client.run(MODEL, Prompt("Hello?"))
    names = [frame.name for frame in traceback.extract_tb(again.value.__traceback__)]
    assert names[0] == "test_what_happened_before_keeps_its_traceback"
    assert len(names) <= 4


BAD_ARGUMENTS: dict[str, Callable[[], object]] = {
    "no account": lambda: WorkersAI(api_token=TOKEN, account_id=""),
    "a bad address": lambda: WorkersAI(api_token=TOKEN, account_id="a", base_url="ftp://a"),
    "plain http": lambda: WorkersAI(api_token=TOKEN, account_id="a", base_url="http://a.example"),
    "a token with a space": lambda: WorkersAI(api_token=f"{TOKEN} ", account_id="a"),
    "a key without an email": lambda: WorkersAI(api_key=TOKEN, account_id="a"),
    "a bad limit": lambda: WorkersAI(api_token=TOKEN, account_id="a", limit=0),
    "a bad header": lambda: WorkersAI(
        api_token=TOKEN,
        account_id="a",
        headers={"X-Token": HEADER},
        timeouts=3,  # type: ignore[arg-type]
    ),
    "a bad proxy": lambda: WorkersAI(api_token="t", account_id="a", proxy=f"socks5://me:{TOKEN}@a"),
    "a bad gateway": lambda: Gateway("a b", authorization=GATEWAY),
    "a gateway's option": lambda: Gateway("a", authorization=GATEWAY, cache_ttl=-1),
    "options": lambda: Options(headers={"X-Token": HEADER}, tags="a"),
    "a copy": lambda: WorkersAI(api_token="t", account_id="a").with_options(api_token=f"{TOKEN} "),
    "a copy with other headers": lambda: WorkersAI(api_token=TOKEN, account_id="a").with_options(
        headers={"X-Token": HEADER},
        retries=7,  # type: ignore[arg-type]
    ),
    "a bad header of a call": lambda: asyncio.run(
        WorkersAI(api_token=TOKEN, account_id="a").run(
            MODEL, "Hi", options=Options(headers={"X-Token": HEADER, "X-Bad": "a\n"})
        )
    ),
    "a bad model": lambda: asyncio.run(
        WorkersAI(api_token=TOKEN, account_id="a", headers={"X-Key": HEADER}).run("../a", "Hi")
    ),
    "a bad account": lambda: asyncio.run(
        WorkersAI(api_token=TOKEN, account_id="a/b", headers={"X-Key": HEADER}).run(MODEL, "Hi")
    ),
    "Cohere": lambda: Cohere(api_key=f"{TOKEN} "),
    "Cohere's address": lambda: Cohere(api_key=TOKEN, base_url="ftp://a"),
}


@pytest.mark.filterwarnings("ignore:Cohere deprecated")
@pytest.mark.usefixtures("empty_environment")
@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_an_invalid_argument_leaves_no_secret_behind(name: str) -> None:
    """The constructors that are given secrets forget them when they raise."""
    with pytest.raises(CfaiError) as caught:
        BAD_ARGUMENTS[name]()
    assert not find_secrets(caught.value)
