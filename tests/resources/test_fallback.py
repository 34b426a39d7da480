"""Several models in one call: which errors lead to the next one, and what the caller learns."""

import asyncio
import copy
import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from attrs import frozen

from cfai import (
    BadRequest,
    BudgetExceeded,
    CapacityExceeded,
    CfaiError,
    Decide,
    InputError,
    ModelRetired,
    Noul,
    Options,
    PermissionDenied,
    Prompt,
    QuotaExceeded,
    RateLimited,
    Retries,
    Retry,
    ServerError,
    StatusError,
    Summarization,
    Text,
    TextEmbeddings,
    TextGeneration,
    TextToImage,
    Timeouts,
    WorkersAI,
    user,
)
from cfai.errors import ConnectError, ConnectionLost, DecodeError, ParseError, RequestTimeout
from cfai.observers import Call, Ending, Observation
from cfai.resources.fallback import move_to_front
from cfai.testing import FakeWorkersAI
from cfai.testing._script import Script

A, B, C = "@cf/example/a", "@cf/example/b", "@cf/example/c"
OK = {"response": "Hello"}
AT_ONCE = Retries(base=0)
RETIRED = "This model was deprecated on 2026-05-30."


def models_asked(fake: FakeWorkersAI) -> list[str]:
    """The model of each request."""
    return [request.path.partition("/ai/run/")[2] for request in fake.requests]


async def run(ai: WorkersAI, models: Any, options: Options | None = None) -> Text:
    return await ai.run(models, "Hi", options=options)


async def run_streamed(ai: WorkersAI, models: Any, options: Options | None = None) -> Text:
    async with await ai.run(models, "Hi", stream=True, options=options) as tokens:
        return await tokens.collect()


async def stream(ai: WorkersAI, models: Any, options: Options | None = None) -> Text:
    async with ai.stream(models, "Hi", options=options) as tokens:
        return await tokens.collect()


CALLS: list[Any] = [run, run_streamed, stream]


def answer(script: Script, call: Any) -> None:
    """Script a whole answer or a stream."""
    if call is run:
        script.answers(OK)
    else:
        script.streams("Hello")


# A failure of the first model, and how many requests it takes; then the next one is asked.
FALLS_BACK: dict[str, tuple[Callable[[Script], Script], int]] = {
    "retired": (lambda s: s.fails(410, 5028, RETIRED), 1),
    "retired, as 400": (lambda s: s.fails(400, 5028, RETIRED), 1),
    "paid plan": (lambda s: s.fails(403, 5035, "This model requires a Workers Paid plan"), 1),
    "busy": (lambda s: s.fails(429, 3040, "Capacity temporarily exceeded"), 3),
    "busy, under 200": (lambda s: s.fails(200, 3040, "Capacity temporarily exceeded"), 3),
    "500": (lambda s: s.fails(500, 8005, "internal"), 3),
    "502": (lambda s: s.says(b"<html>", status=502, content_type="text/html"), 3),
    "503": (lambda s: s.says(b"", status=503), 3),
    "529": (lambda s: s.fails(529, 5012, "inference failed"), 3),
    "timeout of the model": (lambda s: s.fails(408, 3046, "timeout"), 3),
    "lost": (lambda s: s.hangs_up(), 3),
}

