"""Tunnels on the connection: the part of the gate that sees to CONNECT, and to connections upstream."""

from abc import ABC, abstractmethod

from mitmproxy import connection, flow, http
from mitmproxy.proxy import server_hooks

from mcp_sod.errors import Unlisted


class Tunnels(ABC):
    """Lets connections lead to listed upstreams alone, and remembers whose a tunnel is."""

    def __init__(self) -> None:
        """Begin with no tunnel open."""
        self._said: dict[str, tuple[str, ...]] = {}  # `Proxy-Authorization` of a CONNECT, by the client's connection

    @abstractmethod
    def listed(self, host: str, port: int) -> bool:
        """Say whether an upstream of the policy lives there."""

    @abstractmethod
    async def note(self, event: str, **facts: object) -> None:
        """Record something."""

    def said(self, client: connection.Client) -> tuple[str, ...]:
        """Return what every CONNECT of this connection said of its sender."""
        return self._said.get(client.id, ())

    def http_connect(self, flow: http.HTTPFlow) -> None:
        """Refuse tunnels to whatever is not a listed upstream; what is said inside one comes through the chain."""
        flow.response = http.Response.make(403, b"Not an upstream of this gateway.\n", {"content-type": "text/plain"})
        if self.listed(flow.request.host, flow.request.port):
            flow.response = None
            client, said = flow.client_conn.id, tuple(flow.request.headers.get_all("proxy-authorization"))
            self._said[client] = (*self._said.get(client, ()), *said)

    def client_disconnected(self, client: connection.Client) -> None:
        """Forget the tunnel."""
        self._said.pop(client.id, None)

    async def http_connect_error(self, flow: http.HTTPFlow) -> None:
        """Record a refused tunnel."""
        destination = f"{flow.request.host}:{flow.request.port}"
        await self.note("rejected", code=Unlisted.code, reason="CONNECT to an unlisted host.", destination=destination)

    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Refuse connections to whatever is not a listed upstream, whoever asks for them."""
        address = data.server.address
        if address is None or not self.listed(address[0], address[1]):
            data.server.error = "Not an upstream of this gateway."
        else:
            data.server.sni = address[0]  # mitmproxy would verify the upstream as whatever name the client chose

    # what is not HTTP is not understood

    def tcp_start(self, flow: flow.Flow) -> None:
        """Refuse raw bytes and WebSockets."""
        flow.kill()  # type: ignore[no-untyped-call]  # mitmproxy's

    udp_start = websocket_start = tcp_start
