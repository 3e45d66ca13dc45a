"""One Apache Kafka broker for the tests: KRaft, one node, no Docker; its data survive `restart`."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from monitor.embedded.ports import LOOPBACK, accepts_connections, free_port
from monitor.embedded.processes import Child

_HERE = Path(__file__).parent
_JARS = _HERE.parents[1] / ".cache" / "kafka"
_CLUSTER = "Z3JvdW5kd2F0Y2gtdGVzdA"  # any 16 bytes in base64
_HEAP = ("-Xmx512m", "-Xms128m", "-XX:+UseSerialGC")


class ApacheKafka:
    """Start it with `start`; `address` stays the same over restarts.

    Args:
        directory: of its data, its properties and its log.
        listeners: beside the one at `address`; by their names, the `host:port` that they tell clients.
        properties: more of them.
        scram: users that it knows from its first start on, as StorageTool's `--add-scram` takes them.
    """

    def __init__(
        self,
        directory: Path,
        *,
        listeners: Mapping[str, str] | None = None,
        properties: str = "",
        scram: Sequence[str] = (),
    ) -> None:
        self._directory = directory
        self._port = free_port()
        self._properties = directory / "server.properties"
        own = _server_properties(directory / "data", self._port, free_port(), listeners or {})
        self._properties.write_text(own + properties)
        self._child: Child | None = None
        fetch_jars()
        users = [word for user in scram for word in ("--add-scram", user)]
        self._java("kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(self._properties), *users)

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self._port}"

    def start(self) -> None:
        child = Child(
            "kafka",
            [*_command("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"), "kafka.Kafka", str(self._properties)],
            log=self._directory / "kafka.log",
        )
        self._child = child.wait_until(lambda: accepts_connections(self._port), deadline_seconds=90)

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop(grace_seconds=60)
            self._child = None

    def _java(self, *arguments: str) -> None:
        subprocess.run([*_command(), *arguments], check=True, capture_output=True, timeout=120)


def fetch_jars() -> None:
    """Fetch Kafka and what it needs from the Maven repository that the machine is set up for, once a version."""
    wanted = (_HERE / "pom.xml").read_text()
    stamp = _JARS / "pom.xml"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    _JARS.mkdir(parents=True, exist_ok=True)
    for jar in _JARS.glob("*.jar"):
        jar.unlink()
    subprocess.run(
        ["mvn", "-q", "-B", "-f", str(_HERE / "pom.xml"), "dependency:copy-dependencies", f"-DoutputDirectory={_JARS}"],
        check=True,
        timeout=600,
    )
    stamp.write_text(wanted)


def _command(*options: str) -> list[str]:
    return ["java", *_HEAP, *options, "-cp", f"{_JARS}/*"]


def _server_properties(data: Path, port: int, controller_port: int, more: Mapping[str, str]) -> str:
    bound = "".join(f",{name}://{LOOPBACK}:{told.rpartition(':')[2]}" for name, told in more.items())
    advertised = "".join(f",{name}://{told}" for name, told in more.items())
    return f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{LOOPBACK}:{controller_port}
listeners=PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}{bound}
advertised.listeners=PLAINTEXT://{LOOPBACK}:{port}{advertised}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""
