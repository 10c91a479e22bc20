"""Over TLS and HTTP/2 on either side: what arrives is what was inspected; no client chooses whom the gateway trusts."""

import json
import ssl
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from string import Template
from typing import Any

import httpx2
import pytest
from h2.connection import H2Connection
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from pydantic import Field

from tests.unit.cases import Case, Pair, rows
from tests.world.client import LEGACY, MODERN, call_body, call_headers, environment, proxy_environment
from tests.world.echo import SSE_TYPE, Reply
from tests.world.gateway import Gateway
from tests.world.issuer import Issuer
from tests.world.policies import default_policy
from tests.world.scene import GOOD, GOOD_BODY, GOOD_EVENTS, MASKED, SECRET, SENDER
from tests.world.tls import BOTH, Authority, End, SecureBank, SecureEcho, SecureScene
from tests.world.wire import converse, converse_on

CALL = json.dumps(call_body("get_customer", {}, era=LEGACY)).encode()
HELD = json.dumps(call_body("get_customer", {"note": SECRET}, era=LEGACY)).encode()  # its secret asks for approval
HOLD = 2  # seconds
FORWARDED = {
    ":method", ":scheme", ":path", ":authority", "host", "content-type", "content-length", "accept", "accept-encoding",
    "mcp-protocol-version", "mcp-method", "mcp-name",
}  # fmt: skip


class Http2Case(Case):
    """A good call over HTTP/2, changed in one way, and what must come of it."""

    pseudo: dict[str, str] = Field(default_factory=dict)
    missing: list[str] = Field(default_factory=list)
    without: list[str] = Field(default_factory=list)
    first: list[Pair[str]] = Field(default_factory=list)
    with_: list[Pair[str]] = Field(default_factory=list, alias="with")
    trailers: list[Pair[str]] = Field(default_factory=list)
    pad: int = 0
    end: bool = True
    status: int
    arrives: int = 0
    record: list[str | None] = Field(default_factory=list, max_length=2)

    def body(self) -> bytes:
        """The message."""
        return json.dumps(call_body("get_customer", {"pad": " " * self.pad} if self.pad else {}, era=LEGACY)).encode()

    def headers(self, scene: SecureScene, names: dict[str, str]) -> list[tuple[str, str]]:
        """What is sent as headers."""
        good = scene.head(names["token"], **self.pseudo)
        gone = {*self.missing, *self.without}
        fields = [*self.first, *(one for one in good if one[0] not in gone), *self.with_]
        return [(name, Template(value).safe_substitute(names)) for name, value in fields]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that the gateways believe."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def upstream(authority: Authority) -> Iterator[SecureEcho]:
    """An upstream that speaks both, and would be another server for whoever asks for it by that name."""
    certificate = authority.issue("localhost")
    with SecureEcho(certificate, others={"other.example": authority.issue("other.example")}) as running:
        yield running


@pytest.fixture(scope="module")
def scene(
    upstream: SecureEcho, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecureScene]:
    """A gateway in regular mode that takes no more than 64 KiB."""
    with SecureScene(tmp_path_factory.mktemp("tls"), upstream, authority, hold=f"{HOLD}s") as running:
        yield running


@pytest.fixture(scope="module")
def reverse(
    upstream: SecureEcho, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecureScene]:
    """A gateway in reverse mode, with TLS on both sides."""
    with SecureScene(tmp_path_factory.mktemp("reverse"), upstream, authority, mode="reverse") as running:
        yield running


