"""Why a broker does not let us in, in words that name the setting to look at."""

import ssl
from collections.abc import Iterator
from typing import Any

from kafka.errors import (
    IllegalSaslStateError,
    InvalidReceiveError,
    KafkaError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)

# OpenSSL's x509_vfy.h: X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH.
_OTHER_NAME = (62, 64)
# What a server answers to a client without a certificate, or with one that it does not take.
_ABOUT_OUR_CERTIFICATE = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "CERTIFICATE_UNKNOWN")
_LONGEST = 200


class Refused(KafkaError):  # type: ignore[misc] # kafka-python publishes no types
    """A broker does not let us in, or we do not trust it: more of the same will not help."""

    def __str__(self) -> str:
        return str(self.args[0])


def why_refused(error: BaseException) -> str | None:
    """What is wrong with our credentials or certificates, or the broker's; None where the broker is merely away."""
    if isinstance(error, SaslAuthenticationFailedError):
        return f"SASL: authentication failed ({_said(error)}); see kafka.sasl_username, kafka.sasl_password"
    if isinstance(error, UnsupportedSaslMechanismError):
        return "SASL: the broker does not offer this mechanism; see kafka.sasl_mechanism"
    if isinstance(error, IllegalSaslStateError):
        return "SASL: the broker asks for none on this port; see kafka.security_protocol"
    if isinstance(error, InvalidReceiveError):
        return "what answers does not speak Kafka, or only over TLS; see kafka.security_protocol"
    found = next((one for one in _chain(error) if isinstance(one, ssl.SSLError)), None)
    return _tls(found) if found else None


def _said(error: SaslAuthenticationFailedError) -> str:
    """A broker's own words, made fit for a log."""
    text = str(error.args[0] if error.args else "no reason given").removeprefix(f"{type(error).__name__}: ")
    return "".join(char for char in text if char.isprintable())[:_LONGEST]


def _tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        other_name = error.verify_code in _OTHER_NAME
        look = "kafka.bootstrap_servers, kafka.ssl_check_hostname" if other_name else "kafka.ssl_ca_file"
        return f"TLS: certificate verify failed: {error.verify_message.rstrip('.')}; see {look}"
    reason = error.reason or "the handshake failed"
    if any(word in reason for word in _ABOUT_OUR_CERTIFICATE):
        look = "kafka.ssl_certificate_file, kafka.ssl_key_file"
    else:
        look = "kafka.security_protocol"
    return f"TLS: {reason.lower().replace('_', ' ')}; see {look}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it was raised for; kafka-python also hands them on as an argument."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__context__, one.__cause__, *one.args]
