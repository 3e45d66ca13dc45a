"""OTLP trace exports, in protobuf and in JSON, as spans (opentelemetry.io/docs/specs/otlp, version 1.x)."""

from monitor.otlp.answers import encode_response, encode_status
from monitor.otlp.encodings import CONTENT_TYPES, JSON, PROTOBUF
from monitor.otlp.export import TENANT, Export, Inspected
from monitor.otlp.json_mapping import decode_json, inspect_json
from monitor.otlp.protobuf import decode_protobuf, inspect_protobuf

__all__ = [
    "CONTENT_TYPES",
    "JSON",
    "PROTOBUF",
    "TENANT",
    "Export",
    "Inspected",
    "decode",
    "decode_json",
    "decode_protobuf",
    "encode_response",
    "encode_status",
    "inspect",
]


def decode(raw: bytes, encoding: str) -> Export:
    """Read an export in one of the two encodings.

    Raises:
        InvalidMessage: it is none.
    """
    return {PROTOBUF: decode_protobuf, JSON: decode_json}[encoding](raw)


def inspect(raw: bytes, encoding: str) -> Inspected:
    """What `decode` would find, in a tenth of its time where the export is protobuf.

    Raises:
        InvalidMessage: it is none.
    """
    return {PROTOBUF: inspect_protobuf, JSON: inspect_json}[encoding](raw)
