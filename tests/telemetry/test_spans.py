"""The spans and the metrics of runs, as OpenTelemetry's own SDK receives them."""

import asyncio
import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from attrs import field, frozen
from opentelemetry import baggage, context, trace
from opentelemetry.metrics import (
    Histogram,
    Meter,
    NoOpHistogram,
    NoOpMeter,
    NoOpMeterProvider,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from cfai import (
    Audio,
    Function,
    Gateway,
    InputError,
    MissingExtra,
    Options,
    Prompt,
    QuotaExceeded,
    Retries,
    SpeechSynthesis,
    Task,
    TextGeneration,
    TextToImage,
    TextToSpeech,
    Token,
    Tool,
    ToolCall,
    Usage,
    WorkersAI,
    __version__,
    assistant,
    system,
    telemetry,
    tool_result,
    user,
)
from cfai.errors import ConnectionLost, NotFound, StreamInterrupted
from cfai.observers import Call, Ending
from cfai.tasks import ImagePart, Text
from cfai.telemetry._attributes import drop_unsendable
from cfai.testing import FakeWorkersAI

MODEL = "@cf/meta/llama-4-scout-17b-16e-instruct"
EMBEDDER = "@cf/baai/bge-m3"
HI = Prompt("the question itself")
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
CHAT = {
    "id": "chat-1",
    "model": "llama-3.1-8b",
    "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}],
    "usage": {
        **USAGE,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    },
}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)


@frozen
class Collected:
    """What a program's own telemetry has received."""

    spans: InMemorySpanExporter = field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(factory=InMemoryMetricReader)
    tracers: TracerProvider = field(factory=TracerProvider)

    def __attrs_post_init__(self) -> None:
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))

    def client(self, fake: FakeWorkersAI, *, options: dict[str, Any] | None = None) -> WorkersAI:
        meters = MeterProvider([self.reader], shutdown_on_exit=False)
        observer = telemetry.spans(
            tracer_provider=self.tracers, meter_provider=meters, **(options or {})
        )
        return fake.client(observers=[observer], retries=Retries(base=0))

    def only(self) -> ReadableSpan:
        (span,) = self.spans.get_finished_spans()
        return span

    def points(self, name: str) -> Sequence[HistogramDataPoint]:
        data = self.reader.get_metrics_data()
        assert data is not None
        (scope,) = data.resource_metrics[0].scope_metrics
        found = [metric.data.data_points for metric in scope.metrics if metric.name == name]
        points: Sequence[Any] = found[0] if found else ()
        return points


@pytest.fixture
def collected() -> Collected:
    return Collected()


