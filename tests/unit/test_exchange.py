"""What travels along the chain."""

import json
from pathlib import Path

from mcp_sod.exchange import Exchange, Finding, Undecided

from tests.unit.making import policy_of, principal_of, request_of, tool_call


def test_a_new_exchange_is_undecided_and_shows_nothing(tmp_path: Path) -> None:
    """Until a stage has looked at it, an exchange is not allowed, and its texts are not shown to anyone."""
    exchange = Exchange(policy_of(tmp_path), request_of())
    exchange.call = tool_call("s3cret")
    exchange.findings = (Finding("r", "high", "note", "arguments:/s3cret"),)
    assert exchange.verdict == Undecided()
    assert "s3cret" not in json.dumps(exchange.facts())


def test_facts_say_who_and_what(tmp_path: Path) -> None:
    """Records name policy, principal with actors, target, findings; never the token, only its fingerprint."""
    policy = policy_of(tmp_path)
    exchange = Exchange(policy, request_of(headers=(("authorization", "Bearer t0ken"),)))
    exchange.call, exchange.redact = tool_call("query"), str
    exchange.principal = principal_of("ci", kind="machine", actors={"bob@example.com"}, fingerprint="f1")
    exchange.roles = frozenset({"b", "a"})
    facts = exchange.facts()
    assert (facts["policy"], facts["target"], facts["roles"]) == (policy.digest, "query", ["a", "b"])
    who = exchange.principal.facts()
    assert (who["subject"], who["kind"], who["actors"], who["token"]) == ("ci", "machine", ["bob@example.com"], "f1")
    assert "t0ken" not in json.dumps(facts)


def test_references_differ(tmp_path: Path) -> None:
    """Every exchange has a reference of its own."""
    policy = policy_of(tmp_path)
    assert len({Exchange(policy, request_of()).reference for _ in range(100)}) == 100


def test_behind_is_everyone() -> None:
    """The keys behind a call are the person's, the actors', and the account itself."""
    who = principal_of("alice", actors={"bob@example.com"})
    assert who.behind == {"alice@example.com", "bob@example.com", "https://login.example#alice"}


def test_headers_keep_duplicates() -> None:
    """All values of a header are given, in order."""
    request = request_of(headers=(("a", "1"), ("b", "2"), ("a", "3")))
    assert request.header("a") == ["1", "3"]
    assert request.header("c") == []
