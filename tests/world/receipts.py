"""A scene in which results of `export_*` go to viewers, and what its people do in it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.world.client import MODERN, Era, call_body, call_headers, raw_http
from tests.world.echo import Answering, Reply
from tests.world.policies import DEFAULT
from tests.world.scene import SECRET, SENDER, Scene

VIEWERS = ("analysts",)
RECEIPT = "mcp-sod/receipt"
PAYLOAD = "the whole list of customers"
RESULT: dict[str, Any] = {"content": [{"type": "text", "text": f"{PAYLOAD} {SECRET}"}], "isError": False}


def with_viewers(**delivery: Any) -> dict[str, Any]:
    """The default policy's roles, with viewers, and results of `export_*` for them."""
    roles = yaml.safe_load((DEFAULT / "roles.yaml").read_text())
    roles["roles"] |= {"viewer": {"groups": ["analysts", "exporters"]}}
    listing = ["initialize", "server/discover", "ping", "tools/list"]
    roles["permissions"] |= {"viewer": [{"upstream": "tools", "methods": listing}]}
    roles["delivery"] = {"default": "inline", "rules": [{"tools": ["export_*"], "to": "viewer"}], **delivery}
    return {"roles": roles}


def outcome(era: Era = MODERN, **said: Any) -> dict[str, Any]:
    """What the upstream says under the call's id: a result, unless `error` is given."""
    if "error" in said:
        return said
    return {"result": {**RESULT, **said, **({"resultType": "complete"} if era == MODERN else {})}}


def whole(said: Mapping[str, Any], status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> Answering:
    """Answers whatever arrives with this, under the id that arrived, as JSON."""
    return lambda request: Reply.whole(
        json.dumps({"jsonrpc": "2.0", "id": arrived_id(request), **said}).encode(),
        status=status,
        headers=[("Content-Type", "application/json"), *headers],
    )


def streamed(*events: Mapping[str, Any] | bytes, pause: float = 0) -> Answering:
    """Answers with these as events that have ids; those with no method get the id that arrived."""

    def reply(request: bytes) -> Reply:
        parts: list[bytes | float] = []
        for number, event in enumerate(events):
            parts += [pause, event] if isinstance(event, bytes) else [pause, _event(event, request, number)]
        return Reply.chunked(parts)

    return reply


def _event(said: Mapping[str, Any], request: bytes, number: int) -> bytes:
    message = {"jsonrpc": "2.0", **({} if "method" in said else {"id": arrived_id(request)}), **said}
    return f"id: e{number}\ndata: {json.dumps(message)}\n\n".encode()


def arrived_id(request: bytes) -> Any:
    """The id of a request that arrived upstream."""
    return json.loads(request.partition(b"\r\n\r\n")[2])["id"]


class Post:
    """Senders and collectors of a scene."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def send(
        self, reply: Answering | Reply, *, tool: str = "export_all", era: Era = MODERN, sub: str = "ada",
        groups: Sequence[str] = SENDER, body: Mapping[str, Any] | None = None, **headers: str,
    ) -> httpx.Response:  # fmt: skip
        """One call to whose like the upstream gives this reply."""
        self.scene.echo.answer(reply)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = call_headers(tool, self.scene.token(*groups, sub=sub), era=era) | named
        return self.scene.http.post(self.scene.echo.url, json=body or call_body(tool, {}, era=era), headers=sent)

    def receipt(self, reply: Answering | Reply | None = None, **how: Any) -> str:
        """The receipt that a sender gets."""
        sent = self.send(reply or whole(outcome(how.get("era", MODERN))), **how)
        assert sent.status_code == 200, sent.text
        return str(said(sent)["result"]["_meta"][RECEIPT])

    def collect(
        self, receipt: str, *, era: Era = MODERN, sub: str = "vera", groups: Sequence[str] = VIEWERS, **claims: Any
    ) -> httpx.Response:
        """Collects through the gateway, as a call."""
        return self._collect("sod_collect", {"receipt": receipt}, era, self.token(sub, groups, **claims))

    def _collect(self, tool: str, arguments: Mapping[str, Any], era: Era, token: str) -> httpx.Response:
        headers = call_headers(tool, token, era=era)
        return self.scene.http.post(self.scene.echo.url, json=call_body(tool, arguments, era=era), headers=headers)

    def console(
        self, method: str = "GET", path: str = "", *, sub: str = "vera", groups: Sequence[str] = VIEWERS, **claims: Any
    ) -> httpx.Response:
        """What the console answers about deliveries."""
        headers = {"Authorization": f"Bearer {self.token(sub, groups, **claims)}"}
        with raw_http() as http:
            return http.request(method, f"{self.scene.gateway.console_url}/api/v1/deliveries{path}", headers=headers)

    def at_console(self, receipt: str, **who: Any) -> httpx.Response:
        """Collects at the console."""
        return self.console("POST", f"/{receipt}/collect", **who)

    def listed(self, receipt: str, **who: Any) -> dict[str, Any] | None:
        """The receipt as the console lists it, if it does."""
        return next((one for one in self.console(**who).json() if one["receipt"] == receipt), None)

    def token(self, sub: str, groups: Sequence[str], **claims: Any) -> str:
        """A token of someone in these groups; `email` may be another's."""
        return self.scene.issuer.token(sub, groups=groups, **{"email": f"{sub}@people.example", **claims})


def said(reply: httpx.Response) -> Any:
    """The last JSON-RPC message of a reply, streamed or not."""
    if "event-stream" in reply.headers["content-type"]:
        return json.loads([line for line in reply.text.splitlines() if line.startswith("data: ")][-1][6:])
    return reply.json()


def database(folder: Path) -> Path:
    """The scene's database file below its state folder."""
    return folder / "tickets.sqlite"
