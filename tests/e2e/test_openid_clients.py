"""Clients that get their tokens from a certified OpenID provider, in the ways that they have by themselves."""

import json
import os
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any, Self, cast

import httpx
import httpx2
import jwt
import pytest
import yaml
from mcp.client import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

from tests.world.bank import Bank
from tests.world.client import LEGACY, MODERN, call_body, call_headers, environment, proxy_environment
from tests.world.conformance_kit import Kit
from tests.world.gateway import Gateway
from tests.world.issuer import Issuer
from tests.world.policies import default_policy
from tests.world.provider import APP, ASKING, Holder, Provider, believed, brought, thumbprint
from tests.world.scene import MASKED, Scene, Watch, passed
from tests.world.tls import Authority, SecureEcho
from tests.world.trail import Trail

WELL_KNOWN = "/.well-known/oauth-protected-resource"
CALL = json.dumps(call_body("get_customer", {}, era=LEGACY))


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """The provider, shared."""
    with Provider(tmp_path_factory.mktemp("provider")) as running:
        yield running


# The login flow: a client that knows nothing but the server's address.


class Front:
    """A gateway in reverse mode before a bank; the provider's tokens are for its public address."""

    def __init__(self, folder: Path, provider: Provider, **issuer: Any) -> None:
        self.bank = Bank(folder / "bank")
        policy: dict[str, Any] = dict(default_policy(Issuer(folder / "unused"), self.bank.url))
        self.gateway = Gateway(
            folder / "gateway", policy, mode=f"reverse:http://127.0.0.1:{self.bank.port}", env=ASKING
        )
        self.url = f"{self.gateway.url}/mcp"
        settings = yaml.safe_load((self.gateway.policy_folder / "gateway.yaml").read_text())
        settings["gateway"]["public"] = [self.gateway.url]
        identity = believed(provider, self.url, scopes=["mcp"], **issuer)
        self.gateway.write_policy({"gateway.yaml": settings, "identity.yaml": identity})
        self.trail = Trail(self.gateway.state, folder / "gateway" / "var" / "audit")
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.bank)
        self._stack.enter_context(self.gateway)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def seen(self) -> Callable[..., dict[str, Any]]:
        """Begins to look: what it gives finds the first record from now on that says something."""
        records = self.trail.read()
        self.bank.arrivals.forget()
        return partial(self.trail.wait_for, records[-1]["seq"] + 1 if records else 0)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Front]:
    """That gateway."""
    with Front(tmp_path_factory.mktemp("front"), provider) as running:
        yield running


@pytest.fixture(scope="module")
def proving(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Front]:
    """One that takes bound tokens alone, and only proofs with its nonce."""
    folder = tmp_path_factory.mktemp("proving")
    with Front(folder, provider, proof="dpop", dpop={"nonce": "required"}) as running:
        yield running


class Person:
    """A client of the SDK's with nothing but an address, and whoever sits before it."""

    def __init__(self, provider: Provider, url: str, account: str) -> None:
        self.tokens: OAuthToken | None = None
        self.registered: OAuthClientInformationFull | None = None
        self._provider = provider
        self._account = account
        self._landed = httpx.URL()
        metadata = OAuthClientMetadata(redirect_uris=[AnyUrl(APP)], client_name="a client of the SDK's")
        self.auth = OAuthClientProvider(url, metadata, self, self._browse, self._come_back)

    async def get_tokens(self) -> OAuthToken | None:
        """What is kept."""
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keeps it."""
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """What is kept."""
        return self.registered

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Keeps it."""
        self.registered = client_info

    async def _browse(self, url: str) -> None:
        self._landed = self._provider.log_in(url, self._account)

    async def _come_back(self) -> AuthorizationCodeResult:
        query = self._landed.params
        return AuthorizationCodeResult(code=query["code"], state=query["state"], iss=query["iss"])


@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_the_sdks_client_logs_in_by_itself(front: Front, provider: Provider, era: str) -> None:
    """From a 401 it finds the gateway's metadata, the provider, registers, sends its user there, and calls."""
    record = front.seen()
    person = Person(provider, front.url, "ada")
    http = httpx2.AsyncClient(auth=person.auth, timeout=20)
    transport = streamable_http_client(front.url, http_client=http)
    async with http, Client(transport, mode="legacy" if era == LEGACY else era) as client:
        reply = await client.call_tool("get_customer", {"id": 1})
        assert not reply.is_error
        assert "[masked:" in str(reply.structured_content)
    assert record(event="rejected", code="unauthenticated")
    principal = record(event="forwarded", target="get_customer")["principal"]
    assert person.registered is not None
    assert (principal["subject"], principal["client"]) == ("ada", person.registered.client_id)
    assert (principal["person"], principal["kind"]) == (["ada@people.example"], "human")
    arrived = front.bank.arrivals.read()
    assert arrived
    assert all(one.header("authorization") == [] for one in arrived)


