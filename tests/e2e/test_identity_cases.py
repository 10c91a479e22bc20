"""The truth tables of identity through the real chain: a good token's call arrives, a bad one's goes nowhere."""

import base64
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.identity_rows import Row, Shown, policy_of, row_of
from tests.unit.cases import Table, tables
from tests.unit.identity.token_making import token_of
from tests.world.client import LEGACY, call_body
from tests.world.dpop import Draft, proof
from tests.world.identities import SECRET, Lobby, filled
from tests.world.token_endpoint import Asked
from tests.world.wire import Answer, converse_on

EARLY = 6  # seconds after its start in which the gateway demands a nonce of every proof, and one more
TABLES = tables("identity")


class Place:
    """The gateway of one table, and what callers do at it."""

    def __init__(self, lobby: Lobby, earlier_nonce: str) -> None:
        self.lobby = lobby
        self._earlier_nonce = earlier_nonce

    def judge(self, row: Row) -> None:
        """Send what a row says and see that it is so."""
        token = self._token(row)
        self._prepare(row)
        if row.then is None and not row.replay:
            self._see(row, token, self._bytes(row, token))
            return
        first = row.model_copy(update={"says": None, "gives": row.gives or Shown(subject="alice")})
        sent = self._bytes(row, token)
        self._see(first.model_copy(update={"asked": None}), token, sent)
        second = Row.model_validate({**row.model_dump(exclude_unset=True, by_alias=True), **(row.then or {})})
        self._see(second, token, sent if row.replay else self._bytes(second, token))

    def _prepare(self, row: Row) -> None:
        self.lobby.desk.answer(row.said.reply())
        self.lobby.secret_file.unlink(missing_ok=True)
        if row.secret:
            self.lobby.secret_file.write_text(SECRET)

    def _token(self, row: Row) -> str:
        if row.opaque:
            return f"opaque-{uuid4().hex}"
        issuers = self.lobby.issuers
        known = row.model_copy(update={"claims": filled(row.claims, self.lobby.names(row.to, row.holder))})
        return token_of(known, issuers[row.issuer], issuers[row.signer] if row.signer else None)

    # what is sent

    def _bytes(self, row: Row, token: str) -> bytes:
        names = self.lobby.names(row.to, row.holder)
        forward = row.mode == "forward" and row.tunnel is None
        target = names["url"] if forward else "/" + names["url"].partition("://")[2].partition("/")[2]
        host = row.host if row.mode == "reverse" else names["url"].split("/")[2]
        body = json.dumps(call_body("get_customer", {}, era=LEGACY)).encode()
        lines = [
            f"POST {target}{row.query} HTTP/1.1", f"Host: {host}", "Content-Type: application/json",
            "Accept: application/json, text/event-stream", f"MCP-Protocol-Version: {LEGACY}",
            f"Content-Length: {len(body)}",
            *(f"Authorization: {one}" for one in _held(row.sent, token)),
            *(f"Proxy-Authorization: {one}" for one in _held(row.proxy, token)),
            *(f"DPoP: {one}" for one in self._proofs(row, token, names)),
            *filled(row.extra, names),
        ]  # fmt: skip
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    def _proofs(self, row: Row, token: str, names: Mapping[str, str]) -> list[str]:
        if row.proof is None:
            return []
        if row.proof.raw is not None:
            return [row.proof.raw]
        nonce = {None: {}, "fresh": {"nonce": self._nonce}, "earlier": {"nonce": lambda: self._earlier_nonce}}
        more = {name: give() for name, give in nonce[row.proof.nonce].items()}
        return [self._proof(row, token, names, more) for _ in range(row.proof.copies)]

    def _proof(self, row: Row, token: str, names: Mapping[str, str], more: Mapping[str, Any]) -> str:
        assert row.proof is not None
        said, lobby = row.proof, self.lobby
        keys = {"own": lobby.own[row.holder], "other": lobby.other}
        claims = {**filled(said.claims, names), **more}
        draft = Draft(filled(said.header, names), claims, said.later, said.private)
        url = names["public"] if row.mode == "reverse" else names["url"]
        return proof(("POST", url), token, keys[said.jwk], keys[said.signer], draft)

    def _nonce(self) -> str:
        return nonce_of(self.lobby)

    def _send(self, row: Row, sent: bytes, token: str) -> Answer:
        port = self.lobby.reverse_port if row.mode == "reverse" else self.lobby.scene.gateway.port
        with ExitStack() as stack:
            line: socket.socket = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            if row.over_tls:
                line = stack.enter_context(self.lobby.client(row.certificate).wrap_socket(line))
            if row.tunnel is not None:
                host = self.lobby.names(row.to)["url"].split("/")[2]
                said = [f"Proxy-Authorization: {one}" for one in _held(row.tunnel, token)]
                opening = "\r\n".join([f"CONNECT {host} HTTP/1.1", f"Host: {host}", *said, "", ""])
                opened = converse_on(line, [opening.encode()], patience=10)
                if opened.status != 200:
                    return opened
            if row.to == "secure":
                tls = self.lobby.client(row.certificate)
                line = stack.enter_context(tls.wrap_socket(line, server_hostname="localhost"))
            return converse_on(line, [sent] * row.requests, patience=10)

    # what comes of it

    def _see(self, row: Row, token: str, sent: bytes) -> None:
        lobby = self.lobby
        before = sum(echo.connections for echo in lobby.upstreams), len(lobby.echoes[row.to].arrived)
        asked, seen = len(lobby.desk.arrived), lobby.scene.watch()
        time.sleep(row.wait)
        answer = self._send(row, sent, token)
        connections = sum(echo.connections for echo in lobby.upstreams) - before[0]
        if row.says is not None:
            assert (answer.status, connections) == (row.status, 0), answer.raw
            record = seen.record(event=row.event, code=row.code)
            assert row.says in record["reason"], record["reason"]
            self._challenged(row, answer)
        else:
            assert (answer.status, connections) == (200, row.requests), answer.raw
            self._is_as_shown(row, seen.record(event="forwarded"))
            arrived = b"".join(lobby.echoes[row.to].arrived[before[1] :])
            assert token.encode() not in arrived
            assert b"uthorization" not in arrived
        if len(token) > 20:
            assert token not in json.dumps(seen.records)
        self._asked(row, token, asked)

    def _is_as_shown(self, row: Row, record: Mapping[str, Any]) -> None:
        assert row.gives is not None
        principal = record["principal"]
        known = {**principal, "groups": self.lobby.groups_of(record["roles"])}
        wanted = {name: value for name, value in row.gives.model_dump().items() if value is not None}
        assert {name: known[name] for name in wanted} == wanted
        assert principal["issuer"] == (row.gives.issuer or self.lobby.issuers[row.issuer].url)
        assert principal["token"]

    def _challenged(self, row: Row, answer: Answer) -> None:
        """See that a refusal tells the client what to do, in the header that is read by who must do it."""
        www, proxy = field(answer, "www-authenticate"), field(answer, "proxy-authenticate")
        match row.status:
            case 407:
                assert www == ""
                assert 'Basic realm="gw-test"' in proxy
                assert 'Bearer realm="gw-test"' in proxy
            case 401 | 403:
                assert proxy == ""
                assert 'realm="gw-test"' in www
                assert (f'error="{row.challenged}"' in www) == ("error=" in www) == (row.challenged is not None)
            case _:
                assert (www, proxy) == ("", "")
        for part in row.challenge:
            assert part in www
        for part in row.unchallenged:
            assert part not in www
        assert bool(field(answer, "dpop-nonce")) == (row.error == "use_dpop_nonce")

    def _asked(self, row: Row, token: str, before: int) -> None:
        if row.asked is None:
            return
        asked = self.lobby.desk.arrived[before:]
        assert len(asked) == row.asked
        for one in map(Asked.read, asked):
            assert (one.form["token"], one.client) == (token, ("gateway", SECRET))


