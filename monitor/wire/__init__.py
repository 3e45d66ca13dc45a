"""The messages as they travel, one module a contract: decoding with limits, encoding without surprises.

`schemas/` states the same contracts as JSON Schema; tests hold the two together. Readers ignore fields that
they do not know, so that a field may be added without a new version.
"""

from monitor.wire.alert import alert_to_json
from monitor.wire.dead_letter import decode_dead_letter, encode_dead_letter
from monitor.wire.feedback import MAX_FEEDBACK_BYTES, FeedbackV1, decode_feedback, encode_feedback
from monitor.wire.fields import (
    EARLIEST,
    LEAST_SAMPLING_PROBABILITY,
    MAX_CLOCK_SKEW,
    MAX_DEAD_LETTER_BYTES,
    MAX_FIELD_NAME,
    MAX_MESSAGE_BYTES,
    MAX_METADATA_LEVELS,
    MAX_TRACE_BYTES,
    NAME_PATTERN,
    TIME_PATTERN,
)
from monitor.wire.judgement import decode_assessment, encode_assessment, verdict_to_json
from monitor.wire.trace import TraceV1, decode_trace, encode_trace, trace_to_json

__all__ = [
    "EARLIEST",
    "LEAST_SAMPLING_PROBABILITY",
    "MAX_CLOCK_SKEW",
    "MAX_DEAD_LETTER_BYTES",
    "MAX_FEEDBACK_BYTES",
    "MAX_FIELD_NAME",
    "MAX_MESSAGE_BYTES",
    "MAX_METADATA_LEVELS",
    "MAX_TRACE_BYTES",
    "NAME_PATTERN",
    "TIME_PATTERN",
    "FeedbackV1",
    "TraceV1",
    "alert_to_json",
    "decode_assessment",
    "decode_dead_letter",
    "decode_feedback",
    "decode_trace",
    "encode_assessment",
    "encode_dead_letter",
    "encode_feedback",
    "encode_trace",
    "trace_to_json",
    "verdict_to_json",
]
