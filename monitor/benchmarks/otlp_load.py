"""An instrumented RAG service under load, for `groundwatch bench sidecar`: OpenTelemetry's own SDK and OTLP exporter.

Runs as a process of its own (`python -m monitor.benchmarks.otlp_load`), so that it and what it measures do not share
an interpreter; prints one JSON object.
"""

import argparse
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer

MODES = ("service", "export", "flood")
SPANS_A_TRACE = 6
_BATCH_TRACES = 80
_KIND = "openinference.span.kind"
_PASSAGE = "The office opens at nine on weekdays and at ten on Saturdays; on Sundays it stays closed. " * 11
_THREADS = 16
_LEAD_SECONDS = 0.5
_ANSWER_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Seconds that each call took, calls that failed, and the calls a second that really came about."""

    seconds: list[float]
    failed: int
    rate: float


def answer_question(tracer: Tracer, number: int) -> None:
    """The spans of one answered question, about 9 KB as OTLP, as OpenInference's LangChain instrumentor makes them."""
    question = f"When does office {number} open?"
    with tracer.start_as_current_span("RunnableSequence", attributes={_KIND: "CHAIN", "input.value": question}) as root:
        with (
            tracer.start_as_current_span("RunnableParallel", attributes={_KIND: "CHAIN", "input.value": question}),
            tracer.start_as_current_span(
                "Retriever", attributes={_KIND: "RETRIEVER", "input.value": question}
            ) as found,
        ):
            for place in range(4):
                prefix = f"retrieval.documents.{place}.document"
                found.set_attributes({f"{prefix}.id": f"d{place}", f"{prefix}.content": _PASSAGE})
        with tracer.start_as_current_span("ChatPromptTemplate", attributes={_KIND: "PROMPT"}):
            pass
        with tracer.start_as_current_span("ChatModel", attributes={_KIND: "LLM", "llm.model_name": "bench"}) as said:
            prompt = f"Answer from this context only.\n\n{_PASSAGE * 4}\n\n{question}"
            said.set_attributes(
                {
                    "llm.input_messages.0.message.role": "user",
                    "llm.input_messages.0.message.content": prompt,
                    "llm.output_messages.0.message.role": "assistant",
                    "llm.output_messages.0.message.content": "At nine.",
                }
            )
        with tracer.start_as_current_span("StrOutputParser", attributes={_KIND: "CHAIN", "output.value": "At nine."}):
            pass
        root.set_attribute("output.value", "At nine.")


def at_rate(work: Sequence[Callable[[], bool]], rate: float) -> Measured:
    """Do each piece of work at its time, whether or not the last is done, as requests come to a service."""
    began = time.perf_counter() + _LEAD_SECONDS
    places = iter(range(len(work)))
    taking = threading.Lock()
    seconds: list[float] = []
    failures: list[int] = []

    def run() -> None:
        while True:
            with taking:
                place = next(places, None)
            if place is None:
                return
            due = began + place / rate
            time.sleep(max(0.0, due - time.perf_counter()))  # an open load: its pace is not the endpoint's
            started = time.perf_counter()
            if not work[place]():
                failures.append(place)
            seconds.append(time.perf_counter() - started)

    with ThreadPoolExecutor(_THREADS) as pool:
        for done in [pool.submit(run) for _ in range(_THREADS)]:
            done.result()
    return Measured(seconds=seconds, failed=len(failures), rate=len(work) / (time.perf_counter() - began))


class _Kept(SpanExporter):
    """Keeps spans, to be exported when the measurement wants."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


@contextmanager
def _tracer(processor: SimpleSpanProcessor | BatchSpanProcessor | None) -> Iterator[Tracer]:
    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}), shutdown_on_exit=False)
    if processor is not None:
        provider.add_span_processor(processor)
    yield provider.get_tracer("groundwatch.bench")
    provider.force_flush()
    provider.shutdown()


def _made(traces: int) -> list[list[ReadableSpan]]:
    kept = _Kept()
    with _tracer(SimpleSpanProcessor(kept)) as tracer:
        for number in range(traces):
            answer_question(tracer, number)
    return [kept.spans[start : start + SPANS_A_TRACE] for start in range(0, len(kept.spans), SPANS_A_TRACE)]


def service(url: str | None, *, rate: float, traces: int) -> Measured:
    """What tracing costs a request's own thread, with the exporter in the background as it is by default.

    Without a URL nothing is exported.
    """
    processor = BatchSpanProcessor(OTLPSpanExporter(url)) if url else None
    with _tracer(processor) as tracer:

        def request(number: int) -> Callable[[], bool]:
            def answered() -> bool:
                answer_question(tracer, number)
                return True

            return answered

        return at_rate([request(number) for number in range(traces)], rate)


def export(url: str, *, rate: float, traces: int) -> Measured:
    """What a caller waits for that sends each trace itself and waits for the answer.

    The SDK's encoder makes the exports beforehand, and they go over plain connections that are kept open: the SDK's
    own exporter takes 1.3 ms of this process's time an export, more than what is to be measured.
    """
    target = urlsplit(url)
    connections = threading.local()

    def sending(body: bytes) -> Callable[[], bool]:
        def sent() -> bool:
            if not hasattr(connections, "own"):
                connections.own = HTTPConnection(target.hostname or "", target.port, timeout=_ANSWER_SECONDS)
                connections.own.connect()
                connections.own.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connections.own.request("POST", target.path, body, {"Content-Type": "application/x-protobuf"})
            answer = connections.own.getresponse()
            answer.read()
            return bool(answer.status == HTTPStatus.OK)

        return sent

    return at_rate([sending(encode_spans(spans).SerializeToString()) for spans in _made(traces)], rate)


def flood(url: str, *, traces: int) -> Measured:
    """Exports of 80 traces, as large as a batching exporter makes them, each when the last was answered."""
    exporter, made = OTLPSpanExporter(url), _made(traces)
    seconds, failed, first = [], 0, time.perf_counter()
    for start in range(0, traces, _BATCH_TRACES):
        began = time.perf_counter()
        batch = [span for spans in made[start : start + _BATCH_TRACES] for span in spans]
        failed += exporter.export(batch) is not SpanExportResult.SUCCESS
        seconds.append(time.perf_counter() - began)
    return Measured(seconds=seconds, failed=failed, rate=len(seconds) / (time.perf_counter() - first))


def main() -> None:
    """Run one mode and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--url", help="of an OTLP endpoint, with /v1/traces")
    parser.add_argument("--rate", type=float, default=500.0, help="traces a second")
    parser.add_argument("--traces", type=int, default=5000)
    given = parser.parse_args()
    # The load's own threads must not wait 5 ms for one another.
    sys.setswitchinterval(0.0005)
    if given.mode == "service":
        measured = service(given.url, rate=given.rate, traces=given.traces)
    elif given.mode == "export":
        measured = export(given.url, rate=given.rate, traces=given.traces)
    else:
        measured = flood(given.url, traces=given.traces)
    json.dump(asdict(measured), sys.stdout)


if __name__ == "__main__":
    main()
