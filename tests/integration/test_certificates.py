"""The sidecar's certificate is replaced on disk while it runs: real processes, real handshakes, on both ports."""

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from monitor.config import KafkaSettings
from monitor.embedded.ports import LOOPBACK
from monitor.embedded.processes import Child
from tests.support.certificates import Authority, serial
from tests.support.grpc_exporter import Exporter
from tests.support.handshakes import shown_serial, trusting
from tests.support.sidecar_processes import Sidecars

SECONDS = 30.0
NO_KAFKA = KafkaSettings(bootstrap_servers=f"{LOOPBACK}:1")


class Secured:
    """A sidecar with a certificate, and who may speak to it."""

    def __init__(self, directory: Path, exits: ExitStack, **more: str) -> None:
        self.authority = Authority(directory / "pem")
        self.certificate, self.key = self.authority.issue("sidecar")
        environment = {
            "GROUNDWATCH_SIDECAR__TLS_CERTIFICATE_FILE": str(self.certificate),
            "GROUNDWATCH_SIDECAR__TLS_KEY_FILE": str(self.key),
            **more,
        }
        sidecars = Sidecars(directory, NO_KAFKA, **environment)
        self.child: Child = exits.enter_context(sidecars.start())
        self.urls = [url.replace("http://", "https://") for url in (sidecars.url, sidecars.grpc_url)]

    def serials(self, context: ssl.SSLContext | None = None) -> list[int]:
        """Of what each port shows."""
        return [shown_serial(url, context or trusting(self.authority.certificate)) for url in self.urls]

    def status(self, context: ssl.SSLContext | None = None) -> dict[str, Any]:
        verify = context or ssl.create_default_context(cafile=self.authority.certificate)
        found: dict[str, Any] = httpx.get(f"{self.urls[0]}/v1/status", verify=verify, timeout=SECONDS).json()
        return found

    def exporter(self, *pair: Path, authority: Path | None = None) -> Exporter:
        own = [path.read_bytes() for path in reversed(pair)]
        trusted = (authority or self.authority.certificate).read_bytes()
        return Exporter(f"localhost:{self.urls[1].rpartition(':')[2]}", grpc.ssl_channel_credentials(trusted, *own))

    def eventually(self, condition: Callable[[], bool]) -> None:
        self.child.wait_until(condition, deadline_seconds=SECONDS)


@pytest.fixture
def exits() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_renewal_is_shown_on_both_ports_and_cuts_nobody_off(tmp_path: Path, exits: ExitStack) -> None:
    sidecar = Secured(tmp_path, exits)
    first = serial(sidecar.certificate)
    assert sidecar.serials() == [first, first]
    context = ssl.create_default_context(cafile=sidecar.authority.certificate)
    client = exits.enter_context(httpx.Client(verify=context, timeout=SECONDS))
    exporter = exits.enter_context(closing(sidecar.exporter()))
    assert client.get(f"{sidecar.urls[0]}/healthz").status_code == 200
    assert exporter.send(b"") == ExportTraceServiceResponse()

    sidecar.authority.issue("sidecar")
    second = serial(sidecar.certificate)
    sidecar.eventually(lambda: sidecar.serials() == [second, second])

    assert second != first
    assert client.get(f"{sidecar.urls[0]}/healthz").status_code == 200
    assert exporter.send(b"") == ExportTraceServiceResponse()
    with closing(sidecar.exporter()) as newcomer:
        assert newcomer.send(b"") == ExportTraceServiceResponse()
    assert "the certificate was read anew" in sidecar.child.log.read_text()


def test_a_renewal_by_another_authority_is_shown(tmp_path: Path, exits: ExitStack) -> None:
    sidecar = Secured(tmp_path, exits)
    other = Authority(tmp_path / "pem", "other")
    certificate, key = other.issue("another")
    key.replace(sidecar.key)
    certificate.replace(sidecar.certificate)
    context = trusting(other.certificate)

    def shown() -> bool:
        try:
            return sidecar.serials(context) == [serial(sidecar.certificate)] * 2
        except ssl.SSLCertVerificationError:
            return False

    sidecar.eventually(shown)
    with closing(sidecar.exporter(authority=other.certificate)) as exporter:
        assert exporter.send(b"") == ExportTraceServiceResponse()


