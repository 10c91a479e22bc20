"""Exchanged tokens over time: shared, kept, dropped, and not asked for again and again (the endpoint is scripted)."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp_sod.errors import Denied, Unauthenticated, Unavailable
from mcp_sod.exchange import Exchange
from mcp_sod.policy.policy import Policy
from mcp_sod.policy.upstreams import TokenExchange
from mcp_sod.release import exchanged
from mcp_sod.release.exchanged import ExchangedTokens

from tests.unit.making import UPSTREAM, exchange_of, policy_of, principal_of, tool_call
from tests.world.echo import Echo, Reply
from tests.world.token_endpoint import SECRET, UPSTREAM_TOKEN, Asked, exchange, issue, slowly

DOWN = Reply.whole(b"", status=503)
ISSUERS = ("https://login.example", "https://aside.example")
SAML = "https://saml.example"
NO = Reply.whole(b'{"error":"invalid_grant"}', status=400)


class Bureau:
    """Exchanged tokens with a clock that the test sets, before a scripted endpoint."""

    def __init__(self, folder: Path, echo: Echo) -> None:
        self.now = 1000.0
        self.echo = echo
        self.policy = self.policy_of(folder)
        self.tokens = ExchangedTokens(lambda: self.now)

    def policy_of(self, folder: Path, **more: Any) -> Policy:
        """A policy of two upstreams that both want callers' tokens exchanged here."""
        upstream = {"speaks": "mcp", "credential": exchange(self.echo.url, **more)}
        certificate = {"certificate": "s.pem", "audience": "g", "acs": "https://g/saml/s/acs", "sso": "https://s/"}
        believed = [{"issuer": url, "audience": ["a"], "keys": {"file": "j"}, "machine": "none"} for url in ISSUERS]
        return policy_of(
            folder,
            identity=believed,
            saml={"s": {"entity": SAML, **certificate}},
            upstreams={"tools": upstream | {"url": UPSTREAM}, "o": upstream | {"url": "http://o/"}},
        )

    def call(self, token: str = "alices", *, policy: Policy | None = None, **changed: Any) -> Exchange:  # noqa: S107
        """A call of someone with this token, which ends at 2000."""
        issuer = changed.pop("issuer", ISSUERS[0])
        principal = principal_of("alice", issuer=issuer, expires=changed.pop("expires", 2000.0))
        made = exchange_of(policy or self.policy, tool_call(), principal)
        made.token, made.upstream_name = token, changed.pop("upstream", "tools")
        return made

    async def show(self, *of: Any, **changed: Any) -> str:
        """The token that the upstream is shown."""
        made = self.call(*of, **changed)
        assert made.upstream is not None
        assert made.upstream.credential is not None
        settings = made.upstream.credential.exchange
        assert isinstance(settings, TokenExchange)
        return await self.tokens.token(made, settings)

    @property
    def asked(self) -> list[str]:
        """Whose tokens the endpoint was given."""
        return [Asked.read(raw).form["subject_token"] for raw in self.echo.arrived]

    async def until_asked(self) -> None:
        """Waits for the first request."""
        async with asyncio.timeout(5):
            while not self.echo.arrived:  # noqa: ASYNC110 (another thread's list)
                await asyncio.sleep(0.01)


@pytest.fixture
async def bureau(tmp_path: Path, echo: Echo, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bureau]:
    """A bureau whose endpoint issues tokens."""
    monkeypatch.setenv("SOD_TEST_EXCHANGE", SECRET)
    echo.answer(issue())
    made = Bureau(tmp_path, echo)
    yield made
    await made.tokens.close()


