"""Which upstream a request is for."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mcp_sod.errors import Misdirected, PolicyError, Unlisted
from mcp_sod.exchange import Request
from mcp_sod.intake.routing import addresses, find
from mcp_sod.policy.policy import Policy
from mcp_sod.wire.ownership import Owner

from tests.unit.making import policy_of

UPSTREAMS = {
    "tools": {"url": "http://tools.example:9000/mcp", "speaks": "mcp"},
    "old": {"url": "http://old.example/v1/sse", "speaks": "mcp-sse"},
    "shop": {"url": "https://shop.example/api/", "speaks": "http"},
    "orders": {"url": "https://orders.example/", "speaks": "http"},
    "one": {"url": "https://shop.example/one", "speaks": "http"},
    "chat": {"url": "https://api.model.example/v1", "speaks": "openai"},
    "claude": {"url": "https://claude.example/v1/", "speaks": "anthropic"},
}
TAGGED = Owner.of(b"k" * 32, "old").tagged("endpoint", "/messages?session_id=1")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A policy with an upstream of each kind."""
    return policy_of(tmp_path_factory.mktemp("policy"), upstreams=UPSTREAMS)


def request(url: str, **changed: Any) -> Request:
    """A request for this URL."""
    host = (("host", urlsplit(url).netloc.rpartition("@")[2]),)
    facts: dict[str, Any] = {"method": "POST", "headers": host, "body": b"", "authority": "", "peer": "p"}
    return Request(**{**facts, "url": url, "forward": True, **changed})


@pytest.mark.parametrize(
    ("url", "name", "endpoint", "given"),
    [
        ("http://tools.example:9000/mcp", "tools", "", False),
        ("http://old.example:80/v1/sse", "old", "", False),
        (f"http://old.example:80{TAGGED}", "old", "", True),
        ("https://shop.example:443/api/", "shop", "", False),
        ("https://shop.example:443/api/items/1?all=yes", "shop", "", False),
        ("https://shop.example:443/api/a%20b/~c", "shop", "", False),
        ("https://orders.example:443/7/", "orders", "", False),
        ("https://shop.example:443/one?x=1", "one", "", False),
        ("https://api.model.example:443/v1/chat/completions", "chat", "chat/completions", False),
        ("https://api.model.example:443/v1/responses", "chat", "responses", False),
        ("https://claude.example:443/v1/messages", "claude", "messages", False),
        ("https://claude.example:443/v1/messages?beta=true", "claude", "messages", False),
    ],
)
def test_a_listed_upstream_is_found(policy: Policy, url: str, name: str, endpoint: str, given: bool) -> None:
    """By its URL; a service below its URL, the longest first; a model API by its endpoints; an endpoint by its tag."""
    found = find(request(url), policy)
    assert (found.name, found.endpoint, found.given) == (name, endpoint, given)


@pytest.mark.parametrize(
    "url",
    [
        "http://tools.example:9000/mcp/x", f"http://tools.example:9000{TAGGED}", "http://old.example:80/messages?session_id=1",
        f"http://old.example:81{TAGGED}", f"https://old.example:80{TAGGED}", f"http://old.example.evil:80{TAGGED}",
        "https://shop.example:443/", "https://shop.example:443/api", "https://shop.example:443/api/../admin",
        "https://shop.example:443/api/%2e%2e/admin", "https://shop.example:443/api/.%2E/admin",
        "https://shop.example:443/api/..%2fadmin", "https://shop.example:443/api/%2fadmin",
        "https://shop.example:443/api/a%5c..%5cadmin", "https://shop.example:443/api/a\\..\\admin",
        "https://shop.example:443/api/%252e%252e/admin", "https://shop.example:443/api/%00", "https://shop.example:443/api/a;b",
        "https://shop.example:443/api//x", "https://shop.example:443/api/a//x", "https://shop.example:443/api/x/%20",
        "https://shop.example:443/api/a%20/x", "https://shop.example:443/api/..%20/x", "https://shop.example:443/api/%ff",
        "https://shop.example:443/api/%c0%ae%c0%ae/x", "https://shop.example:443/api/%EF%BC%8E%EF%BC%8E/x",
        "https://shop.example:443/api/%0d%0a", "https://shop.example:443/api/pay.", "https://shop.example:443/api/.git",
        "https://shop.example:443/api/a%3Bb", "https://shop.example:443/api/#/admin",
        "https://shop.example:443/api/./x", "https://shop.example:443/one/",
        "http://shop.example:443/api/x", "https://api.model.example:443/v1/files",
        "https://api.model.example:443/v1/chat/completions/", "https://api.model.example:443/v1/chat/completions?x=1",
        "https://api.model.example:443/v1", "https://claude.example:443/v1//messages",
    ],
)  # fmt: skip
def test_anything_else_is_unlisted(policy: Policy, url: str) -> None:
    """No path that two parsers could read in two ways, and nothing beside what is listed."""
    with pytest.raises(Unlisted):
        find(request(url), policy)


def test_a_path_is_no_way_round_the_host(policy: Policy) -> None:
    """Host header and target must agree for every kind of upstream."""
    for url in ("https://shop.example:443/api/x", f"http://old.example:80{TAGGED}"):
        find(request(url, headers=(("host", url.split("/")[2]),)), policy)
        with pytest.raises(Misdirected):
            find(request(url, headers=(("host", "tools.example:9000"),)), policy)


def test_addresses_are_those_of_upstreams(policy: Policy, tmp_path: Path) -> None:
    """Host and port of every upstream, and nothing else; with none, none."""
    hosts = {"tools.example", "old.example", "shop.example", "orders.example", "api.model.example", "claude.example"}
    assert {host for host, _ in addresses(policy)} == hosts
    assert addresses(policy_of(tmp_path, upstreams={})) == frozenset()


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (("/a", "mcp-sse"), ("/b", "mcp-sse"), "gives out endpoints"),
        (("/a", "mcp-sse"), ("/b", "http"), "gives out endpoints"),
        (("/a", "mcp-sse"), ("/b", "mcp"), None),
        (("/mcp", "mcp"), ("/", "http"), "below the other"),
        (("/api/", "http"), ("/api/orders/", "http"), "below the other"),
        (("/api/", "http"), ("/api", "mcp"), "below the other"),
        (("/v1", "openai"), ("/v1/x", "mcp"), "below the other"),
        (("/x?t=1", "mcp"), ("/x", "http"), "below the other"),
        (("/x", "mcp"), ("/x", "http"), "has this address"),
        (("/mcp", "mcp"), ("/mcp2", "mcp"), None),
        (("/mcp?t=1", "mcp"), ("/mcp?t=2", "mcp"), None),
        (("/api/", "http"), ("/apis/", "http"), None),
        (("/v1", "openai"), ("/v2", "anthropic"), None),
    ],
)
def test_upstreams_cannot_be_mistaken(
    one: tuple[str, str], other: tuple[str, str], why: str | None, tmp_path: Path
) -> None:
    """A call for one upstream never passes as one for another by another spelling of its address."""
    for pair in ((one, other), (other, one)):
        shapes = {f"u{at}": {"url": f"http://h.example{path}", "speaks": kind} for at, (path, kind) in enumerate(pair)}
        if why is None:
            policy_of(tmp_path, upstreams=shapes)
        else:
            with pytest.raises(PolicyError, match=why):
                policy_of(tmp_path, upstreams=shapes)
