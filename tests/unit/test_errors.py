"""The tree of errors."""

from collections.abc import Iterator

import pytest
from mcp_sod.errors import Refusal, SodError, Unauthenticated

JSON_RPC_RESERVED = range(-32768, -31999)
TABLE = {  # code: (status, in band, event); what callers, dashboards and alerts rely on
    "denied": (403, True, "denied"),
    "separation": (403, True, "denied"),
    "held": (403, True, "held"),
    "unavailable": (503, True, "denied"),
    "withheld": (502, True, "withheld"),
    "ended": (502, True, "withheld"),
    "malformed": (400, False, "rejected"),
    "header-mismatch": (400, False, "rejected"),
    "incomplete": (400, False, "rejected"),
    "unsupported": (415, False, "rejected"),
    "http-method": (405, False, "rejected"),
    "unlisted": (403, False, "rejected"),
    "misdirected": (421, False, "rejected"),
    "unauthenticated": (401, False, "rejected"),
    "unauthenticated-proxy": (407, False, "rejected"),
    "insufficient-scope": (403, False, "rejected"),
    "revoked": (403, True, "denied"),
    "foreign": (404, True, "denied"),
    "foreign-session": (404, False, "rejected"),
    "no-method": (404, False, "rejected"),
    "unasked": (400, False, "rejected"),
}


def below(kind: type[SodError]) -> Iterator[type[SodError]]:
    """Every class under this one."""
    for child in kind.__subclasses__():
        yield child
        yield from below(child)


REFUSALS = [kind for kind in below(Refusal) if kind.__module__ == "mcp_sod.errors"]


def test_every_refusal_is_in_the_table() -> None:
    """No refusal is without a line here, and each has its own code."""
    assert sorted(kind.code for kind in REFUSALS) == sorted(TABLE)


@pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.__name__)
def test_a_refusal_is_what_the_table_says(kind: type[Refusal]) -> None:
    """Code, status and event are stable, and what is answered in band has a code that JSON-RPC does not reserve."""
    assert (kind.status, kind.in_band, kind.event) == TABLE[kind.code]
    assert kind.status >= 400
    if kind.in_band:
        assert kind.rpc_code not in JSON_RPC_RESERVED
    else:
        assert kind.event == "rejected"


def test_an_error_says_what_to_do() -> None:
    """Its text is the sentence, and the hint where there is one."""
    assert str(SodError("It broke.")) == "It broke."
    assert str(SodError("It broke.", hint="Mend it.")) == "It broke. Mend it."


def test_a_challenge_names_an_error_only_where_there_was_a_token() -> None:
    """RFC 6750, section 3.1: without credentials, no error code."""
    assert Unauthenticated("x", token_given=False).error == ""
    assert Unauthenticated("x").error == "invalid_token"
