"""How the sidecar's processes log."""

import logging
import traceback
from types import TracebackType

_LONGEST_CHAIN = 10


class WithoutWords(logging.Formatter):
    """Of an exception its kind and its way, and never its words: they may quote what was sent."""

    def formatException(  # noqa: N802 - logging's own name
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """The frames of an exception and of those that it came from, each with the exception's type."""
        told: list[str] = []
        error = ei[1]
        while error is not None and len(told) < _LONGEST_CHAIN:
            told.append("".join((*traceback.format_tb(error.__traceback__), type(error).__qualname__)))
            error = error.__cause__ or error.__context__
        return "\nfrom:\n".join(told)


def log_to_stderr(level: str) -> None:
    """One line an event on stderr; the drivers' own logs only where nobody else tells the same."""
    handler = logging.StreamHandler()
    handler.setFormatter(WithoutWords("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    # During an outage it reports each attempt to connect as an error; the forwarder's log says it once.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
