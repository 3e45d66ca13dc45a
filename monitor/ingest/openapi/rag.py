"""What `POST /v1/rag/traces` takes and answers."""

from functools import cache

from monitor.ingest.openapi import items
from monitor.ingest.openapi.parts import Description

_TRACES = items.Items(
    path="/v1/rag/traces",
    operation="sendTraces",
    summary="Send RAG traces",
    one="one trace",
    many="traces",
    id_field="trace_id",
    contract="rag_trace.v1.json",
    component="RagTrace",
    receipt="Receipt",
    otherwise={"trace_id": "it gets a random one", "event_time": "it gets the time of its receipt"},
    example={
        "trace_id": "req-4711",
        "service": "support-bot",
        "question": "When does the office open?",
        "documents": [{"id": "handbook-12", "text": "The office opens at nine.", "score": 0.83}],
        "answer": "At nine.",
    },
    receipt_extras={
        "sampled_out": {"type": "array", "items": {"type": "string"}, "description": "Ids that sampling left out."}
    },
)


@cache
def description() -> Description:
    """The route."""
    return items.description(_TRACES)
