"""The observer that makes spans and metrics. The only module that imports OpenTelemetry."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from opentelemetry.metrics import Histogram, MeterProvider, get_meter
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
    get_tracer,
    set_span_in_context,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cfai._version import __version__
from cfai.observers import Call, Ending, Observation
from cfai.settings import Retry
from cfai.tasks import Token
from cfai.telemetry import _attributes as attributes, _content as content

# The boundaries that the conventions give for each.
_SECONDS: Final = [0.01 * 2**n for n in range(14)]
_TOKENS: Final = [4**n for n in range(14)]

_NAME: Final = "cfai"
_LOG: Final = logging.getLogger(_NAME)
_TRACEPARENT: Final = TraceContextTextMapPropagator()


class Spans:
    """Gives each call that it is told of a span, and records its metrics."""

    def __init__(
        self,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        *,
        capture_content: bool,
        propagate: bool,
    ) -> None:
        self.captures = capture_content
        self.propagates = propagate
        self._tracer = get_tracer(_NAME, __version__, tracer_provider)
        meter = get_meter(_NAME, __version__, meter_provider)

        def seconds(name: str, description: str) -> Histogram:
            return meter.create_histogram(
                f"gen_ai.client.operation.{name}",
                unit="s",
                description=description,
                explicit_bucket_boundaries_advisory=_SECONDS,
            )

        self.duration = seconds("duration", "GenAI operation duration.")
        self.first_chunk = seconds("time_to_first_chunk", "Time to receive the first chunk.")
        self.per_chunk = seconds("time_per_output_chunk", "Time between two chunks.")
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )

    def __call__(self, call: Call) -> Observation:
        """Start the span of a call: a child of what is current where the call is made."""
        span = self._tracer.start_span(
            attributes.clean(f"{call.operation} {call.model}"),
            kind=SpanKind.CLIENT,
            attributes=attributes.identity(call),
        )
        return _SpanOfCall(self, span, call)


class _SpanOfCall(Observation):
    def __init__(self, spans: Spans, span: Span, call: Call) -> None:
        self._spans = spans
        self._span = span
        self._identity = attributes.identity(call)
        self._latest = 0.0
        """When the latest chunk came, in seconds since the call began."""
        self._chunks = 0
        # An open run may hold anything. Whatever is wrong with it, the span began and has to end.
        if span.is_recording():
            with _guarded("what was asked"):
                self._say(attributes.request(call))
            if spans.captures:
                for part in (content.question, content.instructions, content.tools):
                    with _guarded("the content of what was asked"):
                        self._say(part(call))

    def _say(self, found: Mapping[str, Any]) -> None:
        self._span.set_attributes(attributes.sendable(found))

    def headers(self) -> Mapping[str, str]:
        # Baggage is left out: it is the program's own, and the request leaves the house.
        carrier: dict[str, str] = {}
        if self._spans.propagates:
            _TRACEPARENT.inject(carrier, set_span_in_context(self._span))
        return carrier

    def running(self) -> AbstractContextManager[object]:
        return use_span(self._span, record_exception=False, set_status_on_exception=False)

    def retried(self, retry: Retry) -> None:
        self._span.add_event("retry", attributes.sendable(attributes.repeated(retry)))

    def began(self, seconds: float) -> None:
        self._latest = seconds
        self._span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)
        self._spans.first_chunk.record(seconds, self._identity)

    def token(self, token: Token, seconds: float) -> None:
        self._chunks += 1
        if self._chunks == 1:
            named = attributes.sendable(attributes.spoken(token.raw))
            self._span.set_attributes(named)
            if model := named.get("gen_ai.response.model"):
                self._identity["gen_ai.response.model"] = model
        else:
            self._spans.per_chunk.record(seconds - self._latest, self._identity)
        self._latest = seconds

    def ended(self, ending: Ending) -> None:
        try:
            self._tell(ending)
        finally:
            self._span.end()

    def _tell(self, ending: Ending) -> None:
        failed = attributes.failure(ending.error) if ending.outcome == "failed" else {}
        answer, said = ending.answer, attributes.Attributes()
        with _guarded("what was answered"):
            answer = attributes.understood(ending.answer)
            raw = getattr(ending.answer, "raw", None)
            said = attributes.sendable(attributes.response(answer, raw, ending.meta))
        if model := said.get("gen_ai.response.model"):
            self._identity["gen_ai.response.model"] = model
        usage = attributes.sendable(attributes.usage(getattr(answer, "usage", None)))
        self._spans.duration.record(ending.elapsed, self._identity | failed)
        if ending.outcome == "done":
            self._count(usage)
        if self._span.is_recording():
            self._say(said | usage | failed)
            self._tell_outcome(ending)
            if self._spans.captures:
                with _guarded("the content of what was answered"):
                    self._say(content.answer(answer))

    def _count(self, usage: attributes.Attributes) -> None:
        for kind in ("input", "output"):
            count = usage.get(f"gen_ai.usage.{kind}_tokens")
            if isinstance(count, int):
                self._spans.tokens.record(count, self._identity | {"gen_ai.token.type": kind})

    def _tell_outcome(self, ending: Ending) -> None:
        if ending.outcome == "failed":
            self._span.set_status(Status(StatusCode.ERROR, attributes.description(ending.error)))
        elif ending.outcome != "done":
            # Somebody's wish, and no error; but no whole answer either.
            self._span.set_attribute("cfai.outcome", ending.outcome)


@contextmanager
def _guarded(what: str) -> Iterator[None]:
    try:
        yield
    except Exception:
        _LOG.exception("a span goes without %s", what)