# A failure that another model would not cure.
STAYS: dict[str, tuple[Callable[[Script], Script], type[CfaiError], int]] = {
    "400": (lambda s: s.fails(400, 5006, "bad input"), BadRequest, 1),
    "401": (lambda s: s.fails(401, 10000, "Authentication error"), CfaiError, 1),
    "403": (lambda s: s.says(b"{}", status=403), PermissionDenied, 1),
    "licence": (lambda s: s.fails(403, 5016, "agree first"), PermissionDenied, 1),
    "private": (lambda s: s.fails(403, 5018, "private"), PermissionDenied, 1),
    "402": (lambda s: s.fails(402, 2021, "no credit"), CfaiError, 1),
    "no such model": (lambda s: s.fails(400, 5007, "No such model"), BadRequest, 1),
    "404": (lambda s: s.says(b"{}", status=404), CfaiError, 1),
    "413": (lambda s: s.fails(413, 3006, "too large"), CfaiError, 1),
    "too long": (lambda s: s.fails(400, 3030, "Sequence too long"), BadRequest, 1),
    "quota": (lambda s: s.fails(429, 3036, "used up"), QuotaExceeded, 1),
    "quota, 4006": (lambda s: s.fails(429, 4006, "used up"), QuotaExceeded, 1),
    "rate limit": (lambda s: s.fails(429, 0, "Rate limited"), RateLimited, 7),
    "guardrails": (lambda s: s.fails(424, 2016, "blocked"), CfaiError, 1),
    "no JSON": (lambda s: s.says(b"{"), DecodeError, 1),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("failure", FALLS_BACK)
async def test_the_next_model_is_asked(fake: FakeWorkersAI, failure: str, call: Any) -> None:
    script, attempts = FALLS_BACK[failure]
    script(fake.on(A).always)
    answer(fake.on(B), call)
    found = await call(fake.client(retries=AT_ONCE), [A, B, C])
    assert found.text == "Hello"
    assert found.meta.model == B
    assert found.meta.attempts == attempts + 1
    assert models_asked(fake) == [A] * attempts + [B]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("failure", STAYS)
async def test_other_errors_are_raised(fake: FakeWorkersAI, failure: str, call: Any) -> None:
    """They concern the request or the account, or the model has answered."""
    script, kind, attempts = STAYS[failure]
    script(fake.on(A).always)
    with pytest.raises(kind) as caught:
        await call(fake.client(retries=AT_ONCE), [A, B])
    assert models_asked(fake) == [A] * attempts
    assert not caught.value.failed_models


@pytest.mark.parametrize("call", CALLS)
async def test_the_first_model_that_answers_is_the_only_one(fake: FakeWorkersAI, call: Any) -> None:
    answer(fake, call)
    found = await call(fake.client(), (A, B))
    assert (found.meta.model, found.meta.attempts) == (A, 1)
    assert models_asked(fake) == [A]


async def test_a_single_name_is_in_the_metadata_too(fake: FakeWorkersAI) -> None:
    fake.always.answers(OK)
    for models in (A, [A], (A,), [A, A]):
        assert (await run(fake.client(), models)).meta.model == A
    assert models_asked(fake) == [A] * 4


@pytest.mark.parametrize("call", CALLS)
async def test_a_failed_connect_leads_to_the_next_model(call: Any) -> None:
    """Here it fails for each of them."""
    retried: list[Retry] = []
    retries = Retries(max=1, base=0, on_retry=retried.append)
    base_url = "http://127.0.0.1:1/client/v4"
    async with WorkersAI(
        account_id="a", api_token="fake-token", base_url=base_url, retries=retries
    ) as ai:
        with pytest.raises(ConnectError) as caught:
            await call(ai, [A, B])
    assert list(caught.value.failed_models) == [A]
    assert [retry.model for retry in retried] == [None, B, None]
    assert [retry.attempt for retry in retried] == [1, 2, 3]


@pytest.mark.parametrize("call", CALLS)
async def test_the_last_error_is_raised_with_the_earlier_ones(
    fake: FakeWorkersAI, call: Any
) -> None:
    """As an attribute, and as notes that a traceback shows; also in a copy."""
    fake.on(A).fails(410, 5028, RETIRED)
    fake.on(B).fails(403, 5035, "paid plans only")
    fake.on(C).fails(500, 8005, "internal")
    with pytest.raises(ServerError) as caught:
        await call(fake.client(retries=Retries(max=0)), [A, B, C])
    for error in (caught.value, copy.deepcopy(caught.value)):
        assert list(error.failed_models) == [A, B]
        assert isinstance(error.failed_models[A], ModelRetired)
        assert isinstance(error.failed_models[B], PermissionDenied)
        assert error.meta is not None
        assert error.meta.model == C
        shown = "".join(traceback.format_exception(error))
        assert f"{A} failed: ModelRetired: 410 (code 5028): {RETIRED}" in shown
        assert f"{B} failed: PermissionDenied: 403 (code 5035): paid plans only" in shown


async def test_an_error_that_ends_the_list_early_has_the_earlier_ones(fake: FakeWorkersAI) -> None:
    fake.on(A).fails(410, 5028, RETIRED)
    fake.on(B).fails(400, 5006, "bad input")
    with pytest.raises(BadRequest) as caught:
        await run(fake.client(), [A, B, C])
    assert list(caught.value.failed_models) == [A]
    assert models_asked(fake) == [A, B]


def test_errors_of_single_models_have_no_earlier_ones() -> None:
    assert dict(CfaiError("x").failed_models) == {}
    assert dict(copy.copy(InputError("x")).failed_models) == {}


async def test_the_errors_have_no_secret(fake: FakeWorkersAI) -> None:
    """Even if the service repeats a credential in the error of an earlier model."""
    fake.on(A).fails(500, 8005, "internal: fake-api-token")
    fake.on(B).fails(400, 5006, "bad input")
    with pytest.raises(BadRequest) as caught:
        await run(fake.client(retries=Retries(max=0)), [A, B])
    assert "fake-api-token" not in "".join(traceback.format_exception(caught.value))
    assert "fake-api-token" not in repr(caught.value.failed_models)


@pytest.mark.parametrize("call", CALLS)
async def test_each_model_has_its_own_retries(fake: FakeWorkersAI, call: Any) -> None:
    """A busy model is waited for longer if there is no other one left."""
    fake.always.fails(429, 3040, "busy")
    with pytest.raises(CapacityExceeded):
        await call(fake.client(retries=Retries(max=1, max_busy=4, base=0)), [A, B])
    assert models_asked(fake) == [A, A, B, B, B, B, B]


# Streams


async def test_no_model_is_asked_after_the_first_event(fake: FakeWorkersAI) -> None:
    """The reader may have used it."""
    fake.on(A).streams("Hel", then_hangs_up=True)
    tokens = fake.client(retries=AT_ONCE).stream([A, B], "Hi")
    with pytest.raises(ConnectionLost):
        await tokens.collect()
    assert tokens.answer.text == "Hel"
    assert models_asked(fake) == [A]


async def test_an_error_as_the_first_event_leads_to_the_next_model(fake: FakeWorkersAI) -> None:
    event = json.dumps({"errors": [{"code": 3040, "message": "busy"}]})
    fake.on(A).always.says(f"data: {event}\n\n", content_type="text/event-stream")
    fake.on(B).streams("Hello")
    assert (await stream(fake.client(retries=Retries(max=0)), [A, B])).meta.model == B


async def test_nothing_is_sent_before_a_stream_is_opened(fake: FakeWorkersAI) -> None:
    models = [A, B]
    tokens = fake.client().stream(models, "Hi")
    models.clear()
    assert fake.accepted == 0
    fake.streams("Hello")
    assert (await tokens.collect()).text == "Hello"


async def test_a_stream_that_is_cancelled_asks_no_other_model(fake: FakeWorkersAI) -> None:
    gate = asyncio.Event()
    fake.on(A).says(b"{}", status=500, after=gate)
    tokens = fake.client(retries=Retries(max=0)).stream([A, B], "Hi")
    reader = asyncio.ensure_future(tokens.collect())
    await fake.until(lambda: fake.requests)
    tokens.cancel()
    gate.set()
    assert (await reader).text == ""
    assert models_asked(fake) == [A]


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_failed_download_asks_no_other_model(fake: FakeWorkersAI, status: int) -> None:
    """The model has answered, and was paid; only its image is elsewhere."""
    image = json.dumps({"image": f"{fake.origin}/r2/a.png"})
    answer = f'{{"result":{{"state":"Completed","result":{image}}},"success":true}}'
    fake.on("/ai/run").says(answer, headers={"cf-ai-neurons": "3.5"})
    fake.on("/r2/").always.says(b"", status=status)
    client = fake.client(retries=Retries(max=0))
    models = ["google/nano-banana", "@cf/black-forest-labs/flux-1-schnell"]
    with pytest.raises(StatusError) as caught:
        await client.run(models, TextToImage("a cat"))
    assert caught.value.status == status
    assert not caught.value.failed_models
    assert [request.method for request in fake.requests] == ["POST", "GET"]
    assert client.spent.neurons == 3.5


# Checks before anything is sent


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        ([], "model must list at least one name, got an empty list"),
        ((), "model must list at least one name, got an empty list"),
        ([A, None], r"model\[1\] must be a string, got None"),
        ([A, 7], r"model\[1\] must be a string, got 7"),
        ([A, [B]], r"model\[1\] must be a string, got \['@cf/example/b'\]"),
        ({A, B}, "model must be a name or a list of names, got {"),
        (iter([A, B]), "model must be a name or a list of names, got <list_iterator"),
        (b"@cf/a", "model must be a name or a list of names, got b'@cf/a'"),
        (None, "model must be a name or a list of names, got None"),
        ([A, ""], "each part of model between slashes must not be empty, got ''"),
        ([A, "@cf/../b"], "each part of model between slashes must not be . or .."),
        ([A, B, "@cf/b?c"], "each part of model between slashes must consist of"),
    ],
)
@pytest.mark.parametrize("call", CALLS)
async def test_invalid_lists_are_refused(
    fake: FakeWorkersAI, models: Any, problem: str, call: Any
) -> None:
    with pytest.raises(InputError, match=problem):
        await call(fake.client(), models)
    assert fake.accepted == 0


