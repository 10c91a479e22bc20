"""The truth tables of the separation by object, through a real gateway, its database, and real tokens."""

import base64
import json
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from pydantic import Field

from tests.unit.cases import Case, Part, rows, tables
from tests.world.client import call_body, call_headers
from tests.world.echo import JSON_TYPE, SSE_TYPE, Echo, Reply
from tests.world.issuer import AUDIENCE
from tests.world.scene import Scene

NUMBERS = count(1)
UPSTREAMS = ("tools", "other")


class Step(Part):
    """One call, and what the upstream answers; or a wait (seconds)."""

    by: str = ""
    do: str = ""
    of: Mapping[str, Any] = Field(default_factory=dict)
    at: str = "tools"
    gives: Any = None  # the structured content
    text: str | None = None
    result: Mapping[str, Any] | None = None
    raw: str | None = None  # the body itself
    error: int | None = None
    fails: bool = False
    status: int = 200
    stream: bool = False
    silent: bool = False
    masked: bool = False
    refused: str | None = None
    code: str = "separation"
    wait: float = 0

    def reply(self) -> Reply:
        """What the upstream answers."""
        result: dict[str, Any] = {"content": [{"type": "text", "text": self.text or "done"}]}
        result |= {"structuredContent": self.gives} if self.gives is not None else {}
        result |= {"isError": True} if self.fails else {}
        said = {"error": {"code": self.error, "message": "no"}} if self.error else {"result": self.result or result}
        body = (json.dumps({"jsonrpc": "2.0", "id": 1, **said}) if self.raw is None else self.raw).encode()
        if self.stream:
            events = [] if self.silent else [b"data: " + body + b"\n\n"]
            return Reply.chunked([b":\n\n", *events], headers=[SSE_TYPE])
        return Reply.whole(b"" if self.status != 200 else body, status=self.status, headers=[JSON_TYPE])


class Story(Case):
    """Calls in their order; the last one is refused with this sentence, or goes through."""

    people: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    steps: list[Step] = Field(min_length=1)
    refused: str | None = None
    code: str = "separation"


class Stage:
    """A gateway before two upstreams, with every rule of the tables."""

    def __init__(self, scene: Scene, other: Echo) -> None:
        self.scene = scene
        self.echoes = dict(zip(UPSTREAMS, (scene.echo, other), strict=True))

    def play(self, story: Story, number: str) -> None:
        """Plays a story; people and objects in it are this story's alone."""
        told = Story.model_validate(_filled(story.model_dump(exclude_unset=True), number))
        for step in told.steps[:-1]:
            self._step(step, told.people.get(step.by, {}), number, step.refused, step.code)
        last = told.steps[-1]
        self._step(last, told.people.get(last.by, {}), number, told.refused, told.code)

    def _step(self, step: Step, person: Mapping[str, Any], number: str, refused: str | None, code: str) -> None:
        if step.wait:
            time.sleep(step.wait)
            return
        echo = self.echoes[step.at]
        echo.answer(step.reply())
        arrived, seen = len(echo.arrived), self.scene.watch()
        reply = self._sent(step, echo, token(self.scene, step.by, number, person))
        if refused is None:
            assert len(echo.arrived) == arrived + 1, reply.text
            assert (step.code == "withheld") == ('"withheld"' in reply.text)
            assert ("[masked:" in reply.text) == step.masked
            return
        assert len(echo.arrived) == arrived, "it went upstream"
        result = reply.json()["result"]
        assert result["isError"] is True
        assert refused in result["content"][0]["text"]
        assert result["_meta"]["mcp-sod/code"] == code
        assert refused in seen.record(event="denied", code=code)["reason"]

    def _sent(self, step: Step, echo: Echo, bearer: str) -> httpx.Response:
        named = step.do if step.do.isascii() else f"=?base64?{_base64(step.do)}?="
        headers = call_headers(named, bearer)
        return self.scene.http.post(echo.url, json=call_body(step.do, step.of), headers=headers)


def token(scene: Scene, name: str, number: str, person: Mapping[str, Any]) -> str:
    """A sender's token; what is not said of the person is this story's alone."""
    own = {"email": f"{name}-{number}@people.example", "employee_id": f"{name}-{number}"}
    claims = (own | {"employee_id": None} if person.get("machine") else own) | dict(person)
    return scene.issuer.token(cast("str", claims.pop("sub", f"{name}-{number}")), groups=["mcp-users"], **claims)


def sections() -> dict[str, Any]:
    """The policy's roles.yaml, in which senders may call every tool everywhere, with the rules of all tables."""
    rules = {json.dumps(rule): rule for table in tables("separation").values() for rule in table.policy["by_object"]}
    sender = [{"upstream": name, "methods": ["*"], "tools": ["*"]} for name in UPSTREAMS]
    return {
        "roles": {
            name: {"groups": [group]}
            for name, group in (
                ("prompt-sender", "mcp-users"),
                ("approver", "mcp-approvers"),
                ("raw-viewer", "data-stewards"),
            )
        },
        "permissions": {"prompt-sender": sender},
        "separation": {"by_object": list(rules.values())},
        "delivery": {},
        "revocation": {},
    }


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One gateway for all stories."""
    folder: Path = tmp_path_factory.mktemp("separation")
    issuer = {
        "issuer": "https://login.example",
        "audience": [AUDIENCE],
        "keys": {"file": str(folder / "issuer" / "jwks.json")},
        "claims": {"person": ["email", "employee_id"], "actors": ["act.sub", "actor"]},
        "machine": {"claim": "gty", "equals": "client-credentials"},
        "owners": {name: ["olga@people.example"] for name in ("agent-7", "agent-8")},
    }
    with (
        Echo() as other,
        Scene(
            folder,
            upstreams={"other": {"url": other.url, "speaks": "mcp"}},
            roles=sections(),
            identity={"identity": [issuer]},
            rules={"rules": []},
        ) as scene,
    ):
        yield Stage(scene, other)


@pytest.mark.parametrize(("_policy", "case"), rows("separation", Story))
def test_nobody_does_two_duties_to_one_object(stage: Stage, _policy: object, case: Story) -> None:
    """The last call of each story is refused with its sentence and on record, or goes through to the upstream."""
    stage.play(case, f"r{next(NUMBERS)}")


def _filled(value: Any, number: str) -> Any:
    if isinstance(value, str):
        return value.replace("{n}", number)
    if isinstance(value, Mapping):
        return {key: _filled(inner, number) for key, inner in value.items()}
    return [_filled(inner, number) for inner in value] if isinstance(value, list) else value


def _base64(text: str) -> str:

    return base64.b64encode(text.encode()).decode()
