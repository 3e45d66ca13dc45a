"""Apache Kafka that asks for passwords and certificates, as production does."""

from pathlib import Path

from pydantic import SecretStr

from monitor.config import KafkaSettings
from monitor.embedded.ports import LOOPBACK, free_port
from tests.kafka.server import ApacheKafka
from tests.support.certificates import Authority

USER, PASSWORD = "groundwatch", "a-password-of-tests"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
KEY_PASSWORD = "a-password-of-a-key"


class SecuredKafka:
    """A broker with three listeners over TLS, whose certificate is for localhost.

    `secured` asks for a password; `elsewhere` does, too, and names itself by an address that its certificate is not
    for; `mutual` asks for the client's certificate.
    """

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory / "certificates")
        certificate, key = self.authority.issue("broker", names=["localhost"])
        both = certificate.with_suffix(".pem")
        both.write_bytes(key.read_bytes() + certificate.read_bytes())
        self.client = self.authority.issue("client", password=KEY_PASSWORD.encode())
        self.ports = {name: free_port() for name in ("SECURED", "ELSEWHERE", "MUTUAL")}
        self.server = ApacheKafka(
            directory,
            listeners={
                "SECURED": f"localhost:{self.ports['SECURED']}",
                "ELSEWHERE": f"{LOOPBACK}:{self.ports['ELSEWHERE']}",
                "MUTUAL": f"localhost:{self.ports['MUTUAL']}",
            },
            properties=_properties(both, self.authority.certificate),
            scram=[f"{mechanism}=[name={USER},password={PASSWORD}]" for mechanism in MECHANISMS[1:]],
        )

    def address(self, listener: str, host: str = "localhost") -> str:
        """Of one of the listeners."""
        return f"{host}:{self.ports[listener]}"

    def settings(self, **changes: object) -> KafkaSettings:
        """Those that let one in, with changes."""
        right: dict[str, object] = {
            "bootstrap_servers": self.address("SECURED"),
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": USER,
            "sasl_password": SecretStr(PASSWORD),
            "ssl_ca_file": self.authority.certificate,
            "partitions": 1,
            "session_timeout_seconds": 6.0,
        }
        return KafkaSettings.model_validate({**right, **changes})


def _properties(keystore: Path, truststore: Path) -> str:
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    asking = ("secured", "elsewhere")
    enabled = "".join(f"listener.name.{name}.sasl.enabled.mechanisms={','.join(MECHANISMS)}\n" for name in asking)
    logins = "".join(
        f"listener.name.{name}.{mechanism.lower()}.sasl.jaas.config={plain if mechanism == 'PLAIN' else scram}\n"
        for name in asking
        for mechanism in MECHANISMS
    )
    return f"""
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL,ELSEWHERE:SASL_SSL,MUTUAL:SSL
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
listener.name.mutual.ssl.client.auth=required
{enabled}{logins}"""
