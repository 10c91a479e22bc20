"""The MCP headers, which must say what the body says (2026-07-28, header validation and custom headers)."""

import base64
import binascii
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from mcp_sod.errors import Incomplete, Mismatch
from mcp_sod.wire.strict_json import Json, digits

STATELESS_SINCE: Final = "2026-07-28"
PARAM: Final = "mcp-param-"
_VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
_CHECKED: Final = frozenset({"mcp-method", "mcp-name", "mcp-protocol-version"})  # they repeat the body
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_PARAM_NAME = re.compile(r"mcp-param-[a-z0-9_-]{1,64}")
_PLAIN = re.compile(r"[\x21-\x7e]+")


def agreed_version(headers: Mapping[str, str], params: dict[str, Json]) -> str | None:
    """Return the version that header and params name; raises Mismatch or Incomplete where they do not both."""
    meta = params.get("_meta")
    in_body = meta.get(_VERSION_KEY) if isinstance(meta, dict) else None
    in_header = headers.get("mcp-protocol-version")
    stateless = in_header is not None and _DATE.fullmatch(in_header) is not None and in_header >= STATELESS_SINCE
    if in_body is None and stateless:
        raise Incomplete(f"A request of this revision says so in its params._meta too ({_VERSION_KEY}).")
    if in_body is not None and in_body != in_header:
        raise Mismatch("The protocol version in the header and in the body differ.")
    return in_header


def names_agree(headers: Mapping[str, str], method: str, name: str | None) -> None:
    """Raise Mismatch where a header names another method or target than the body."""
    said = headers.get("mcp-method")
    if said is not None and said != method:
        raise Mismatch("The Mcp-Method header and the body name different methods.")
    said = headers.get("mcp-name")
    if said is not None and _decoded(said) != name:
        raise Mismatch("The Mcp-Name header and the body name different targets.")


def header_texts(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the headers' decoded texts that the body does not repeat."""
    return tuple((key, _decoded(value)) for key, value in headers.items() if not _says_nothing_new(key, value))


def _says_nothing_new(name: str, value: str) -> bool:
    """Say whether a header repeats the body or is a plain date: a version of another form is a text like any other."""
    return name in _CHECKED and (name != "mcp-protocol-version" or _DATE.fullmatch(value) is not None)


def params_agree(headers: tuple[tuple[str, str], ...], arguments: Json) -> None:
    """Raise Mismatch for an `Mcp-Param-*` header whose text no argument has (2026-07-28, custom headers).

    Which argument it repeats is in the tool's schema, which is the server's to check; that the body says it at all is
    enough here, since every argument is inspected.
    """
    if any(name.startswith(PARAM) and _PARAM_NAME.fullmatch(name) is None for name, _ in headers):
        raise Mismatch("An Mcp-Param header has a name that is not plain.")
    said = {text for name, text in headers if name.startswith(PARAM)}
    if said and not said <= {_as_header(text) for text in _scalars(arguments)}:
        raise Mismatch("An Mcp-Param header says what no argument says.")


def _scalars(value: Json) -> list[Json]:
    todo: list[Json] = [value]
    found: list[Json] = []
    while todo:
        item = todo.pop()
        if isinstance(item, dict | list):
            todo.extend(item.values() if isinstance(item, dict) else item)
        else:
            found.append(item)
    return found


def _as_header(value: Json) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | Decimal():
            return digits(value)
        case str():
            return value
    return None


def encoded(value: str) -> str:
    """Return a text as a header carries it."""
    if _PLAIN.fullmatch(value) and not value.startswith("=?"):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def _decoded(value: str) -> str:
    """Return a header's text; `=?base64?…?=` is how 2026-07-28 carries what a header cannot."""
    if not (value.startswith("=?") and value.endswith("?=")):
        return value
    if not value.startswith("=?base64?"):
        raise Mismatch("A header value has an encoding that is not read here.")
    try:
        return base64.b64decode(value[9:-2], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise Mismatch("A base64 header value does not decode.") from None
