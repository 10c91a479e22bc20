"""What upstreams are shown: never the caller's token, but one it was exchanged for, and the gateway's signed word."""

import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.world.client import LEGACY, call_body, call_headers, raw_http
from tests.world.echo import JSON_TYPE, Echo, Reply
from tests.world.guarded import HEADER, Guarded
from tests.world.process import free_port
from tests.world.scene import GOOD, Scene, passed
from tests.world.token_endpoint import ACCESS_TOKEN, SECRET, UPSTREAM_TOKEN, Asked, exchange, issue, slowly
from tests.world.wire import converse_on, tunnel

PAUSE = 2.1  # seconds after which an endpoint that failed is asked again


def arranged(folder: Path, mode: str = "regular", **upstream: Any) -> Scene:
    """A scene, not started yet, whose upstream `tools` has these settings."""
    scene = Scene(folder, mode=mode, env={"SOD_TEST_EXCHANGE": SECRET})
    change(scene, **upstream)
    return scene


def change(scene: Scene, **upstream: Any) -> None:
    """Puts other settings of the upstream `tools` into the policy."""
    settings = yaml.safe_load((scene.gateway.policy_folder / "gateway.yaml").read_text())
    settings["upstreams"]["tools"] |= upstream
    scene.gateway.write_policy({"gateway.yaml": settings})


class Setting:
    """A gateway that exchanges callers' tokens at a scripted endpoint."""

    def __init__(self, scene: Scene, endpoint: Echo) -> None:
        self.scene = scene
        self.endpoint = endpoint
        self._callers = 0

    def someone(self) -> str:
        """A caller whom neither gateway nor endpoint has seen."""
        self._callers += 1
        return f"ada{self._callers}"

    def call(self, token: str, **headers: str) -> httpx.Response:
        """One call with this token."""
        self.scene.echo.answer(GOOD)
        sent = call_headers("get_customer", token) | headers
        return self.scene.http.post(self.scene.echo.url, json=call_body("get_customer", {}), headers=sent)

    def asked(self) -> list[Asked]:
        """What the endpoint was asked, in order."""
        return [Asked.read(raw) for raw in self.endpoint.arrived]


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    """The setting, shared."""
    folder = tmp_path_factory.mktemp("exchange")
    with Echo(issue()) as endpoint, arranged(folder, credential=exchange(endpoint.url, audience="tools")) as scene:
        yield Setting(scene, endpoint)


@pytest.fixture
def endpoint(setting: Setting) -> Echo:
    """Its token endpoint, which issues tokens until it is told otherwise."""
    setting.endpoint.answer(issue())
    return setting.endpoint


def shown(arrived: bytes) -> list[bytes]:
    """The values of `Authorization` that arrived upstream."""
    lines = arrived.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return [
        value.strip() for name, _, value in (line.partition(b":") for line in lines) if name.lower() == b"authorization"
    ]


def exchanged_alone(arrived: list[bytes], token: str) -> bool:
    """Whether one request arrived, with the exchanged token and nothing of the caller's."""
    (raw,) = arrived
    return token.encode() not in raw and shown(raw) == [b"Bearer " + UPSTREAM_TOKEN.encode()]


def test_the_scripted_endpoints_token_goes_upstream_and_the_callers_never(setting: Setting, endpoint: Echo) -> None:
    """Through the forward proxy: the endpoint gets the caller's token, the upstream only what came of it."""
    seen, before, token = setting.scene.watch(), len(endpoint.arrived), setting.scene.token(sub=setting.someone())
    assert passed(setting.call(token))
    (asked,) = setting.asked()[before:]
    assert (asked.form["subject_token"], asked.form["audience"]) == (token, "tools")
    assert exchanged_alone(seen.arrived, token)
    assert seen.events() == ["forwarded", "replied"]
    everything = json.dumps(seen.records) + setting.scene.gateway.log
    assert not any(text in everything for text in (token, UPSTREAM_TOKEN, SECRET))


@pytest.mark.parametrize("header", ["Mcp-Session-Id", "Last-Event-Id", "Mcp-Param-Token", "X-Token", "Cookie"])
def test_the_callers_token_goes_on_in_no_header(setting: Setting, endpoint: Echo, header: str) -> None:
    """A caller who puts it elsewhere, too, does not hand it to the upstream."""
    assert endpoint.arrived is not None
    seen, token = setting.scene.watch(), setting.scene.token(sub=setting.someone())
    setting.call(token, **{header: token})
    assert token.encode() not in b"".join(seen.arrived)
    assert passed(setting.call(token))


