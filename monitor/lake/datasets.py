"""What an export holds, column by column. `docs/export.md` says the same, which a test holds it to."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import pyarrow as pa

VERSION: Final = 1
"""Of the schemas below; in each file's metadata. A column that is added at a table's end changes nothing of it.

Such a column may be null: rows that are taken over from a file before it have no value for it.
"""

_MOMENT = pa.timestamp("us", "UTC")
_SPANS = pa.list_(
    pa.struct(
        [
            pa.field("start", pa.int32()),
            pa.field("end", pa.int32()),
            pa.field("score", pa.float64()),
            pa.field("document_id", pa.string()),
            pa.field("document_start", pa.int32()),
            pa.field("document_end", pa.int32()),
        ]
    )
)
_PASSAGES = pa.list_(
    pa.struct(
        [pa.field("document_id", pa.string()), pa.field("start", pa.int32()), pa.field("end", pa.int32())],
    )
)
_WINDOWS = pa.list_(pa.struct([pa.field("raw_score", pa.float64()), pa.field("passages", _PASSAGES)]))
_DOCUMENTS = pa.list_(
    pa.struct(
        [
            pa.field("id", pa.string()),
            pa.field("text", pa.string()),
            pa.field("score", pa.float64()),
            pa.field("metadata", pa.string()),
        ]
    )
)
_TAGS = pa.map_(pa.string(), pa.string())


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One table of an export, in files of one hour of event time.

    Attributes:
        name: its folder.
        schema: columns in order, as the ledger is asked for them; those that are no list, map or scalar of CSV come
            from it as JSON text.
        key: the columns that tell its rows apart.
        worded: columns of few words that come again, kept as dictionaries in the file.
    """

    name: str
    schema: Any
    key: tuple[str, ...]
    worded: tuple[str, ...]

    @cached_property
    def stored_schema(self) -> Any:
        """The schema, with the version of its meaning, as it stands in each file."""
        return self.schema.with_metadata({"groundwatch.dataset": self.name, "groundwatch.version": str(VERSION)})

    @cached_property
    def structured(self) -> tuple[str, ...]:
        """The columns of lists, structs and maps."""
        return tuple(field.name for field in self.schema if pa.types.is_nested(field.type))


def _fields(*columns: tuple[str, Any], null: tuple[str, ...] = ()) -> Any:
    return pa.schema([pa.field(name, kind, nullable=name in null) for name, kind in columns])


_SEGMENT = tuple((name, pa.string()) for name in ("tenant", "service", "environment"))
_IDENTITY = ("tenant", "trace_id", "evaluator", "judge_version")
_WORDED = ("tenant", "service", "environment", "evaluator", "judge_version")

VERDICTS: Final = Dataset(
    name="verdicts",
    schema=_fields(
        *_SEGMENT,
        ("trace_id", pa.string()),
        ("evaluator", pa.string()),
        ("judge_version", pa.string()),
        ("event_time", _MOMENT),
        ("judged_at", _MOMENT),
        ("outcome", pa.string()),
        ("label", pa.string()),
        ("probability", pa.float64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("first_label", pa.string()),
        ("first_probability", pa.float64()),
        ("revision", pa.int32()),
        ("revised_at", _MOMENT),
        ("reasoning", pa.string()),
        ("unsupported", _SPANS),
        ("decided_by", pa.list_(pa.string())),
        ("action", pa.string()),
        ("decision_reason", pa.string()),
        ("inclusion_probability", pa.float64()),
        ("sampling_probability", pa.float64()),
        ("replay_id", pa.int64()),
        null=(
            *("label", "probability", "reason", "detail", "first_label", "first_probability"),
            *("revised_at", "reasoning", "replay_id"),
        ),
    ),
    key=_IDENTITY,
    worded=(
        *_WORDED,
        *("outcome", "label", "reason", "first_label", "action", "decision_reason", "inclusion_probability"),
        *("sampling_probability", "replay_id"),
    ),
)

JUDGEMENTS: Final = Dataset(
    name="judgements",
    schema=_fields(
        *_SEGMENT,
        ("trace_id", pa.string()),
        ("evaluator", pa.string()),
        ("judge_version", pa.string()),
        ("event_time", _MOMENT),
        ("sequence", pa.int16()),
        ("judge", pa.string()),
        ("judge_name", pa.string()),
        ("tier", pa.string()),
        ("model", pa.string()),
        ("model_digest", pa.string()),
        ("quantisation", pa.string()),
        ("prompt_digest", pa.string()),
        ("judged_at", _MOMENT),
        ("raw_score", pa.float64()),
        ("probability", pa.float64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("reasoning", pa.string()),
        ("unsupported", _SPANS),
        ("latency_us", pa.int64()),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
        ("cost_usd", pa.float64()),
        ("inclusion_probability", pa.float64()),
        ("chosen_because", pa.string()),
        ("windows", _WINDOWS),
        null=(
            *("quantisation", "prompt_digest", "raw_score", "probability", "reason", "detail", "reasoning"),
            "windows",
        ),
    ),
    key=(*_IDENTITY, "sequence"),
    worded=(
        *_WORDED,
        *("judge", "judge_name", "tier", "model", "model_digest", "quantisation", "prompt_digest", "reason"),
        *("sequence", "prompt_tokens", "completion_tokens", "cost_usd", "inclusion_probability", "chosen_because"),
    ),
)

ROLLUPS: Final = Dataset(
    name="rollups",
    schema=_fields(
        *_SEGMENT,
        ("evaluator", pa.string()),
        ("judge_version", pa.string()),
        ("minute", _MOMENT),
        ("traces", pa.int64()),
        ("verdicts", pa.int64()),
        ("hallucinated", pa.int64()),
        ("rate", pa.float64()),
        ("sum_probability", pa.float64()),
        ("first_verdicts", pa.int64()),
        ("first_hallucinated", pa.int64()),
        ("unjudged", pa.int64()),
        ("pending", pa.int64()),
        ("escalated", pa.int64()),
        ("pool_judged", pa.int64()),
        ("estimated_traces", pa.float64()),
        ("local_latency_us", pa.int64()),
        ("pool_latency_us", pa.int64()),
        ("last_event_time", _MOMENT),
        ("replayed", pa.int64()),
        null=("rate", "replayed"),
    ),
    key=("tenant", "service", "environment", "evaluator", "judge_version", "minute"),
    worded=(*_WORDED, "minute"),
)

TEXTS: Final = Dataset(
    name="texts",
    schema=_fields(
        *_SEGMENT,
        ("trace_id", pa.string()),
        ("event_time", _MOMENT),
        ("question", pa.string()),
        ("documents", _DOCUMENTS),
        ("answer", pa.string()),
        ("generator_model", pa.string()),
        ("prompt_version", pa.string()),
        ("tags", _TAGS),
        ("otel_trace_id", pa.string()),
        ("otel_span_id", pa.string()),
        null=("generator_model", "prompt_version", "otel_trace_id", "otel_span_id"),
    ),
    key=("tenant", "trace_id"),
    worded=("tenant", "service", "environment", "generator_model", "prompt_version"),
)

ALWAYS: Final = (VERDICTS, JUDGEMENTS, ROLLUPS)
DATASETS: Final = {dataset.name: dataset for dataset in (*ALWAYS, TEXTS)}
