"""Under which address a caller knows an upstream, and what it is told there."""

from pathlib import Path
from typing import Any

import pytest
from mcp_sod.policy.policy import Policy
from mcp_sod.resource import WELL_KNOWN, metadata, metadata_address, proof_addresses, sent_here

from tests.unit.making import GATEWAY, policy_of, request_of

HERE = "http://127.0.0.1:9000"
ISSUER = {"issuer": "https://login.example", "audience": ["a"], "keys": "discover", "machine": "none"}
UPSTREAMS = {
    "tools": {"url": f"{HERE}/mcp", "speaks": "mcp"},
    "claude": {"url": "https://api.example/v1", "speaks": "anthropic"},
}


def policy(folder: Path, *issuers: dict[str, Any], public: tuple[str, ...] = ()) -> Policy:
    """A policy with these issuers, whose gateway is known by these addresses."""
    gateway = {**GATEWAY, "public": list(public)}
    return policy_of(folder, identity=list(issuers or [ISSUER]), upstreams=UPSTREAMS, gateway=gateway)


def reverse(path: str = "/mcp", host: str = "gw.example:8080", **changed: Any) -> Any:
    """A request in reverse mode."""
    return request_of(url=f"{HERE}{path}", forward=False, headers=(("host", host),), method="GET", **changed)


def forward(url: str = f"{HERE}/mcp", **changed: Any) -> Any:
    """A request to a forward proxy."""
    return request_of(url=url, method="GET", **changed)


@pytest.mark.parametrize(
    ("request_", "public", "known"),
    [
        (forward(), (), {f"{HERE}/mcp"}),
        (forward(f"{HERE}/mcp?a=b"), (), {f"{HERE}/mcp"}),
        (reverse(), (), set()),
        (reverse(), ("http://localhost:8080",), set()),
        (reverse(host="gw.example"), ("https://gw.example",), {"https://gw.example:443/mcp"}),
        (reverse(host="GW.example:443"), ("https://gw.example", "https://b.example"), {"https://gw.example:443/mcp"}),
        (reverse(host="evil.example"), ("https://gw.example",), set()),
        (reverse(host="gw.example@evil.example"), ("https://gw.example",), set()),
    ],
)
def test_what_a_proof_may_speak_of(request_: Any, public: tuple[str, ...], known: set[str], tmp_path: Path) -> None:
    """The sender's own word for the address counts in a forward proxy; in reverse mode, the policy's."""
    assert proof_addresses(request_, policy(tmp_path, public=public)) == known


@pytest.mark.parametrize(
    ("request_", "public", "address"),
    [
        (reverse(), (), f"http://gw.example:8080{WELL_KNOWN}/mcp"),
        (reverse(secure=True), (), f"https://gw.example:8080{WELL_KNOWN}/mcp"),
        (reverse(host="gw.example"), ("https://gw.example",), f"https://gw.example{WELL_KNOWN}/mcp"),
        (reverse(host="evil.example"), ("https://gw.example",), None),
        (reverse(host='a" b'), (), None),
        (reverse(host=""), (), None),
        (reverse("/"), (), f"http://gw.example:8080{WELL_KNOWN}"),
        (forward(), (), f"{HERE}{WELL_KNOWN}/mcp"),
        (forward("https://api.example:443/v1/messages"), (), f"https://api.example{WELL_KNOWN}/v1/messages"),
    ],
)
def test_where_the_metadata_are(request_: Any, public: Any, address: str | None, tmp_path: Path) -> None:
    """RFC 9728, section 3.1: the well-known part stands between host and path."""
    assert metadata_address(request_, policy(tmp_path, public=public)) == address


@pytest.mark.parametrize(
    ("request_", "resource"),
    [
        (reverse(f"{WELL_KNOWN}/mcp"), "http://gw.example:8080/mcp"),
        (reverse(WELL_KNOWN), "http://gw.example:8080/mcp"),
        (reverse(f"{WELL_KNOWN}/mcp?x=1"), "http://gw.example:8080/mcp"),
        (reverse(f"{WELL_KNOWN}/other"), None),
        (reverse(f"{WELL_KNOWN}x/mcp"), None),
        (reverse("/mcp"), None),
        (forward(f"{HERE}{WELL_KNOWN}/mcp"), f"{HERE}/mcp"),
        (forward(f"https://api.example:443{WELL_KNOWN}/v1/messages"), "https://api.example/v1/messages"),
        (forward(f"https://api.example:443{WELL_KNOWN}/v2"), None),
        (forward(f"http://elsewhere.example:80{WELL_KNOWN}/mcp"), None),
    ],
)
def test_which_resource_the_metadata_are_of(request_: Any, resource: str | None, tmp_path: Path) -> None:
    """They name the very address that the client uses (RFC 9728, section 3.3), and of nothing else is anything told."""
    found = metadata(request_, policy(tmp_path))
    assert (None if found is None else found["resource"]) == resource


def test_only_a_question_is_answered(tmp_path: Path) -> None:
    """Another verb, or a gateway without identity providers, has no metadata."""
    asked = reverse(f"{WELL_KNOWN}/mcp")
    assert metadata(asked, policy(tmp_path)) is not None
    assert metadata(request_of(url=asked.url, forward=False, headers=asked.headers), policy(tmp_path)) is None
    assert metadata(asked, policy_of(tmp_path / "2", upstreams=UPSTREAMS)) is None


def test_what_the_metadata_say(tmp_path: Path) -> None:
    """Who gives tokens, with which scopes, and whether they must be bound (RFC 9728, section 2)."""
    plain = metadata(reverse(f"{WELL_KNOWN}/mcp"), policy(tmp_path))
    assert plain == {
        "resource": "http://gw.example:8080/mcp", "authorization_servers": ["https://login.example"],
        "bearer_methods_supported": ["header"], "resource_name": "gw-test",
    }  # fmt: skip
    bound = policy(tmp_path / "2", {**ISSUER, "proof": "dpop", "scopes": ["mcp"]})
    found = metadata(reverse(f"{WELL_KNOWN}/mcp"), bound)
    assert found
    assert found["dpop_bound_access_tokens_required"]
    assert found["scopes_supported"] == ["mcp"]
    mtls = metadata(reverse(f"{WELL_KNOWN}/mcp"), policy(tmp_path / "3", {**ISSUER, "proof": "mtls"}))
    assert mtls
    assert mtls["tls_client_certificate_bound_access_tokens"]


@pytest.mark.parametrize(
    "odd", ["http://h:x/", "http://[::1/", "http://h:99999/mcp", "http://h:80*", "http://h:80x://y/"]
)
def test_odd_addresses_are_of_nothing(odd: str, tmp_path: Path) -> None:
    """Whatever stands for an address, there is no metadata, and no exception."""
    assert metadata(forward(odd), policy(tmp_path)) is None
    assert metadata(reverse(odd.removeprefix("http://h:80")), policy(tmp_path)) is None


def test_only_public_hosts_are_served_where_there_are_any(tmp_path: Path) -> None:
    """Against a page that makes its own name lead here (DNS rebinding)."""
    assert sent_here(reverse(host="anything.example"), policy(tmp_path))
    public = policy(tmp_path / "2", public=("https://gw.example",))
    assert sent_here(reverse(host="gw.example"), public)
    assert not sent_here(reverse(host="evil.example"), public)
    assert not sent_here(reverse(host="gw.example:8443"), public)
