"""The sidecar's own certificate: checked before anything listens, and read anew when its files are."""

import logging
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from monitor.domain.errors import InvalidSettings
from monitor.ingest.watched_files import WatchedFiles

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """PEM files; with `client_ca`, only callers whose certificate it signed are let in."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """What the files held.

    Attributes:
        context: for OpenSSL.
        certificate, key, client_ca: the same for gRPC, which takes PEM.
        expires: when the certificate itself ends, whatever its chain.
    """

    context: ssl.SSLContext
    certificate: bytes
    key: bytes
    client_ca: bytes | None
    expires: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateState:
    """How it stands; `problem` is why the files are not used as they are now."""

    expires: datetime
    problem: str | None


class Certificate:
    """The certificate as its files have it now: asked for at each handshake, so that a renewal needs no restart.

    Files that cannot be used change nothing, and are told of in `state`. So is a certificate without its key, as it
    stands between the two steps of a renewal that replaces one file after the other.

    Raises:
        InvalidSettings: one file cannot be read, the key is another certificate's or has a password.
    """

    def __init__(self, tls: Tls, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.asks_callers = tls.client_ca is not None
        self._tls = tls
        paths = [tls.certificate, tls.key, *([tls.client_ca] if tls.client_ca else [])]
        self._files = WatchedFiles(*paths, clock=clock)
        self._lock = threading.Lock()
        self._loaded = _load(tls)
        self._problem: str | None = None

    @property
    def state(self) -> CertificateState:
        """How it stands now."""
        return CertificateState(expires=self.now().expires, problem=self._problem)

    def listening_context(self) -> ssl.SSLContext:
        """A context for a listener, each of whose handshakes uses the certificate as it then is."""
        context = _load(self._tls).context
        context.sni_callback = self._for_handshake
        # A session taken up again is not verified again: its client's certificate may be trusted no longer.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        return context

    def now(self) -> Loaded:
        """What the files hold, or held when they were last fit for use."""
        if self._files.changed():
            with self._lock:
                self._read_anew()
        return self._loaded

    def _read_anew(self) -> None:
        try:
            self._loaded = _load(self._tls)
        except InvalidSettings as error:
            self._files.forget()
            if self._problem != str(error):  # it is tried once a second
                _log.error("the certificate stays as it was: %s", error)
            self._problem = str(error)
        else:
            self._problem = None
            _log.warning("the certificate was read anew; it ends at %s", self._loaded.expires.isoformat())

    def _for_handshake(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        # Called for clients that name no server, too. A context of its own, never the listener's changed in place:
        # a chain that loads and a key that does not would leave that one with neither.
        connection.context = self.now().context


def _load(tls: Tls) -> Loaded:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    names, files = "sidecar.tls_certificate_file, sidecar.tls_key_file", f"{tls.certificate}, {tls.key}"
    try:
        # An empty password, or the process would ask the terminal for one.
        context.load_cert_chain(tls.certificate, tls.key, password="")
        certificate, key = tls.certificate.read_bytes(), tls.key.read_bytes()
        expires = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    except (OSError, ssl.SSLError, ValueError) as error:
        hint = "they should be PEM, belong together, and the key have no password"
        raise InvalidSettings(f"{names}: {files}: {_said(error)}; {hint}") from None
    client_ca = _trust(context, tls.client_ca) if tls.client_ca else None
    return Loaded(context=context, certificate=certificate, key=key, client_ca=client_ca, expires=expires)


def _trust(context: ssl.SSLContext, authorities: Path) -> bytes:
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(authorities)
        return authorities.read_bytes()
    except (OSError, ssl.SSLError) as error:
        raise InvalidSettings(f"sidecar.tls_client_ca_file: {authorities}: {_said(error)}") from None


def _said(error: Any) -> str:
    return getattr(error, "strerror", None) or str(error)
