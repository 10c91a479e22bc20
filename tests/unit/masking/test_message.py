"""A call, masked for records and approvers: what cannot be masked does not take the rest with it."""

import base64
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from mcp_sod.masking.masks import masks_for
from mcp_sod.masking.message import MaskedMessage
from mcp_sod.policy.load import load
from mcp_sod.policy.policy import Policy
from mcp_sod.wire.strict_json import Json, parse_text

from tests.unit.making import policy_of
from tests.world.policies import DEFAULT

SECRET = "AKIAABCDEFGHIJKLMNOP"  # noqa: S105 (made up)
HIDDEN_SECRET = "AKIA\u200bABCDEFGHIJKLMNOP"  # noqa: S105 (made up)


@pytest.fixture(scope="module")
def default() -> Policy:
    """The default policy."""
    return load(DEFAULT)


def shown(policy: Policy, value: Json) -> tuple[Any, bool]:
    """What is shown of the arguments of a call, and whether that is the whole."""
    text = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"arguments": value}})
    message = MaskedMessage(masks_for(policy, frozenset()), strict=False)
    return json.loads(message.text(text, parse_text(text)))["params"]["arguments"], message.whole


def nested(value: Json, times: int) -> str:
    """JSON in JSON in JSON."""
    text = json.dumps([value])
    for _ in range(times - 1):
        text = json.dumps([text])
    return text


def digest(text: str) -> str:
    """Its hex SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()


BINARY = base64.b64encode(b"\xff\xd8").decode()


@pytest.mark.parametrize(
    ("value", "gives"),
    [
        ({"type": "image", "data": ""}, {"type": "image", "data": f"[not shown: binary, sha256:{digest('')}]"}),
        ({"type": "audio", "data": BINARY}, {"type": "audio", "data": f"[not shown: binary, sha256:{digest(BINARY)}]"}),
        ({"type": "image", "data": "drop x!"}, {"type": "image", "data": "drop x!"}),
        ({"type": "image", "data": {"sql": SECRET}}, {"type": "image", "data": {"sql": "[masked:secret]"}}),
        ({"blob": BINARY}, {"blob": f"[not shown: binary, sha256:{digest(BINARY)}]"}),
        ({"blob": f"%é {SECRET}"}, {"blob": "%é [masked:secret]"}),
        (nested(1, 4), f"[not shown: nested too deep, sha256:{digest(json.dumps([1]))}]"),
        ({SECRET: {"a": SECRET, "b": 1}}, {"[masked:secret]": {"a": "[masked:secret]", "b": 1}}),
        (f"drop table x {HIDDEN_SECRET}", "drop table x [masked:secret]"),
        (f"drop {{NaN, AK\\u0049A{SECRET[4:]}", "drop {NaN, [masked:secret]"),
        ("do password=[x", f"do password=[masked:hidden] [not shown: disguised, sha256:{digest('do password=[x')}]"),
    ],
)
def test_what_cannot_be_masked_gives_way_alone(default: Policy, value: Json, gives: Json) -> None:
    """A marker with its digest stands for just that value; all beside it is shown, and the call is not whole."""
    out, whole = shown(default, {"sql": "drop table customers", "z": value, "password": "x"})
    assert not whole
    assert out["sql"] == "drop table customers"
    assert out["password"] == "[masked:field]"  # noqa: S105 (a marker)
    levels = out["z"]
    while isinstance(levels, str) and levels.startswith('["'):
        (levels,) = json.loads(levels)
    assert levels == gives


@pytest.mark.parametrize(
    ("value", "gives"),
    [
        ({"type": "image"}, {"type": "image"}),
        (nested(SECRET, 3), nested("[masked:secret]", 3)),
        ({"a": f"x {SECRET}"}, {"a": "x [masked:secret]"}),
        ({"secret": {"then": "drop", "or": [1, {"a": True, "b": None}]}},
         {"secret": {"then": "[masked:field]", "or": ["[masked:field]", {"a": "[masked:field]", "b": None}]}}),
        ("é C:\\new", "é C:\\new"),
        ({"blob": "aGk="}, {"blob": "aGk="}),
    ],
)  # fmt: skip
def test_what_can_be_masked_is_shown_whole(default: Policy, value: Json, gives: Json) -> None:
    """The control: masked values leave the call whole; of a masked field each value goes, its shape stays."""
    assert shown(default, {"z": value}) == ({"z": gives}, True)


KEY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
END = "-----END RSA PRIVATE KEY-----"
BEGIN = END.replace("END", "BEGIN")


@pytest.mark.parametrize(
    ("text", "gives"),
    [
        (f"/*{BEGIN}*/ drop table customers; /*{END}*/", f"/*[masked:secret]*/ drop table customers; /*{END}*/"),
        (f"--{BEGIN}\ndrop\ntable\ncustomers\n--{END}", f"--[masked:secret]\ndrop\ntable\ncustomers\n--{END}"),
        (f"{BEGIN}\nshutdown\n{END}", f"[masked:secret]\nshutdown\n{END}"),
        (f"a {BEGIN}\n{KEY}\n{KEY}\nAb/+cd==\n{END} b", "a [masked:secret] b"),
        (f"a {BEGIN}\\n{KEY}\\r\\n{KEY}\\n{END}\\n b", "a [masked:secret]\\n b"),
        (f"a {BEGIN} {KEY} {KEY} {END} b", "a [masked:secret] b"),
        (f"a {BEGIN}\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,A0F1\n\n{KEY}\n{END} b", "a [masked:secret] b"),
        (f"> {BEGIN}\n> {KEY}\n> {KEY}=\n> {END} b", "> [masked:secret] b"),
        (f"a {BEGIN}\n{KEY}\n{KEY}\nand on", "a [masked:secret]and on"),
    ],
)
def test_a_key_hides_nothing_but_itself(default: Policy, text: str, gives: str) -> None:
    """A private key goes with its body, also cut off, indented or encrypted; words between its lines stay."""
    assert masks_for(default, frozenset()).redacted(text) == gives


@pytest.mark.parametrize(
    "text",
    ["password=[" * 40_000, 'password={"' * 40_000, "password=[" + '\\"' * 200_000, "\\u005c" * 60_000, "\\" * 400_000],
    ids=["open lists", "open quotations", "escaped quotations", "escapes", "backslashes"],
)
def test_masks_take_linear_time(text: str, tmp_path: Path) -> None:
    """However brackets, quotations and escapes are piled up, no part of a text is looked through again and again."""
    policy = policy_of(tmp_path, masking=[{"id": "field", "fields": ["password"]}])
    began = time.monotonic()
    shown(policy, {"a": text})
    assert time.monotonic() - began < 5
