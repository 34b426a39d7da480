"""OpenTelemetry spans and metrics for the runs of a client. Needs the extra `otel`.

They follow OpenTelemetry's semantic conventions for generative AI. The conventions are still in
development, so names of attributes may change.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cfai.errors import MissingExtra
from cfai.observers import Observer

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["spans"]

CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The environment variable that turns on the capture of messages."""


def spans(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    capture_content: bool | None = None,
    propagate: bool = True,
) -> Observer:
    """Build an observer that records a span and metrics for each run.

    ```python
    ai = WorkersAI(observers=[telemetry.spans()])
    ```

    Args:
        tracer_provider: Receives the spans; by default the global one.
        meter_provider: Receives the metrics; by default the global one.
        capture_content: Whether spans contain the messages sent and received. By default,
            `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` decides ("true" or "span_only");
            without that variable, spans don't contain them.
        propagate: Whether requests carry the span's id (`traceparent`), so that the records of an
            AI Gateway belong to the same trace.

    Raises:
        MissingExtra: OpenTelemetry's API is not installed.
    """
    try:
        from cfai.telemetry._spans import Spans
    except ModuleNotFoundError as exc:
        raise MissingExtra("otel", needed_for="telemetry.spans()") from exc
    if capture_content is None:
        setting = os.environ.get(CAPTURE, "").strip().lower()
        capture_content = setting in ("true", "1", "span_only", "span_and_event")
    return Spans(
        tracer_provider, meter_provider, capture_content=capture_content, propagate=propagate
    )
