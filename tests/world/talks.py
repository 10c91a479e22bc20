"""A gateway between talkers and the people who call them, with everything that can be seen of it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal, Self, get_args

import httpx2
from mcp.client import Client
from mcp.client.sse import sse_client

from tests.world.arrivals import Arrival
from tests.world.client import MODERN, Era, environment, proxy_environment, sdk_client
from tests.world.gateway import Gateway
from tests.world.issuer import Issuer
from tests.world.line import Line
from tests.world.policies import default_policy
from tests.world.talker import Talker
from tests.world.trail import Record, Trail

Mode = Literal["regular", "reverse"]
Way = Literal["2024-11-05", "2025-11-25", "2026-07-28"]  # how a client speaks: HTTP with SSE, sessions, or neither
OLDER: Way = "2024-11-05"
WAYS: tuple[Way, ...] = get_args(Way)
FORBIDDEN = "nuclear-launch"  # the rule of these tests that says no
_MAY = {"methods": ["*"], "tools": ["*"]}


class Talks:
    """A talker at `/mcp` (upstream tools) and `/sse` (older), one that replies in JSON (terse), and a gateway.

    Behind a gateway in reverse mode, which leads to one server, there is no terse one.
    """

    def __init__(self, folder: Path, mode: Mode) -> None:
        self.talker = Talker(folder / "talker")
        self.terse = Talker(folder / "terse", json_replies=True)
        self.issuer = Issuer(folder / "issuer")
        self.gateway = Gateway(
            folder / "gateway",
            default_policy(
                self.issuer,
                f"{self.talker.origin}/mcp",
                upstreams={
                    "older": {"url": f"{self.talker.origin}/sse", "speaks": "mcp-sse"},
                    "terse": {"url": f"{self.terse.origin}/mcp", "speaks": "mcp"},
                },
                roles={
                    "roles": {
                        "prompt-sender": {"groups": ["mcp-users"]},
                        "raw-viewer": {"groups": ["data-stewards"]},
                        "approver": {"groups": ["mcp-approvers"], "humans": True},
                    },
                    "permissions": {"prompt-sender": [{"upstream": name, **_MAY} for name in _UPSTREAMS]},
                    "separation": {"static": [["prompt-sender", "approver"]]},
                    "delivery": {},
                    "revocation": {},
                },
                rules={
                    "rules": [
                        {"id": "production-secret", "detect": ["cloud-key"], "action": "hold"},
                        {"id": "forbidden", "keywords": [FORBIDDEN], "action": "deny"},
                    ]
                },
            ),
            mode=f"reverse:{self.talker.origin}" if mode == "reverse" else mode,
        )
        self._mode = mode
        self._stack = ExitStack()
        self._trail = Trail(self.gateway.state, self.gateway.folder / "var" / "audit")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for part in (self.talker, *([self.terse] if self._mode == "regular" else []), self.gateway):
                stack.enter_context(part)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def proxy(self) -> str | None:
        """What a client's HTTP_PROXY says."""
        return self.gateway.url if self._mode == "regular" else None

    def url(self, upstream: str = "tools") -> str:
        """The address that a client is given."""
        server = self.terse if upstream == "terse" else self.talker
        return f"{server.origin if self._mode == 'regular' else self.gateway.url}{_UPSTREAMS[upstream]}"

    def token(self, who: str = "alice", **claims: Any) -> str:
        """A token for someone who may call everything."""
        return self.issuer.token(who, groups=("mcp-users",), email=f"{who}@people.example", **claims)

    def client(self, way: Way, *, who: str = "alice", upstream: str = "tools", **options: Any) -> "Connecting":
        """The SDK's client, connected; the options go to its constructor."""
        if way == OLDER:
            return _older_client(self.url("older"), self.token(who), self.proxy, **options)
        era: Era = MODERN if way == MODERN else "2025-11-25"
        return sdk_client(self.url(upstream), self.token(who), proxy=self.proxy, era=era, **options)

    @contextmanager
    def line(self, who: str = "alice", *, upstream: str = "tools", **claims: Any) -> Iterator[Line]:
        """Someone's way to an upstream without a client."""
        with Line(self.url(upstream), self.token(who, **claims), self.proxy) as line:
            yield line

    def straight(self, who: str) -> Line:
        """Someone's way to the talker round the gateway, which a test may take to show what the server would do."""
        return Line(f"{self.talker.origin}/mcp", self.token(who), None)

    def watch(self) -> "Seen":
        """Begins to look at what happens from now on."""
        return Seen(self.talker, self.terse, self._trail)


type Connecting = AbstractAsyncContextManager[Client]
_UPSTREAMS = {"tools": "/mcp", "older": "/sse", "terse": "/mcp"}


class Seen:
    """What has happened since: at the servers, and on record."""

    def __init__(self, talker: Talker, terse: Talker, trail: Trail) -> None:
        self._servers = [(server, len(server.arrivals.read())) for server in (talker, terse)]
        self._trail = trail
        records = trail.read()
        self._since = records[-1]["seq"] + 1 if records else 0

    @property
    def arrived(self) -> list[Arrival]:
        """The requests that arrived at either server."""
        return [arrival for server, since in self._servers for arrival in server.arrivals.read()[since:]]

    @property
    def records(self) -> list[Record]:
        """The records written."""
        return [record for record in self._trail.read() if record["seq"] >= self._since]

    def record(self, **fields: Any) -> Record:
        """The record that says this, waited for."""
        return self._trail.wait_for(self._since, **fields)


@asynccontextmanager
async def _older_client(url: str, token: str, proxy: str | None, **options: Any) -> AsyncIterator[Client]:
    def http(
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        with environment(proxy_environment(proxy)):
            return httpx2.AsyncClient(headers=headers, timeout=timeout, auth=auth)

    transport = sse_client(url, headers={"Authorization": f"Bearer {token}"}, httpx_client_factory=http)
    async with Client(transport, mode="legacy", **options) as client:
        yield client
