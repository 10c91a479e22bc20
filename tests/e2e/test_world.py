"""The world itself: what the other end-to-end tests take for granted is shown here, without the gateway."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import jwt
import pytest

from tests.world.bank import Bank
from tests.world.client import ERAS, LEGACY, MODERN, Era, raw_call, raw_session, sdk_client
from tests.world.echo import Echo, Reply
from tests.world.flaws import FLAWS, Flaw
from tests.world.gateway import MITMDUMP
from tests.world.issuer import AUDIENCE, Issuer
from tests.world.keys import Algorithm
from tests.world.ledger import CUSTOMERS
from tests.world.process import Process, ProcessFailedError, free_port


@pytest.fixture(scope="module")
def stock_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A mitmdump with no addon; gives its URL."""
    folder, port = tmp_path_factory.mktemp("stock"), free_port()
    command: list[str | Path] = [
        MITMDUMP,
        "--listen-host",
        "127.0.0.1",
        "--listen-port",
        str(port),
        "--set",
        f"confdir={folder}",
    ]
    with Process(command, folder / "log", ports=[port]):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "through-stock-mitmdump"])
async def test_the_sdk_client_reaches_the_bank(bank: Bank, stock_proxy: str, era: Era, proxied: bool) -> None:
    """HTTP_PROXY alone leads the official client through a proxy, in both eras, with its token."""
    async with sdk_client(bank.url, "t0ken", proxy=stock_proxy if proxied else None, era=era) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        reply = await client.call_tool("get_customer", {"id": 1})
    assert {"list_customers", "query", "pay_invoice", "drop_database", "slow_report"} < names
    assert reply.structured_content == CUSTOMERS[0]
    assert CUSTOMERS[0]["ssn"] in str(reply.content)
    assert all(arrival.header("authorization") == ["Bearer t0ken"] for arrival in bank.arrivals.read())


async def test_the_proxy_is_really_in_between(bank: Bank) -> None:
    """With a proxy that does not answer, the client fails and nothing arrives: it does not go round."""
    with pytest.raises(ExceptionGroup):
        async with sdk_client(bank.url, proxy=f"http://127.0.0.1:{free_port()}"):
            pass
    assert bank.arrivals.read() == []


async def test_the_client_speaks_2026_by_itself(bank: Bank) -> None:
    """Left alone, the SDK probes with server/discover and stays in the 2026 era."""
    async with sdk_client(bank.url) as client:
        assert client.protocol_version == MODERN
        await client.list_tools()
    assert [arrival.rpc_method for arrival in bank.arrivals.read()] == ["server/discover", "tools/list"]


async def test_a_legacy_session_is_these_requests(bank: Bank) -> None:
    """Before 2026 the SDK shakes hands, opens a GET stream, and deletes its session at the end."""
    async with sdk_client(bank.url, era=LEGACY) as client:
        await client.call_tool("list_customers", {})
    seen = [(one.method, one.rpc_method) for one in bank.arrivals.read()]
    assert seen[:2] == [("POST", "initialize"), ("POST", "notifications/initialized")]
    # The GET races the call; the list follows the first call of a tool, whose output schema is asked for.
    assert set(seen[2:-1]) == {("GET", None), ("POST", "tools/call"), ("POST", "tools/list")}
    assert seen[-1] == ("DELETE", None)


@pytest.mark.parametrize("era", ERAS)
async def test_progress_arrives_before_the_result(bank: Bank, era: Era) -> None:
    """slow_report streams: the client hears of every step."""
    heard: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001 (the SDK's names)
        heard.append(progress)

    async with sdk_client(bank.url, era=era) as client:
        reply = await client.call_tool("slow_report", {"seconds": 0.3}, progress_callback=hear)
    assert heard == [1, 2, 3]
    assert not reply.is_error


@pytest.mark.parametrize("era", ERAS)
def test_a_plain_post_reaches_the_bank(bank: Bank, stock_proxy: str, era: Era) -> None:
    """raw_call speaks both eras, and a payment is made each time that it is called."""
    session = raw_session(bank.url, proxy=stock_proxy) if era == LEGACY else {}
    payment = {"invoice_id": "INV-1", "amount": 12.5, "iban": "DE89370400440532013000"}
    for times in (1, 2):
        reply = raw_call(bank.url, "pay_invoice", payment, era=era, proxy=stock_proxy, headers=session)
        assert reply.status_code == 200, reply.text
        assert len(bank.ledger.payments("INV-1")) == times
    assert [call["arguments"] for call in bank.calls()] == [payment, payment]


def test_the_bank_can_be_destroyed(bank: Bank) -> None:
    """Statements are really executed, so that a test can show that one was not."""
    raw_call(bank.url, "query", {"sql": "delete from customers"})
    assert bank.ledger.rows("select * from customers") == []
    raw_call(bank.url, "drop_database")
    assert bank.ledger.rows("select name from sqlite_master") == []


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
def test_a_sound_token_verifies(issuer: Issuer, algorithm: Algorithm) -> None:
    """The control for every flawed token: without a flaw it passes, against the key served over HTTP."""
    token = issuer.token("ada", groups=["mcp-users"], machine=True, algorithm=algorithm)
    with issuer.serve() as base:
        config = httpx.get(f"{base}/.well-known/openid-configuration", trust_env=False).json()
        key = jwt.PyJWKClient(config["jwks_uri"]).get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=[algorithm], audience=AUDIENCE, issuer=issuer.url)
    assert (claims["sub"], claims["groups"], claims["gty"]) == ("ada", ["mcp-users"], "client-credentials")


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flawed_token_does_not(issuer: Issuer, flaw: Flaw) -> None:
    """Each flaw alone makes a careful verifier refuse."""
    token = issuer.token("ada", flaw=flaw)
    keys = jwt.PyJWKSet.from_dict(issuer.jwks)
    with pytest.raises((jwt.PyJWTError, KeyError)):
        jwt.decode(
            token,
            keys[jwt.get_unverified_header(token)["kid"]],
            algorithms=["ES256"],
            audience=AUDIENCE,
            issuer=issuer.url,
            options={"require": ["exp"]},
        )


def test_echo_keeps_bytes_and_follows_the_script(echo: Echo) -> None:
    """What arrives is kept as it came; what goes out is what the test wrote, the last reply for ever."""
    echo.answer(Reply.chunked([b"data: 1\n\n", 0.01, b"data: 2\n\n"]), Reply.whole(b"no", status=503))
    first = httpx.post(echo.url, content=b'{"a":1.10}', trust_env=False)
    later = [httpx.get(echo.url, trust_env=False).status_code for _ in range(2)]
    assert (first.text, later) == ("data: 1\n\ndata: 2\n\n", [503, 503])
    assert echo.arrived[0].startswith(b"POST /mcp HTTP/1.1\r\n")
    assert echo.arrived[0].endswith(b'\r\n\r\n{"a":1.10}')


def test_echo_can_be_hostile(echo: Echo) -> None:
    """A reply of raw bytes goes out as it is, however wrong."""
    echo.answer(Reply((b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort",)))
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(echo.url, trust_env=False)


def test_a_process_that_fails_shows_its_log(tmp_path: Path) -> None:
    """A part that cannot start says why at once."""
    command = ["sh", "-c", "echo no such luck; exit 3"]
    with pytest.raises(ProcessFailedError, match=r"(?s)status 3.*no such luck"):
        Process(command, tmp_path / "log", ports=[free_port()]).start()