async def test_whoever_logs_in_may_do_what_the_groups_say(front: Front, provider: Provider) -> None:
    """Logged in is not let in: without a role no call is made."""
    record = front.seen()
    person = Person(provider, front.url, "eve")
    http = httpx2.AsyncClient(auth=person.auth, timeout=20)
    async with http:
        headers = call_headers("get_customer", era=LEGACY)
        reply = await http.post(front.url, content=CALL, headers=headers)
    assert (reply.status_code, reply.json()["result"]["isError"]) == (200, True)
    assert person.tokens is not None
    assert record(event="denied")["principal"]["subject"] == "eve"
    assert front.bank.arrivals.read() == []


def test_a_refusal_says_where_to_log_in(front: Front, provider: Provider) -> None:
    """Its challenge names the metadata (RFC 9728), which needs no token, and holds the resource and the issuer."""
    front.seen()
    with httpx.Client(trust_env=False) as http:
        reply = http.post(front.url, content=CALL, headers=call_headers("get_customer", era=LEGACY))
        assert reply.status_code == 401
        where = f"{front.gateway.url}{WELL_KNOWN}/mcp"
        assert f'resource_metadata="{where}"' in reply.headers["www-authenticate"]
        metadata = http.get(where)
    assert (metadata.status_code, metadata.headers["content-type"]) == (200, "application/json")
    said = metadata.json()
    assert (said["resource"], said["authorization_servers"]) == (front.url, [provider.url])
    assert said["scopes_supported"] == ["mcp"]
    assert said["bearer_methods_supported"] == ["header"]
    assert front.bank.arrivals.read() == []


@dataclass(frozen=True, slots=True)
class Told:
    """What a client of the TypeScript SDK is told to be."""

    sdk: int
    way: str
    dpop: bool = False

    def said(self, front: Front, provider: Provider, account: str) -> list[tuple[str, Any]]:
        """What it wrote down, pairs of event and value, while this person logged in once where it asked for it."""
        kit = Kit.bring()
        told = {**asdict(self), "url": front.url, "redirect": APP, "name": "get_customer", "arguments": {"id": 1}}
        command: list[str | Path] = [kit.node, brought(kit, "node") / "login.mjs", json.dumps(told)]
        said: list[tuple[str, Any]] = []
        with subprocess.Popen(command, env=_unproxied(), stdin=PIPE, stdout=PIPE, text=True) as running:
            assert running.stdin
            assert running.stdout
            for line in running.stdout:
                event, value = json.loads(line).values()
                if event == "login" and not said:
                    print(provider.log_in(value, account), file=running.stdin, flush=True)
                said.append((event, value))
        return said


@pytest.mark.parametrize("told", [Told(1, LEGACY), Told(2, LEGACY), Told(2, MODERN)], ids=str)
def test_a_node_client_logs_in_by_itself(front: Front, provider: Provider, told: Told) -> None:
    """The same of the TypeScript SDK's clients, of either line."""
    record = front.seen()
    login, kind, *results = told.said(front, provider, "ada")
    assert (login[0], kind) == ("login", ("type", "Bearer"))
    assert [(event, "[masked:" in json.dumps(value)) for event, value in results] == [("result", True)] * 2
    assert record(event="forwarded", target="get_customer")["principal"]["subject"] == "ada"


@pytest.mark.parametrize("way", [LEGACY, MODERN])
def test_a_node_client_proves_that_it_holds_its_key(proving: Front, provider: Provider, way: str) -> None:
    """With its own DPoP at work (RFC 9449), nonces included, its calls pass where nothing else does."""
    record = proving.seen()
    login, kind, *results = Told(2, way, dpop=True).said(proving, provider, "ada")
    assert (login[0], kind) == ("login", ("type", "DPoP"))
    assert [(event, "[masked:" in json.dumps(value)) for event, value in results] == [("result", True)] * 2
    assert record(event="forwarded", target="get_customer")["principal"]["subject"] == "ada"
    proving.seen()  # with a plain token it is sent to log in again, for ever
    assert [event for event, _ in Told(2, way).said(proving, provider, "ada")] == ["login", "type", "login", "failed"]
    assert proving.bank.arrivals.read() == []