def called(scene: SecureScene, protocol: str, *, name: str = "localhost", token: str | None = None) -> tuple[int, str]:
    """Status and text of one good call over TLS, in this protocol."""
    token = token or scene.token()
    if protocol == "h2":
        with scene.http2(name=name) as http:
            stream = http.wait(http.send(scene.head(token), CALL))
            return stream.status, stream.body.decode()
    fields = call_headers("get_customer", token, era=LEGACY) | {"Content-Length": str(len(CALL))}
    fields["Host"] = f"localhost:{scene.echo.port}"
    head = "\r\n".join(["POST /mcp HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""])
    with scene.connect(protocol, name=name) as connection:
        answer = converse_on(connection, [head.encode() + CALL])
        return answer.status, answer.raw.decode()


def arrived_plain(arrived: bytes, body: bytes = CALL) -> bool:
    """Whether this is the one form in which a call goes upstream."""
    head, _, rest = arrived.partition(b"\r\n\r\n")
    lines = [line for line in head.decode().split("\r\n") if line != "POST /mcp HTTP/1.1"]
    names = [line.rpartition(": ")[0].lower() for line in lines]
    return rest == body and len(set(names)) == len(names) and set(names) <= FORWARDED


@pytest.mark.parametrize(("policy", "case"), rows("gate", Http2Case, "http2"))
def test_what_is_sent_over_http2_and_what_comes_of_it(
    scene: SecureScene, policy: dict[str, Any], case: Http2Case
) -> None:
    """Each row of tests/cases/gate/http2: what is refused goes nowhere, on record; what is sound arrives, once."""
    assert not policy
    port = scene.echo.port
    body = case.body()
    names = {"authority": f"localhost:{port}", "port": str(port), "token": scene.token(), "length": str(len(body))}
    seen = scene.watch()
    with scene.http2() as http:
        trailers = [(name, Template(value).safe_substitute(names)) for name, value in case.trailers]
        number = http.send(case.headers(scene, names), body, end=case.end, trailers=trailers)
        if not case.end:
            http.reset(number)
        stream = http.wait(number, patience=1)
    outcome = seen.record(event=case.record[0], code=case.record[1]) if case.record else None
    assert (stream.status, seen.connections, len(seen.arrived)) == (case.status, case.arrives, case.arrives), stream
    assert all(arrived_plain(one, body) for one in seen.arrived)
    assert SECRET.encode() not in stream.body
    assert outcome or seen.records == []
    assert called(scene, "h2")[0] == 200


@pytest.mark.parametrize(("mode", "client", "server"), list(product(["regular", "reverse"], BOTH, BOTH)))
def test_every_combination_passes_masked(
    authority: Authority, tmp_path: Path, mode: str, client: str, server: str
) -> None:
    """HTTP/1.1 and HTTP/2 on either side, both modes; for a client of HTTP/1.1 mitmproxy asks for no more."""
    certificate = authority.issue("localhost")
    with (
        SecureEcho(certificate, protocols=BOTH if server == "h2" else ["http/1.1"]) as upstream,
        SecureScene(tmp_path, upstream, authority, mode=mode) as scene,
    ):
        for reply in (GOOD, GOOD_EVENTS):
            upstream.answer(reply)
            seen = scene.watch()
            status, body = called(scene, client)
            assert (status, MASKED in body, SECRET in body) == (200, True, False)
            assert seen.record(event="replied", code=None)["masked"]
            assert [arrived_plain(one) for one in seen.arrived] == [True]
            assert b"Bearer" not in seen.arrived[0]
        assert {spoken == "h2" for spoken in upstream.spoken} == {(client, server) == ("h2", "h2")}


@pytest.mark.parametrize("client", BOTH)
@pytest.mark.parametrize("mode", ["regular", "reverse"])
@pytest.mark.parametrize("flaw", ["unknown authority", "another name", "none"])
def test_an_upstream_that_cannot_prove_who_it_is_gets_nothing(
    authority: Authority, tmp_path: Path, mode: str, client: str, flaw: str
) -> None:
    """A certificate of an authority that is not believed, or for another name: 502, on record, no byte of the call."""
    signer = Authority(tmp_path / "stranger") if flaw == "unknown authority" else authority
    certificate = signer.issue("other.example" if flaw == "another name" else "localhost")
    with SecureEcho(certificate) as upstream, SecureScene(tmp_path, upstream, authority, mode=mode) as scene:
        seen = scene.watch()
        status, body = called(scene, client)
        if flaw == "none":
            assert (status, MASKED in body, len(seen.arrived)) == (200, True, 1)
        else:
            assert (status, seen.arrived) == (502, [])
            assert seen.record(event="replied", code="broken")


@pytest.mark.parametrize("client", BOTH)
@pytest.mark.parametrize("mode", ["regular", "reverse"])
@pytest.mark.parametrize("genuine", [True, False], ids=["the upstream", "an impostor"])
def test_the_client_does_not_choose_whom_the_gateway_trusts(
    authority: Authority, tmp_path: Path, mode: str, client: str, *, genuine: bool
) -> None:
    """Whatever name the client's TLS asks for, the upstream is asked for, and verified as, the one of the policy."""
    certificates = {name: authority.issue(name) for name in ("localhost", "other.example")}
    shown = certificates["localhost" if genuine else "other.example"]
    other = {"other.example": certificates["other.example"]}
    with (
        SecureEcho(shown, others=other) as upstream,
        SecureScene(tmp_path, upstream, authority, mode=mode) as scene,
    ):
        seen = scene.watch()
        status, _ = called(scene, client, name="other.example")
        if mode == "regular":  # a target that differs from whom the client's TLS asked for
            assert (status, len(seen.arrived), upstream.names) == (421, 0, [])
        else:
            assert set(upstream.names) == {"localhost"}
            assert (status, len(seen.arrived)) == ((200, 1) if genuine else (502, 0))


def test_two_streams_with_two_tokens_are_two_people(scene: SecureScene) -> None:
    """Who is asking is looked at for each request: one connection is not one person."""
    seen = scene.watch()
    tokens = [scene.token("ada"), scene.token("bob"), scene.token("eve", "nobodies")]
    with scene.http2() as http:
        numbers = [http.send(scene.head(token), CALL) for token in tokens]
        numbers.append(http.send([one for one in scene.head("") if one[0] != "authorization"], CALL))
        http.wait(*numbers)
        answers = [http.streams[number] for number in numbers]
    assert [answer.status for answer in answers] == [200, 200, 200, 401]
    assert [MASKED.encode() in answer.body for answer in answers] == [True, True, False, False]
    assert len(seen.arrived) == 2
    assert sorted(one["principal"]["subject"] for one in seen.records if one["event"] == "forwarded") == ["ada", "bob"]


def test_a_held_call_does_not_hold_its_siblings(scene: SecureScene) -> None:
    """While one stream waits for approval, others of the same connection are answered."""
    began = time.monotonic()
    with scene.http2() as http:
        held = http.send(scene.head(scene.token()), HELD)
        for _ in range(3):
            assert MASKED.encode() in http.wait(http.send(scene.head(scene.token()), CALL)).body
        assert time.monotonic() - began < HOLD
        assert not http.streams[held].over
        assert b"t-" in http.wait(held).body
    assert time.monotonic() - began >= HOLD


def test_a_held_call_that_is_taken_back_goes_nowhere(scene: SecureScene) -> None:
    """A reset of its stream ends a held call; the connection lives on."""
    seen = scene.watch()
    with scene.http2() as http:
        http.reset(http.send(scene.head(scene.token()), HELD))
        assert http.wait(http.send(scene.head(scene.token()), CALL)).status == 200
        time.sleep(HOLD + 0.5)
    assert len(seen.arrived) == 1


@pytest.mark.parametrize("mode", ["regular", "reverse"])
def test_events_pass_one_by_one(scene: SecureScene, reverse: SecureScene, mode: str) -> None:
    """Over HTTP/2 an event is at the client before the next has been sent."""
    chosen = scene if mode == "regular" else reverse
    note = json.dumps(
        {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": SECRET}}
    )
    early = f"data: {note}\n\n".encode()
    chosen.echo.answer(Reply.chunked([early, 0.5, early, 0.5, b"data: " + GOOD_BODY + b"\n\n"], headers=[SSE_TYPE]))
    try:
        with chosen.http2() as http:
            stream = http.wait(http.send(chosen.head(chosen.token()), CALL))
    finally:
        chosen.echo.answer(GOOD)
    times = [at for at, _ in stream.pieces]
    assert times[-1] - times[0] > 0.9
    assert stream.body.count(MASKED.encode()) == 3
    assert SECRET.encode() not in stream.body


@pytest.mark.parametrize(
    ("note", "times", "status"),
    [("y" * 1000, 1, 200), ("y" * 100_000, 1, 0), ("y" * 4000, 5000, 0)],
    ids=["the control", "one header of 100 KB", "20 MB of headers in 9 KB"],
)
def test_a_head_over_http2_is_bounded_once_unpacked(scene: SecureScene, note: str, times: int, status: int) -> None:
    """A head that is too large, or becomes so when it is decompressed, ends the connection."""
    seen = scene.watch()
    with scene.http2() as http:
        stream = http.wait(http.send([*scene.head(scene.token()), *[("x-note", note)] * times], CALL))
        assert http.closed == (status == 0)
    assert (stream.status, len(seen.arrived)) == (status, int(status == 200))
    assert called(scene, "h2")[0] == 200


ENDS: dict[str, End] = {
    "as it should": H2Connection.end_stream,
    "with trailers": lambda http, stream: http.send_headers(stream, [("x-note", SECRET)], end_stream=True),
    "with a reset": lambda http, stream: http.reset_stream(stream, 2),
    "with a farewell": lambda http, _: http.close_connection(2, SECRET.encode()),
}


@pytest.mark.parametrize("reply", [GOOD, GOOD_EVENTS], ids=["json", "events"])
@pytest.mark.parametrize("name", ENDS)
def test_however_a_reply_ends_nothing_raw_is_delivered(scene: SecureScene, name: str, reply: Reply) -> None:
    """Trailers go no further; what is reset or cut off is on record as broken, unless all of it had come."""
    seen = scene.watch()
    scene.echo.answer(reply)
    scene.echo.end = ENDS[name]
    try:
        with scene.http2() as http:
            stream = http.wait(http.send(scene.head(scene.token()), CALL))
    finally:
        scene.echo.answer(GOOD)
        scene.echo.end = H2Connection.end_stream
    assert stream.trailers == []
    assert SECRET not in f"{stream.headers} {stream.body!r} {seen.records}"
    if name in ("as it should", "with trailers"):
        assert (stream.status, stream.reset, MASKED.encode() in stream.body) == (200, None, True)
        assert seen.record(event="replied", code=None)["masked"]
    else:
        assert stream.status == 502 or stream.reset is not None
        assert seen.record(event="replied", code="broken")
    assert called(scene, "h2")[0] == 200


@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_the_sdks_client_by_https_proxy_alone(authority: Authority, tmp_path: Path, era: str) -> None:
    """HTTPS_PROXY and the gateway's authority are all that a client of the SDK needs; its calls arrive masked."""
    bank = SecureBank(tmp_path / "bank", authority.issue("localhost"))
    issuer = Issuer(tmp_path / "issuer")
    options = ["--set", f"ssl_verify_upstream_trusted_ca={authority.file}"]
    with bank, Gateway(tmp_path / "gateway", default_policy(issuer, bank.url), options=options) as gateway:
        trusted = str(gateway.folder / "mitmproxy" / "mitmproxy-ca-cert.pem")
        token = issuer.token("ada", groups=SENDER, email="ada@people.example")
        with environment({**proxy_environment(None), "HTTPS_PROXY": gateway.url}):
            http = httpx2.AsyncClient(
                headers={"Authorization": f"Bearer {token}"}, verify=ssl.create_default_context(cafile=trusted)
            )
        transport = streamable_http_client(bank.url, http_client=http)
        async with http, Client(transport, mode="legacy" if era == LEGACY else era) as client:
            reply = await client.call_tool("get_customer", {"id": 1})
        assert not reply.is_error
        assert "[masked:" in str(reply.structured_content)
        assert all(one.header("authorization") == [] for one in bank.arrivals.read())


def test_a_client_that_speaks_no_tls_in_a_tunnel_reaches_nothing(scene: SecureScene) -> None:
    """In the tunnel to an upstream over TLS, plain HTTP is another upstream, which is not listed."""
    seen = scene.watch()
    target = f"localhost:{scene.echo.port}"
    opening = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()
    call = f"POST /mcp HTTP/1.1\r\nHost: {target}\r\nContent-Length: 0\r\n\r\n".encode()
    assert converse(scene.gateway.port, [opening, call]).status == 403
    assert seen.record(event="rejected", code="unlisted")
    assert seen.connections == 0