def test_a_call_with_the_callers_token_in_it_is_refused(tmp_path: Path) -> None:
    """Among the arguments, with a header that repeats them or without; anything else there goes on."""
    scene = Scene(tmp_path, rules={"rules": []})  # the default rules would hold it before
    with scene:
        token = scene.token()
        for value, goes in ((token, False), (f"Bearer {token}", False), ("another", True)):
            for beside in ({}, {"Mcp-Param-Token": value}):
                seen = scene.watch()
                scene.echo.answer(GOOD)
                headers = call_headers("", token, era=LEGACY) | beside
                message = call_body("get_customer", {"token": value}, era=LEGACY)
                came = scene.http.post(scene.echo.url, json=message, headers=headers)
                assert passed(came) == goes
                assert seen.connections == goes
                assert seen.events() == ["forwarded", "replied" if goes else "denied"]
                assert token not in json.dumps(seen.records) + came.text


@pytest.mark.parametrize("hide", ["\\u{:04x}", "%{:02x}", "%25{:02x}"], ids=["escaped", "quoted", "quoted twice"])
def test_a_call_with_the_callers_token_in_other_letters_is_refused(tmp_path: Path, hide: str) -> None:
    """JSON's escapes, and percent-encoding, say the same to the server; another token so written goes on."""
    with Scene(tmp_path, rules={"rules": []}) as scene:
        token, other = scene.token(), scene.token(sub="bob")
        for shown, goes in ((token, False), (other, True)):
            written = "".join(hide.format(ord(letter)) for letter in shown[:3]) + shown[3:]
            content = json.dumps(call_body("get_customer", {"x": "TOKEN"}, era=LEGACY)).replace("TOKEN", written)
            seen = scene.watch()
            scene.echo.answer(GOOD)
            headers = call_headers("", token, era=LEGACY)
            assert passed(scene.http.post(scene.echo.url, content=content, headers=headers)) == goes
            assert seen.connections == goes


