"""Certificates for servers and clients on this machine, made anew for each test."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LOCAL_NAMES = ("localhost", "127.0.0.1")
_DAY = timedelta(days=1)


class Authority:
    """Signs certificates; `certificate` is a file of its own one, for those who trust it."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        own = _unsigned(self._name, self._name, self._key, ca=True).sign(self._key, hashes.SHA256())
        self.certificate = directory / f"{name}.pem"
        self.certificate.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, *, names: Sequence[str] = LOCAL_NAMES, password: bytes | None = None
    ) -> tuple[Path, Path]:
        """Files of a certificate and its key; issued again under the same name, they replace the old ones."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _unsigned(_named(name), self._name, key, ca=False)
        alternatives = x509.SubjectAlternativeName([_alternative(one) for one in names])
        signed = builder.add_extension(alternatives, critical=False).sign(self._key, hashes.SHA256())
        paths = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        _write(paths[0], signed.public_bytes(serialization.Encoding.PEM))
        _write(paths[1], _pem(key, password))
        return paths


def pem_files(directory: Path) -> tuple[Path, Path]:
    """A certificate for this machine that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named("localhost")
    alternatives = x509.SubjectAlternativeName([_alternative(one) for one in LOCAL_NAMES])
    builder = _unsigned(name, name, key, ca=True).add_extension(alternatives, critical=False)
    paths = directory / "certificate.pem", directory / "key.pem"
    _write(paths[0], builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    _write(paths[1], _pem(key, None))
    return paths


def serial(certificate: Path) -> int:
    """What tells one certificate from its renewal."""
    return x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey, password: bytes | None) -> bytes:
    sealed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)


def _write(path: Path, content: bytes) -> None:
    """As renewals do: the name leads to the old file or to the new one, never to half of it."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)
