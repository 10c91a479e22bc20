"""The console's API, asked as approvers' commands ask it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp_sod.approval.tickets import Ticket
from mcp_sod.console.api import build
from mcp_sod.exchange import Finding, Hold
from mcp_sod.policy.findings import Approval

from tests.unit.house import House, house
from tests.unit.making import exchange_of, principal_of, tool_call
from tests.world.flaws import FLAWS, Flaw

HOLD = Hold((("key", Approval()),))


class Office:
    """The console of a house, and those who call it."""

    def __init__(self, house: House, http: httpx.AsyncClient) -> None:
        self.house = house
        self.http = http

    async def held(self, **arguments: Any) -> Ticket:
        """A ticket of alice's."""
        exchange = exchange_of(self.house.policy, tool_call(**arguments), principal_of("alice"))
        exchange.findings, exchange.shown = (Finding("key", "high", "hold", "arguments:/sql"),), "the masked call"
        return await self.house.desk.ticket_for(exchange, HOLD)

    async def ask(
        self, who: str, *groups: str, path: str = "/api/v1/tickets", ballot: Any = None, **claims: Any
    ) -> httpx.Response:
        """What the console answers this person."""
        headers = {"authorization": f"Bearer {self.house.token(who, *groups, **claims)}"}
        if ballot is None:
            return await self.http.get(path, headers=headers)
        return await self.http.post(path, json=ballot, headers=headers)

    async def vote(self, ticket: Ticket, who: str = "bob", *groups: str, **changed: Any) -> httpx.Response:
        """What the console answers to a vote."""
        claims = {name: changed.pop(name) for name in ("gty",) if name in changed}
        ballot = {"decision": "approve", "digest": ticket.digest, "reason": "fine", **changed}
        return await self.ask(
            who, *(groups or ("approvers",)), path=f"/api/v1/tickets/{ticket.id}/votes", ballot=ballot, **claims
        )


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """A console over a desk of its own."""
    async with house(tmp_path) as built:
        transport = httpx.ASGITransport(build(built))
        async with httpx.AsyncClient(transport=transport, base_url="http://console") as http:
            yield Office(built, http)


PATHS = [("GET", "/api/v1/tickets"), ("GET", "/api/v1/tickets/t-1"), ("POST", "/api/v1/tickets/t-1/votes")]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer x", "Basic YTpi"])
async def test_without_a_token_nothing_is_told(
    office: Office, method: str, path: str, authorization: str | None
) -> None:
    """Every path but the health check asks for a token: 401, a challenge, and a record without the token."""
    headers = {} if authorization is None else {"authorization": authorization}
    ballot = {"decision": "approve", "digest": "0" * 64}
    answer = await office.http.request(method, path, headers=headers, json=ballot if method == "POST" else None)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="gw-test"')
    assert ("invalid_token" in answer.headers["www-authenticate"]) == (authorization is not None)
    assert {"event": "rejected", "code": "unauthenticated"}.items() <= office.house.journal.records[-1].items()


@pytest.mark.parametrize("flaw", FLAWS)
async def test_a_bad_token_is_refused(office: Office, flaw: Flaw) -> None:
    """Whatever is wrong with a token, the console refuses it; a good one is heard."""
    assert (await office.ask("bob", "approvers", flaw=flaw)).status_code == 401
    assert (await office.ask("bob", "approvers")).status_code == 200


@pytest.mark.parametrize("kind", [[], {"a": 1}, 7])
async def test_an_odd_token_is_no_crash(office: Office, kind: Any) -> None:
    """A token whose head is not what anyone expects is a 401 like any other."""
    import jwt  # noqa: PLC0415 (for this odd token alone)

    token = jwt.encode({"iss": office.house.issuer.url, "sub": "x"}, "k" * 32, headers={"typ": kind})
    assert (await office.http.get("/api/v1/tickets", headers={"authorization": f"Bearer {token}"})).status_code == 401


async def test_duties_that_exclude_each_other_are_refused(office: Office) -> None:
    """Who may both send and approve may not even look."""
    answer = await office.ask("bob", "users", "approvers")
    assert (answer.status_code, answer.json()["code"]) == (403, "separation")
    assert office.house.journal.records[-1]["code"] == "separation"


