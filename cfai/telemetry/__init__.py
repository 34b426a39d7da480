"""OpenTelemetry for the runs of a client: a span each, and metrics.

They follow OpenTelemetry's semantic conventions for generative AI, which are in development there:
names of attributes may still change with them. Needs the extra `otel`.
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
"""The variable that has spans carry what was asked and answered."""


def spans(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    capture_content: bool | None = None,
    propagate: bool = True,
) -> Observer:
    """Make an observer that gives each run a span, and measures it.

    ```python
    ai = WorkersAI(observers=[telemetry.spans()])
    ```

    Args:
        tracer_provider: Where the spans go; else the program's own.
        meter_provider: Where the metrics go; else the program's own.
        capture_content: Whether spans carry the messages that were sent and received. Else
            `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` decides ("true", or "span_only");
            without that, they don't.
        propagate: Whether requests carry the span's id (`traceparent`), so that what an AI Gateway
            records of them belongs to the same trace.

    Raises:
        MissingExtra: OpenTelemetry's API is not installed.
    """
    try:
        from cfai.telemetry._spans import Spans
    except ModuleNotFoundError as exc:
        raise MissingExtra("otel", needed_for="telemetry.spans()") from exc
    if capture_content is None:
        said = os.environ.get(CAPTURE, "").strip().lower()
        capture_content = said in ("true", "1", "span_only", "span_and_event")
    return Spans(
        tracer_provider, meter_provider, capture_content=capture_content, propagate=propagate
    )
