"""The observer that records spans and metrics. The only module that imports OpenTelemetry."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final

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

from cfai._wire.version import __version__
from cfai.observers import Call, Ending, Observation
from cfai.settings import Retry
from cfai.tasks import Token
from cfai.telemetry import _attributes as attributes

# Bucket boundaries from the semantic conventions.
_SECONDS: Final = [0.01 * 2**n for n in range(14)]
_TOKENS: Final = [4**n for n in range(14)]

_NAME: Final = "cfai"
_LOG: Final = logging.getLogger(_NAME)
_TRACEPARENT: Final = TraceContextTextMapPropagator()


class Spans:
    """An observer that records a span and metrics for each call."""

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
        """Start the span of a call, as a child of the current span."""
        span = self._tracer.start_span(
            attributes.replace_surrogates(f"{call.operation} {call.model}"),
            kind=SpanKind.CLIENT,
            attributes=attributes.call_attributes(call),
        )
        return _CallSpan(self, span, call)


class _CallSpan(Observation):
    def __init__(self, spans: Spans, span: Span, call: Call) -> None:
        self._spans = spans
        self._span = span
        self._redact = call.redact
        self._metric_attributes = attributes.call_attributes(call)
        self._latest: float | None = None
        """When the latest chunk arrived, in seconds since the call began."""
        self._retries = 0
        # An open run may contain anything. The span has to end even if its attributes fail.
        if span.is_recording():
            with _log_errors("attributes of the request"):
                self._set(attributes.request_attributes(call))
            if spans.captures:
                messages = attributes.input_content, attributes.instruction_content
                for content in (*messages, attributes.tool_content):
                    with _log_errors("the content of the request"):
                        self._set(content(call))

    def _set(self, values: attributes.Attributes) -> None:
        self._span.set_attributes(self._hide_secrets(values))

    def _hide_secrets(self, values: attributes.Attributes) -> attributes.Attributes:
        """Redact values: what the user sends and the service answers may repeat credentials."""
        return {
            name: attributes.redact_value(value, self._redact) for name, value in values.items()
        }

    def headers(self) -> Mapping[str, str]:
        # No baggage: it belongs to the program, and the request goes to another party.
        carrier: dict[str, str] = {}
        if self._spans.propagates:
            _TRACEPARENT.inject(carrier, set_span_in_context(self._span))
        return carrier

    def running(self) -> AbstractContextManager[object]:
        return use_span(self._span)  # Errors of the request are reported to `ended` alone.

    def retried(self, retry: Retry) -> None:
        self._retries += 1
        self._span.add_event("retry", attributes.retry_attributes(retry))

    def began(self, seconds: float) -> None:
        self._span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)
        self._spans.first_chunk.record(seconds, self._metric_attributes)

    def token(self, token: Token, seconds: float) -> None:
        if self._latest is None:
            ids = self._hide_secrets(attributes.response_id_attributes(token.raw))
            self._span.set_attributes(ids)
            if model := ids.get("gen_ai.response.model"):
                self._metric_attributes["gen_ai.response.model"] = model
        else:
            self._spans.per_chunk.record(seconds - self._latest, self._metric_attributes)
        self._latest = seconds

    def ended(self, ending: Ending) -> None:
        try:
            self._record_end(ending)
        finally:
            self._span.end()

    def _record_end(self, ending: Ending) -> None:
        error = attributes.error_attributes(ending.error) if ending.outcome == "failed" else {}
        answer, response = ending.answer, attributes.Attributes()
        with _log_errors("attributes of the answer"):
            answer = attributes.text_answer(ending.answer)
            raw = getattr(ending.answer, "raw", None)
            described = attributes.response_attributes(answer, raw, ending.meta)
            response = self._hide_secrets(described)
        if self._retries:
            response["http.request.resend_count"] = self._retries
        if model := response.get("gen_ai.response.model"):
            self._metric_attributes["gen_ai.response.model"] = model
        usage = attributes.usage_attributes(getattr(answer, "usage", None))
        self._spans.duration.record(ending.elapsed, self._metric_attributes | error)
        if ending.outcome == "done":
            for kind in ("input", "output"):
                if isinstance(count := usage.get(f"gen_ai.usage.{kind}_tokens"), int):
                    measured = self._metric_attributes | {"gen_ai.token.type": kind}
                    self._spans.tokens.record(count, measured)
        if self._span.is_recording():
            self._span.set_attributes(response | usage | error)
            self._set_status(ending)
            if self._spans.captures:
                with _log_errors("the content of the answer"):
                    self._set(attributes.output_content(answer))

    def _set_status(self, ending: Ending) -> None:
        if ending.outcome == "failed":
            self._span.set_status(
                Status(StatusCode.ERROR, attributes.status_description(ending.error))
            )
        elif ending.outcome != "done":
            # The caller ended it: not an error, but not a complete answer either.
            self._span.set_attribute("cfai.outcome", ending.outcome)


@contextmanager
def _log_errors(part: str) -> Iterator[None]:
    try:
        yield
    except Exception:
        _LOG.exception("a span lacks %s", part)
