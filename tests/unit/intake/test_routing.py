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
    "orders": {"url": "https://shop.example/api/orders/", "speaks": "http"},
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
        ("https://shop.example:443/api/orders/7", "orders", "", False),
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
        "https://shop.example:443/api/#/admin", "https://shop.example:443/api/./x", "https://shop.example:443/one/",
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
    hosts = {"tools.example", "old.example", "shop.example", "api.model.example", "claude.example"}
    assert {host for host, _ in addresses(policy)} == hosts
    assert addresses(policy_of(tmp_path, upstreams={})) == frozenset()


def test_endpoints_cannot_be_mistaken(tmp_path: Path) -> None:
    """Two servers that give out endpoints at one address could not be told apart."""
    two = {name: {"url": f"http://old.example/{name}", "speaks": "mcp-sse"} for name in ("a", "b")}
    with pytest.raises(PolicyError, match="gives out endpoints"):
        policy_of(tmp_path, upstreams=two)
