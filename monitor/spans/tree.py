"""The spans of one trace by their parents, as far as these were sent."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from monitor.spans import conventions
from monitor.spans.reading import Reading
from monitor.spans.span import Span

Key = tuple[str, str, str]
"""A span among all of a trace: its sender (service and instance), and its id."""


def key_of(span: Span) -> Key:
    """Tells a span from all others of its trace."""
    return (*_sender(span), span.span_id)


def _sender(span: Span) -> tuple[str, str]:
    return str(span.resource.get("service.name", "")), str(span.resource.get("service.instance.id", ""))


class SpanTree:
    """Spans by their parents.

    A parent is looked for among the spans of the same sender first: ids are random, and those of senders with the same
    seed are not. So two services that share a trace's id and never call each other are two trees.

    A span whose parent is not there hangs from its sender's root, or the trace's: the parent is late, or lost, or of a
    service that does not send here. Where no root is there, one is made up that says nothing.
    """

    def __init__(self, spans: Iterable[Span]) -> None:
        by_key: dict[Key, Span] = {}
        for span in spans:
            known = by_key.get(key_of(span))
            if known is None or order_of(span) < order_of(known):
                by_key[key_of(span)] = span
        ordered = sorted(by_key.values(), key=order_of)
        anywhere = {span.span_id: key_of(span) for span in reversed(ordered)}
        self.children: dict[Key, list[Span]] = {}
        self.roots: list[Span] = []
        orphans: list[Span] = []
        for span in ordered:
            parent = _parent(span, by_key, anywhere)
            if parent is not None:
                self.children.setdefault(parent, []).append(span)
            else:
                (self.roots if span.parent_id is None else orphans).append(span)
        # Parents that run in a circle hang from nothing: each of their spans is an orphan.
        reached = {key_of(one) for top in (*self.roots, *orphans) for one in self.below(top)}
        loose = [span for span in ordered if key_of(span) not in reached]
        for span in loose:
            self.children.pop(key_of(span), None)
        self._adopt(sorted((*orphans, *loose), key=order_of))
        self.readings = {key_of(span): reading for span in ordered if (reading := conventions.read(span))}

    def _adopt(self, orphans: Sequence[Span]) -> None:
        if not orphans:
            return
        if not self.roots:
            self.roots = [orphans[0] if len(orphans) == 1 else _nobody(orphans)]
        of_sender = {_sender(root): root for root in reversed(self.roots)}
        for span in orphans:
            root = of_sender.get(_sender(span), self.roots[0])
            if span is not root:
                self.children.setdefault(key_of(root), []).append(span)

    def below(self, span: Span) -> Iterator[Span]:
        """The span and all under it."""
        waiting = [span]
        while waiting:
            at = waiting.pop()
            yield at
            waiting += self.children.get(key_of(at), [])

    def readings_below(self, span: Span) -> list[Reading]:
        """What the span and all under it say, in order."""
        found = (self.readings.get(key_of(one)) for one in sorted(self.below(span), key=order_of))
        return [reading for reading in found if reading is not None]


def _parent(span: Span, by_key: Mapping[Key, Span], anywhere: Mapping[str, Key]) -> Key | None:
    if span.parent_id is None:
        return None
    near = (*_sender(span), span.parent_id)
    return near if near in by_key else anywhere.get(span.parent_id)


def _nobody(spans: Sequence[Span]) -> Span:
    first, last = min(span.start_ns for span in spans), max(span.end_ns for span in spans)
    return Span(
        trace_id=spans[0].trace_id,
        span_id="",
        parent_id=None,
        name="(not sent)",
        start_ns=first,
        end_ns=last,
        trace_state=spans[0].trace_state,
    )


def order_of(span: Span) -> tuple[int, int, str, str]:
    """By beginning, the outer before the inner; the same whatever order spans came in."""
    return span.start_ns, -span.end_ns, span.span_id, span.name
