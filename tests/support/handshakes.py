"""TLS handshakes as a client sees them."""

import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

_SECONDS = 20.0


def trusting(authority: Path, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """A client's context, with its own certificate where it has one."""
    context = ssl.create_default_context(cafile=authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if client:
        context.load_cert_chain(*client)
    return context


def shown_serial(url: str, context: ssl.SSLContext) -> int:
    """The serial number of the certificate that a server shows now.

    Raises:
        ssl.SSLError: there is no agreement; where a server refuses the client's certificate, after the handshake.
    """
    place = urlsplit(url)
    with (
        socket.create_connection((place.hostname, place.port or 443), timeout=_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
        assert shown
        return x509.load_der_x509_certificate(shown).serial_number