def test_the_callers_token_does_not_go_on_through_connect(setting: Setting, endpoint: Echo) -> None:
    """Inside a tunnel it is the same, with the token of the request or that of the CONNECT."""
    assert endpoint.arrived is not None
    scene = setting.scene
    target, body = f"127.0.0.1:{scene.echo.port}", json.dumps(call_body("get_customer", {})).encode()
    token = scene.token(sub=setting.someone())
    head = call_headers("get_customer", token) | {"Host": target, "Content-Length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    scene.echo.answer(GOOD)
    seen = scene.watch()
    with tunnel(scene.gateway.port, target) as connection:
        answer = converse_on(connection, [f"POST /mcp HTTP/1.1\r\n{lines}\r\n".encode() + body])
    assert answer.status == 200
    assert exchanged_alone(seen.arrived, token)


def test_the_callers_token_does_not_go_on_in_reverse_mode(tmp_path: Path) -> None:
    """Nor where the gateway stands in the server's place."""
    with Echo(issue()) as endpoint, arranged(tmp_path, "reverse", credential=exchange(endpoint.url)) as scene:
        setting = Setting(scene, endpoint)
        seen, token = scene.watch(), scene.token()
        with raw_http() as http:
            headers = call_headers("get_customer", token)
            scene.echo.answer(GOOD)
            came = http.post(f"{scene.gateway.url}/mcp", json=call_body("get_customer", {}), headers=headers)
        assert passed(came)
        assert exchanged_alone(seen.arrived, token)
        assert [asked.form["subject_token"] for asked in setting.asked()] == [token]


LIES: Mapping[str, Reply | None] = {  # None: it gives back the caller's own token
    "html": Reply.whole(b"<html>log in</html>", headers=[("Content-Type", "text/html")]),
    "huge": Reply.whole(b"x" * 70_000),
    "a token with a line break": issue("a\r\nx-admin: 1"),
    "no time": issue(expires_in=0),
    "no token": issue(None),
    "not applicable": issue(token_type="N_A"),  # noqa: S106 (RFC 8693's word)
    "an ID token": issue(issued_token_type=ACCESS_TOKEN.replace("access", "id")),
    "the caller's own": None,
    "no": Reply.whole(b'{"error":"invalid_target","error_description":"s3cret"}', status=400),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_scripted_endpoint_that_lies_forwards_nothing(setting: Setting, endpoint: Echo, lie: str) -> None:
    """Refused and on record as such, without a word of the endpoint's; another caller's call passes meanwhile."""
    token = setting.scene.token(sub=setting.someone())
    endpoint.answer(LIES[lie] or issue(token))
    refused(setting, token)
    endpoint.answer(issue())
    assert passed(setting.call(setting.scene.token(sub=setting.someone())))


def refused(setting: Setting, token: str) -> None:
    """Sees a call refused: nothing goes upstream, and the last record says why, but neither token nor body."""
    seen = setting.scene.watch()
    came = setting.call(token)
    assert '"unavailable"' in came.text
    record = seen.record(event="denied", code="unavailable")
    assert "token endpoint of upstreams.tools" in record["reason"]
    assert seen.events() == ["forwarded", "denied"]
    assert seen.connections == 0
    told = json.dumps(seen.records) + came.text
    assert not any(text in told for text in (token, UPSTREAM_TOKEN, SECRET, "s3cret", "x-admin"))
    assert "invalid_target" not in came.text  # the OAuth error code is for the operator


def test_a_scripted_redirect_is_not_followed(setting: Setting, endpoint: Echo) -> None:
    """A caller's token, and the gateway's secret, go to the one address of the policy."""
    token = setting.scene.token(sub=setting.someone())
    with Echo(issue()) as elsewhere:
        endpoint.answer(Reply.whole(b"", status=302, headers=[JSON_TYPE, ("Location", elsewhere.url)]))
        refused(setting, token)
        assert elsewhere.connections == 0
    endpoint.answer(issue())
    time.sleep(PAUSE)
    assert passed(setting.call(token))


def test_a_scripted_endpoint_that_is_slow_holds_up_nobody_else(setting: Setting, endpoint: Echo) -> None:
    """After five seconds its caller is refused; calls whose tokens are known go through all the while."""
    known, token = (setting.scene.token(sub=setting.someone()) for _ in range(2))
    assert passed(setting.call(known))
    endpoint.answer(slowly(issue(), 30))
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        waiting = pool.submit(setting.call, token)
        while not endpoint.arrived or Asked.read(endpoint.arrived[-1]).form["subject_token"] != token:
            time.sleep(0.02)
        quick = time.monotonic()
        assert passed(setting.call(known))
        assert time.monotonic() - quick < 2
        assert not waiting.done()
        assert '"unavailable"' in waiting.result().text
        assert 4.5 < time.monotonic() - began < 8
    endpoint.answer(issue())
    time.sleep(PAUSE)
    assert passed(setting.call(token))


def test_who_is_revoked_while_the_scripted_endpoint_thinks_gets_nothing(tmp_path: Path) -> None:
    """The token that comes in the end is for nobody any more; another caller's call goes."""
    with Echo(issue()) as endpoint, arranged(tmp_path, credential=exchange(endpoint.url)) as scene:
        setting = Setting(scene, endpoint)
        assert passed(setting.call(scene.token(sub="eve")))
        endpoint.answer(slowly(issue(), 4), issue())
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(setting.call, scene.token(sub="ada"))
            while len(endpoint.arrived) < 2:
                time.sleep(0.02)
            roles = yaml.safe_load((scene.gateway.policy_folder / "roles.yaml").read_text())
            roles["revocation"]["revoked"] = [{"subject": "ada"}]
            scene.gateway.write_policy({"roles.yaml": roles})
            seen = scene.watch()
            scene.trail.wait_for(event="policy changed")
            assert not waiting.done()
            assert not passed(waiting.result())
        assert seen.connections == 0
        assert [record["event"] for record in seen.records][-1] in ("denied", "rejected")
        assert passed(setting.call(scene.token(sub="bob")))


def test_an_endpoint_that_is_down_forwards_nothing(tmp_path: Path) -> None:
    """Nobody listens there; once somebody does, calls go again, without a restart."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/token"
    with Echo(issue()) as endpoint, arranged(tmp_path, credential=exchange(url)) as scene:
        setting = Setting(scene, endpoint)
        refused(setting, token := scene.token())
        change(scene, credential=exchange(endpoint.url))
        scene.trail.wait_for(event="policy changed")
        assert passed(setting.call(token))


def test_calls_at_once_ask_the_scripted_endpoint_once(setting: Setting, endpoint: Echo) -> None:
    """20 calls of one caller at the same moment, over connections of their own."""
    endpoint.answer(slowly(issue(), 0.5))
    token, before, seen = setting.scene.token(sub=setting.someone()), len(endpoint.arrived), setting.scene.watch()
    with ThreadPoolExecutor(20) as pool:
        came = list(pool.map(lambda _: setting.call(token), range(20)))
    assert all(map(passed, came))
    assert len(endpoint.arrived) == before + 1
    assert [shown(raw) for raw in seen.arrived] == [[b"Bearer " + UPSTREAM_TOKEN.encode()]] * 20


def test_a_changed_policy_asks_anew(setting: Setting, endpoint: Echo) -> None:
    """What was issued for less, or for more, serves no longer; not even once the policy is what it was."""
    token, before = setting.scene.token(sub=setting.someone()), len(endpoint.arrived)
    assert passed(setting.call(token))
    for scope in ({"scope": "less"}, {}):
        assert passed(setting.call(token))
        seen = setting.scene.watch()
        change(setting.scene, credential=exchange(endpoint.url, audience="tools", **scope))
        seen.record(event="policy changed")
        assert passed(setting.call(token))
    assert [asked.form.get("scope") for asked in setting.asked()[before:]] == [None, "less", None]


# the gateway's word


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, Guarded]]:
    """A gateway before a server that refuses whatever the gateway does not vouch for."""
    folder = tmp_path_factory.mktemp("guarded")
    scene = Scene(folder)
    server = Guarded(folder / "server", scene.gateway.console_url, "urn:mcp-sod:gw-test")
    change(scene, url=server.url, assertion={"audience": server.url})
    with scene, server:
        yield scene, server


def direct(server: Guarded, content: bytes, headers: Mapping[str, str]) -> httpx.Response:
    """A request that goes round the gateway."""
    with raw_http() as http:
        return http.post(server.url, content=content, headers=call_headers("get_customer") | dict(headers))


def test_an_upstream_takes_only_what_came_through_the_gateway(guarded: tuple[Scene, Guarded]) -> None:
    """Called directly it refuses; it refuses a captured assertion with another body, and a second time with its own."""
    scene, server = guarded
    body = call_body("get_customer", {"id": 7})
    came = scene.http.post(server.url, json=body, headers=call_headers("get_customer", scene.token()))
    assert came.json()["result"]["content"][0]["text"] == "hello ada"
    assert direct(server, json.dumps(body).encode(), {}).status_code == 403
    arrived = server.arrived[-1]
    captured = {HEADER: dict(arrived["headers"])[HEADER]}
    other = direct(server, arrived["body"].replace('"id":7', '"id":8').encode(), captured)
    assert (other.status_code, other.json()["error"]) == (403, "of another request")
    again = direct(server, arrived["body"].encode(), captured)
    assert (again.status_code, again.json()["error"]) == (403, "seen before")
    assert len(server.arrived) == 1


def test_the_assertion_says_who_calls(guarded: tuple[Scene, Guarded]) -> None:
    """Subject, issuer and roles as the gateway knows them, and the record by which the call is found in the audit."""
    scene, server = guarded
    seen = scene.watch()
    token = scene.token("mcp-users", "data-stewards", sub="eve", act={"sub": "job"})
    scene.http.post(server.url, json=call_body("get_customer", {}), headers=call_headers("get_customer", token))
    claims = server.arrived[-1]["claims"]
    assert (claims["sub"], claims["sub_iss"], claims["kind"]) == ("eve", scene.issuer.url, "human")
    assert claims["person"] == ["eve@people.example"]
    assert "job" in claims["actors"]
    record = seen.record(event="forwarded")
    assert (claims["jti"], claims["roles"]) == (record["ref"], record["roles"])
    assert claims["exp"] - claims["iat"] == 60


def test_a_callers_own_assertion_does_not_pass(guarded: tuple[Scene, Guarded]) -> None:
    """Whatever a caller writes into that header, the upstream gets one, and it is the gateway's."""
    scene, server = guarded
    stolen = dict(server.arrived[-1]["headers"])[HEADER] if server.arrived else "x"
    headers = call_headers("get_customer", scene.token(sub="mallory"))
    for name in (HEADER, HEADER.upper()):
        body = call_body("get_customer", {})
        assert scene.http.post(server.url, json=body, headers=headers | {name: stolen}).status_code == 200
        arrived = server.arrived[-1]
        assert [value for key, value in arrived["headers"] if key.lower() == HEADER] != [stolen]
        assert arrived["claims"]["sub"] == "mallory"


def test_the_key_set_is_the_assertions_alone(guarded: tuple[Scene, Guarded]) -> None:
    """What the console publishes verifies assertions and nothing else; the private half is its owner's alone."""
    scene, _ = guarded
    with raw_http() as http:
        answer = http.get(f"{scene.gateway.console_url}/.well-known/jwks.json")
    (key,) = answer.json()["keys"]
    assert (key["alg"], "d" in key) == ("ES256", False)
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert oct((scene.state / "keys" / "assertion.key").stat().st_mode)[-3:] == "600"


def test_the_key_outlives_a_restart(tmp_path: Path) -> None:
    """Upstreams that keep the key set keep on verifying; after a rotation, both keys are published."""
    with arranged(tmp_path, assertion={"audience": "a"}) as scene, raw_http() as http:

        def published() -> list[str]:
            keys = http.get(f"{scene.gateway.console_url}/.well-known/jwks.json").json()["keys"]
            return [key["kid"] for key in keys]

        (first,) = published()
        scene.gateway.restart()
        assert published() == [first]
        keys = scene.state / "keys"
        (keys / "assertion.key").rename(keys / "assertion.previous.key")
        scene.gateway.restart()
        assert published()[1:] == [first]
        assert published()[0] != first
