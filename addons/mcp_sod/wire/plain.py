"""Services that speak neither MCP nor a model API: one HTTP request with JSON or text is one Call.

Source: RFC 9110 (methods, content types), RFC 3986 (queries).
"""

import re
from urllib.parse import parse_qsl, unquote

from mcp_sod.errors import Malformed, Unsupported
from mcp_sod.wire.mcp import Call
from mcp_sod.wire.strict_json import Json, dumps, parse

_JSON = "application/json"
_TEXTS = frozenset({"text/plain", "text/csv", "text/markdown"})  # what no server reads as anything but text
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$'()*+,;=:@/?&-]|%[0-9A-Fa-f]{2})*")
_MAY_BE_JSON = re.compile(r"\s*[\[{\"]")
MOST_PARAMETERS = 200


def read_plain(verb: str, url: str, content_type: str, body: bytes, max_depth: int) -> Call:
    """Return the call of a request: its method is verb and path, its message the body and the decoded query.

    `url`: whole, its path known to be plain; it is part of what is approved as it is written. Raises Malformed, or
    Unsupported for what is neither JSON nor text.
    """
    target = "/" + url.partition("://")[2].partition("/")[2]
    path, _, query = target.partition("?")
    message: dict[str, Json] = {"path": unquote(path, errors="strict"), "query": _pairs(query)}
    written = dumps(message)
    if body:
        media, content = _content(content_type, body, max_depth)
        message |= {"type": media, "body": content}
        text = body.decode() if media == _JSON else dumps(content)
        written = f'{written[:-1]},"type":{dumps(media)},"body":{text}}}'
    return Call(message, f"{verb} {message['path']}", 0, None, None, (("target", target),), written=written)


def _pairs(query: str) -> list[Json]:
    """Return the query's parts in order, each as an object, so that a mask for a field knows its name."""
    if _QUERY.fullmatch(query) is None:
        raise Malformed("The query is not written plainly.", hint="Percent-encode it.")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except ValueError:
        raise Malformed("The query is not UTF-8, or has too many parts.") from None
    return [{name: value} for name, value in pairs]


def _content(content_type: str, body: bytes, max_depth: int) -> tuple[str, Json]:
    media, _, parameters = content_type.lower().partition(";")
    if parameters.strip().replace('"', "") not in ("", "charset=utf-8"):
        raise Unsupported("Only UTF-8 is read here.")
    media = media.strip()
    if media == _JSON:
        return media, parse(body, max_depth)
    if media not in _TEXTS:
        raise Unsupported("Only JSON and plain text are read here.")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("The body is not UTF-8.") from None
    if "\\" in text and _MAY_BE_JSON.match(text):
        parse(
            body, max_depth
        )  # some servers read text as JSON: then it must be sound, and its escapes are looked through
        raise Unsupported("The body is JSON, and its type says that it is text.", hint="Send it as application/json.")
    return media, text
