"""An approver at the console of a scene's gateway, with a token of their own."""

from typing import Any

import httpx

from tests.world.client import raw_http
from tests.world.scene import Scene


def console(
    scene: Scene, method: str, path: str, *, sub: str = "paula", email: str | None = None, token: str = "",
    **options: Any,
) -> httpx.Response:  # fmt: skip
    """What the console answers to an approver, or to whoever this token is of."""
    token = token or scene.issuer.token(sub, groups=("mcp-approvers",), email=email or f"{sub}@people.example")
    with raw_http() as http:
        headers = {"Authorization": f"Bearer {token}"}
        return http.request(method, f"{scene.gateway.console_url}/api/v1/{path}", headers=headers, **options)


def vote(scene: Scene, ticket: str, decision: str = "approve", **who: Any) -> httpx.Response:
    """What comes of a vote on the call as the approver sees it."""
    digest = console(scene, "GET", f"tickets/{ticket}", **who).json()["digest"]
    return console(scene, "POST", f"tickets/{ticket}/votes", json={"decision": decision, "digest": digest}, **who)