# HTTP_PROXY=http://token:JWT@gateway:port


@pytest.fixture(scope="module")
def scene(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway in regular mode before an upstream without TLS."""
    with Scene(tmp_path_factory.mktemp("plain"), identity=believed(provider), env=ASKING) as running:
        yield running


class Tunnelled:
    """A gateway in regular mode before an upstream over TLS; `trusted` is the gateway's authority."""

    def __init__(self, folder: Path, provider: Provider) -> None:
        authority = Authority(folder / "authority")
        self.echo = SecureEcho(authority.issue("localhost"))
        self._folder = folder
        self._authority = authority
        self._identity = believed(provider)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.echo)
        policy = default_policy(Issuer(self._folder / "unused"), self.echo.url, identity=self._identity)
        options = ["--set", f"ssl_verify_upstream_trusted_ca={self._authority.file}"]
        self.gateway = Gateway(self._folder / "gateway", policy, options=options, env=ASKING)
        self._stack.enter_context(self.gateway)
        self.trusted = self.gateway.folder / "mitmproxy" / "mitmproxy-ca-cert.pem"
        self.trail = Trail(self.gateway.state, self._folder / "gateway" / "var" / "audit")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def watch(self) -> Watch:
        """Begins to look at what happens from now on."""
        return Watch(cast("Scene", self))  # of a scene it uses the echo and the trail


@pytest.fixture(scope="module")
def secure(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tunnelled]:
    """That gateway."""
    with Tunnelled(tmp_path_factory.mktemp("secure"), provider) as running:
        yield running


def through(gateway: Gateway, token: str) -> str:
    """The proxy's address with a token in it."""
    return f"http://token:{token}@127.0.0.1:{gateway.port}"


def _trusting(place: Scene | Tunnelled) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(place.trusted) if isinstance(place, Tunnelled) else None)


def httpx_said(place: Scene | Tunnelled, token: str) -> tuple[int, str]:
    """Status and text of one call of httpx's."""
    try:
        with httpx.Client(proxy=through(place.gateway, token), verify=_trusting(place), trust_env=False) as http:
            reply = http.post(place.echo.url, content=CALL, headers=call_headers("get_customer", era=LEGACY))
            return reply.status_code, reply.text
    except httpx.ProxyError as error:
        return int(str(error).split()[0]), ""


def _unproxied() -> dict[str, str]:
    """This process's environment, without a proxy in it."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def curl_said(place: Scene | Tunnelled, token: str) -> tuple[int, str]:
    """The same of curl's, led by its environment alone."""
    proxy = through(place.gateway, token)
    headers = [word for pair in call_headers("", era=LEGACY).items() for word in ("-H", ": ".join(pair))]
    command = ["curl", "-s", "-w", "\n%{http_connect} %{http_code}", "-d", CALL, *headers, place.echo.url]
    if isinstance(place, Tunnelled):
        command += ["--cacert", str(place.trusted)]
    env = {**_unproxied(), "http_proxy": proxy, "https_proxy": proxy}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=20, check=False)
    text, _, codes = done.stdout.rpartition("\n")
    connect, code = map(int, codes.split())
    return code or connect, text


@pytest.mark.parametrize("said", [httpx_said, curl_said], ids=["httpx", "curl"])
@pytest.mark.parametrize("over", ["http", "https"])
def test_a_token_in_the_proxys_address_is_all_that_a_client_needs(
    scene: Scene, secure: Tunnelled, provider: Provider, over: str, said: Any
) -> None:
    """Over http and in a tunnel it passes as that principal, and goes no further; no token is none for the upstream."""
    place = scene if over == "http" else secure
    token = provider.token()
    seen = place.watch()
    status, text = said(place, token)
    assert (status, MASKED in text) == (200, True), text
    assert seen.record(event="forwarded")["principal"]["subject"] == "agent"
    (arrived,) = seen.arrived
    assert token.encode() not in arrived
    assert b"roxy-" not in arrived
    assert token not in str(seen.records)
    elsewhere, stolen = provider.token(audience="https://elsewhere.example"), provider.token(holder=Holder())
    for wrong in (f"{token[:-6]}AAAAAA", elsewhere, stolen, "nobody's"):
        seen = place.watch()
        status, text = said(place, wrong)
        assert (status in (401, 407), MASKED in text, seen.arrived) == (True, False, [])
        assert seen.record(event="rejected", code="unauthenticated-proxy" if place is scene else "unauthenticated")


