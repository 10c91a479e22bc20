"""Signing on at a real SAML identity provider, and calling through the gateway with what comes of it."""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.conftest import SKIP_NOTHING
from tests.world.approver import console, vote
from tests.world.client import raw_http
from tests.world.saml_idp import Posted, SamlProvider, available
from tests.world.scene import SECRET, Scene, passed

pytestmark = pytest.mark.simplesamlphp

AUDIENCE = "https://mcp.example/saml"
USERS = {
    "ada": {"groups": ["mcp-users"], "mail": ["ada@people.example"]},
    "paula": {"groups": ["mcp-approvers", "staff"], "mail": ["paula@people.example"]},
    "both": {"groups": ["mcp-users", "mcp-approvers"], "mail": ["both@people.example"]},
    "guest": {"mail": ["guest@people.example"]},
}


@dataclass(frozen=True, slots=True)
class Town:
    """A gateway, and a provider that its people sign on at."""

    scene: Scene
    provider: SamlProvider

    @property
    def begin(self) -> str:
        """Where people begin to sign on."""
        return f"{self.scene.gateway.console_url}/saml/corp"

    def response(self, browser: httpx.Client, who: str) -> Posted:
        """The provider's response, before the browser posts it."""
        return self.provider.sign_on(browser, self.begin, who)

    def token(self, who: str) -> str:
        """What this person gets for signing on."""
        with raw_http() as browser:
            answer = self.response(browser, who).post(browser)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["token"])

    def call(self, token: str, **arguments: str) -> httpx.Response:
        """A tool call with this token."""
        return self.scene.call(arguments=arguments, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Both, running; skips without SimpleSAMLphp, unless nothing may be skipped."""
    if not available():
        (pytest.fail if SKIP_NOTHING else pytest.skip)("SimpleSAMLphp and PHP are not both installed")
    folder = tmp_path_factory.mktemp("saml")
    scene = Scene(folder)
    acs = f"{scene.gateway.console_url}/saml/corp/acs"
    with SamlProvider(folder / "idp", USERS, AUDIENCE, acs) as provider:
        entry = {
            "entity": provider.entity, "certificate": str(provider.certificate), "audience": AUDIENCE, "acs": acs,
            "sso": provider.sso, "claims": {"groups": "groups", "person": ["mail"]},
        }  # fmt: skip
        scene.gateway.write_policy({"saml.yaml": {"saml": {"corp": entry}}})
        with scene:
            yield Town(scene, provider)


def test_whoever_signed_on_may_call(town: Town) -> None:
    """Signing on gives a token, with which a call passes; both are on record, the token on neither."""
    seen = town.scene.watch()
    token = town.token("ada")
    signed_on = seen.record(event="signed on")
    assert signed_on["principal"] == {
        "issuer": town.provider.entity, "subject": "ada", "person": ["ada@people.example"], "groups": ["mcp-users"],
        "kind": "human",
    }  # fmt: skip
    assert passed(town.call(token))
    assert token not in str(seen.records) + town.scene.gateway.log
    spoiled = f"{token[:-8]}{'A' * 8}"
    assert town.call(spoiled).status_code == 401


@pytest.mark.parametrize(("who", "says"), [("guest", "role"), ("both", "exclude")])
def test_groups_decide_as_they_do_for_any_token(town: Town, who: str, says: str) -> None:
    """Whom the provider puts in no group may call nothing, and whom it puts in two that exclude each other neither."""
    refused = town.call(town.token(who))
    assert not passed(refused)
    assert says in refused.text
    assert passed(town.call(town.token("ada")))


def test_one_person_with_two_accounts_does_not_approve(town: Town) -> None:
    """Who sent a call through one provider cannot approve it through the other; someone else can."""
    seen = town.scene.watch()
    assert not passed(town.call(town.token("ada"), note=SECRET))
    ticket = seen.record(event="held")["ticket"]
    assert vote(town.scene, ticket, sub="ada.lovelace", email="ADA@people.example").status_code == 409
    with raw_http() as http:
        headers = {"Authorization": f"Bearer {town.token('paula')}"}
        shown = http.get(f"{town.scene.gateway.console_url}/api/v1/tickets/{ticket}", headers=headers)
    assert shown.json()["may_vote"] is True
    assert console(town.scene, "GET", f"tickets/{ticket}").json()["state"] == "pending"


def test_a_tampered_response_is_refused(town: Town) -> None:
    """A group that the provider did not give, put in on the way, spoils the response; as it came, it is taken."""
    seen = town.scene.watch()
    with raw_http() as browser:
        posted = town.response(browser, "ada")
        document = base64.b64decode(posted.fields["SAMLResponse"])
        more = document.replace(b">mcp-users<", b">data-stewards<")
        assert more != document
        unsigned = re.sub(rb"<ds:Signature .*?</ds:Signature>", b"", document, flags=re.DOTALL)
        for spoiled, says in ((more, "does not hold"), (unsigned, "not signed")):
            refused = posted.post(browser, SAMLResponse=base64.b64encode(spoiled).decode())
            assert (refused.status_code, "token" in refused.json()) == (401, False)
            assert says in refused.text
        assert seen.record(event="rejected", target="corp")["code"] == "unauthenticated"
        assert posted.post(browser).status_code == 200


def test_a_response_is_good_once_and_in_its_own_browser(town: Town) -> None:
    """Another browser, with a request of its own or none, gets nothing for it; its own gets one token, once."""
    with raw_http() as browser, raw_http() as thief:
        posted = town.response(browser, "ada")
        assert posted.post(thief).status_code == 401
        thief.get(town.begin)
        assert posted.post(thief).status_code == 401
        cookies = {"cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies.jar)}
        assert posted.post(browser).status_code == 200
        again = browser.post(posted.action, data=posted.fields, headers=cookies)
        assert (again.status_code, again.json()["error"]) == (401, "This assertion was used before.")