@pytest.mark.parametrize(
    ("models", "task", "options", "problem"),
    [
        ([A, "@cf/baai/bge-m3"], "Hi", None, "does not generate text"),
        ([A, "@cf/cloudflare/clef"], [user("Hi")], None, "call decide"),
        ([A, "dynamic/support"], Summarization("x"), None, "dynamic/support"),
        ([A, "dynamic/support"], Prompt("x", raw=True), None, "raw"),
        ([A, "@cf/deepgram/flux"], {"prompt": "x"}, None, "WebSockets"),
        ([A, "dynamic/support"], Prompt("x"), Options(route="run"), "dynamic/support"),
        (
            ["@cf/black-forest-labs/flux-1-schnell", "@cf/leonardo/phoenix-1.0"],
            TextToImage("x", image=b"x"),
            None,
            "phoenix",
        ),
        (["@cf/baai/bge-m3", "@cf/baai/bge-base-en-v1.5"], TextEmbeddings("x"), None, "compared"),
        (["@cf/baai/bge-m3", "@cf/baai/bge-base-en-v1.5"], {"text": ["x"]}, None, "compared"),
        ([A, B], TextEmbeddings("x"), None, "compared"),
    ],
)
async def test_each_model_must_take_the_task(
    fake: FakeWorkersAI, models: Any, task: Any, options: Options | None, problem: str
) -> None:
    """Not only the first: nothing is sent if a later one does not."""
    with pytest.raises(InputError, match=problem):
        await fake.client().run(models, task, options=options)
    if not isinstance(task, TextEmbeddings | TextToImage | Summarization):
        with pytest.raises(InputError, match=problem):
            await fake.client().stream(models, task, options=options).collect()
    assert fake.accepted == 0