@pytest.mark.parametrize(
    ("issuers", "taken"),
    [
        (None, set(ISSUERS)),
        ([ISSUERS[1]], {ISSUERS[1]}),
        ([*ISSUERS, SAML], {*ISSUERS, SAML}),
    ],
)
async def test_only_tokens_of_these_issuers_are_shown_to_the_endpoint(
    bureau: Bureau, tmp_path: Path, issuers: list[str] | None, taken: set[str]
) -> None:
    """Without a list those of all issuers, but not what the gateway made itself for whoever signed on by SAML."""
    policy = bureau.policy_of(tmp_path, **({} if issuers is None else {"issuers": issuers}))
    for issuer in (*ISSUERS, SAML, "https://unknown.example"):
        if issuer in taken:
            assert await bureau.show(f"of {issuer}", policy=policy, issuer=issuer) == UPSTREAM_TOKEN
        else:
            with pytest.raises(Denied, match="Tokens of your issuer"):
                await bureau.show(f"of {issuer}", policy=policy, issuer=issuer)
    assert set(bureau.asked) == {f"of {issuer}" for issuer in taken}


async def test_a_token_is_kept_for_one_caller_and_one_upstream(bureau: Bureau) -> None:
    """The second call costs no request; another caller, and another upstream, get tokens of their own."""
    bureau.echo.answer(issue("a"), issue("b"), issue("c"))
    assert [await bureau.show() for _ in range(3)] == ["a"] * 3
    assert await bureau.show("bobs") == "b"
    assert await bureau.show(upstream="o") == "c"
    assert [await bureau.show(), await bureau.show("bobs")] == ["a", "b"]
    assert bureau.asked == ["alices", "bobs", "alices"]


@pytest.mark.parametrize(
    ("expires_in", "later", "requests"),
    [(300, 269, 1), (300, 270, 2), (31, 0.5, 1), (31, 1, 2), (30, 0.1, 2), (None, 0.1, 2)],
)
async def test_a_token_is_dropped_before_its_end(
    bureau: Bureau, expires_in: int | None, later: float, requests: int
) -> None:
    """30 seconds before; one whose end is nearer, or not told, serves no later call."""
    bureau.echo.answer(issue(expires_in=expires_in))
    await bureau.show()
    bureau.now += later
    await bureau.show()
    assert len(bureau.asked) == requests


async def test_nothing_outlives_the_callers_own_token(bureau: Bureau) -> None:
    """A kept token that would last for days is not given out once the caller's has expired, nor asked for."""
    bureau.echo.answer(issue(expires_in=86400))
    await bureau.show()
    bureau.now = 1999.9
    assert await bureau.show() == UPSTREAM_TOKEN
    bureau.now = 2000.0
    for who in ("alices", "bobs"):
        with pytest.raises(Unauthenticated, match="expired"):
            await bureau.show(who)
    bureau.now = 1999.9  # as if the clock were set back: what was dropped is gone
    await bureau.show()
    assert bureau.asked == ["alices"] * 2


@pytest.mark.parametrize("expires_in", [300, 10, None])
async def test_calls_at_once_share_one_request(bureau: Bureau, expires_in: int | None) -> None:
    """20 calls of one caller are one request, even where its token may not be kept; other callers have theirs."""
    bureau.echo.answer(slowly(issue(expires_in=expires_in), 0.2))
    shown = await asyncio.gather(*(bureau.show() for _ in range(20)), bureau.show("bobs"))
    assert set(shown) == {UPSTREAM_TOKEN}
    assert sorted(bureau.asked) == ["alices", "bobs"]


async def test_a_caller_who_leaves_does_not_take_the_others_request_along(bureau: Bureau) -> None:
    """The first of several, cancelled, is followed by the next, who gets the token."""
    bureau.echo.answer(slowly(issue("lost"), 5), issue("found"))
    first, second = asyncio.ensure_future(bureau.show()), asyncio.ensure_future(bureau.show())
    await bureau.until_asked()
    first.cancel()
    assert await second == "found"


async def test_an_endpoint_that_is_down_is_left_alone_for_a_moment(bureau: Bureau) -> None:
    """By everyone; then it is asked once more. Kept tokens serve all the while."""
    await bureau.show("carols")
    bureau.echo.answer(DOWN)
    for who in ("alices", "alices", "bobs"):
        with pytest.raises(Unavailable, match=r"token endpoint of upstreams\.tools answered 503"):
            await bureau.show(who)
    assert await bureau.show("carols") == UPSTREAM_TOKEN
    assert bureau.asked == ["carols", "alices"]
    bureau.echo.answer(issue())
    bureau.now += 1.9
    with pytest.raises(Unavailable):
        await bureau.show()
    bureau.now += 0.2
    assert await bureau.show() == UPSTREAM_TOKEN
    assert bureau.asked == ["carols", "alices", "alices"]


