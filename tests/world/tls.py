"""Everything over TLS: a private authority, an upstream that speaks HTTP/1.1 and HTTP/2, and a scene around it.

`python -m tests.world.tls --port 9000 --data DIR --certificate PEM` serves the bank; `SecureBank` runs that for a test.
"""

import argparse
import asyncio
import datetime as dt
import ipaddress
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, cast

import h2.events
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from h2.config import H2Configuration
from h2.connection import H2Connection

from tests.world.arrivals import Arrivals, Recorder
from tests.world.bank import build_server
from tests.world.client import LEGACY, call_headers
from tests.world.echo import Echo, Reply
from tests.world.gateway import Gateway
from tests.world.issuer import Issuer
from tests.world.ledger import Ledger
from tests.world.policies import default_policy
from tests.world.process import Process, free_port
from tests.world.scene import GOOD, SENDER, Scene, Watch
from tests.world.trail import Trail
from tests.world.wire import Http2, tunnel

DAY = dt.timedelta(days=1)
BOTH = ("h2", "http/1.1")
End = Callable[[H2Connection, int], None]


class Authority:
    """A certificate authority of nobody's; `file` is its own certificate."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Authority {folder.name}")])
        basic = x509.BasicConstraints(ca=True, path_length=0)
        certificate = self._draft(self._name, self._key).add_extension(basic, critical=True)
        self.file = folder / "authority.pem"
        self.file.write_bytes(self._signed(certificate).public_bytes(serialization.Encoding.PEM))

    def issue(self, *names: str) -> Path:
        """A file with a certificate for these names or addresses, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        draft = self._draft(subject, key).add_extension(
            x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False
        )
        file = self._folder / f"{names[0]}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + self._signed(draft).public_bytes(serialization.Encoding.PEM)
        )
        return file

    def _draft(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        draft = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        draft = draft.not_valid_before(now - DAY).not_valid_after(now + DAY)
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return draft.add_extension(own, critical=False).add_extension(issuer, critical=False)

    def _signed(self, draft: x509.CertificateBuilder) -> x509.Certificate:
        return draft.sign(self._key, hashes.SHA256())


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class SecureEcho(Echo):
    """An Echo over TLS. What arrives over HTTP/2 is kept in the form of HTTP/1, pseudo-headers first.

    Args:
        certificate: Of `issue`; what is shown to whoever asks for none of `others`.
        others: Certificates by the server name that is asked for.
        protocols: What it speaks, by ALPN; the first that the other side offers, too.
    """

    def __init__(
        self, certificate: Path, *, others: Mapping[str, Path] | None = None, protocols: Sequence[str] = BOTH
    ) -> None:
        self.names: list[str | None] = []  # the server names asked for
        self.spoken: list[str | None] = []  # the protocols agreed on
        self.end: End = H2Connection.end_stream  # how a reply over HTTP/2 ends
        self._others = {name: _server_context(file, protocols) for name, file in (others or {}).items()}
        context = _server_context(certificate, protocols)
        context.sni_callback = self._named
        super().__init__(GOOD, tls=context)

    def _named(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        self.names.append(name)
        if name in self._others:
            connection.context = self._others[name]

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        spoken = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        self.spoken.append(spoken)
        if spoken != "h2":
            await super()._serve_one(reader, writer)
            return
        async with asyncio.TaskGroup() as answers:
            http = H2Connection(H2Configuration(client_side=False, header_encoding=False))
            http.initiate_connection()
            requests: dict[int, bytes] = {}
            writer.write(http.data_to_send())
            while data := await reader.read(65536):
                for event in http.receive_data(data):
                    match event:
                        case h2.events.RequestReceived(stream_id=int(stream), headers=headers):
                            head = [bytes(name) + b": " + bytes(value) for name, value in headers or ()]
                            requests[stream] = b"\r\n".join([*head, b"", b""])
                        case h2.events.DataReceived(stream_id=int(stream), data=bytes(piece)):
                            requests[stream] += piece
                            http.acknowledge_received_data(event.flow_controlled_length or 0, stream)
                        case h2.events.StreamEnded(stream_id=int(stream)):
                            reply = self._took(requests.pop(stream))
                            answers.create_task(_answer(http, writer, stream, reply, self.end))
                writer.write(http.data_to_send())
                await writer.drain()


async def _answer(http: H2Connection, writer: asyncio.StreamWriter, stream: int, reply: Reply, end: End) -> None:
    """Sends a reply over HTTP/2: its head, each of its pieces in a frame of its own, and its end."""
    head, *parts = reply.parts
    assert isinstance(head, bytes)
    line, *fields = head.decode().strip().split("\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (field.partition(":") for field in fields)]
    chunked = ("transfer-encoding", "chunked") in headers
    kept = [(name, value) for name, value in headers if name not in {"connection", "transfer-encoding"}]
    http.send_headers(stream, [(":status", line.split()[1]), *kept])
    for part in parts:
        if isinstance(part, bytes):
            http.send_data(stream, part.partition(b"\r\n")[2][:-2] if chunked else part)
            writer.write(http.data_to_send())
            await writer.drain()
        else:
            await asyncio.sleep(part)
    end(http, stream)
    writer.write(http.data_to_send())


def _server_context(certificate: Path, protocols: Sequence[str]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(list(protocols))
    return context


class SecureScene:
    """A gateway on the default policy, with a limit of 64 KiB, before an upstream over TLS that the caller brings.

    Args:
        folder: Where all of it lives.
        upstream: What the gateway leads to.
        trusted: The authority that the gateway believes about upstreams.
        mode: `regular`, or `reverse` for reverse mode before the upstream, with TLS towards the clients.
        changed: Replaces parts of the default policy, as `default_policy` takes them.
    """

    def __init__(
        self, folder: Path, upstream: SecureEcho, trusted: Authority, *, mode: str = "regular", **changed: Any
    ) -> None:
        self.echo = upstream
        self.mode = mode
        self.issuer = Issuer(folder / "issuer")
        policy = default_policy(self.issuer, upstream.url, **changed)
        settings: Any = policy["gateway.yaml"]
        settings["gateway"]["limits"] |= {"body": "64KiB"}
        listen = f"reverse:https://localhost:{upstream.port}" if mode == "reverse" else mode
        options = ["--set", f"ssl_verify_upstream_trusted_ca={trusted.file}"]
        self.gateway = Gateway(folder / "gateway", policy, mode=listen, options=options)
        self.authority = folder / "gateway" / "mitmproxy" / "mitmproxy-ca-cert.pem"
        self.trail = Trail(self.gateway.state, folder / "gateway" / "var" / "audit")
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.gateway)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def token(self, sub: str = "ada", *groups: str) -> str:
        """A token for someone in these groups, of the prompt-senders if none are named."""
        return self.issuer.token(sub, groups=groups or SENDER, email=f"{sub}@people.example")

    def watch(self) -> Watch:
        """Begins to look at what happens from now on."""
        return Watch(cast("Scene", self))  # of a scene it uses the echo and the trail

    def connect(self, protocol: str = "h2", *, name: str = "localhost", patience: float = 10) -> ssl.SSLSocket:
        """A client's TLS connection to the gateway, through CONNECT in regular mode, that asks for this name."""
        context = ssl.create_default_context(cafile=str(self.authority))
        context.set_alpn_protocols([protocol])
        target = None if self.mode == "reverse" else f"localhost:{self.echo.port}"
        return context.wrap_socket(tunnel(self.gateway.port, target, patience=patience), server_hostname=name)

    def http2(self, *, name: str = "localhost", patience: float = 10) -> Http2:
        """A client that speaks HTTP/2 with the gateway."""
        return Http2(self.connect("h2", name=name, patience=patience))

    def head(self, token: str, tool: str = "get_customer", **pseudo: str) -> list[tuple[str, str]]:
        """The HTTP/2 headers of a good call; `pseudo` replaces pseudo-headers."""
        known = {"method": "POST", "scheme": "https", "authority": f"localhost:{self.echo.port}", "path": "/mcp"}
        fields = [(f":{key}", value) for key, value in (known | pseudo).items()]
        return fields + [(key.lower(), value) for key, value in call_headers(tool, token, era=LEGACY).items()]


class SecureBank(Process):
    """The bank over TLS, HTTP/1.1 alone."""

    def __init__(self, folder: Path, certificate: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"https://localhost:{self.port}/mcp"
        self.arrivals = Arrivals(folder / "arrivals.jsonl")
        command = [sys.executable, "-m", "tests.world.tls", "--port", str(self.port), "--data", str(folder)]
        super().__init__([*command, "--certificate", certificate], folder / "bank.log", ports=[self.port])


def main() -> None:
    """Serves the bank over TLS until it is told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--certificate", type=Path, required=True)
    arguments = parser.parse_args()
    app = build_server(Ledger(arguments.data / "bank.sqlite")).streamable_http_app()
    recorded = Recorder(app, Arrivals(arguments.data / "arrivals.jsonl"))
    options: Mapping[str, Any] = {"log_level": "warning", "timeout_graceful_shutdown": 1}
    uvicorn.run(recorded, host="127.0.0.1", port=arguments.port, ssl_certfile=arguments.certificate, **options)


if __name__ == "__main__":
    main()
