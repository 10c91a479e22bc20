"""What a request must be before anyone asks who sent it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mcp_sod.errors import Malformed, Refusal, Withheld
from mcp_sod.exchange import ReplyKind, Request
from mcp_sod.intake.admission import admit, kept_reply_header, reply_kind
from mcp_sod.policy.policy import Policy

from tests.unit.making import body_of, policy_of

JSON = ("content-type", "application/json")
SAYS = ("mcp-method", "ping")
SECURE = "https://query.example:443/v1/mcp?tenant=a"
HERE = ("host", "tools.example:9000")
UPSTREAMS = {
    "tools": {"url": "http://tools.example:9000/mcp", "speaks": "mcp"},
    "query": {"url": "https://Query.Example/v1/mcp?tenant=a", "speaks": "mcp"},
    "six": {"url": "http://[::1]:9000/mcp", "speaks": "mcp"},
    "root": {"url": "http://root.example", "speaks": "mcp"},
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A policy with upstreams of several kinds."""
    return policy_of(
        tmp_path_factory.mktemp("policy"), upstreams=UPSTREAMS, gateway={"name": "g", "limits": {"body": "1KiB"}}
    )


def request(**changed: Any) -> Request:
    """A request that is admitted, but for what is changed."""
    facts = {
        "method": "POST",
        "url": "http://tools.example:9000/mcp",
        "headers": (JSON,),
        "body": body_of("ping"),
        "peer": "p",
    }
    said = {**facts, "authority": "", "forward": True, **changed}
    if "host" not in dict(said["headers"]):
        said["headers"] += (("host", urlsplit(said["url"]).netloc),)
    return Request(**said)


