"""How the sidecar's processes log."""

import logging


def log_to_stderr(level: str) -> None:
    """One line an event on stderr; the drivers' own logs only where nobody else tells the same."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # During an outage it reports each attempt to connect as an error; the forwarder's log says it once.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
