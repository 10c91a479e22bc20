"""Signing on, asked as browsers ask."""

import base64
import re
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from fastapi import FastAPI
from lxml import etree
from mcp_sod.console.api import build
from mcp_sod.console.saml import saml_router
from mcp_sod.errors import Unauthenticated

from tests.unit.house import House, house
from tests.unit.identity import saml_making
from tests.unit.identity.saml_making import AUDIENCE, ENTITY, POLICY, certificate, element, response, sent, signed

HOST = "https://console.example"
PATH = "/saml/corp/acs"


class Door:
    """The console of a house with one SAML provider, and browsers that come to it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.app = build(house)

    def browser(self, host: str = HOST) -> httpx.AsyncClient:
        """A browser without cookies."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=host)

    @property
    def last(self) -> dict[str, Any]:
        """The last record."""
        return self.house.journal.records[-1]


@pytest.fixture
async def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    """A console to sign on at, just now: the whole run of the tests takes longer than a response is good."""
    monkeypatch.setattr(saml_making, "NOW", float(int(time.time())))
    (tmp_path / "idp.pem").write_bytes(certificate())
    here = {**POLICY, "acs": "http://127.0.0.1:8081/saml/local/acs", "entity": "https://local.example"}
    async with house(tmp_path, saml={"corp": dict(POLICY), "local": here}) as built:
        yield Door(built)


async def begun(browser: httpx.AsyncClient, name: str = "corp") -> str:
    """The id of the request with which the browser is sent to the provider."""
    answer = await browser.get(f"/saml/{name}")
    assert answer.status_code == 302
    packed = parse_qs(urlsplit(answer.headers["location"]).query)["SAMLRequest"][0]
    return str(etree.fromstring(zlib.decompress(base64.b64decode(packed), wbits=-15)).get("ID"))


def answering(request: str | None, subject: str = "alice", name: str = "_a") -> dict[str, str]:
    """The form with the provider's response to a request."""
    root = response()
    for place in ("Response", "SubjectConfirmationData"):
        element(root, place).attrib.pop("InResponseTo")
        if request is not None:
            element(root, place).set("InResponseTo", request)
    element(root, "Assertion").set("ID", name)
    element(root, "NameID").text = subject
    return {"SAMLResponse": sent(signed(root)), "RelayState": "https://evil.example"}


async def test_signing_on_gives_a_token(door: Door) -> None:
    """The browser that began gets a token for whom the assertion names, once, and the record names them."""
    async with door.browser() as browser:
        form = answering(await begun(browser))
        answer = await browser.post(PATH, data=form, headers={"accept": "application/json"})
    told = answer.json()
    assert (answer.status_code, told["subject"], told["issuer"]) == (200, "alice", ENTITY)
    claims = jwt.decode(told["token"], door.house.mint.public, algorithms=["ES256"], audience=AUDIENCE)
    assert (claims["sub"], claims["groups"], claims["exp"]) == ("alice", ["mcp-users", "staff"], told["expires"])
    record = {"event": "signed on", "target": "corp", "token": claims["jti"], "expires": told["expires"]}
    assert record.items() <= door.last.items()
    assert door.last["principal"]["groups"] == ["mcp-users", "staff"]
    records = str(door.house.journal.records)
    assert told["token"] not in records
    assert form["SAMLResponse"] not in records