GOOD: list[tuple[str, dict[str, Any], str]] = [
    ("an upstream by its URL", {}, "tools"),
    ("the default port written out", {"url": "https://query.example:443/v1/mcp?tenant=a"}, "query"),
    ("an IPv6 address", {"url": "http://[::1]:9000/mcp", "forward": False}, "six"),
    ("a URL without a path", {"url": "http://root.example:80/"}, "root"),
    ("the same host", {"headers": (JSON, ("host", "tools.example:9000"))}, "tools"),
    ("the same host in capitals", {"headers": (JSON, ("host", "Tools.Example:9000"))}, "tools"),
    (
        "the default port left out",
        {"url": "http://root.example:80/", "headers": (JSON, ("host", "root.example"))},
        "root",
    ),
    ("the same authority", {"authority": "tools.example:9000"}, "tools"),
    ("HTTP/2", {"http2": True, "version": "HTTP/2.0"}, "tools"),
    ("TLS", {"url": SECURE, "server_name": "Query.Example"}, "query"),
    ("reverse mode, whatever the host", {"forward": False, "headers": (JSON, ("host", "gateway.example"))}, "tools"),
    ("a charset", {"headers": (("content-type", 'Application/JSON; charset="UTF-8"'),)}, "tools"),
    ("identity as encoding", {"headers": (JSON, ("content-encoding", "Identity"))}, "tools"),
    ("a header twice that may be", {"headers": (JSON, ("accept", "a"), ("accept", "b"))}, "tools"),
    ("the largest body", {"body": body_of("ping") + b" " * (1024 - len(body_of("ping")))}, "tools"),
]
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("another host", {"url": "http://tools.example.org:9000/mcp"}, "unlisted"),
    ("a host with a dot at its end", {"url": "http://tools.example.:9000/mcp"}, "unlisted"),
    ("another port", {"url": "http://tools.example:9001/mcp"}, "unlisted"),
    ("another scheme", {"url": "https://tools.example:9000/mcp"}, "unlisted"),
    ("another path", {"url": "http://tools.example:9000/mcp/"}, "unlisted"),
    ("a path in capitals", {"url": "http://tools.example:9000/MCP"}, "unlisted"),
    ("a path with dots", {"url": "http://tools.example:9000/x/../mcp"}, "unlisted"),
    ("an escaped path", {"url": "http://tools.example:9000/%6dcp"}, "unlisted"),
    ("two slashes", {"url": "http://tools.example:9000//mcp"}, "unlisted"),
    ("a query", {"url": "http://tools.example:9000/mcp?x=1"}, "unlisted"),
    ("an empty query", {"url": "http://tools.example:9000/mcp?"}, "unlisted"),
    ("another query", {"url": "https://query.example:443/v1/mcp?tenant=b"}, "unlisted"),
    ("no query", {"url": "https://query.example:443/v1/mcp"}, "unlisted"),
    ("metadata of the cloud", {"url": "http://169.254.169.254:80/"}, "unlisted"),
    ("GET with a body", {"method": "GET"}, "malformed"),
    ("DELETE with a body", {"method": "DELETE"}, "malformed"),
    ("a GET that names a method", {"method": "GET", "body": b"", "headers": (SAYS,)}, "header-mismatch"),
    ("PUT", {"method": "PUT"}, "http-method"),
    ("HEAD", {"method": "HEAD", "body": b""}, "http-method"),
    ("post in small letters", {"method": "post"}, "http-method"),
    ("another host in the header", {"headers": (JSON, ("host", "root.example"))}, "misdirected"),
    ("another port in the header", {"headers": (JSON, ("host", "tools.example:9001"))}, "misdirected"),
    ("no port in the header", {"headers": (JSON, ("host", "tools.example"))}, "misdirected"),
    ("a user in the header", {"headers": (JSON, ("host", "root.example@tools.example:9000"))}, "misdirected"),
    ("a path in the header", {"headers": (JSON, ("host", "tools.example:9000/x"))}, "misdirected"),
    ("a fragment in the header", {"headers": (JSON, ("host", "tools.example:9000#x"))}, "misdirected"),
    ("an empty host", {"headers": (JSON, ("host", ""))}, "misdirected"),
    ("a port that is none", {"headers": (JSON, ("host", "tools.example:x"))}, "misdirected"),
    ("a bracket", {"headers": (JSON, ("host", "[tools.example:9000"))}, "misdirected"),
    ("two hosts, the second another", {"headers": (JSON, HERE, ("host", "root.example"))}, "malformed"),
    ("another authority", {"authority": "root.example:9000"}, "misdirected"),
    ("an authority with a user", {"authority": "root.example@tools.example:9000"}, "misdirected"),
    ("HTTP/1.0", {"version": "HTTP/1.0"}, "malformed"),
    ("HTTP/2 in a line of HTTP/1", {"version": "HTTP/2.0"}, "malformed"),
    ("HTTP/1 over HTTP/2", {"http2": True}, "malformed"),
    ("TLS for another host", {"url": SECURE, "server_name": "a.example"}, "misdirected"),
    ("the host twice", {"headers": (JSON, HERE, HERE)}, "malformed"),
    ("no content type", {"headers": ()}, "unsupported"),
    ("another content type", {"headers": (("content-type", "text/plain"),)}, "unsupported"),
    ("JSON of another kind", {"headers": (("content-type", "application/json-rpc"),)}, "unsupported"),
    ("another charset", {"headers": (("content-type", "application/json; charset=utf-7"),)}, "unsupported"),
    ("two charsets", {"headers": (("content-type", "application/json; charset=utf-8; charset=x"),)}, "unsupported"),
    ("an unknown parameter", {"headers": (("content-type", "application/json; boundary=x"),)}, "unsupported"),
    ("the content type twice", {"headers": (JSON, JSON)}, "malformed"),
    ("gzip", {"headers": (JSON, ("content-encoding", "gzip"))}, "unsupported"),
    ("rot13", {"headers": (JSON, ("content-encoding", "rot13"))}, "unsupported"),
    ("identity and gzip", {"headers": (JSON, ("content-encoding", "identity, gzip"))}, "unsupported"),
    ("an empty encoding", {"headers": (JSON, ("content-encoding", ""))}, "unsupported"),
    ("the encoding twice", {"headers": (JSON, *[("content-encoding", "identity")] * 2)}, "malformed"),
    ("an MCP header twice", {"headers": (JSON, ("mcp-name", "a"), ("mcp-name", "a"))}, "malformed"),
    ("an upgrade", {"headers": (JSON, ("upgrade", "websocket"))}, "malformed"),
    ("announced trailers", {"headers": (JSON, ("trailer", "x"))}, "malformed"),
    ("another method in a header", {"headers": (JSON, ("x-http-method-override", "DELETE"))}, "malformed"),
    ("a header beyond ASCII", {"headers": (JSON, ("mcp-param-x", "\u00e9"))}, "malformed"),
    ("a header with a control character", {"headers": (JSON, ("mcp-param-x", "a\tb"))}, "malformed"),
    ("a header that says another method", {"headers": (JSON, ("mcp-method", "tools/call"))}, "header-mismatch"),
    ("a body beyond the limit", {"body": body_of("ping") + b" " * 1024}, "malformed"),
    ("an empty body", {"body": b""}, "malformed"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "name"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_what_is_understood_is_admitted(changed: dict[str, Any], name: str, policy: Policy) -> None:
    """A POST to a listed URL with a call in plain JSON is admitted, for that upstream."""
    route, call = admit(request(**changed), policy)
    assert (route.name, route.upstream, call.method) == (name, policy.document.upstreams[name], "ping")


@pytest.mark.parametrize(("changed", "code"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_could_be_understood_in_two_ways_is_refused(changed: dict[str, Any], code: str, policy: Policy) -> None:
    """Any other destination, method, header or encoding is refused with its code."""
    with pytest.raises(Refusal) as refused:
        admit(request(**changed), policy)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ([(b"content-type", b"application/json")], "json"),
        ([(b"content-type", b"Application/JSON; charset=UTF-8")], "json"),
        ([(b"content-type", b'application/json;charset="utf-8"')], "json"),
        ([(b"content-type", b"text/event-stream")], "events"),
        ([(b"content-type", b"text/event-stream;charset=utf-8")], "events"),
        ([], "empty"),
        ([(b"content-type", b"")], "empty"),
        ([(b"content-type", b"text/html")], "other"),
        ([(b"content-type", b"application/json; charset=utf-16")], "other"),
        ([(b"content-type", b"text/event-stream; charset=latin-1")], "other"),
        ([(b"content-type", b"application/json"), (b"content-type", b"application/json")], "other"),
        ([(b"content-type", b"\xff")], "other"),
        ([(b"content-encoding", b"identity"), (b"content-type", b"application/json")], "json"),
    ],
)
def test_a_replys_kind(fields: list[tuple[bytes, bytes]], kind: ReplyKind) -> None:
    """JSON and events are known by one plain content type; everything else is other."""
    assert reply_kind("mcp", 200, fields) == kind


@pytest.mark.parametrize(
    ("name", "value", "goes_on"),
    [
        (b"content-type", b"x", True), (b"mcp-session-id", b"x", True), (b"cache-control", b"no-cache, private", True),
        (b"cache-control", b"Public, max-age=9", False), (b"cache-control", b"max-age=1, s-maxage=9", False),
        (b"set-cookie", b"x", False), (b"location", b"x", False), (b"x-note", b"x", False), (b"etag", b"x", True),
    ],
)  # fmt: skip
def test_known_reply_headers_go_on(name: bytes, value: bytes, goes_on: bool) -> None:
    """What MCP's clients act on, and nothing by which a shared cache would serve one principal's reply to another."""
    assert kept_reply_header(name, value) is goes_on


@pytest.mark.parametrize("encoding", [b"gzip", b"br", b"rot13", b"identity, gzip", b""])
def test_a_compressed_reply_is_withheld(encoding: bytes) -> None:
    """A reply in an encoding that was not asked for is not read, so it is not delivered."""
    with pytest.raises(Withheld):
        reply_kind("mcp", 200, [(b"content-encoding", encoding)])


@pytest.mark.parametrize("status", [100, 101, 103, 600, 99_999_999_999])
def test_a_switch_of_protocols_is_withheld(status: int) -> None:
    """A status below 200, or beyond HTTP's own, never leads to a client."""
    assert reply_kind("mcp", 200, []) == "empty"
    with pytest.raises(Withheld):
        reply_kind("mcp", status, [])


def test_every_request_names_its_host_once(policy: Policy) -> None:
    """Over HTTP/1 by one Host header; over HTTP/2 its authority will do."""
    bare = replace(request(), headers=(JSON,))
    with pytest.raises(Malformed):
        admit(bare, policy)
    with pytest.raises(Malformed):
        admit(replace(bare, authority="tools.example:9000"), policy)
    admit(replace(bare, authority="tools.example:9000", http2=True, version="HTTP/2.0"), policy)
    with pytest.raises(Malformed):
        admit(replace(bare, http2=True, version="HTTP/2.0"), policy)


def test_a_model_apis_headers_are_part_of_the_call(tmp_path: Path) -> None:
    """What a header switches on is inspected, and an approval is bound to it."""
    policy = policy_of(tmp_path, upstreams={"claude": {"url": "https://claude.example/v1", "speaks": "anthropic"}})
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}).encode()
    plain = request(url="https://claude.example:443/v1/messages", body=body)
    beta = replace(plain, headers=(*plain.headers, ("anthropic-beta", "a-2026-01-01")))
    calls = [admit(one, policy)[1] for one in (plain, beta)]
    assert calls[0].digest("claude") != calls[1].digest("claude")
    assert "a-2026-01-01" in calls[1].texts().plain()
