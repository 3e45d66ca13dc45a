"""The conventions that spans are written in. Each is a table of rules and a way to tell a span's role."""

from collections.abc import Callable

from monitor.spans.conventions import genai, openinference, openllmetry
from monitor.spans.reading import Reading
from monitor.spans.span import Span

_READERS: tuple[Callable[[Span], Reading | None], ...] = (openinference.read, openllmetry.read, genai.read)


def read(span: Span) -> Reading | None:
    """What a span says, by the first convention that knows it; None where none does."""
    return next((reading for reader in _READERS if (reading := reader(span)) is not None), None)
