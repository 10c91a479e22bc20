"""A token endpoint, scripted: what it is asked, and what of its answers is believed."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from mcp_sod.policy.upstreams import TokenExchange
from mcp_sod.release import token_endpoint
from mcp_sod.release.token_endpoint import MAX_SIZE, Failed, Issued, ask, form, issued

from tests.world.echo import JSON_TYPE, Echo, Reply
from tests.world.process import free_port
from tests.world.token_endpoint import ACCESS_TOKEN, CLIENT, SECRET, UPSTREAM_TOKEN, Asked, issue, slowly

MINE = "eyJ.the.callers"
GOOD = {"access_token": UPSTREAM_TOKEN, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 300}


def settings(url: str = "https://login.example/token", **more: Any) -> TokenExchange:
    """An exchange there."""
    return TokenExchange.model_validate({"url": url, "client": CLIENT, "secret": {"env": "X"}, **more})


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client such as the gateway's."""
    async with httpx.AsyncClient(trust_env=False, follow_redirects=False) as opened:
        yield opened


def test_what_is_asked_is_what_the_policy_says() -> None:
    """The caller's token as the subject, an access token wanted; audience, resource and scope only if they are set."""
    bare = form(settings(), MINE)
    assert bare == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": MINE,
        "subject_token_type": ACCESS_TOKEN,
        "requested_token_type": ACCESS_TOKEN,
    }
    more = {"audience": "tools", "resource": "https://tools.example/mcp", "scope": "read write"}
    assert form(settings(**more), MINE) == bare | more


async def test_the_scripted_endpoint_gets_it_with_the_clients_secret(client: httpx.AsyncClient, echo: Echo) -> None:
    """Over real HTTP: a POST, the form, and id and secret form-encoded in Basic (RFC 6749, section 2.3.1)."""
    echo.answer(issue())
    assert await ask(client, settings(f"{echo.url}?realm=a"), SECRET, MINE) == Issued(UPSTREAM_TOKEN, 300)
    asked = Asked.read(echo.arrived[0])
    assert (asked.client, asked.form) == ((CLIENT, SECRET), form(settings(), MINE))
    assert asked.line == b"POST /mcp?realm=a HTTP/1.1"


@pytest.mark.parametrize(
    ("changed", "lasts"),
    [
        ({}, 300), ({"expires_in": 60.5}, 60.5), ({"expires_in": None}, None), ({"token_type": "bearer"}, 300),
        ({"issued_token_type": "urn:ietf:params:oauth:token-type:jwt"}, 300), ({"refresh_token": "x"}, 300),
    ],
)  # fmt: skip
def test_a_good_answer_is_believed(changed: dict[str, Any], lasts: float | None) -> None:
    """The control beside all that is refused below."""
    answer = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
    found = issued(json.dumps(answer).encode(), MINE)
    assert found == Issued(UPSTREAM_TOKEN, lasts)
    assert UPSTREAM_TOKEN not in repr(found)


@pytest.mark.parametrize(
    "changed",
    [
        {"access_token": None}, {"access_token": ""}, {"access_token": 7}, {"access_token": ["a"]},
        {"access_token": "a\r\nx-admin: 1"}, {"access_token": "a b"}, {"access_token": "é"}, {"access_token": "a\x00"},
        {"access_token": "x" * 16385}, {"access_token": MINE},
        {"token_type": None}, {"token_type": "N_A"}, {"token_type": "DPoP"}, {"token_type": 1},
        {"issued_token_type": None}, {"issued_token_type": "urn:ietf:params:oauth:token-type:id_token"},
        {"issued_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, {"issued_token_type": [ACCESS_TOKEN]},
        {"expires_in": 0}, {"expires_in": -1}, {"expires_in": "300"}, {"expires_in": True}, {"expires_in": 1e12},
    ],
    ids=lambda changed: json.dumps(changed)[:60],
)  # fmt: skip
def test_an_answer_with_one_thing_wrong_is_not(changed: dict[str, Any]) -> None:
    """Not a token that could break out of its header, not the caller's own, none of another type, none without time."""
    answer = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
    with pytest.raises(Failed) as failed:
        issued(json.dumps(answer).encode(), MINE)
    assert not failed.value.for_everyone
    assert UPSTREAM_TOKEN not in str(failed.value)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"access_token":"a","access_token":"b"}'])