async def test_each_model_gets_its_own_request(fake: FakeWorkersAI) -> None:
    """The path, the names of the fields and the media are those of the model."""
    fake.on("/ai/run/@cf").fails(410, 5028, RETIRED)
    fake.on("/ai/v1/chat/completions").fails(503, 0, "down")
    fake.on("/ai/run").answers({"state": "Completed", "result": OK})
    found = await fake.client(retries=Retries(max=0)).run(
        [A, "dynamic/support", "openai/gpt-4.1"], Prompt("Hi", max_tokens=5)
    )
    assert found.text == "Hello"
    assert found.meta.model == "openai/gpt-4.1"
    own, chat, universal = (request.json() for request in fake.requests)
    messages = [{"role": "user", "content": "Hi"}]
    assert own == {"prompt": "Hi", "max_tokens": 5}
    assert chat == {"model": "dynamic/support", "messages": messages, "max_tokens": 5}
    assert universal["input"] == {"messages": messages, "max_tokens": 5}


# Time and money


async def test_one_deadline_covers_all_models(fake: FakeWorkersAI) -> None:
    """The second model has what the first one left."""
    fake.on(A).fails(500, 8005, "internal")
    fake.on(B).stalls()
    seen: list[float] = []
    client = fake.client(
        timeouts=Timeouts(total=0.2, response=60),
        retries=Retries(max=0, on_retry=lambda retry: seen.append(retry.pause)),
    )
    with pytest.raises(RequestTimeout) as caught:
        await run(client, [A, B])
    assert (caught.value.phase, caught.value.limit) == ("total", 0.2)
    assert list(caught.value.failed_models) == [A]
    assert seen == [0.0]