@pytest.fixture(autouse=True)
def nothing_fails(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No part of a span fails, unless the test expects it and clears the log."""
    yield
    records = caplog.get_records("call")  # In the teardown, `caplog.records` has those of it alone.
    assert not [record.getMessage() for record in records if record.name == "cfai"]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


IDENTITY = {
    "gen_ai.provider.name": "cloudflare.workers_ai",
    "gen_ai.request.model": MODEL,
    "server.address": "127.0.0.1",
}


async def test_a_run_has_a_span(fake: FakeWorkersAI, collected: Collected) -> None:
    """Name, kind and attributes follow the conventions."""
    fake.answers(CHAT, headers={"cf-ray": "8c1-LIS", "cf-aig-log-id": "log-1"})
    task = TextGeneration(
        [user("Hi")], max_tokens=20, temperature=0.5, top_p=0.9, top_k=5, seed=7,
        frequency_penalty=1, presence_penalty=-1, response_format={"type": "json_object"},
        extra={"stop": ["."], "n": 2},
    )  # fmt: skip
    await collected.client(fake).run(MODEL, task, options=Options(gateway="gate"))

    span = collected.only()
    assert (span.name, span.kind) == (f"chat {MODEL}", SpanKind.CLIENT)
    assert span.status.status_code is StatusCode.UNSET
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "cfai"
    assert attributes(span) == IDENTITY | {
        "gen_ai.operation.name": "chat",
        "server.port": fake.port,
        "gen_ai.request.max_tokens": 20,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 5.0,
        "gen_ai.request.seed": 7,
        "gen_ai.request.frequency_penalty": 1.0,
        "gen_ai.request.presence_penalty": -1.0,
        "gen_ai.request.stop_sequences": (".",),
        "gen_ai.request.choice.count": 2,
        "gen_ai.output.type": "json",
        "gen_ai.response.id": "chat-1",
        "gen_ai.response.model": "llama-3.1-8b",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "http.response.status_code": 200,
        "cloudflare.ai_gateway.id": "gate",
        "cloudflare.ray_id": "8c1-LIS",
        "cloudflare.ai_gateway.log_id": "log-1",
    }
    assert isinstance(attributes(span)["gen_ai.request.seed"], int)


async def test_a_run_records_metrics(fake: FakeWorkersAI, collected: Collected) -> None:
    """Seconds and tokens, in the buckets of the conventions."""
    fake.answers(CHAT)
    await collected.client(fake).run(MODEL, TextGeneration([user("Hi")]))

    (duration,) = collected.points("gen_ai.client.operation.duration")
    assert duration.count == 1
    assert duration.explicit_bounds[:3] == (0.01, 0.02, 0.04)
    assert duration.explicit_bounds[-1] == 81.92
    same = IDENTITY | {
        "gen_ai.operation.name": "chat",
        "gen_ai.response.model": "llama-3.1-8b",
        "server.port": fake.port,
    }
    assert dict(duration.attributes or {}) == same
    tokens = collected.points("gen_ai.client.token.usage")
    assert {(p.attributes or {})["gen_ai.token.type"]: p.sum for p in tokens} == {
        "input": 12,
        "output": 3,
    }
    assert tokens[0].explicit_bounds == tuple(4**n for n in range(14))
    assert not collected.points("gen_ai.client.operation.time_to_first_chunk")


async def test_the_usage_of_an_open_run_is_recorded(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """The text of a mapping's answer is read like that of a task."""
    fake.answers({"response": "Hello", "usage": USAGE}).answers(["no", "text"])
    ai = collected.client(fake)
    await ai.run(MODEL, {"prompt": "Hi", "temperature": 1, "max_tokens": True})
    await ai.run(MODEL, {"anything": "else"})
    first, second = map(attributes, collected.spans.get_finished_spans())
    assert first["gen_ai.operation.name"] == "text_completion"
    assert first["gen_ai.usage.input_tokens"] == 12
    assert first["gen_ai.request.temperature"] == 1.0
    assert "gen_ai.request.max_tokens" not in first
    assert second["gen_ai.operation.name"] == "generate_content"


async def test_embeddings_record_their_dimension(fake: FakeWorkersAI, collected: Collected) -> None:
    """Each request of a job has a span, a child of the span that is current around the job."""
    for _ in range(2):
        usage = {"prompt_tokens": 2, "total_tokens": 2}
        fake.answers({"shape": [2, 3], "data": [[1.0, 2.0, 3.0]] * 2, "usage": usage})
    ai = collected.client(fake)
    with collected.tracers.get_tracer("app").start_as_current_span("job") as parent:
        async for _ in ai.embed_many(EMBEDDER, list("abcd"), batch_size=2):
            pass
    *requests, _ = collected.spans.get_finished_spans()
    assert [span.name for span in requests] == [f"embeddings {EMBEDDER}"] * 2
    for span in requests:
        assert span.parent == parent.get_span_context()
        assert attributes(span)["gen_ai.embeddings.dimension.count"] == 3
        assert attributes(span)["gen_ai.usage.input_tokens"] == 2
        assert "gen_ai.usage.output_tokens" not in attributes(span)


async def test_an_image_is_an_output_type(fake: FakeWorkersAI, collected: Collected) -> None:
    """Its bytes are never in the span."""
    fake.says(PNG, content_type="image/png")
    await collected.client(fake, options={"capture_content": True}).run(MODEL, TextToImage("A cat"))
    span = attributes(collected.only())
    assert span["gen_ai.operation.name"] == "generate_content"
    assert span["gen_ai.output.type"] == "image"
    assert "gen_ai.output.messages" not in span
    assert json.loads(span["gen_ai.input.messages"])[0]["parts"][0]["content"] == "A cat"


@pytest.mark.parametrize("task", [TextToSpeech("Hi"), SpeechSynthesis("Hi")])
async def test_speech_is_an_output_type(
    fake: FakeWorkersAI, collected: Collected, task: Task[Audio]
) -> None:
    fake.says(b"ID3" + bytes(16), content_type="audio/mpeg")
    await collected.client(fake).run(MODEL, task)
    assert attributes(collected.only())["gen_ai.output.type"] == "speech"


# Errors


async def test_an_error_sets_the_status_of_the_span(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """Its class and the service's code, but no text that may repeat the question."""
    fake.fails(429, 3036, "you wrote: the question itself", headers={"cf-ray": "8c1-LIS"})
    with pytest.raises(QuotaExceeded):
        await collected.client(fake).run(MODEL, HI)
    span = collected.only()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "status 429, code 3036"
    assert attributes(span)["error.type"] == "QuotaExceeded"
    assert attributes(span)["cloudflare.error.code"] == 3036
    assert attributes(span)["cloudflare.ray_id"] == "8c1-LIS"
    assert "question" not in span.to_json()
    (duration,) = collected.points("gen_ai.client.operation.duration")
    assert (duration.attributes or {})["error.type"] == "QuotaExceeded"
    assert not collected.points("gen_ai.client.token.usage")


async def test_a_call_refused_before_sending_has_a_span(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """An `InputError` quotes the value, so the span has only the class."""
    with pytest.raises(InputError):
        await collected.client(fake).run("no model/..", HI)
    span = collected.only()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert attributes(span)["error.type"] == "InputError"


@pytest.mark.parametrize("when", ["before the answer", "in the middle of the stream"])
async def test_the_status_of_a_lost_connection_says_how(
    fake: FakeWorkersAI, collected: Collected, when: str
) -> None:
    """The message of such an error repeats nothing that was sent."""
    ai = collected.client(fake).with_options(retries=Retries(max=0))
    if when == "before the answer":
        fake.hangs_up()
        call = ai.run(MODEL, HI)
    else:
        fake.says(b'data: {"response":"Hel"}\n\n', then_hangs_up=True)
        call = ai.stream(MODEL, HI).collect()
    with pytest.raises(ConnectionLost) as caught:
        await call
    span = collected.only()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == str(caught.value)
    assert "cloudflare.error.code" not in attributes(span)


async def test_a_status_without_a_code_of_the_service_stands_alone(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """As of a proxy on the way."""
    fake.says(b"<html>", status=404, content_type="text/html")
    with pytest.raises(NotFound):
        await collected.client(fake).run(MODEL, HI)
    assert collected.only().status.description == "status 404"


async def test_a_failed_request_leaves_no_event_of_an_exception(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """It would have the message and a traceback, which may repeat what was sent."""
    fake.fails(400, 5004, "you wrote: the question itself")
    with pytest.raises(Exception, match="the question"):
        await collected.client(fake).run(MODEL, HI)
    assert not collected.only().events


async def test_a_retried_call_has_one_span(fake: FakeWorkersAI, collected: Collected) -> None:
    """Each failed attempt is an event of the span."""
    fake.fails(429, 3040, "busy").fails(500, 3000, "oops").answers({"response": "Hello"})
    pauses: list[float] = []
    retries = Retries(base=0.001, on_retry=lambda retry: pauses.append(retry.pause))
    await collected.client(fake).with_options(retries=retries).run(MODEL, HI)
    span = collected.only()
    events = [dict(event.attributes or {}) for event in span.events]
    assert {event.name for event in span.events} == {"retry"}
    assert [event["error.type"] for event in events] == ["CapacityExceeded", "ServerError"]
    assert [event["cfai.retry.attempt"] for event in events] == [1, 2]
    assert [event["cfai.retry.pause"] for event in events] == pauses
    assert [event["cloudflare.error.code"] for event in events] == [3040, 3000]
    assert attributes(span)["http.request.resend_count"] == 2
    assert span.status.status_code is StatusCode.UNSET


async def test_each_model_of_a_list_has_a_span(fake: FakeWorkersAI, collected: Collected) -> None:
    """With its own name, retries and outcome."""
    fake.on("example/a").fails(410, 5028, "This model was deprecated on 2026-05-30.")
    fake.on("example/b").fails(500, 3000, "oops").answers({"response": "Hello"})
    models = ["@cf/example/a", "@cf/example/b"]
    await collected.client(fake).run(models, HI)
    first, second = collected.spans.get_finished_spans()
    assert [span.name.partition(" ")[2] for span in (first, second)] == models
    assert first.status.status_code is StatusCode.ERROR
    assert attributes(first)["error.type"] == "ModelRetired"
    assert "http.request.resend_count" not in attributes(first)
    assert second.status.status_code is StatusCode.UNSET
    assert attributes(second)["http.request.resend_count"] == 1


async def test_spans_contain_no_secret(fake: FakeWorkersAI, collected: Collected) -> None:
    """Neither the token nor the account, even if the service repeats them."""
    fake.fails(400, 5004, "fake-api-token of /accounts/account/ai")
    with pytest.raises(Exception, match="of"):
        await collected.client(fake, options={"capture_content": True}).run(MODEL, HI)
    assert "fake-api-token" not in collected.only().to_json()
    assert "accounts" not in collected.only().to_json()


TOKEN, GATEWAY, SIGNATURE = "fake-api-token", "gw_SECRET-987654", "hdr_SECRET-543210"
ECHO = f"[Bearer {TOKEN.upper()} {GATEWAY} {SIGNATURE}]"
ECHO_HEADERS = {"cf-ray": ECHO, "cf-aig-log-id": ECHO, "cf-aig-cache-status": ECHO}
ECHOING = {
    "a completion": {
        "id": ECHO,
        "model": ECHO,
        "choices": [
            {
                "message": {
                    "content": f"Say {ECHO}",
                    "reasoning_content": ECHO,
                    "tool_calls": [{"id": ECHO, "function": {"name": ECHO, "arguments": "{}"}}],
                },
                "finish_reason": ECHO,
            }
        ],
    },
    "a text": {"response": f"Say {ECHO}"},
    "something else": {"id": ECHO, "model": ECHO, ECHO: [ECHO]},
}


@pytest.mark.parametrize("answer", ECHOING)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ends", ["done", "failed"])
async def test_an_answer_that_repeats_secrets_leaves_none_in_a_span(
    fake: FakeWorkersAI, collected: Collected, answer: str, stream: bool, ends: str
) -> None:
    """In no attribute of a span or a metric, in no text, and in no description."""
    given: Any = ECHOING[answer]
    if stream:
        given = json.loads(json.dumps(given).replace('"message"', '"delta"'))
        fake.streams(given, headers=ECHO_HEADERS, then_hangs_up=ends == "failed")
    elif ends == "done":
        fake.answers(given, headers=ECHO_HEADERS)
    else:
        fake.fails(400, 5004, ECHO)
    ai = collected.client(fake, options={"capture_content": True}).with_options(
        gateway=Gateway("gw", authorization=GATEWAY), headers={"X-Signature": SIGNATURE}
    )
    call = ai.stream(MODEL, Prompt(ECHO)).collect() if stream else ai.run(MODEL, {"prompt": ECHO})
    await asyncio.gather(call, return_exceptions=True)
    metrics = collected.reader.get_metrics_data()
    assert metrics is not None
    written = (collected.only().to_json() + metrics.to_json()).lower()
    assert not [secret for secret in (TOKEN, GATEWAY, SIGNATURE) if secret.lower() in written]
    assert "[bearer *** *** ***]" in written


async def test_observers_can_hide_secrets(fake: FakeWorkersAI) -> None:
    """With `Call.redact`. It says nothing about them itself."""
    calls: list[Call] = []
    fake.answers({"response": "Hello"})
    await fake.client(observers=[calls.append]).run(MODEL, HI)
    assert calls[0].redact(f"a {TOKEN} and more") == "a *** and more"
    assert TOKEN not in repr(calls[0])
    assert TOKEN not in repr(calls[0].redact)


# Streams


async def test_a_span_lasts_as_long_as_its_stream(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """It ends with the stream and has the total usage."""
    last = {"response": "", "usage": USAGE}
    fake.streams("Hel", "lo", "!", last)
    async with collected.client(fake).stream(MODEL, HI) as tokens:
        async for _ in tokens:
            assert not collected.spans.get_finished_spans()
    span = attributes(collected.only())
    assert span["gen_ai.request.stream"] is True
    assert 0 < span["gen_ai.response.time_to_first_chunk"] < 10
    assert span["gen_ai.usage.output_tokens"] == 3
    assert "cfai.outcome" not in span
    (first,) = collected.points("gen_ai.client.operation.time_to_first_chunk")
    (between,) = collected.points("gen_ai.client.operation.time_per_output_chunk")
    assert (first.count, between.count) == (1, 3)


async def test_the_model_of_a_stream_is_read_from_its_events(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """Chat completions contain the model and the answer's id in each event."""
    piece = {"id": "chat-1", "model": "llama-3.1-8b"}
    fake.streams(
        {**piece, "choices": [{"delta": {"content": "Hello"}}]},
        {**piece, "choices": [{"delta": {}, "finish_reason": "stop"}]},
    )
    assert await collected.client(fake).stream(MODEL, HI).collect() == Text(
        "Hello", finish_reason="stop"
    )
    span = attributes(collected.only())
    assert span["gen_ai.response.id"] == "chat-1"
    assert span["gen_ai.response.model"] == "llama-3.1-8b"
    assert span["gen_ai.response.finish_reasons"] == ("stop",)
    (duration,) = collected.points("gen_ai.client.operation.duration")
    assert (duration.attributes or {})["gen_ai.response.model"] == "llama-3.1-8b"


async def test_a_closed_stream_is_not_an_error(fake: FakeWorkersAI, collected: Collected) -> None:
    """The span says that it was closed, and records no tokens."""
    fake.streams("Hel", "lo")
    async with collected.client(fake).stream(MODEL, HI) as tokens:
        await anext(tokens)
    assert attributes(collected.only())["cfai.outcome"] == "closed"
    assert collected.only().status.status_code is StatusCode.UNSET


async def test_a_cancelled_call_is_not_an_error(fake: FakeWorkersAI, collected: Collected) -> None:
    """The span ends at once."""
    fake.answers({"response": "never"}, after=asyncio.Event())
    task = asyncio.create_task(collected.client(fake).run(MODEL, HI))
    await fake.until(lambda: fake.requests)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert attributes(collected.only())["cfai.outcome"] == "cancelled"
    assert collected.only().status.status_code is StatusCode.UNSET


async def test_a_cut_stream_is_an_error(fake: FakeWorkersAI, collected: Collected) -> None:
    """The part that had arrived is captured, if content is."""
    fake.says(b'data: {"response":"Hel"}\n\n', then_hangs_up=True)
    ai = collected.client(fake, options={"capture_content": True})
    with pytest.raises(StreamInterrupted):
        await ai.stream(MODEL, HI).collect()
    span = collected.only()
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "StreamInterrupted"
    (message,) = json.loads(attributes(span)["gen_ai.output.messages"])
    assert message["parts"] == [{"type": "text", "content": "Hel"}]


@pytest.mark.parametrize("rest", [b"", b'data: {"respon'], ids=["no end mark", "inside an event"])
async def test_a_truncated_stream_is_an_error(
    fake: FakeWorkersAI, collected: Collected, rest: bytes
) -> None:
    """Its duration is that of a failure, and its tokens are not counted."""
    event = b'data: {"response":"Hel","usage":{"prompt_tokens":5,"completion_tokens":1}}\n\n'
    fake.says(event + rest, content_type="text/event-stream")
    with pytest.raises(StreamInterrupted):
        await collected.client(fake).stream(MODEL, HI).collect()
    assert collected.only().status.status_code is StatusCode.ERROR
    assert attributes(collected.only())["error.type"] == "StreamInterrupted"
    assert "cfai.outcome" not in attributes(collected.only())
    (duration,) = collected.points("gen_ai.client.operation.duration")
    assert (duration.attributes or {})["error.type"] == "StreamInterrupted"
    assert not collected.points("gen_ai.client.token.usage")


async def test_tokens_of_a_closed_stream_are_not_counted(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """The total is not known; the usage so far is in the span."""
    fake.streams({"response": "Hel", "usage": USAGE}, "lo")
    async with collected.client(fake).stream(MODEL, HI) as tokens:
        await anext(tokens)
    assert attributes(collected.only())["gen_ai.usage.input_tokens"] == 12
    assert collected.points("gen_ai.client.operation.duration")
    assert not collected.points("gen_ai.client.token.usage")


UNITS = {
    "gen_ai.client.operation.duration": "s",
    "gen_ai.client.operation.time_to_first_chunk": "s",
    "gen_ai.client.operation.time_per_output_chunk": "s",
    "gen_ai.client.token.usage": "{token}",
}
"""OpenTelemetry semantic conventions, GenAI: "Metrics"."""


async def test_metrics_have_the_units_and_buckets_of_the_conventions(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """They, and the spans, name the library and its version."""
    fake.streams("Hel", {"response": "lo", "usage": USAGE})
    await collected.client(fake).stream(MODEL, HI).collect()
    data = collected.reader.get_metrics_data()
    assert data is not None
    (metrics,) = data.resource_metrics[0].scope_metrics
    assert {metric.name: metric.unit for metric in metrics.metrics} == UNITS
    for metric in metrics.metrics:
        assert metric.description
        (point, *_) = metric.data.data_points
        assert isinstance(point, HistogramDataPoint)
        first = [1, 4, 16] if metric.unit == "{token}" else [0.01, 0.02, 0.04]
        assert list(point.explicit_bounds[:3]) == first
        assert len(point.explicit_bounds) == 14
    for scope in (metrics.scope, collected.only().instrumentation_scope):
        assert scope is not None
        assert (scope.name, scope.version) == ("cfai", __version__)


@pytest.mark.parametrize("choices", [1, 1.0, True, "2", 2.5, [2], {"a": 2}], ids=repr)
async def test_a_choice_count_of_one_or_of_another_type_is_left_out(
    fake: FakeWorkersAI, collected: Collected, choices: Any
) -> None:
    """OpenTelemetry semantic conventions, GenAI: "if available, in the request, and !=1"."""
    fake.answers({"response": "Hello"})
    await collected.client(fake).run(MODEL, TextGeneration([user("Hi")], extra={"n": choices}))
    assert fake.requests[0].json()["n"] == choices
    assert "gen_ai.request.choice.count" not in attributes(collected.only())


@pytest.mark.parametrize(
    ("stop", "recorded"),
    [
        ("END", ("END",)),
        (["END"], ("END",)),
        (["a", "b"], ("a", "b")),
        ([], None),
        ("", ("",)),
        (["a", 1], None),
        ({"a": 1}, None),
        (5, None),
    ],
    ids=repr,
)
async def test_stop_sequences_are_a_list_of_texts(
    fake: FakeWorkersAI, collected: Collected, stop: Any, recorded: tuple[str, ...] | None
) -> None:
    """A single text is a list of one. Anything else is sent, but not recorded."""
    fake.answers({"response": "Hello"})
    await collected.client(fake).run(MODEL, TextGeneration([user("Hi")], extra={"stop": stop}))
    assert attributes(collected.only()).get("gen_ai.request.stop_sequences") == recorded


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_either_limit_of_tokens_is_recorded(
    fake: FakeWorkersAI, collected: Collected, field: str
) -> None:
    """Both names of it."""
    fake.answers({"response": "Hello"})
    await collected.client(fake).run(MODEL, {"prompt": "Hi", field: 7})
    assert attributes(collected.only())["gen_ai.request.max_tokens"] == 7


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_without_id_or_model_has_neither(
    fake: FakeWorkersAI, collected: Collected, stream: bool
) -> None:
    """Nor has one in which they are no texts, or empty."""
    given = {"response": "Hello", "id": 5, "model": ""}
    ai = collected.client(fake)
    if stream:
        fake.streams(given)
        await ai.stream(MODEL, HI).collect()
    else:
        fake.answers(given)
        await ai.run(MODEL, HI)
    span = attributes(collected.only())
    assert not [name for name in span if name in ("gen_ai.response.id", "gen_ai.response.model")]


async def test_the_facts_of_a_call_through_a_gateway_are_recorded(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """The state of its cache, and what the call cost."""
    usage = {**USAGE, "neurons": 1.25}
    headers = {"cf-aig-cache-status": "HIT"}
    fake.answers({"response": "Hello", "usage": usage}, headers=headers)
    fake.answers({"response": "Hello"}, headers={"cf-ai-neurons": "2.5"})
    ai = collected.client(fake).with_options(gateway="gate")
    await ai.run(MODEL, HI)
    await ai.run(MODEL, HI)
    cached, priced = map(attributes, collected.spans.get_finished_spans())
    assert cached["cloudflare.ai_gateway.cache_status"] == "HIT"
    assert cached["cloudflare.workers_ai.neurons"] == 1.25
    assert priced["cloudflare.workers_ai.neurons"] == 2.5
    assert "cloudflare.ai_gateway.cache_status" not in priced


def test_the_seconds_of_a_stream_are_measured_from_the_beginning_or_the_last_token(
    collected: Collected,
) -> None:
    """In an observation's own terms: seconds since the call began."""
    meters = MeterProvider([collected.reader], shutdown_on_exit=False)
    observer = telemetry.spans(tracer_provider=collected.tracers, meter_provider=meters)
    observation = observer(Call("chat", MODEL, HI, stream=True, address="a.example", port=443))
    assert observation is not None
    observation.began(1.0)
    for text, seconds in [("a", 2.0), ("b", 2.5), ("c", 4.0)]:
        observation.token(Token(text), seconds)
    observation.ended(Ending(outcome="done", elapsed=5.0, answer=Text("abc")))
    points = {
        name: collected.points(f"gen_ai.client.operation.{name}")
        for name in ("time_to_first_chunk", "time_per_output_chunk", "duration")
    }
    assert {name: [(p.count, p.sum) for p in found] for name, found in points.items()} == {
        "time_to_first_chunk": [(1, 1.0)],
        "time_per_output_chunk": [(2, 2.0)],
        "duration": [(1, 5.0)],
    }
    assert attributes(collected.only())["gen_ai.response.time_to_first_chunk"] == 1.0


# What no exporter has a form for


@pytest.mark.parametrize("captures", [False, True])
@pytest.mark.parametrize(
    "more",
    [
        {"seed": float("nan")},
        {"max_tokens": float("inf")},
        {"temperature": 10**400},
        {"max_tokens": 2**70, "n": 2**70},
        {"prompt": 5},
        {"text": 7},
        {"tools": [{"function": "xyz"}]},
        {"tools": {"a": 1}},
        {"messages": 7},
        {"messages": [{"role": "user", "content": [5]}]},
        {"stop": ["\ud800"]},
        {"prompt": "\ud800"},
    ],
)
async def test_every_request_has_a_span_that_ends(
    fake: FakeWorkersAI, collected: Collected, more: dict[str, Any], captures: bool
) -> None:
    """Invalid attributes are dropped, and the call is measured all the same."""
    fake.always.answers({"response": "Hello"})
    ai = collected.client(fake, options={"capture_content": captures})
    try:
        await ai.run(MODEL, {"prompt": "Hi"} | more)
    except InputError:
        assert collected.only().status.status_code is StatusCode.ERROR
    assert collected.points("gen_ai.client.operation.duration")
    assert_sendable(collected.only())


def assert_sendable(span: ReadableSpan) -> None:
    for value in (span.name, *attributes(span).values()):
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, str):
                assert one.encode()
            else:
                assert math.isfinite(one)
                assert isinstance(one, float) or -(2**63) <= one < 2**63


async def test_every_answer_has_a_span_that_ends(fake: FakeWorkersAI, collected: Collected) -> None:
    """A header may contain invalid UTF-8."""
    fake.answers({"response": "Hello"}, headers={"cf-ray": "8c1-\xe9"})
    answer = await collected.client(fake).run(MODEL, HI)
    assert answer.meta.ray_id == "8c1-\udce9"
    assert attributes(collected.only())["cloudflare.ray_id"] == "8c1-?"
    assert_sendable(collected.only())


async def test_a_model_name_with_a_lone_surrogate_has_a_span(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """The call is refused, and its span says so."""
    with pytest.raises(InputError):
        await collected.client(fake).run("@cf/\ud800", HI)
    assert_sendable(collected.only())


class Unspeakable:
    """What even an error message can't be made of."""

    def __str__(self) -> str:
        raise LookupError("no words")


@pytest.mark.parametrize("parameters", [Unspeakable(), {("a", "b"): 1}], ids=["words", "keys"])
async def test_attributes_that_fail_are_logged_and_left_out(
    fake: FakeWorkersAI, collected: Collected, caplog: pytest.LogCaptureFixture, parameters: Any
) -> None:
    """The rest of the span is recorded."""
    ai = collected.client(fake, options={"capture_content": True})
    tools = [{"name": "x", "parameters": parameters}]
    with pytest.raises(InputError):
        await ai.run(MODEL, {"prompt": "Hi", "tools": tools, "seed": 7})
    span = attributes(collected.only())
    assert span["gen_ai.request.seed"] == 7
    assert "gen_ai.input.messages" in span
    assert "gen_ai.tool.definitions" not in span
    assert "a span lacks the content of the request" in caplog.text
    caplog.clear()


async def test_attributes_of_an_answer_that_fail_are_logged_and_left_out(
    collected: Collected, caplog: pytest.LogCaptureFixture
) -> None:
    """The call is measured, and its span ends, all the same."""
    meters = MeterProvider([collected.reader], shutdown_on_exit=False)
    observer = telemetry.spans(tracer_provider=collected.tracers, meter_provider=meters)
    observation = observer(Call("chat", MODEL, HI, stream=False, address="a.example", port=443))
    assert observation is not None
    reason: Any = 5
    answer = Text("Hello", finish_reason=reason, usage=Usage(12, 3, 15))
    observation.ended(Ending(outcome="done", elapsed=1.5, answer=answer))
    assert collected.only().end_time
    assert attributes(collected.only())["gen_ai.usage.input_tokens"] == 12
    (duration,) = collected.points("gen_ai.client.operation.duration")
    assert duration.sum == 1.5
    assert len(collected.points("gen_ai.client.token.usage")) == 2
    assert "a span lacks attributes of the answer" in caplog.text
    caplog.clear()


class Refusing(NoOpHistogram):
    """A measure that takes nothing."""

    def record(self, amount: float, *_: Any, **__: Any) -> None:
        raise OSError(f"no room for {amount}")


class RefusingMeter(NoOpMeter):
    def create_histogram(self, name: str, *_: Any, **__: Any) -> Histogram:
        return Refusing(name)


class RefusingMeters(NoOpMeterProvider):
    def get_meter(self, name: str, *_: Any, **__: Any) -> Meter:
        return RefusingMeter(name)


async def test_a_span_ends_if_the_metrics_fail(
    fake: FakeWorkersAI, collected: Collected, caplog: pytest.LogCaptureFixture
) -> None:
    """Errors of the program's metrics are logged."""
    observer = telemetry.spans(tracer_provider=collected.tracers, meter_provider=RefusingMeters())
    fake.answers({"response": "Hello"})
    assert (await fake.client(observers=[observer]).run(MODEL, HI)).text == "Hello"
    assert collected.only().end_time
    assert "an observer failed at ended()" in caplog.text
    caplog.clear()


# Content


WEATHER = Tool("get_weather", "Look it up.", {"city": {"type": "string"}})
TALK = TextGeneration(
    [
        system("Be brief."),
        user("What is it?", ImagePart(PNG)),
        assistant(tool_calls=[ToolCall("get_weather", {"city": "Lima"}, "1")]),
        tool_result("dry", "1"),
    ],
    tools=[WEATHER],
)


async def test_content_is_not_captured_by_default(
    fake: FakeWorkersAI, collected: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the question nor the answer is in a span."""
    monkeypatch.delenv(telemetry.CAPTURE, raising=False)
    fake.answers({"response": "the answer itself"})
    await collected.client(fake).run(MODEL, TALK)
    assert "messages" not in collected.only().to_json()
    assert "get_weather" not in collected.only().to_json()
    assert "the answer itself" not in collected.only().to_json()


@pytest.mark.parametrize(
    ("variable", "argument", "captures"),
    [
        ("true", None, True),
        ("SPAN_ONLY", None, True),
        ("span_and_event", None, True),
        (" 1 ", None, True),
        ("", None, False),
        ("event_only", None, False),
        ("no_content", None, False),
        ("true", False, False),
        ("false", True, True),
    ],
)
async def test_content_is_captured_by_argument_or_environment(
    fake: FakeWorkersAI,
    collected: Collected,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variable: str,
    argument: bool | None,
    captures: bool,
) -> None:
    """The argument wins over OpenTelemetry's environment variable. Nothing fails on the way."""
    monkeypatch.setenv(telemetry.CAPTURE, variable)
    fake.answers({"response": "Hello"})
    await collected.client(fake, options={"capture_content": argument}).run(MODEL, HI)
    assert ("gen_ai.input.messages" in attributes(collected.only())) == captures
    assert not caplog.records


async def test_captured_messages_have_the_form_of_the_conventions(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """Roles and parts; an image has its kind, but not its bytes."""
    calls = [{"name": "get_weather", "arguments": {"city": "Cusco"}}]
    fake.answers({"response": "Wait.", "tool_calls": calls, "finish_reason": "tool_calls"})
    await collected.client(fake, options={"capture_content": True}).run(MODEL, TALK)
    span = attributes(collected.only())
    lima = {"type": "tool_call", "id": "1", "name": "get_weather", "arguments": {"city": "Lima"}}
    assert json.loads(span["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {
            "role": "user",
            "parts": [{"type": "text", "content": "What is it?"}, {"type": "image"}],
        },
        {"role": "assistant", "parts": [lima]},
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "1", "response": "dry"}],
        },
    ]
    (message,) = json.loads(span["gen_ai.output.messages"])
    assert message["role"] == "assistant"
    assert message["finish_reason"] == "tool_calls"
    assert [part["type"] for part in message["parts"]] == ["text", "tool_call"]
    assert message["parts"][1]["arguments"] == {"city": "Cusco"}
    (tool,) = json.loads(span["gen_ai.tool.definitions"])
    assert (tool["type"], tool["name"]) == ("function", "get_weather")


@pytest.mark.parametrize("stream", [False, True])
async def test_the_parts_of_an_answer_are_captured(
    fake: FakeWorkersAI, collected: Collected, stream: bool
) -> None:
    """The reasoning first; texts stay readable, since JSON needs no escapes for them."""
    message = {"reasoning_content": "Grübeln", "content": "Größe"}
    ai = collected.client(fake, options={"capture_content": True})
    if stream:
        fake.streams({"choices": [{"delta": message}]})
        await ai.stream(MODEL, HI).collect()
    else:
        fake.answers({"choices": [{"message": message}]})
        await ai.run(MODEL, HI)
    captured = attributes(collected.only())["gen_ai.output.messages"]
    assert "Größe" in captured
    assert json.loads(captured) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Grübeln"},
                {"type": "text", "content": "Größe"},
            ],
            "finish_reason": "",
        }
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_without_content_captures_none(
    fake: FakeWorkersAI, collected: Collected, stream: bool
) -> None:
    """Nothing is logged for it, either."""
    ai = collected.client(fake, options={"capture_content": True})
    if stream:
        fake.streams({"response": ""})
        await ai.stream(MODEL, HI).collect()
    else:
        fake.answers({"response": ""})
        await ai.run(MODEL, HI)
    assert "gen_ai.input.messages" in attributes(collected.only())
    assert "gen_ai.output.messages" not in attributes(collected.only())


PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
LOOK = {"name": "look", "description": "Look.", "parameters": PARAMETERS}


@pytest.mark.parametrize(
    ("tools", "captured"),
    [
        ([{"type": "function", "function": LOOK}], [{"type": "function", **LOOK}]),
        ([LOOK], [{"type": "function", **LOOK}]),
        ([{"type": "web_search"}], [{"type": "web_search"}]),
        ([5, LOOK], [{"type": "other"}, {"type": "function", **LOOK}]),
        ((LOOK,), [{"type": "function", **LOOK}]),
        ([], None),
        ({"a": 1}, None),
        ("look", None),
    ],
    ids=repr,
)
async def test_definitions_of_tools_are_captured_in_one_form(
    fake: FakeWorkersAI, collected: Collected, tools: Any, captured: Any
) -> None:
    """Whatever form they are sent in; of what is no definition, only that it was there."""
    fake.answers({"response": "Hello"})
    ai = collected.client(fake, options={"capture_content": True})
    await ai.run(MODEL, {"prompt": "Hi", "tools": tools})
    given = attributes(collected.only()).get("gen_ai.tool.definitions")
    assert (None if given is None else json.loads(given)) == captured


@pytest.mark.parametrize("kind", [Tool, Function])
async def test_definitions_as_values_are_captured_like_those_as_mappings(
    fake: FakeWorkersAI, collected: Collected, kind: type[Tool | Function]
) -> None:
    """With the schema that is sent."""
    fake.answers({"response": "Hello"})
    task = TextGeneration([user("Hi")], tools=[kind("look", "Look.", PARAMETERS)])
    await collected.client(fake, options={"capture_content": True}).run(MODEL, task)
    (tool,) = json.loads(attributes(collected.only())["gen_ai.tool.definitions"])
    (sent,) = fake.requests[0].json()["tools"]
    assert tool == {"type": "function", **sent.get("function", sent)}
    assert (tool["name"], tool["description"]) == ("look", "Look.")


async def test_the_texts_of_embeddings_are_not_captured(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """They are documents, not messages."""
    fake.answers({"shape": [1, 2], "data": [[0.5, 1.5]]})
    await collected.client(fake, options={"capture_content": True}).embed(EMBEDDER, "Hi")
    assert not [name for name in attributes(collected.only()) if "messages" in name]


async def test_messages_of_unknown_form_are_captured_without_content(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """An open run may contain anything; it is sent, and has a span."""
    fake.answers({"response": "Hello"})
    task = {"messages": [5, {"role": "user", "content": [{"type": "x", "y": 1}]}], "tools": [5]}
    ai = collected.client(fake, options={"capture_content": True})
    assert (await ai.run(MODEL, task))["response"] == "Hello"
    first, second = json.loads(attributes(collected.only())["gen_ai.input.messages"])
    assert first == {"role": "other", "parts": []}
    assert second == {"role": "user", "parts": [{"type": "x"}]}


@pytest.mark.parametrize(
    ("asked", "messages"),
    [
        ({"messages": "Hi"}, [("user", [{"type": "text", "content": "Hi"}])]),
        ({"input": "Hi"}, [("user", [{"type": "text", "content": "Hi"}])]),
        (
            {"input": ["a", "b"]},
            [("user", [{"type": "text", "content": text}]) for text in "ab"],
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]},
            [("user", [{"type": "text", "content": "Hi"}])],
        ),
        (
            {
                "input": [
                    {"type": "message", "role": "user", "content": "Lima?"},
                    {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "1", "output": "dry"},
                    {"type": "reasoning", "summary": []},
                ]
            },
            [
                ("user", [{"type": "text", "content": "Lima?"}]),
                (
                    "assistant",
                    [{"type": "tool_call", "id": "1", "name": "f", "arguments": "{}"}],
                ),
                ("tool", [{"type": "tool_call_response", "id": "1", "response": "dry"}]),
                ("other", []),
            ],
        ),
        (
            {"text": ["a", "b"]},
            [("user", [{"type": "text", "content": "a"}, {"type": "text", "content": "b"}])],
        ),
    ],
)
async def test_the_input_of_an_open_run_is_captured_in_its_form(
    fake: FakeWorkersAI,
    collected: Collected,
    asked: dict[str, Any],
    messages: list[tuple[str, Any]],
) -> None:
    """One text is one message; the Responses form is a conversation."""
    fake.answers({"response": "Hello"})
    ai = collected.client(fake, options={"capture_content": True})
    await ai.run(MODEL, asked | {"instructions": "Be brief."})
    span = attributes(collected.only())
    captured = json.loads(span["gen_ai.input.messages"])
    assert [(one["role"], one["parts"]) for one in captured] == messages
    assert json.loads(span["gen_ai.system_instructions"]) == [
        {"type": "text", "content": "Be brief."}
    ]


# Traces


async def test_requests_carry_the_span_as_traceparent(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """In the caller's trace. Baggage is not sent."""
    fake.answers({"response": "Hello"}).streams("Hello")
    ai = collected.client(fake)
    token = context.attach(baggage.set_baggage("user", "42"))
    with collected.tracers.get_tracer("app").start_as_current_span("request") as parent:
        await ai.run(MODEL, HI)
        await ai.stream(MODEL, HI).collect()
    context.detach(token)
    *spans, _ = collected.spans.get_finished_spans()
    for request, span in zip(fake.requests, spans, strict=True):
        own = span.get_span_context()
        assert own is not None
        assert span.parent == parent.get_span_context()
        sent = request.headers["traceparent"]
        assert sent.startswith(f"00-{own.trace_id:032x}-{own.span_id:016x}-")
        assert "baggage" not in request.headers


async def test_requests_carry_no_traceparent_if_propagation_is_off(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """`propagate=False` keeps the trace to yourself."""
    fake.answers({"response": "Hello"})
    await collected.client(fake, options={"propagate": False}).run(MODEL, HI)
    assert "traceparent" not in fake.requests[0].headers


async def test_the_span_is_current_only_during_the_request(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """Spans started meanwhile are its children; those of a stream's reader are not."""
    inside: list[Any] = []
    fake.fails(429, 3040, "busy").streams("Hel", "lo")
    ai = collected.client(fake).with_options(
        retries=Retries(base=0, on_retry=lambda _: inside.append(trace.get_current_span()))
    )
    before = context.get_current()
    async with ai.stream(MODEL, HI) as tokens:
        async for _ in tokens:
            assert context.get_current() == before
            assert not trace.get_current_span().get_span_context().is_valid
    assert context.get_current() == before
    assert [span.get_span_context() for span in inside] == [collected.only().get_span_context()]


@pytest.mark.parametrize("stream", [False, True])
async def test_turns_and_tools_of_a_run_are_in_the_readers_trace(
    fake: FakeWorkersAI, collected: Collected, stream: bool
) -> None:
    """Each turn has a span. Tools may start their own, async or in threads."""
    tracer = collected.tracers.get_tracer("app")

    def near() -> str:
        """Look here."""
        with tracer.start_as_current_span("near"):
            return "dry"

    async def far() -> str:
        """Look there."""
        with tracer.start_as_current_span("far"):
            return "wet"

    calls = {"response": "", "tool_calls": [{"name": "near"}, {"name": "far"}]}
    if stream:
        fake.streams(calls).streams("Hello")
    else:
        fake.answers(calls).answers({"response": "Hello"})
    with tracer.start_as_current_span("reader") as reader:
        run = collected.client(fake).run_tools(
            MODEL, [user("Hi")], tools=[near, far], stream=stream
        )
        assert (await run).answer.text == "Hello"
    *spans, _ = collected.spans.get_finished_spans()
    assert sorted(span.name for span in spans) == [f"chat {MODEL}", f"chat {MODEL}", "far", "near"]
    assert all(span.parent == reader.get_span_context() for span in spans)


async def test_parse_has_a_span_and_another_for_its_repair(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """The service answered both, so neither is an error."""
    fake.answers({"response": "four"}).answers({"response": "4"})
    assert await collected.client(fake).parse(MODEL, HI, into=int, repair=1) == 4
    spans = collected.spans.get_finished_spans()
    assert [span.status.status_code for span in spans] == [StatusCode.UNSET] * 2


async def test_a_stream_may_be_opened_and_read_in_different_tasks(
    fake: FakeWorkersAI, collected: Collected, caplog: pytest.LogCaptureFixture
) -> None:
    """The context of neither task changes."""
    fake.streams("Hel", "lo")
    tokens = await asyncio.create_task(collected.client(fake).stream(MODEL, HI).open())
    assert await asyncio.create_task(tokens.collect()) == Text("Hello")
    assert collected.only().end_time
    assert not caplog.records


async def test_concurrent_calls_do_not_mix(fake: FakeWorkersAI, collected: Collected) -> None:
    """A hundred calls in a hundred tasks: each span and request in its own trace."""
    ai = collected.client(fake)
    tracer = collected.tracers.get_tracer("app")
    fake.always.streams("Hel", "lo")

    async def one(number: int) -> None:
        with tracer.start_as_current_span(f"request {number}") as parent:
            mine = trace.get_current_span()
            async for _ in ai.stream(MODEL, Prompt(str(number))):
                assert trace.get_current_span() is mine
            assert parent is mine

    async with asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(one(number))

    spans = collected.spans.get_finished_spans()
    parents = {s.get_span_context().trace_id: s for s in spans if s.name.startswith("request")}  # type: ignore[union-attr]  # a span has one
    calls = {s.get_span_context().span_id: s for s in spans if s.name.startswith("text")}  # type: ignore[union-attr]  # a span has one
    assert len(parents) == len(calls) == 100
    for request in fake.requests:
        _, trace_id, span_id, _ = request.headers["traceparent"].split("-")
        assert parents[int(trace_id, 16)].name == f"request {request.json()['prompt']}"
        assert calls[int(span_id, 16)].context.trace_id == int(trace_id, 16)


async def test_spans_that_are_not_sampled_build_no_attributes(
    fake: FakeWorkersAI, collected: Collected
) -> None:
    """Metrics are still recorded."""
    quiet = Collected(tracers=TracerProvider(sampler=ALWAYS_OFF))
    fake.answers({"response": "Hello"})
    await quiet.client(fake, options={"capture_content": True}).run(MODEL, HI)
    assert not quiet.spans.get_finished_spans()
    assert quiet.points("gen_ai.client.operation.duration")


def test_without_opentelemetry_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cfai.telemetry._spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(MissingExtra) as caught:
        telemetry.spans()
    assert str(caught.value) == "telemetry.spans() needs an extra: pip install 'cfai-sdk[otel]'"


async def test_runs_work_without_a_configured_sdk(fake: FakeWorkersAI) -> None:
    """With OpenTelemetry's API alone."""
    fake.answers({"response": "Hello"})
    ai = fake.client(observers=[telemetry.spans()])
    assert (await ai.run(MODEL, HI)).text == "Hello"


def test_integers_of_64_bits_are_sent() -> None:
    """Exporters reject larger ones, with the whole batch of spans."""
    given = {"a": -(2**63), "b": -(2**63) - 1, "c": 2**63 - 1, "d": 2**63, "e": math.inf, "f": -1.5}
    assert drop_unsendable(given) == {"a": -(2**63), "c": 2**63 - 1, "f": -1.5}


@pytest.mark.parametrize("cut", [False, True])
async def test_a_session_of_speech_is_one_span(fake: FakeWorkersAI, cut: bool) -> None:
    collected = Collected()
    results = {"channel": {"alternatives": [{"transcript": "private words"}]}, "is_final": True}
    fake.fails(429, 3040, "busy")
    fake.connects(
        {"type": "Results", **results}, close=1011 if cut else 1000, headers={"cf-ray": "8f1-AMS"}
    )
    ai = collected.client(fake)
    ears = ai.listen("@cf/deepgram/nova-3", encoding="opus", audio=b"sound")
    if cut:
        with pytest.raises(StreamInterrupted):
            await ears.finish()
    else:
        await ears.finish()
    span = collected.only()
    assert span.name == "transcription @cf/deepgram/nova-3"
    attributes = dict(span.attributes or {})
    assert attributes["http.response.status_code"] == 101
    assert attributes["http.request.resend_count"] == 1
    assert attributes["cloudflare.ray_id"] == "8f1-AMS"
    assert attributes.get("error.type") == ("StreamInterrupted" if cut else None)
    assert [event.name for event in span.events] == ["retry"]
    assert "private words" not in span.to_json()
    assert "fake-api-token" not in span.to_json()