def test_a_body_that_is_no_object_is_not(body: bytes) -> None:
    """Neither is one that two parsers would read differently."""
    with pytest.raises(Failed):
        issued(body, MINE)


def whole(**changed: Any) -> Reply:
    """A good body in an HTTP answer with something wrong about it."""
    return Reply.whole(changed.pop("body", json.dumps(GOOD).encode()), **changed)


@pytest.mark.parametrize(
    ("reply", "why", "everyone"),
    [
        (whole(headers=[("Content-Type", "text/html")]), "something else than JSON", False),
        (whole(headers=[]), "something else than JSON", False),
        (whole(headers=[JSON_TYPE, ("Content-Encoding", "gzip")]), "something else than JSON", False),
        (whole(status=302, headers=[JSON_TYPE, ("Location", "http://127.0.0.1:1/")]), "answered 302", True),
        (whole(status=201), "answered 201", True),
        (whole(status=400), "answered 400", False), (whole(status=401), "answered 401", False),
        (whole(status=400, body=b'{"error":"invalid_target"}'), r"answered 400 \(invalid_target\)$", False),
        (whole(status=400, body=b'{"error":"' + UPSTREAM_TOKEN.encode() + b'."}'), "answered 400$", False),
        (whole(status=400, body=b'["error"]'), "answered 400$", False),
        (whole(status=500, body=b'{"error":"server_error"}'), "answered 500$", True),
        (Reply((b"HTTP/1.1 403 No\r\ncontent-length: 9\r\n\r\n{",)), "answered 403$", False),
        (whole(status=429), "answered 429", True), (whole(status=503), "answered 503", True),
        (whole(body=json.dumps(GOOD).encode() + b" " * MAX_SIZE), "more than is read", False),
        (Reply.chunked([b" " * 4096] * 100, headers=[JSON_TYPE]), "more than is read", False),
        (Reply(()), "cannot be reached", True), (Reply((b"nonsense\r\n\r\n",)), "cannot be reached", True),
        (Reply((b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\ncontent-type: application/json\r\n\r\n{",)),
         "cannot be reached", True),
    ],
)  # fmt: skip
async def test_a_scripted_answer_with_one_thing_wrong_fails(
    client: httpx.AsyncClient, echo: Echo, reply: Reply, why: str, everyone: bool
) -> None:
    """Whatever it is, over real HTTP, nothing of it is told but a status; the good answer beside it is taken."""
    echo.answer(reply)
    with pytest.raises(Failed, match=why) as failed:
        await ask(client, settings(echo.url), SECRET, MINE)
    assert failed.value.for_everyone == everyone
    assert len(echo.arrived) == 1  # no redirect was followed, no attempt repeated
    assert not any(part in str(failed.value) for part in (MINE, SECRET, UPSTREAM_TOKEN))
    echo.answer(whole())
    assert (await ask(client, settings(echo.url), SECRET, MINE)).token == UPSTREAM_TOKEN


async def test_a_scripted_endpoint_that_trickles_is_given_up(
    client: httpx.AsyncClient, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The patience is for the whole answer: a byte now and then does not prolong it."""
    monkeypatch.setattr(token_endpoint, "PATIENCE", 0.4)
    echo.answer(Reply.chunked([part for _ in range(50) for part in (b" ", 0.1)], headers=[JSON_TYPE]))
    with pytest.raises(Failed, match=r"TimeoutError"):
        await ask(client, settings(echo.url), SECRET, MINE)
    echo.answer(slowly(whole(), 0.1))
    assert (await ask(client, settings(echo.url), SECRET, MINE)).token == UPSTREAM_TOKEN


async def test_nobody_there(client: httpx.AsyncClient) -> None:
    """A refused connection is told as such."""
    with pytest.raises(Failed, match="ConnectError") as failed:
        await ask(client, settings(f"http://127.0.0.1:{free_port()}/token"), SECRET, MINE)
    assert failed.value.for_everyone