async def test_the_page_for_people(door: Door) -> None:
    """Whoever does not ask for JSON gets a page without script, that nobody may frame or keep, and nothing escapes."""
    async with door.browser() as browser:
        answer = await browser.post(PATH, data=answering(await begun(browser), "<script>alert(1)</script>"))
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    assert "&lt;script&gt;" in answer.text
    token = re.search(r"<textarea[^>]*>([^<]*)<", answer.text)
    assert token is not None
    assert jwt.decode(token[1], door.house.mint.public, algorithms=["ES256"], audience=AUDIENCE)["groups"]
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("name", "host", "wanted"),
    [
        ("corp", HOST, {"__Host-sod-saml-corp", "HttpOnly", "Secure", "SameSite=none", "Path=/", "Max-Age=600"}),
        ("local", "http://127.0.0.1:8081", {"sod-saml-local", "HttpOnly", "SameSite=lax", "Path=/", "Max-Age=600"}),
    ],
)
async def test_the_cookie(door: Door, name: str, host: str, wanted: set[str]) -> None:
    """It comes back with the provider's cross-site POST, and no script or other host reads or sets it."""
    async with door.browser(host) as browser:
        cookie = (await browser.get(f"/saml/{name}")).headers["set-cookie"]
    parts = {part.strip() for part in cookie.split(";")}
    assert {parts_name.split("=")[0] if "sod-saml" in parts_name else parts_name for parts_name in parts} == wanted


async def test_a_stolen_response_is_of_no_use(door: Door) -> None:
    """Posted by a browser with another request, or none, it is refused on record; its own browser may still post it."""
    async with door.browser() as victim, door.browser() as thief, door.browser() as nobody:
        form = answering(await begun(victim))
        await begun(thief)
        for other in (thief, nobody):
            refused = await other.post(PATH, data=form)
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
            assert {"event": "rejected", "code": "unauthenticated", "target": "corp"}.items() <= door.last.items()
            assert "this browser did not make" in door.last["reason"]
        assert (await victim.post(PATH, data=form)).status_code == 200


async def test_nobody_is_signed_on_as_someone_else(door: Door) -> None:
    """A response to the attacker's request, posted by the victim's browser, is refused: no login CSRF."""
    async with door.browser() as victim, door.browser() as attacker:
        form = answering(await begun(attacker), "mallory")
        await begun(victim)
        assert (await victim.post(PATH, data=form)).status_code == 401
        assert (await attacker.post(PATH, data=form)).status_code == 200


async def test_a_replay_is_refused(door: Door) -> None:
    """The same response a second time is refused, even with the cookie kept."""
    async with door.browser() as browser:
        form = answering(await begun(browser))
        kept = dict(browser.cookies)
        assert (await browser.post(PATH, data=form)).status_code == 200
        assert not browser.cookies
        refused = await browser.post(
            PATH, data=form, headers={"cookie": "; ".join(f"{k}={v}" for k, v in kept.items())}
        )
    assert (refused.status_code, refused.json()["error"]) == (401, "This assertion was used before.")
    assert door.last["reason"] == "This assertion was used before."


@pytest.mark.parametrize(("seconds", "says"), [(1, None), (400, "has expired"), (601, "did not make, or not just now")])
async def test_a_body_that_takes_its_time(door: Door, seconds: int, says: str | None) -> None:
    """The time is looked at when the response is there: by sending it slowly nobody keeps it from growing old."""
    now = [saml_making.NOW]
    app = FastAPI()
    app.include_router(saml_router(door.house, lambda: now[0]))

    async def slowly(content: bytes) -> AsyncIterator[bytes]:
        yield content[:9]
        now[0] += seconds
        yield content[9:]

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST) as browser:
        form = answering(await begun(browser))
        content = str(httpx.QueryParams({"SAMLResponse": form["SAMLResponse"]})).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if says is None:
            assert (await browser.post(PATH, content=slowly(content), headers=headers)).status_code == 200
            return
        with pytest.raises(Unauthenticated, match=says):
            await browser.post(PATH, content=slowly(content), headers=headers)


