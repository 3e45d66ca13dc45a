"""kafka-python's connections, with an ear for why a broker does not let us in.

By itself it would knock at a door that stays shut until its deadline, several times a second, and then say no more than
that the deadline has passed.
"""

import ssl
from typing import Any

from kafka.errors import KafkaConnectionError
from kafka.net.inet import create_connection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

from monitor.streaming.refusal import Refused, why_refused

_HUNG_UP = "the broker hung up before it let us in; see kafka.security_protocol"


class Connections(KafkaConnectionManager):  # type: ignore[misc] # kafka-python publishes no types
    """Those of one client. One that was let in nowhere ends once each bootstrap broker has refused it."""

    def __init__(self, net: Any, **configuration: Any) -> None:
        super().__init__(net, **configuration)
        self._refusals: dict[Any, str] = {}
        self._let_in = False
        self._hung_up = False

    @property
    def refusal(self) -> str | None:
        """Why a broker did not let us in when it was last tried, if one did not."""
        hung_up = _HUNG_UP if self._hung_up and not self.bootstrapped else None
        # A copy: the client's own thread may be adding one.
        return next(iter(list(self._refusals.values())), hung_up)

    def get_connection(self, node_id: Any, *arguments: Any, **options: Any) -> Any:
        """As kafka-python's.

        Raises:
            Refused: by all.
        """
        bootstrap = {broker.node_id for broker in self.cluster.bootstrap_brokers()}
        if not self._let_in and bootstrap <= self._refusals.keys():
            raise Refused(self.refusal)
        connection = super().get_connection(node_id, *arguments, **options)
        connection.init_future.add_callback(self._welcomed, node_id)
        connection.init_future.add_errback(self._turned_away, node_id)
        connection.close_future.add_errback(self._lost)
        return connection

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        """As kafka-python's, whose handshakes have no deadline, and leave the socket open where they fail."""
        sock = await create_connection(
            self._net,
            node.host,
            node.port,
            self.config["socket_options"],
            proxy_url=self.config["proxy_url"],
            timeout_at=timeout_at,
        )
        tls = {"ssl_context": self.config["ssl_context"]}
        transport = (
            _Tls(self._net, sock, host=node.host, **tls) if self.ssl_enabled else _Tcp(self._net, sock, node.host)
        )
        try:
            await transport.shake_hands(timeout_at)
        except Exception as error:
            transport.abort(error)
            raise KafkaConnectionError(f"Handshake failed: {error}") from error
        return transport

    def _welcomed(self, node_id: Any, _: object) -> None:
        self._let_in = True
        self._refusals.pop(node_id, None)

    def _turned_away(self, node_id: Any, error: BaseException) -> None:
        if why := why_refused(error):
            self._refusals[node_id] = why
        else:
            self._refusals.pop(node_id, None)

    def _lost(self, error: BaseException) -> None:
        # As does a broker that wants a password and is asked something without; but also one that is about to stop.
        self._hung_up = "socket disconnected" in str(error)


class _HearsOut(KafkaTCPTransport):  # type: ignore[misc] # likewise
    """A broker says why and hangs up; kafka-python, which often reads both at once, would take in the second only."""

    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        received, error = super()._sock_recv()
        return received, None if received else error


class _Tcp(_HearsOut):
    async def shake_hands(self, timeout_at: float | None) -> None:  # noqa: ARG002 - there is none to wait for
        await self.handshake()


class _Tls(_HearsOut, KafkaSSLTransport):  # type: ignore[misc] # likewise
    async def shake_hands(self, timeout_at: float | None) -> None:
        while True:
            try:
                self._sock.do_handshake()
            except ssl.SSLWantReadError:
                await self._net.wait_read(self._sock, timeout_at=timeout_at)
            except ssl.SSLWantWriteError:
                await self._net.wait_write(self._sock, timeout_at=timeout_at)
            else:
                return
