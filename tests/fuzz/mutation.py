"""Inputs made from others: seeds, the pieces that matter in them, and random changes."""

import json
import random
from typing import Final

from tests.unit.house import SECRET
from tests.unit.making import body_of

_NOTE: Final = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"%s"}}'
_RESULT: Final = '{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"%s"}]}}'

MESSAGES: Final = [
    body_of("tools/call", {"name": "query", "arguments": {"a": ["é", 1, -0.5, True, None, {"b": "\\"}]}}),
    body_of("tools/call", {"name": "query", "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}),
    body_of("tools/list", {"cursor": "x"}, request_id="a"),
    body_of("notifications/cancelled", {"requestId": 1, "reason": "r"}, request_id=None),
    body_of("resources/read", {"uri": "file:///a", "requestState": "s.AAAAAAAAAAAAAAAAAAAAAA"}),
    body_of("tasks/get", {"taskId": "t", "_meta": {"io.modelcontextprotocol/related-task": {"taskId": "t"}}}),
    b'{"jsonrpc":"2.0","id":1,"result":{"action":"accept","content":{"a":"b"}}}',
    b'{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m"}}',
    b"mcp-method: tools/call\nmcp-name: =?base64?cXVlcnk=?=\nmcp-protocol-version: 2026-07-28\nmcp-param-a: b\n\n"
    + body_of("tools/call", {"name": "query", "arguments": {}}),
    b"last-event-id: 1\nmcp-session-id: s\n\n" + body_of("initialize", {"capabilities": {}}),
]
STREAMS: Final = [
    b'data: {"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","requestState":"s","tools":[],"taskId":"t"}}\n\n',
    b'data: {"jsonrpc":"2.0","id":1,"result":{"cacheScope":"public","task":{"taskId":"t"}}}\n\n',
    f"id: 1\nretry: 10\nevent: message\ndata: {_NOTE % SECRET}\n\n: c\n\ndata: {_RESULT % 'x'}\n\n".encode(),
    f"\ufeffdata: {_NOTE[:20]}\r\ndata: {_NOTE[20:] % 'é𝔘'}\r\n\r\ndata: {_RESULT % SECRET}\r\r".encode(),
    f"data: {_RESULT % json.dumps({'a': SECRET})[1:-1].replace('"', '\\"')}\n\n".encode(),
    f'data: {{"jsonrpc":"2.0","id":1,"result":{{"password":"x","blob":"QUtJQQ==","a":[1,"{SECRET}"]}}}}\n\n'.encode(),
    b'data: {"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m","data":{}}}\n\n',
    f'data: {{"jsonrpc":"2.0","id":1,"result":{{"{SECRET}":1}}}}\n\n'.encode(),
    b'data: {"jsonrpc":"2.0","id":7,"method":"ping"}\n\n',
]
PIECES: Final = [
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b"\r\n", b"\n\n", b"null", b"true", b"1e999", b"-0",
    b"0.1", b"NaN", b"\\u0000", b"\\ud800", b"\\u0041KIA", SECRET.encode(), b"\x00", b"\xff", b"\xef\xbb\xbf",
    b"\xe2\x80\xa8", b"\xe2\x80\x8b", b"\xcc\x81" * 40, b"data: ", b"data", b"id: ", b": ", b"event: ", b"retry: 1",
    b"event: message", b'"id":1,', b'"id":null', b'"method":"tools/call"', b'"params":{}', b'"result":{}', b"jsonrpc",
    b'"arguments":', b'"name":"x",', b"[" * 70, b"9" * 400, b'{"a":' * 40, b'"type":"image"', b'"data":"aGk="',
    b'"blob":"', b"password", b"mcp-name: ", b"content-type: ", b'"requestState":"s",', b'"taskId":"t",',
    b'"cacheScope":',
]  # fmt: skip


def mutated(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """The input with one to six changes: pieces put in, cut out, repeated, taken from other inputs, bytes changed."""
    for _ in range(chance.randint(1, 6)):
        start, length = chance.randint(0, len(data)), chance.choice((0, 0, 1, 2, 4, 16))
        match chance.randrange(5):
            case 0 | 1:
                put = chance.choice(PIECES)
            case 2:
                put = chance.randbytes(chance.randint(0, 3))
            case 3:
                other = chance.choice(others)
                begin = chance.randint(0, len(other))
                put = other[begin : begin + chance.choice((1, 8, 64, 512))]
            case _:
                put = data[start : start + 8] * 2
        data = data[:start] + put + data[start + length :]
    return data