@pytest.mark.parametrize("phase", ["response", "total"])
async def test_a_model_that_may_still_answer_is_not_replaced(
    fake: FakeWorkersAI, phase: str
) -> None:
    fake.on(A).stalls()
    with pytest.raises(RequestTimeout, match=r"0\.05"):
        await run(fake.client(timeouts=Timeouts(**{phase: 0.05})), [A, B])
    assert models_asked(fake) == [A]


@pytest.mark.parametrize("call", CALLS)
async def test_only_the_answer_is_counted(fake: FakeWorkersAI, call: Any) -> None:
    fake.on(A).fails(410, 5028, RETIRED)
    cost = {"cf-ai-neurons": "2.5"}
    if call is run:
        fake.on(B).answers(OK, headers=cost)
    else:
        fake.on(B).streams("Hello", headers=cost)
    client = fake.client(budget=2)
    assert (await call(client, [A, B])).meta.neurons == 2.5
    assert (client.spent.neurons, client.spent.calls) == (2.5, 1)
    with pytest.raises(BudgetExceeded):
        await call(client, [A, B])
    assert len(fake.requests) == 2


# Observers


class Recorder(Observation):
    """Records what one call reports."""

    def __init__(self, call: Call) -> None:
        self.model = call.model
        self.events: list[Any] = []
        self.running_calls = 0

    def headers(self) -> dict[str, str]:
        return {"x-of": self.model}

    def running(self) -> AbstractContextManager[None]:
        return self._run()

    @contextmanager
    def _run(self) -> Iterator[None]:
        self.running_calls += 1
        yield
        self.running_calls -= 1

    def began(self, seconds: float) -> None:
        self.events.append("began")

    def token(self, token: Any, seconds: float) -> None:
        self.events.append(token.text)

    def retried(self, retry: Retry) -> None:
        self.events.append(type(retry.failure))

    def ended(self, ending: Ending) -> None:
        kind = None if ending.error is None else type(ending.error)
        self.events.append((ending.outcome, kind, ending.meta.model))


@pytest.mark.parametrize("call", CALLS)
async def test_observers_see_a_call_for_each_model(fake: FakeWorkersAI, call: Any) -> None:
    recorders: list[Recorder] = []

    def observe(call: Call) -> Recorder:
        recorders.append(Recorder(call))
        return recorders[-1]

    fake.on(A).fails(410, 5028, RETIRED)
    fake.on(B).always.fails(500, 8005, "internal")
    answer(fake.on(C), call)
    await call(fake.client(observers=[observe], retries=Retries(max=1, base=0)), [A, B, C])
    seen = [(recorder.model, recorder.events) for recorder in recorders]
    tokens = [] if call is run else ["began", "Hello"]
    assert seen == [
        (A, [("failed", ModelRetired, A)]),
        (B, [ServerError, ("failed", ServerError, B)]),
        (C, [*tokens, ("done", None, C)]),
    ]
    assert [recorder.running_calls for recorder in recorders] == [0, 0, 0]
    assert [request.headers["x-of"] for request in fake.requests] == [A, B, B, C]


async def test_on_retry_is_called_with_the_next_model(fake: FakeWorkersAI) -> None:
    seen: list[Retry] = []
    fake.on(A).fails(410, 5028, RETIRED)
    fake.on(B).fails(500, 8005, "internal").answers(OK)
    await run(fake.client(retries=Retries(base=0, on_retry=seen.append)), [A, B])
    assert [(retry.attempt, retry.model) for retry in seen] == [(1, B), (2, None)]
    assert [type(retry.failure) for retry in seen] == [ModelRetired, ServerError]