@pytest.mark.parametrize("over", ["http", "https"])
def test_two_tokens_are_one_too_many(scene: Scene, secure: Tunnelled, provider: Provider, over: str) -> None:
    """One for the proxy or its tunnel and one for the origin: whose call it is would be anyone's guess."""
    place = scene if over == "http" else secure
    token = provider.token()
    for inner, passes in ((None, True), (token, False), (provider.persons_token("ada"), False)):
        seen = place.watch()
        with httpx.Client(proxy=through(place.gateway, token), verify=_trusting(place), trust_env=False) as http:
            reply = http.post(place.echo.url, content=CALL, headers=call_headers("get_customer", inner, era=LEGACY))
        assert (passed(reply), len(seen.arrived)) == (passes, int(passes))
    assert seen.record(event="rejected", code="unauthenticated")


def test_a_tunnels_token_is_good_for_its_tunnel_alone(secure: Tunnelled, provider: Provider) -> None:
    """Another connection of the same client's, which showed none, is nobody's."""
    with httpx.Client(proxy=through(secure.gateway, provider.token()), verify=_trusting(secure)) as http:
        for _ in range(2):
            reply = http.post(secure.echo.url, content=CALL, headers=call_headers("get_customer", era=LEGACY))
            assert passed(reply)
        seen = secure.watch()
        with httpx.Client(proxy=secure.gateway.url, verify=_trusting(secure), trust_env=False) as another:
            reply = another.post(secure.echo.url, content=CALL, headers=call_headers("get_customer", era=LEGACY))
        assert (reply.status_code, seen.arrived) == (401, [])
        assert seen.record(event="rejected", code="unauthenticated")


@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_the_sdks_client_with_a_token_in_http_proxy(
    bank: Bank, provider: Provider, tmp_path: Path, era: str
) -> None:
    """Its code does not change: HTTP_PROXY says where to go and who is calling."""
    policy = default_policy(Issuer(tmp_path / "unused"), bank.url, identity=believed(provider))
    with Gateway(tmp_path / "gateway", policy, env=ASKING) as gateway:
        with environment(proxy_environment(through(gateway, provider.token()))):
            http = httpx2.AsyncClient()
        transport = streamable_http_client(bank.url, http_client=http)
        async with http, Client(transport, mode="legacy" if era == LEGACY else era) as client:
            reply = await client.call_tool("get_customer", {"id": 1})
        assert not reply.is_error
        assert "[masked:" in str(reply.structured_content)
        assert all(one.header("proxy-authorization") == [] for one in bank.arrivals.read())


# Bound to a certificate (RFC 8705).


def test_a_token_that_is_bound_to_a_certificate(provider: Provider, tmp_path: Path) -> None:
    """It passes over a connection that showed the certificate; with another or none it is anyone's, and refused."""
    authority = Authority(tmp_path / "authority")
    mine, another = authority.issue("mine"), authority.issue("another")
    raw = ssl.PEM_cert_to_DER_cert(mine.read_text().partition("-----END PRIVATE KEY-----\n")[2])
    with SecureEcho(authority.issue("localhost")) as echo:
        policy = default_policy(Issuer(tmp_path / "unused"), echo.url, identity=believed(provider))
        options = ["--set", f"ssl_verify_upstream_trusted_ca={authority.file}", "--set", "request_client_cert=true"]
        mode = f"reverse:https://localhost:{echo.port}"
        with Gateway(tmp_path / "gateway", policy, mode=mode, options=options, env=ASKING) as gateway:
            trail = Trail(gateway.state, tmp_path / "gateway" / "var" / "audit")
            token = provider.token("certified", certificate=raw)
            bound = jwt.decode(token, options={"verify_signature": False})["cnf"]
            assert bound == {"x5t#S256": thumbprint(raw)}
            for certificate, status in ((mine, 200), (another, 401), (None, 401), (mine, 200)):
                context = ssl.create_default_context(cafile=str(gateway.folder / "mitmproxy" / "mitmproxy-ca-cert.pem"))
                if certificate:
                    context.load_cert_chain(certificate)
                arrived = len(echo.arrived)
                with httpx.Client(verify=context, trust_env=False) as http:
                    url = f"https://localhost:{gateway.port}/mcp"
                    reply = http.post(url, content=CALL, headers=call_headers("", token, era=LEGACY))
                assert (reply.status_code, len(echo.arrived) - arrived) == (status, int(status == 200)), reply.text
                assert str(echo.port) not in str(reply.headers)  # where the upstream is, is no business of the caller's
            assert trail.wait_for(event="rejected", code="unauthenticated")