async def test_calls_at_once_share_one_failure(bureau: Bureau) -> None:
    """20 calls do not become 20 requests because the first fails."""
    bureau.echo.answer(DOWN)
    shown = await asyncio.gather(*(bureau.show() for _ in range(20)), return_exceptions=True)
    assert {type(one) for one in shown} == {Unavailable}
    assert len(bureau.asked) == 1


async def test_one_callers_refusal_is_not_anothers(bureau: Bureau) -> None:
    """A token that the endpoint refuses, again and again, keeps nobody else from theirs."""
    bureau.echo.answer(NO, issue())
    for _ in range(3):
        with pytest.raises(Unavailable, match="answered 400") as refused:
            await bureau.show("mallorys")
        assert "400" not in refused.value.for_caller
    assert await bureau.show() == UPSTREAM_TOKEN
    assert bureau.asked == ["mallorys", "alices"]


async def test_what_goes_wrong_says_nothing_of_tokens(bureau: Bureau) -> None:
    """Neither the caller nor the operator reads a token, a secret or the endpoint's words."""
    bureau.echo.answer(Reply.whole(b'{"access_token":"lying"}'))
    with pytest.raises(Unavailable) as refused:
        await bureau.show()
    error: BaseException | None = refused.value
    assert not any(part in str(error) for part in ("alices", SECRET, "lying"))
    assert refused.value.__suppress_context__  # a traceback would not show them either


async def test_a_new_policy_begins_anew(bureau: Bureau, tmp_path: Path) -> None:
    """Another policy does not use what was issued under the one before; nor does the same one, after it changed."""
    bureau.echo.answer(issue("old"), issue("new"), issue("again"))
    changed = bureau.policy_of(tmp_path / "other", scope="more")
    assert [await bureau.show(), await bureau.show(policy=changed)] == ["old", "new"]
    bureau.tokens.forget()
    assert await bureau.show() == "again"


async def test_what_was_under_way_is_not_kept_past_a_change(bureau: Bureau) -> None:
    """A request that began before the policy changed serves its own call alone."""
    bureau.echo.answer(slowly(issue("old"), 0.3), issue("new"))
    first = asyncio.ensure_future(bureau.show())
    await bureau.until_asked()
    bureau.tokens.forget()
    assert [await first, await bureau.show()] == ["old", "new"]


async def test_the_oldest_tokens_make_room(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept does not grow without end."""
    monkeypatch.setattr(exchanged, "MOST", 2)
    for who in ("a", "b", "c", "c", "b", "a"):
        await bureau.show(who)
    assert bureau.asked == ["a", "b", "c", "a"]


async def test_without_its_secret_the_gateway_asks_nobody(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal names where the secret belongs; once it is there, the next call goes."""
    monkeypatch.delenv("SOD_TEST_EXCHANGE")
    with pytest.raises(Unavailable, match="SOD_TEST_EXCHANGE"):
        await bureau.show()
    assert bureau.asked == []
    monkeypatch.setenv("SOD_TEST_EXCHANGE", SECRET)
    assert await bureau.show() == UPSTREAM_TOKEN


async def test_without_a_token_there_is_nothing_to_exchange(bureau: Bureau) -> None:
    """A stage that did not say which token it was refuses the call."""
    made = bureau.call()
    assert made.upstream is not None
    assert made.upstream.credential is not None
    assert made.upstream.credential.exchange is not None
    for broken in (dataclasses.replace(made, token=None), dataclasses.replace(made, principal=None)):
        with pytest.raises(Unavailable, match="no token"):
            await bureau.tokens.token(broken, made.upstream.credential.exchange)
    assert bureau.asked == []