async def test_unsolicited_responses(door: Door, tmp_path: Path) -> None:
    """One that answers nothing is refused, unless the policy lets it."""
    async with door.browser() as browser:
        assert (await browser.post(PATH, data=answering(None))).status_code == 401
    changed = {"corp": {**POLICY, "unsolicited": "allow"}}
    async with house(tmp_path, saml=changed) as built, Door(built).browser() as browser:
        assert (await browser.post(PATH, data=answering(None))).status_code == 200


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", ""),
        ("application/x-www-form-urlencoded", "RelayState=x"),
        ("application/x-www-form-urlencoded", "{0}&{0}"),
        ("application/x-www-form-urlencoded", "{0}&SAMLResponse=x"),
        ("application/x-www-form-urlencoded", "{0}&a=1&b=1&c=1&d=1&e=1&f=1&g=1&h=1"),
        ("application/x-www-form-urlencoded", "{0}&é=1"),
        ("application/x-www-form-urlencoded", "SAMLResponse"),
        ("text/plain", "{0}"),
        ("application/json", '{{"SAMLResponse": "x"}}'),
        ("", "{0}"),
    ],
)
async def test_forms_that_are_none(door: Door, kind: str, body: str) -> None:
    """Whatever does not hold exactly one response, as a form, is a 401 on record; the form itself is taken."""
    async with door.browser() as browser:
        form = str(httpx.QueryParams({"SAMLResponse": answering(await begun(browser))["SAMLResponse"]}))
        headers = {"content-type": kind} if kind else {}
        refused = await browser.post(PATH, content=body.format(form).encode(), headers=headers)
        assert (refused.status_code, door.last["event"]) == (401, "rejected")
        headers = {"content-type": "Application/X-WWW-Form-Urlencoded; charset=utf-8"}
        assert (await browser.post(PATH, content=form, headers=headers)).status_code == 200


@pytest.mark.parametrize(("method", "path"), [("GET", "/saml/nobody"), ("POST", "/saml/nobody/acs")])
async def test_a_provider_that_there_is_not(door: Door, method: str, path: str) -> None:
    """It is a 404."""
    async with door.browser() as browser:
        assert (await browser.request(method, path)).status_code == 404


async def test_one_providers_response_is_not_anothers(door: Door) -> None:
    """A response of one provider, brought to the other's address with that one's request, is refused."""
    async with door.browser("http://127.0.0.1:8081") as browser:
        form = answering(await begun(browser, "local"))
        assert (await browser.post("/saml/local/acs", data=form)).status_code == 401


async def test_without_a_record_there_is_no_token(door: Door) -> None:
    """A journal that is broken is a server error and gives nothing, and the assertion is used up all the same."""
    async with door.browser() as browser:
        form = answering(await begun(browser))
        door.house.journal.broken = True
        refused = await browser.post(PATH, data=form)
        assert refused.status_code == 503
        assert "ey" not in refused.text
        door.house.journal.broken = False
        assert (await browser.post(PATH, data=form)).status_code == 401
        again = answering(await begun(browser), name="_b")
        assert (await browser.post(PATH, data=again)).status_code == 200


async def test_a_certificate_that_is_gone(door: Door, tmp_path: Path) -> None:
    """It refuses everyone, on record, and the path is told to the record alone; once back, people sign on again."""
    (tmp_path / "idp.pem").rename(tmp_path / "away.pem")
    async with door.browser() as browser:
        form = answering(await begun(browser))
        refused = await browser.post(PATH, data=form)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert "idp.pem" in door.last["reason"]
        assert "idp.pem" not in refused.text
        (tmp_path / "away.pem").rename(tmp_path / "idp.pem")
        assert (await browser.post(PATH, data=form)).status_code == 200


async def test_whatever_goes_wrong_gives_no_token(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that nobody foresaw is a refusal on record that tells nothing."""

    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("the payload")

    async with door.browser() as browser:
        form = answering(await begun(browser))
        with monkeypatch.context() as patch:
            patch.setattr("mcp_sod.console.saml.assertion_of", failing)
            refused = await browser.post(PATH, data=form)
        assert refused.status_code == 503
        assert "payload" not in refused.text + str(door.last)
        assert door.last["code"] == "unavailable"
        assert (await browser.post(PATH, data=form)).status_code == 200
