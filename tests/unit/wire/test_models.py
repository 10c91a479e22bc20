"""Requests to model APIs: read in one way, without MCP behind the gateway's back; refusals that their clients parse."""

import json
from typing import Any, Literal

import pytest
from mcp_sod.errors import Denied, Malformed
from mcp_sod.wire.mcp import Call
from mcp_sod.wire.models import ENDPOINTS, Dialect, Told, check_provider, model_refusal, read_model_call, stream_error

from tests.unit.cases import Case, rows


def judged(dialect: Dialect, endpoint: str, body: bytes, max_depth: int, *, provider_mcp: bool) -> Call:
    """The call, read, and looked at for what the provider would do by itself."""
    call = read_model_call(dialect, endpoint, body, max_depth)
    if not provider_mcp:
        check_provider(dialect, call.message)
    return call


class Request(Case):
    """A request, and how it is refused, if it is."""

    endpoint: str
    body: dict[str, Any]
    refused: Literal["malformed", "denied"] | None = None

    @property
    def dialect(self) -> Dialect:
        """The API that has this endpoint."""
        return "anthropic" if self.endpoint in ENDPOINTS["anthropic"] else "openai"


@pytest.mark.parametrize(("policy", "case"), rows("models", Request, "requests"))
def test_requests(policy: dict[str, Any], case: Request) -> None:
    """What is read is the whole body, as a request that waits for an answer; what is not is refused as the row says."""
    assert not policy
    body = json.dumps(case.body).encode()
    if case.refused:
        with pytest.raises(Denied if case.refused == "denied" else Malformed):
            judged(case.dialect, case.endpoint, body, 64, provider_mcp=False)
        return
    for provider_mcp in (False, True):
        call = judged(case.dialect, case.endpoint, body, 64, provider_mcp=provider_mcp)
        assert call.message == case.body
        assert (call.method, call.name, call.version) == (case.endpoint, case.body["model"], None)
        assert call.is_request
        assert call.tool is None


@pytest.mark.parametrize(("policy", "case"), rows("models", Request, "requests"))
def test_a_policy_may_allow_what_the_provider_calls(policy: dict[str, Any], case: Request) -> None:
    """With `provider_mcp`, just what was denied for MCP's sake is read, a stored prompt without a model included."""
    assert not policy
    if case.refused != "denied":
        return
    body = json.dumps(case.body).encode()
    if case.endpoint == "files":
        with pytest.raises(Denied):
            judged(case.dialect, case.endpoint, body, 64, provider_mcp=True)
    else:
        call = judged(case.dialect, case.endpoint, body, 64, provider_mcp=True)
        assert call.name == case.body.get("model")


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"{", b'{"model": "a", "model": "b"}', b'{"model": "\xff"}'])
def test_what_is_no_object_is_malformed(body: bytes) -> None:
    """Strict JSON, and an object."""
    with pytest.raises(Malformed):
        judged("openai", "responses", body, 64, provider_mcp=False)
    call = judged("openai", "responses", b'{"model": "a", "input": "b"}', 64, provider_mcp=False)
    assert call.name == "a"


def test_each_api_has_its_own_endpoints() -> None:
    """An endpoint of the one API is none of the other."""
    body = b'{"model": "a", "messages": [{"role": "user", "content": "x"}]}'
    with pytest.raises(Denied):
        judged("openai", "messages", body, 64, provider_mcp=True)
    with pytest.raises(Denied):
        judged("anthropic", "chat/completions", body, 64, provider_mcp=True)


TOLD = Told("It is held.", "held", "r-1", "t-1")


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "authentication_error"),
        (403, "permission_error", "permission_error"),
        (404, "invalid_request_error", "not_found_error"),
        (429, "rate_limit_error", "rate_limit_error"),
        (503, "server_error", "api_error"),
    ],
)
def test_refusals(status: int, openai: str, anthropic: str) -> None:
    """Each in the shape, and with the type, that the API's clients know; sentence, code and ticket are in it."""
    said = "It is held. (reference r-1)"
    assert json.loads(model_refusal("openai", status, TOLD)) == {
        "error": {
            "message": said, "type": openai, "param": None, "code": "held", "reference": "r-1", "ticket": "t-1",
        }
    }  # fmt: skip
    details = {"error_code": "held", "reference": "r-1", "ticket": "t-1"}
    assert json.loads(model_refusal("anthropic", status, TOLD)) == {
        "type": "error",
        "error": {"type": anthropic, "message": said, "details": details},
        "request_id": "r-1",
    }
    assert "ticket" not in model_refusal("openai", status, Told("No.", "denied", "r-2")).decode()


def test_the_end_of_a_stream_that_is_withheld() -> None:
    """OpenAI's clients look for a true `error` in the data, Anthropic's for the event's type."""
    kind, data = stream_error("openai", "chat/completions", TOLD)
    assert kind is None
    assert json.loads(data)["error"]["message"] == "It is held. (reference r-1)"
    kind, data = stream_error("openai", "responses", TOLD, 7)
    assert (kind, json.loads(data)["type"], json.loads(data)["sequence_number"]) == ("error", "error", 7)
    assert json.loads(data)["error"]["code"] == json.loads(data)["code"] == "held"
    kind, data = stream_error("anthropic", "messages", TOLD)
    assert kind == json.loads(data)["type"] == "error"
    assert json.loads(data)["error"]["type"] == "api_error"
