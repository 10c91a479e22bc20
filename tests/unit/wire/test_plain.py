"""Services that speak neither MCP nor a model API."""

import json

import pytest
from mcp_sod.errors import Malformed, Refusal, Unsupported
from mcp_sod.wire.plain import read_plain
from mcp_sod.wire.strict_json import parse

URL = "https://shop.example:443/api/items%20x?q=a%20b&q=c&flag"
JSON = "application/json"


def test_a_request_is_one_call() -> None:
    """Its method is verb and path, its message path, query and body, decoded; each text is there to be looked at."""
    call = read_plain("POST", URL, JSON, b'{"n": 1.50, "t": "x"}', 64)
    assert call.method == "POST /api/items x"
    assert call.is_request
    assert call.message == {**parse(b'{"path":"/api/items x","query":[{"q":"a b"},{"q":"c"},{"flag":""}]}'),  # type: ignore[dict-item]
                            "type": JSON, "body": parse(b'{"n":1.50,"t":"x"}')}  # fmt: skip
    assert {"/api/items x", "a b", "flag", "x", "1.50"} <= set(call.texts().plain())
    assert parse((call.written or "").encode()) == call.message
    assert '"n": 1.50' in str(call.written)


@pytest.mark.parametrize(("kind", "body"), [("text/plain", "é x"), ("text/csv; charset=utf-8", "a,b"), ("", "")])
def test_text_is_one_text(kind: str, body: str) -> None:
    """A text body is one text; a request without a body has none."""
    call = read_plain("PUT", URL, kind, body.encode(), 64)
    assert call.message.get("body", "") == body
    assert json.loads(call.written or "").get("body", "") == body


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"content_type": "application/x-www-form-urlencoded"}, Unsupported),
        ({"content_type": ""}, Unsupported),
        ({"content_type": "application/json; charset=utf-16"}, Unsupported),
        ({"content_type": "text/json"}, Unsupported),
        ({"content_type": "text/xml"}, Unsupported),
        ({"content_type": "text/plain", "body": b'{"a": "\\u0041"}'}, Unsupported),
        ({"content_type": "text/plain", "body": b'{"a": "\\u0041", "a": 1}'}, Malformed),
        ({"content_type": "text/plain", "body": b"\xff"}, Malformed),
        ({"body": b'{"a":1,"a":2}'}, Malformed),
        ({"body": b"["}, Malformed),
        ({"url": "https://shop.example:443/x?a=%ff"}, Malformed),
        ({"url": "https://shop.example:443/x?a=\\"}, Malformed),
        ({"url": "https://shop.example:443/x?a=%zz"}, Malformed),
        ({"url": "https://shop.example:443/x?" + "a&" * 300}, Malformed),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(changed: dict[str, object], refusal: type[Refusal]) -> None:
    """Other kinds of content, other charsets, loose JSON, queries that do not decode."""
    good: dict[str, object] = {"verb": "POST", "url": URL, "content_type": JSON, "body": b"{}", "max_depth": 64}
    read_plain(**good)  # type: ignore[arg-type]
    with pytest.raises(refusal):
        read_plain(**{**good, **changed})  # type: ignore[arg-type]


def test_digests_tell_calls_apart() -> None:
    """Another verb, path, query or body is another call; of its JSON, the spaces do not count."""
    text, quoted = (read_plain("POST", URL, kind, body, 64) for kind, body in (("text/plain", b"x"), (JSON, b'"x"')))
    assert text.message["body"] == quoted.message["body"]
    assert text.digest("shop") != quoted.digest("shop")
    digest = read_plain("POST", URL, JSON, b'{"a":1}', 64).digest("shop")
    assert read_plain("POST", URL, JSON, b'{ "a": 1 }', 64).digest("shop") == digest
    others = [("PUT", URL, b'{"a":1}'), ("POST", URL + "&x=", b'{"a":1}'), ("POST", URL, b'{"a":"1"}'),
              ("POST", URL.replace("items", "item"), b'{"a":1}'), ("POST", URL + "&&", b'{"a":1}'),
              ("POST", URL.replace("a%20b", "a+b"), b'{"a":1}')]  # fmt: skip
    assert digest not in {read_plain(verb, url, JSON, body, 64).digest("shop") for verb, url, body in others}
