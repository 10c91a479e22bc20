"""What an upstream is sent."""

from pathlib import Path
from typing import Any

import pytest
from mcp_sod.errors import Denied, Unavailable
from mcp_sod.release.credentials import forwarded, keep_back, own_headers

from tests.unit.making import UPSTREAM, policy_of
from tests.world.token_endpoint import exchange


@pytest.mark.parametrize(
    ("name", "value", "goes_on"),
    [
        ("content-type", "application/json", True), ("content-type", "application/json; charset=utf-8", True),
        ("content-type", "application/json; note=x", False),
        ("accept", "application/json, text/event-stream", True), ("accept", "*/*", True),
        ("accept", "application/json;q=0.9", True), ("accept", "text/secret", False),
        ("host", "mcp.example:8443", True), ("host", "mcp example", False),
        ("mcp-method", "tools/call", True), ("mcp-name", "query", True), ("mcp-param-region", "eu", True),
        ("mcp-protocol-version", "v9.0", True),
        ("mcp-protocol-version", "2025-11-25", True), ("mcp-protocol-version", "a secret", False),
        ("mcp-session-id", "0af1-22", True), ("mcp-session-id", "x" * 257, False),
        ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01", True), ("traceparent", "a secret", False),
        ("user-agent", "x", False), ("accept-language", "x", False), ("last-event-id", "x", True),
        ("last-event-id", "a b", False), ("origin", "https://a.example", True),
        ("origin", "a secret", False),
        ("authorization", "Bearer x", False), ("proxy-authorization", "x", False), ("cookie", "x", False),
        ("x-api-key", "x", False), ("x-forwarded-for", "x", False), ("forwarded", "x", False),
        ("connection", "close", False), ("transfer-encoding", "chunked", False), ("content-encoding", "gzip", False),
        ("content-length", "1", False), ("expect", "x", False),
        ("mcp-secret", "x", False), ("x-mcp-param-a", "x", False),
        ("dpop", "x", False), ("", "", False),
        ("x-sod-assertion", "x", False), ("X-SOD-Assertion", "x", False), ("mcp-param", "x", False),
    ],
)  # fmt: skip
def test_known_headers_go_on(name: str, value: str, goes_on: bool) -> None:
    """A header is forwarded only if MCP needs it, and only in a form that carries nothing past the rules."""
    field = (name.encode(), value.encode())
    assert list(forwarded((field,), "mcp", {})) == ([field] if goes_on else [])


def sent(folder: Path, credential: Any = None) -> list[tuple[bytes, bytes]]:
    """The gateway's own headers for an upstream with this credential."""
    upstream = {"url": UPSTREAM, "speaks": "mcp"} | ({"credential": {"bearer": credential}} if credential else {})
    policy = policy_of(folder, upstreams={"tools": upstream})
    return own_headers(policy, policy.document.upstreams["tools"])


def test_an_upstream_without_credential_gets_none(tmp_path: Path) -> None:
    """The reply is asked for uncompressed, and that is all."""
    assert sent(tmp_path) == [(b"accept-encoding", b"identity")]


def test_the_gateways_own_credential_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment or a file beside the policy folder; a changed file counts at once."""
    monkeypatch.setenv("SOD_TEST_TOKEN", "t1")
    assert sent(tmp_path, {"env": "SOD_TEST_TOKEN"})[1:] == [(b"authorization", b"Bearer t1")]
    for token in ("t2", "t3"):
        (tmp_path / "tools.token").write_text(f"{token}\n")
        assert sent(tmp_path, {"file": "tools.token"})[1:] == [(b"authorization", f"Bearer {token}".encode())]


@pytest.mark.parametrize("part", [b'{"a":"eyJ.x.y"}', b"/orders?t=eyJ.x.y", b"Bearer eyJ.x.y", b"eyJ.x.y"])
def test_the_callers_token_is_kept_back(part: bytes) -> None:
    """Wherever in a call it stands; the same call with another text goes."""
    with pytest.raises(Denied, match="own token"):
        keep_back("eyJ.x.y", b"before", part, b"after")
    keep_back("eyJ.x.z", b"before", part, b"after")
    for none in (None, ""):
        keep_back(none, part)


@pytest.mark.parametrize(
    ("part", "texts"),
    [
        (rb'{"a":"\u0065yJ.x.y"}', ["a", "eyJ.x.y"]),
        (rb'{"\u0065yJ\u002ex.y":1}', ["eyJ.x.y"]),
        (b'{"a":"uri://x?t=%65yJ%2Ex.y"}', ["uri://x?t=%65yJ%2Ex.y"]),
        (b"=?base64?ZXlKLngueQ==?=", ["eyJ.x.y"]),
        (b"/orders?t=%65yJ.x.y", []),
        (b"/orders?t=e%79J%2ex%2Ey", []),
        (b"/orders?t=%2565yJ.x.y", []),
        (b"/\xff%65yJ.x.y", []),
    ],
)
def test_the_callers_token_is_kept_back_however_it_is_written(part: bytes, texts: list[str]) -> None:
    """JSON's escapes and percent-encoding hide it no more than plain letters do; other tokens written so go."""
    with pytest.raises(Denied, match="own token"):
        keep_back("eyJ.x.y", b"before", part, texts=lambda: texts)
    keep_back("eyJ.x.z", b"before", part, texts=lambda: texts)
    keep_back("eyJ.x.y", b"eyJ", b".x.y%", texts=lambda: ["eyJ", ".x.y", "%65yJ.x%"])


def test_an_exchanged_token_is_shown_and_never_none_in_its_place(tmp_path: Path) -> None:
    """Where the policy wants callers' tokens exchanged, a call goes with that token or not at all."""
    upstream = {"url": UPSTREAM, "speaks": "mcp", "credential": exchange("https://login.example/token")}
    policy = policy_of(tmp_path, upstreams={"tools": upstream})
    tools = policy.document.upstreams["tools"]
    assert own_headers(policy, tools, "t4")[1:] == [(b"authorization", b"Bearer t4")]
    with pytest.raises(Unavailable, match="no token"):
        own_headers(policy, tools)


@pytest.mark.parametrize("content", [None, "", "\n", "a\nb", "é", "a\x00"])
def test_a_credential_that_cannot_be_used_refuses(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing, empty or odd credential is a refusal that says where to put it, never a call without one."""
    if content is not None:
        (tmp_path / "tools.token").write_text(content)
    monkeypatch.setenv("SOD_TEST_TOKEN", content.replace("\x00", "\x01").strip("\n") if content else "")
    for where in ({"file": "tools.token"}, {"env": "SOD_TEST_TOKEN"}):
        with pytest.raises(
            Unavailable, match=r"Put it into the (file .*tools\.token|environment variable SOD_TEST_TOKEN)"
        ):
            sent(tmp_path, where)