@pytest.mark.parametrize("breaking", ["not PEM", "another's key", "gone"])
def test_files_that_cannot_be_used_change_nothing_and_are_told_of(
    tmp_path: Path, exits: ExitStack, breaking: str
) -> None:
    sidecar = Secured(tmp_path, exits)
    first = serial(sidecar.certificate)
    expires = sidecar.status()["access"]["certificate"]["expires"]
    if breaking == "not PEM":
        sidecar.certificate.write_text("-----BEGIN CERTIFICATE-----\n")
    elif breaking == "gone":
        sidecar.key.unlink()
    else:
        sidecar.authority.issue("another")[1].replace(sidecar.key)
    sidecar.eventually(lambda: sidecar.status()["access"]["certificate"]["problem"] is not None)

    told = sidecar.status()["access"]["certificate"]
    assert "sidecar.tls_key_file" in told["problem"]
    assert told["expires"] == expires
    assert sidecar.serials() == [first, first]
    with closing(sidecar.exporter()) as exporter:
        assert exporter.send(b"") == ExportTraceServiceResponse()
    log = sidecar.child.log.read_text()
    assert log.count("the certificate stays as it was") == 1

    sidecar.authority.issue("sidecar")
    second = serial(sidecar.certificate)
    sidecar.eventually(lambda: sidecar.serials() == [second, second])
    assert sidecar.status()["access"]["certificate"]["problem"] is None


def test_a_mounted_secret_is_followed_through_its_links(tmp_path: Path, exits: ExitStack) -> None:
    """As Kubernetes mounts one: both files are links through a link to a directory, and that one is replaced."""
    elsewhere = Authority(tmp_path / "elsewhere")
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        for file in elsewhere.issue(version):
            file.replace(tmp_path / version / f"tls{file.suffix}")
    data = tmp_path / "..data"
    data.symlink_to("one")
    names = {"CERTIFICATE": "tls.crt", "KEY": "tls.key"}
    for name in names.values():
        (tmp_path / name).symlink_to(f"..data/{name}")
    settings = {f"GROUNDWATCH_SIDECAR__TLS_{kind}_FILE": str(tmp_path / name) for kind, name in names.items()}
    sidecar = Secured(tmp_path, exits, **settings)
    context = trusting(elsewhere.certificate)
    assert sidecar.serials(context) == [serial(tmp_path / "one" / "tls.crt")] * 2

    beside = tmp_path / "..data_tmp"
    beside.symlink_to("two")
    os.replace(beside, data)  # noqa: PTH105 - Path.replace would read the same
    sidecar.eventually(lambda: sidecar.serials(context) == [serial(tmp_path / "two" / "tls.crt")] * 2)


def test_who_may_call_follows_the_file_of_authorities(tmp_path: Path, exits: ExitStack) -> None:
    old, new = Authority(tmp_path / "clients", "old"), Authority(tmp_path / "clients", "new")
    trusted = tmp_path / "clients" / "trusted.pem"
    trusted.write_bytes(old.certificate.read_bytes())
    sidecar = Secured(tmp_path, exits, GROUNDWATCH_SIDECAR__TLS_CLIENT_CA_FILE=str(trusted))
    known, unknown = old.issue("known"), new.issue("unknown")
    assert (lets_in(sidecar, known), lets_in(sidecar, unknown)) == ([True, True], [False, False])
    assert lets_in(sidecar, None) == [False, False]

    trusted.write_bytes(new.certificate.read_bytes())
    sidecar.eventually(lambda: lets_in(sidecar, unknown) == [True, True])
    assert lets_in(sidecar, known) == [False, False]
    assert lets_in(sidecar, None) == [False, False]


def lets_in(sidecar: Secured, client: tuple[Path, Path] | None) -> list[bool]:
    """Whether each port does."""
    context = ssl.create_default_context(cafile=sidecar.authority.certificate)
    if client:
        context.load_cert_chain(*client)
    try:
        over_http = httpx.get(f"{sidecar.urls[0]}/healthz", verify=context, timeout=SECONDS).status_code == 200
    except httpx.TransportError:
        over_http = False
    with closing(sidecar.exporter(*(client or ()))) as exporter:
        try:
            over_grpc = exporter.send(b"") == ExportTraceServiceResponse()
        except grpc.RpcError:
            over_grpc = False
    return [over_http, over_grpc]