# Structured output, decisions and tools


@frozen
class City:
    """A city."""

    name: str


async def test_parse_falls_back(fake: FakeWorkersAI) -> None:
    fake.on(A).fails(410, 5028, RETIRED)
    fake.on(B).answers({"response": {"name": "Lima"}})
    assert await fake.client().parse([A, B], "Where?", into=City) == City("Lima")


async def test_a_wrong_object_is_not_asked_of_another_model(fake: FakeWorkersAI) -> None:
    """It was paid for; `repair` sends it back to the model that wrote it."""
    fake.on(A).fails(410, 5028, RETIRED)
    fake.on(B).answers({"response": "no"}).answers({"response": {"name": "Lima"}})
    client = fake.client()
    assert await client.parse([A, B], "Where?", into=City, repair=1) == City("Lima")
    assert models_asked(fake) == [A, B, B]
    fake.on(A).answers({"response": "no"})
    with pytest.raises(ParseError):
        await client.parse([A, B], "Where?", into=City)
    assert models_asked(fake) == [A, B, B, A]


async def test_decide_falls_back(fake: FakeWorkersAI) -> None:
    fake.on("clef-flash").answers({"answers": {"q": {"type": "noul", "noul": 0.75}}})
    fake.on("clef").fails(529, 5012, "inference failed")
    models = ["@cf/cloudflare/clef", "@cf/cloudflare/clef-flash"]
    client = fake.client(retries=Retries(max=0))
    decisions = await client.run(models, Decide("x", {"q": Noul("?")}))
    assert decisions.meta.model == "@cf/cloudflare/clef-flash"


CALL = {"response": "", "tool_calls": [{"name": "clock", "arguments": {}}]}
CALL_STREAM = json.dumps(CALL)


def clock() -> str:
    """Tell the time."""
    return "noon"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_later_turn_begins_with_the_model_that_answered(
    fake: FakeWorkersAI, streamed: bool
) -> None:
    """If that one fails, the others are asked in their order."""
    fake.on(A).fails(429, 3040, "busy")
    fake.on(C).fails(500, 8005, "internal")
    if streamed:
        events = f"data: {CALL_STREAM}\n\ndata: [DONE]\n\n"
        fake.on(B).says(events, content_type="text/event-stream")
        fake.on(B).fails(500, 8005, "internal")
        fake.on(A).streams("It is noon.")
    else:
        fake.on(B).answers(CALL).fails(500, 8005, "internal")
        fake.on(A).answers({"response": "It is noon."})
    models = [A, B, C]
    client = fake.client(retries=Retries(max=0))
    outcome = client.run_tools(models, "What time is it?", tools=[clock], stream=streamed)
    models.clear()
    found = await outcome
    assert found.answer.text == "It is noon."
    assert models_asked(fake) == [A, B, B, A]
    assert [step.answer.meta.model for step in found.steps] == [B, A]


async def test_a_tool_run_refuses_an_invalid_list_at_once(fake: FakeWorkersAI) -> None:
    for models in ([], [A, 7], {A}):
        with pytest.raises(InputError, match="model"):
            fake.client().run_tools(models, "Hi", tools=[clock])  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    ("models", "answered", "order"),
    [
        (A, B, A),
        (A, None, A),
        ((A, B, C), None, (A, B, C)),
        ((A, B, C), A, (A, B, C)),
        ((A, B, C), B, (B, A, C)),
        ((A, B, C), C, (C, A, B)),
        ((A, B), C, (A, B)),
    ],
)
def test_the_model_that_answered_comes_first(models: Any, answered: str | None, order: Any) -> None:
    assert move_to_front(models, answered) == order


async def test_messages_and_mappings_fall_back_too(fake: FakeWorkersAI) -> None:
    """Every form of input."""
    client = fake.client()
    for task in ("Hi", Prompt("Hi"), [user("Hi")], TextGeneration([user("Hi")]), {"prompt": "Hi"}):
        fake.on(A).fails(410, 5028, RETIRED)
        fake.on(B).answers(OK)
        assert (await client.run([A, B], task)).meta.model == B
