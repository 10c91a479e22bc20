"""One gateway between a scripted upstream and its callers, with everything that can be seen of it."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import httpx

from tests.world.client import call_body, call_headers, raw_http
from tests.world.echo import SSE_TYPE, Echo, Reply
from tests.world.gateway import Gateway
from tests.world.issuer import Issuer
from tests.world.policies import default_policy
from tests.world.trail import Record, Trail

SECRET = "AKIA" + "ABCDEFGHIJKLMNOP"  # matches the default policy's cloud-key; nobody's
MASKED = "[masked:secret]"
GOOD_BODY = f'{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"key {SECRET}"}}]}}}}'.encode()
GOOD = Reply.whole(GOOD_BODY)
GOOD_EVENTS = Reply.chunked([b"event: message\ndata: ", GOOD_BODY, b"\n\n"], headers=[SSE_TYPE])
SENDER = ("mcp-users",)
STEWARD = ("mcp-users", "data-stewards")


class Scene:
    """An Echo, an Issuer and a Gateway on the default policy.

    Args:
        folder: Where all of it lives.
        mode: mitmdump's mode; `reverse` stands for reverse mode before the Echo.
        script: What stands in the copy of sod.py that the gateway loads; without it, sod.py itself is loaded.
        env: Added to the gateway's environment.
        options: More words for mitmdump's command line.
        state: The gateway's state folder, if not its own.
        limits: Put into the policy's `gateway.limits`.
        settings: Put into the policy's `gateway`.
        others: What else the Echo's host speaks, each below a path of that name.
        changed: Replaces parts of the default policy, as `default_policy` takes them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        mode: str = "regular",
        script: str | None = None,
        env: Mapping[str, str | None] | None = None,
        options: Sequence[str] = (),
        state: Path | None = None,
        limits: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        others: Sequence[str] = (),
        **changed: Any,
    ) -> None:
        self._stack = ExitStack()
        self.echo = self._stack.enter_context(Echo(GOOD))
        self.issuer = Issuer(folder / "issuer")
        host = self.echo.url.removesuffix("/mcp")
        more = {kind: {"url": f"{host}/{kind}/", "speaks": kind} for kind in others}
        changed["upstreams"] = {**changed.get("upstreams", {}), **more}
        policy = default_policy(self.issuer, self.echo.url, **changed)
        mine: Any = policy["gateway.yaml"]
        mine["gateway"]["limits"] |= limits or {}
        mine["gateway"] |= settings or {}
        if state is not None:
            mine["gateway"]["state"] = str(state)
        self.gateway = Gateway(
            folder / "gateway",
            policy,
            mode=f"reverse:http://127.0.0.1:{self.echo.port}" if mode == "reverse" else mode,
            copy_script=script is not None,
            env=env,
            options=options,
        )
        if script is not None:
            self.gateway.script.write_text(script)
        self.state = state or self.gateway.state
        self.http = self._stack.enter_context(raw_http(self.gateway.url))
        self.store = self.gateway.folder / "var" / "audit"
        self.trail = Trail(self.state, self.store)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._stack.close)
            self.gateway.start()
            stack.pop_all()
        self._stack.callback(self.gateway.stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def token(self, *groups: str, sub: str = "ada", **claims: Any) -> str:
        """A token for someone in these groups, of the prompt-senders if none are named."""
        return self.issuer.token(sub, groups=groups or SENDER, email=f"{sub}@people.example", **claims)

    def call(
        self,
        tool: str = "get_customer",
        arguments: Mapping[str, Any] | None = None,
        *,
        groups: Sequence[str] = SENDER,
        reply: Reply = GOOD,
        sub: str = "ada",
        headers: Mapping[str, str] | None = None,
        patience: float = 15,
    ) -> httpx.Response:
        """One `tools/call` through the gateway, to which the upstream would give this reply."""
        self.echo.answer(reply)
        headers = call_headers(tool, self.token(*groups, sub=sub)) | dict(headers or {})
        body = call_body(tool, arguments or {})
        return self.http.post(self.echo.url, json=body, headers=headers, timeout=patience)

    def watch(self) -> "Watch":
        """Begins to look at what happens from now on."""
        return Watch(self)


class Watch:
    """What has happened since the watch began: at the upstream, and on record."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._connections = scene.echo.connections
        self._arrived = len(scene.echo.arrived)
        records = scene.trail.read()
        self._since = records[-1]["seq"] + 1 if records else 0

    @property
    def connections(self) -> int:
        """How many connections the upstream has got, whatever came over them."""
        return self._scene.echo.connections - self._connections

    @property
    def arrived(self) -> list[bytes]:
        """The requests that arrived upstream."""
        return self._scene.echo.arrived[self._arrived :]

    @property
    def records(self) -> list[Record]:
        """The records written."""
        return [record for record in self._scene.trail.read() if record["seq"] >= self._since]

    def events(self) -> list[str]:
        """What the records are of."""
        return [record["event"] for record in self.records]

    def record(self, **fields: Any) -> Record:
        """The record that says this, waited for."""
        return self._scene.trail.wait_for(self._since, **fields)


def passed(reply: httpx.Response) -> bool:
    """Whether the caller got the upstream's good reply, masked."""
    return reply.status_code == 200 and MASKED in reply.text and SECRET not in reply.text
