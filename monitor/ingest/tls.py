"""The sidecar's own certificate, checked before anything listens."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from monitor.domain.errors import InvalidSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """PEM files; with `client_ca`, only callers whose certificate it signed are let in.

    Raises:
        InvalidSettings: one cannot be read, the key is another certificate's or has a password.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def __post_init__(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # An empty password, or the process would ask the terminal for one.
            context.load_cert_chain(self.certificate, self.key, password="")
        except (OSError, ssl.SSLError) as error:
            names = "sidecar.tls_certificate_file, sidecar.tls_key_file"
            hint = "they should be PEM, belong together, and the key have no password"
            raise InvalidSettings(f"{names}: {self.certificate}, {self.key}: {_said(error)}; {hint}") from None
        if self.client_ca is None:
            return
        try:
            context.load_verify_locations(self.client_ca)
        except (OSError, ssl.SSLError) as error:
            raise InvalidSettings(f"sidecar.tls_client_ca_file: {self.client_ca}: {_said(error)}") from None


def _said(error: OSError) -> str:
    return error.strerror or str(error)
