"""Many tokens to ask about at once: nobody waits long, and who is known does not wait behind who is not."""

import asyncio
import json
import time
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from mcp_sod.errors import Unauthenticated, Unavailable
from mcp_sod.identity.introspection import MOST, PATIENCE, QUEUE
from mcp_sod.identity.presented import Presented
from mcp_sod.identity.tokens import Verifier

from tests.unit.making import policy_of
from tests.world.echo import Echo, Reply
from tests.world.issuer import AUDIENCE, Issuer
from tests.world.policies import identity

SLOW = 1.0  # seconds for an answer
JUNK = 300


class Setting:
    """A verifier before a scripted provider that knows tokens that begin with `good`."""

    def __init__(self, folder: Path, issuer: Issuer, echo: Echo, *, asked_about: str = "opaque") -> None:
        (folder / "secret").write_text("s")
        sections = identity(issuer)
        sections["identity"][0]["introspection"] = {
            "url": echo.url, "client": "gateway", "secret": {"file": str(folder / "secret")}, "tokens": asked_about,
        }  # fmt: skip
        self.now = time.time()
        self.slow = 0.0
        echo.answer(self.answer)
        self.verifier = Verifier(policy_of(folder, **sections), b"k" * 32, lambda: self.now)

    def answer(self, request: bytes) -> Reply:
        """What the provider says."""
        token = parse_qs(request.partition(b"\r\n\r\n")[2].decode())["token"][0]
        says = {"active": token.startswith(("good", "ey")), "sub": "alice", "aud": AUDIENCE, "email": "a@p.example"}
        return Reply((self.slow, *Reply.whole(json.dumps(says).encode()).parts))

    async def show(self, token: str) -> type[Exception] | None:
        """What becomes of whoever shows this."""
        try:
            await self.verifier.principal(Presented((f"Bearer {token}",)))
        except (Unauthenticated, Unavailable) as refused:
            return type(refused)
        return None

    async def timed(self, token: str) -> tuple[type[Exception] | None, float]:
        """The same, and how many seconds it took."""
        began = time.monotonic()
        return await self.show(token), time.monotonic() - began


@pytest.mark.parametrize("kind", ["opaque", "signed"])
async def test_junk_does_not_keep_known_tokens_waiting(tmp_path: Path, issuer: Issuer, echo: Echo, kind: str) -> None:
    """Neither one that held before nor one that the issuer signed; unknown ones are refused soon, and pass later."""
    setting = Setting(tmp_path, issuer, echo, asked_about="all" if kind == "signed" else "opaque")
    known = issuer.token("alice", groups=["mcp-users"], email="a@p.example") if kind == "signed" else "good-1"
    assert await setting.show(known) is None
    setting.now += 31  # the cached answer is over
    setting.slow = SLOW
    flood = [asyncio.ensure_future(setting.timed(f"junk-{number}")) for number in range(JUNK)]
    await asyncio.sleep(0.1)
    assert len(echo.arrived) <= 1 + MOST
    (held, took), (new, waited) = await asyncio.gather(setting.timed(known), setting.timed("good-2"))
    assert held is None
    assert took < SLOW + 1
    assert new is Unavailable
    assert waited < 0.5
    came = await asyncio.gather(*flood)
    assert {kind for kind, _ in came} == {Unauthenticated, Unavailable}
    assert max(seconds for _, seconds in came) < PATIENCE + SLOW + 1
    assert sum(kind is Unavailable for kind, _ in came) >= JUNK - MOST - QUEUE
    assert await setting.show("good-2") is None


async def test_whoever_gives_up_leaves_no_trace(tmp_path: Path, issuer: Issuer, echo: Echo) -> None:
    """Turns that were cancelled or did not come are free again."""
    setting = Setting(tmp_path, issuer, echo)
    setting.slow = SLOW
    for _ in range(2):
        flood = [asyncio.ensure_future(setting.show(f"junk-{number}")) for number in range(JUNK)]
        await asyncio.sleep(0.1)
        for one in flood:
            one.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
    await asyncio.sleep(PATIENCE + SLOW)
    setting.slow = 0.0
    assert [await setting.show(f"good-{number}") for number in range(2 * MOST)] == [None] * 2 * MOST