@pytest.mark.parametrize(
    ("who", "groups", "sees"),
    [("bob", ["approvers"], True), ("alice", ["users"], True), ("carol", ["users"], False), ("dave", [], False)],
)
async def test_who_sees_a_ticket(office: Office, who: str, groups: list[str], sees: bool) -> None:
    """Approvers and the requester see it; everyone else is told why not, on record, and sees nothing of it in lists."""
    ticket = await office.held()
    listed = await office.ask(who, *groups)
    assert [found["id"] for found in listed.json()] == [ticket.id] * sees
    shown = await office.ask(who, *groups, path=f"/api/v1/tickets/{ticket.id}")
    assert shown.status_code == (200 if sees else 409)
    assert ("the masked call" in shown.text) is sees
    if not sees:
        assert "needs the role approver" in shown.text
        assert {"event": "denied", "ticket": ticket.id, "method": "show"}.items() <= office.house.journal.records[
            -1
        ].items()
    assert (await office.ask(who, *groups, path="/api/v1/tickets/t-0")).status_code == 404


async def test_a_list_has_no_calls_in_it(office: Office) -> None:
    """The list names who, what and why; the call itself is shown one at a time, masked."""
    ticket = await office.held()
    (listed,) = (await office.ask("bob", "approvers")).json()
    assert "the masked call" not in str(listed)
    assert listed["requester"] == "https://login.example#alice"
    assert listed["findings"] == ["key at arguments:/sql (high)"]
    assert (listed["may_vote"], listed["why_not"]) == (True, None)
    shown = (await office.ask("bob", "approvers", path=f"/api/v1/tickets/{ticket.id}")).json()
    assert (shown["call"], shown["votes"]) == ("the masked call", [])


async def test_a_list_of_one_state(office: Office) -> None:
    """`state` chooses; a state that there is not chooses none."""
    ticket = await office.held()
    for state, found in (("pending", [ticket.id]), ("approved", []), ("nonsense", [])):
        answer = await office.ask("bob", "approvers", path=f"/api/v1/tickets?state={state}")
        assert [one["id"] for one in answer.json()] == found


async def test_a_vote_counts(office: Office) -> None:
    """An approver's vote approves, and is shown with the name from then on."""
    ticket = await office.held()
    answer = await office.vote(ticket)
    assert (answer.status_code, answer.json()["state"], answer.json()["approvals"]) == (200, "approved", 1)
    shown = (await office.ask("alice", "users", path=f"/api/v1/tickets/{ticket.id}")).json()
    assert [(vote["who"], vote["decision"], vote["reason"]) for vote in shown["votes"]] == [
        ("https://login.example#bob", "approve", "fine")
    ]


@pytest.mark.parametrize(
    ("who", "changed", "status", "says"),
    [
        ("bob", {"digest": "0" * 64}, 409, "not the digest"),
        ("alice", {}, 409, "behind this request"),
        ("bot", {"gty": "client-credentials"}, 409, "Machines do not vote"),
        ("bob", {"digest": "x"}, 422, ""),
        ("bob", {"digest": "A" * 64}, 422, ""),
        ("bob", {"decision": "yes"}, 422, ""),
        ("bob", {"reason": "x" * 1001}, 422, ""),
        ("bob", {"as": "carol"}, 422, ""),
    ],
)
async def test_a_vote_that_does_not_count(
    office: Office, who: str, changed: dict[str, Any], status: int, says: str
) -> None:
    """A refused vote is a 409 with the reason, a malformed one a 422; the ticket waits on, and a good vote counts."""
    ticket = await office.held()
    answer = await office.vote(ticket, who, **changed)
    assert answer.status_code == status
    assert says in str(answer.json())
    assert (await office.vote(ticket)).json()["state"] == "approved"


async def test_votes_on_what_is_not_there_or_over(office: Office) -> None:
    """An unknown ticket is a 404, a settled one a 409."""
    ticket = await office.held()
    assert (await office.vote(ticket, decision="deny")).json()["state"] == "denied"
    assert (await office.vote(ticket, "carol")).status_code == 409
    missing = await office.ask(
        "bob", "approvers", path="/api/v1/tickets/t-0/votes", ballot={"decision": "deny", "digest": "0" * 64}
    )
    assert missing.status_code == 404


async def test_a_broken_journal_stops_votes(office: Office) -> None:
    """When no record can be written the vote is a server error and does not count."""
    ticket = await office.held()
    office.house.journal.broken = True
    assert (await office.vote(ticket)).status_code >= 500
    office.house.journal.broken = False
    assert (await office.ask("bob", "approvers")).json()[0]["state"] == "pending"


async def test_health_says_whether_calls_go_through(office: Office) -> None:
    """Anyone may ask, and learns no more than whether."""
    assert (await office.http.get("/healthz")).json() == {"status": "ok"}
    office.house.trouble = "the bucket is gone"
    assert (await office.http.get("/healthz")).json() == {"status": "refusing"}


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/", "/api/v1", "/api/v1/tickets/t-1/votes"])
async def test_there_is_nothing_else(office: Office, path: str) -> None:
    """No documentation pages, no index, no reading of votes by themselves."""
    assert (await office.http.get(path)).status_code in (404, 405)
