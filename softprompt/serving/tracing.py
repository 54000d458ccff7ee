"""OpenTelemetry traces, where the extra `tracing` is installed and OTEL_EXPORTER_OTLP_ENDPOINT says where they go.

One span a request, a child of whatever trace the client is in; names, numbers and digests, never a text.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from softprompt import __version__
from softprompt.errors import InvalidRequest


class Span:
    """One request's span; this one records nothing.

    Args:
        span: OpenTelemetry's; None: traces are off.
    """

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def end_with(self, status: int, facts: Mapping[str, Any]) -> None:
        """What became of the request."""
        if self._span is None:
            return
        self._span.set_attribute("http.response.status_code", status)
        for key, value in facts.items():
            self._span.set_attribute(f"softprompt.{key}", value)
        if status >= 500:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR))


class Tracing:
    """Makes spans.

    Args:
        provider: OpenTelemetry's tracer provider; None: nothing is traced.
    """

    def __init__(self, provider: Any = None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("softprompt.serving", __version__) if provider else None

    @classmethod
    def from_environment(cls) -> "Tracing":
        """Traces to OTEL_EXPORTER_OTLP_ENDPOINT; off where that is not set.

        Raises:
            InvalidRequest: It is set, and the packages are missing.
        """
        if not (os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
            return cls()
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise InvalidRequest(
                "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, and the packages for them are not installed.",
                actual=str(error),
                hint="pip install 'softprompt[tracing]', or unset it.",
            ) from None
        provider = TracerProvider(resource=Resource.create({"service.name": "softprompt"}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    @contextmanager
    def request(self, method: str, path: str, headers: Mapping[str, str]) -> Iterator[Span]:
        """A span around one request; `path` is the client's and so is not part of the span's name."""
        if self._tracer is None:
            yield Span()
            return
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract(dict(headers))
        with self._tracer.start_as_current_span(
            f"softprompt {method}", context=parent, kind=SpanKind.SERVER, record_exception=False
        ) as span:
            span.set_attribute("http.request.method", method)
            span.set_attribute("url.path", path)
            yield Span(span)

    def shutdown(self) -> None:
        """Send what has not been sent."""
        if self._provider is not None:
            self._provider.shutdown()