def field(answer: Answer, name: str) -> str:
    """A header of the last answer, or nothing."""
    head = answer.raw[answer.raw.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")[0].decode("latin-1")
    fields = dict(line.partition(": ")[::2] for line in head.split("\r\n")[1:])
    return next((value for key, value in fields.items() if key.lower() == name), "")


def _held(values: list[str], token: str) -> list[str]:
    basic = base64.b64encode(f"token:{token}".encode()).decode()
    secret = base64.b64encode(f"alice:{token}".encode()).decode()
    names = {"basic": basic, "of_alice": secret, "bare": base64.b64encode(token.encode()).decode()}
    return [filled(value, names).replace("{}", token) for value in values]


def nonce_of(lobby: Lobby) -> str:
    """The gateway's nonce of the moment, as it gives it to a proof with another."""
    row = Row.model_validate({
        "name": "a proof with some nonce", "issuer": next(iter(lobby.issuers)), "sent": ["DPoP {}"],
        "claims": {"cnf": {"jkt": "{jkt}"}}, "proof": {"claims": {"nonce": "?"}},
    })  # fmt: skip
    place = Place(lobby, "")
    token = place._token(row)  # noqa: SLF001 (this module's)
    given = field(place._send(row, place._bytes(row, token), token), "dpop-nonce")  # noqa: SLF001
    assert given
    return given


class Places:
    """The gateway of the table that is just read; those of the others are not there yet, or no more."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._stack = ExitStack()
        self._name = ""
        self._place: Place | None = None

    def place(self, name: str) -> Place:
        """One place for all rows of a table."""
        if name != self._name or self._place is None:
            self.close()
            self._name, self._place = name, self._open(TABLES[name], self._folders.mktemp(name))
        return self._place

    def close(self) -> None:
        """End the gateway."""
        self._stack.close()
        self._place = None

    def _open(self, table: Table, folder: Path) -> Place:
        known = [row_of(table, row) for row in table.cases]
        groups = {group for row in known if row.gives for group in row.gives.groups or ()}
        lobby = Lobby(folder, policy_of(table), groups, {row.algorithm for row in known})
        self._stack.enter_context(lobby)
        nonce = ""
        if table.policy.get("without_nonces"):
            nonce = nonce_of(lobby)
            lobby.scene.gateway.restart()
            time.sleep(EARLY)
        return Place(lobby, nonce)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """The gateways, one after the other."""
    found = Places(tmp_path_factory)
    yield found
    found.close()


@pytest.mark.parametrize(
    ("table", "row"),
    [
        pytest.param(name, row_of(table, row), id=f"{name}: {row['name']}")
        for name, table in TABLES.items()
        for row in table.cases
    ],
)
def test_who_is_believed_to_call(places: Places, table: str, row: Row) -> None:
    """A good token's call arrives as its principal's, on record; a bad one's goes nowhere, with what to do about it."""
    assert (row.gives is None) != (row.says is None)
    places.place(table).judge(row)
