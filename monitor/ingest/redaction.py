"""Redaction as a treatment: nothing that a pattern finds is written to disk, nor sent on.

It stands before the spool in the receiving process, and once more behind assembly: a text may only come about there.
"""

import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from monitor.domain.feedback import Feedback
from monitor.domain.trace import Document, Trace
from monitor.ingest.counters import IngestCounters
from monitor.otlp import PROTOBUF
from monitor.otlp.rewriting import Rewriting
from monitor.otlp.rewriting_json import looked_at, rewrite_json
from monitor.otlp.rewriting_protobuf import large_numbers, rewrite_protobuf
from monitor.redaction.redactor import Redactor
from monitor.redaction.unique import unique
from monitor.wire.fields import LONGEST_DOCUMENT, LONGEST_DOCUMENT_ID, LONGEST_SHORT_TEXT, LONGEST_TEXT

_ID_CHARACTERS = 16
_NUMBERS_LOOKED_AT = 64
_NOT_IN_IDS = re.compile(r"[^\x21-\x7e]")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")


class Redaction:
    """A treatment.

    Args:
        redactor: finds and marks.
        key: for ids that had to be replaced and must still differ from one another.
        counters: told how often each pattern was found.
    """

    def __init__(self, redactor: Redactor, *, key: bytes, counters: IngestCounters) -> None:
        self._redactor = redactor
        self._key = key
        self._counters = counters

    def leaves(self, raw: bytes, encoding: str) -> bool:
        """Whether a look at an export finds nothing that it could hold."""
        if encoding == PROTOBUF and next(islice(large_numbers(raw), _NUMBERS_LOOKED_AT, None), None) is not None:
            return False  # each of them takes longer than all of its bytes
        return self._narrowed(raw, encoding) is None

    def export(self, raw: bytes, encoding: str) -> bytes:
        """An export, with each of its texts redacted; the same bytes where a look at them finds nothing possible.

        Raises:
            InvalidMessage: it cannot be read.
        """
        redactor = self._narrowed(raw, encoding)
        if redactor is None:
            return raw
        counts: Counter[str] = Counter()
        rewriting = Rewriting(
            text=lambda text: redactor.text(text, counts),
            number=lambda number: redactor.number(number, counts),
        )
        # Written anew even where nothing was found: what the parser does not know, or passes over, is left out.
        kept = (rewrite_protobuf if encoding == PROTOBUF else rewrite_json)(raw, rewriting)
        self._tell(counts)
        return kept

    def trace(self, trace: Trace) -> Trace:
        """A trace, with each of its texts redacted. Ids and names stay unique and within the contract."""
        counts: Counter[str] = Counter()
        kept = replace(
            trace,
            trace_id=self._id(trace.trace_id, counts),
            service=self._name(trace.service, counts),
            environment=self._name(trace.environment, counts),
            question=self._text(trace.question, LONGEST_TEXT, counts),
            answer=self._text(trace.answer, LONGEST_TEXT, counts),
            documents=self._documents(trace.documents, counts),
            generator_model=self._optional(trace.generator_model, LONGEST_SHORT_TEXT, counts),
            prompt_version=self._optional(trace.prompt_version, LONGEST_SHORT_TEXT, counts),
            tags=self._tags(trace.tags, counts),
        )
        if not counts:
            return trace
        self._tell(counts)
        return kept

    def feedback(self, feedback: Feedback) -> Feedback:
        """Feedback likewise; it names its trace as the redacted trace is named."""
        counts: Counter[str] = Counter()
        outcome = feedback.outcome
        kept = replace(
            feedback,
            feedback_id=self._id(feedback.feedback_id, counts),
            trace_id=None if feedback.trace_id is None else self._id(feedback.trace_id, counts),
            outcome=None if outcome is None else self._name(outcome, counts),
            corrected_answer=self._optional(feedback.corrected_answer, LONGEST_TEXT, counts),
            comment=self._optional(feedback.comment, LONGEST_TEXT, counts),
        )
        self._tell(counts)
        return kept if counts else feedback

    def _narrowed(self, raw: bytes, encoding: str) -> Redactor | None:
        """What there is to look for in an export."""
        if encoding == PROTOBUF:
            hides = any(self._redactor.number(one, Counter()) for one in large_numbers(raw))
            return self._redactor if hides else self._redactor.narrowed(raw)
        texts = looked_at(raw)
        return self._redactor if texts is None else self._redactor.narrowed(texts)

    def _documents(self, documents: Sequence[Document], counts: Counter[str]) -> tuple[Document, ...]:
        """Ids that have become alike get numbers: no trace that was acknowledged is lost for that."""
        kept = [self._document(document, counts) for document in documents]
        taken = {one.id for one, was in zip(kept, documents, strict=True) if one.id == was.id}
        for place, was in enumerate(documents):
            if kept[place].id != was.id:
                name = unique(kept[place].id, taken, LONGEST_DOCUMENT_ID)
                taken.add(name)
                kept[place] = replace(kept[place], id=name)
        return tuple(kept)

    def _document(self, document: Document, counts: Counter[str]) -> Document:
        found: Counter[str] = Counter()
        kept = replace(
            document,
            id=self._text(document.id, LONGEST_DOCUMENT_ID, found),
            text=self._text(document.text, LONGEST_DOCUMENT, found),
            # By way of JSON: the original is somebody else's.
            metadata=self._redactor.value(json.loads(json.dumps(document.metadata)), found)
            if document.metadata
            else {},
        )
        counts.update(found)
        return kept if found else document

    def _tags(self, tags: Mapping[str, str], counts: Counter[str]) -> dict[str, str]:
        texts = {key: self._text(key, LONGEST_SHORT_TEXT, counts) for key in tags}
        # Those that are as they were keep their names.
        kept = {key: self._text(tags[key], LONGEST_SHORT_TEXT, counts) for key, text in texts.items() if text == key}
        for key, text in texts.items():
            if text != key:
                kept[unique(text, kept, LONGEST_SHORT_TEXT)] = self._text(tags[key], LONGEST_SHORT_TEXT, counts)
        return kept

    def _text(self, text: str, longest: int, counts: Counter[str]) -> str:
        # A mark may be longer than what it stands for.
        return self._redactor.text(text, counts)[:longest]

    def _optional(self, text: str | None, longest: int, counts: Counter[str]) -> str | None:
        return None if text is None else self._text(text, longest, counts)

    def _id(self, written: str, counts: Counter[str]) -> str:
        return self._unique(written, counts, _NOT_IN_IDS)

    def _name(self, written: str, counts: Counter[str]) -> str:
        return self._unique(written, counts, _NOT_IN_NAMES)

    def _unique(self, written: str, counts: Counter[str], foreign: re.Pattern[str]) -> str:
        """Two that differ must differ afterwards, or two traces would become one."""
        found: Counter[str] = Counter()
        self._redactor.text(written, found)
        if not found:
            return written
        counts.update(found)
        digest = hmac.new(self._key, written.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()
        return foreign.sub("-", f"redacted-{'-'.join(sorted(found))}")[:40] + f"-{digest[:_ID_CHARACTERS]}"

    def _tell(self, counts: Counter[str]) -> None:
        for name, count in counts.items():
            self._counters.redacted(name, count)
