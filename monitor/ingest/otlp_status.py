"""A refusal in OTLP's terms: the google.rpc.Code that gRPC answers with, and OTLP over HTTP tells in its body."""

from monitor.ingest.refused import RequestRefused

# Which of these an exporter tries again is OTLP's rule: 4 and 14 always, 8 only with a RetryInfo.
_CODES = {400: 3, 401: 16, 403: 7, 408: 4, 413: 8, 415: 3, 429: 8, 503: 14}
_UNKNOWN = 2


def code_of(refused: RequestRefused) -> int:
    """The google.rpc.Code of a refusal."""
    return _CODES.get(refused.status, _UNKNOWN)
