"""A token endpoint (RFC 8693) played by an Echo: what it answers, and what it was asked."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qsl, unquote_plus

from tests.world.echo import JSON_TYPE, Headers, Reply

CLIENT, SECRET = "gate:way", "s3cret: +/%"  # what form encoding changes
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 (a type, no token)
UPSTREAM_TOKEN = "for-the-upstream-alone"  # noqa: S105 (nobody's)


def issue(token: Any = UPSTREAM_TOKEN, *, headers: Headers = (JSON_TYPE,), **changed: Any) -> Reply:
    """The answer that gives this token; `changed` replaces members, and takes away those that are None."""
    answer = {"access_token": token, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 300}
    members = {name: value for name, value in {**answer, **changed}.items() if value is not None}
    return Reply.whole(json.dumps(members).encode(), headers=headers)


def slowly(reply: Reply, seconds: float) -> Reply:
    """The same answer after a while."""
    return Reply((seconds, *reply.parts))


def exchange(url: str, **more: Any) -> dict[str, Any]:
    """The credential that exchanges callers' tokens there; its secret is in the environment."""
    return {"exchange": {"url": url, "client": CLIENT, "secret": {"env": "SOD_TEST_EXCHANGE"}, **more}}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as the endpoint got it."""

    form: Mapping[str, str]
    client: tuple[str, str]
    line: bytes

    @classmethod
    def read(cls, raw: bytes) -> Self:
        """What the bytes say."""
        head, _, body = raw.partition(b"\r\n\r\n")
        line, *fields = head.split(b"\r\n")
        named = {name.lower(): value.strip() for name, _, value in (field.partition(b":") for field in fields)}
        who, _, secret = base64.b64decode(named[b"authorization"].removeprefix(b"Basic ")).decode().partition(":")
        form = dict(parse_qsl(body.decode(), strict_parsing=True))
        return cls(form, (unquote_plus(who), unquote_plus(secret)), line)
