"""What travels along the chain."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mcp_sod.exchange import Exchange, Finding, Undecided

from tests.unit.making import exchange_of, policy_of, principal_of, request_of, tool_call


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


@pytest.mark.parametrize(("length", "whole"), [(256, True), (257, False), (5_000_000, False)])
def test_what_a_caller_names_fits_in_a_record(tmp_path: Path, length: int, whole: bool) -> None:
    """However long a method, a tool's name or the place of a finding, its record stays small and says it was cut."""
    exchange = exchange_of(policy_of(tmp_path), replace(tool_call(), method="m" * length, name="t" * length))
    exchange.findings = tuple(Finding(rule, "high", "deny", "~" * length) for rule in ("a", "b"))
    facts: dict[str, Any] = exchange.facts()
    texts = [facts["method"], facts["target"], *(text.partition("@")[2] for text in facts["findings"])]
    assert [len(text) for text in texts] == [256] * 4
    assert [text.endswith("…[cut]") for text in texts] == [not whole] * 4


def test_a_secret_is_masked_before_it_is_cut(tmp_path: Path) -> None:
    """A cut through a secret would leave a half that no mask knows."""
    exchange = exchange_of(policy_of(tmp_path), tool_call("t" * 240 + "s3cret" * 9))
    exchange.redact = lambda text: text.replace("s3cret", "#")
    assert exchange.facts()["target"] == "t" * 240 + "#" * 9


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
