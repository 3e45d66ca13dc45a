"""Settings of who may send to a sidecar."""

from pathlib import Path

from monitor.config.section import Section


class AccessSettings(Section):
    """Who may send."""

    tokens_file: Path | None = None
    """Tokens of tenants, as `groundwatch tokens` writes it. Without it, whoever reaches the sidecar may send, for any
    tenant."""
