"""Who may vote, and what the votes come to."""

from typing import Literal

import pytest
from mcp_sod.approval.tickets import Need, State, Ticket, Vote
from mcp_sod.approval.voting import Voter, objection, outcome
from pydantic import Field

from tests.unit.approval.making import ticket_of, voter_of
from tests.unit.cases import Case, Pair, Part, rows
from tests.unit.making import principal_of


class Cast(Part):
    """One attempt to vote."""

    who: str
    issuer: str = "https://login.example"
    person: list[str] | None = None
    actors: list[str] = Field(default_factory=list)
    roles: list[str] = Field(default=["approver"])
    machine: bool = False
    delegated: bool = False
    policy: str = "p1"
    says: Literal["approve", "deny"] = "approve"
    refused: str | None = None

    @property
    def voter(self) -> Voter:
        """Who tries."""
        person = {} if self.person is None else {"person": self.person}
        kind = "machine" if self.machine else "human"
        return voter_of(
            self.who,
            roles=tuple(self.roles),
            policy=self.policy,
            issuer=self.issuer,
            kind=kind,
            actors=self.actors,
            delegated=self.delegated,
            **person,
        )


class Election(Case):
    """A ticket, the attempts in order, and its state after them."""

    needs: list[Pair[int]] = Field(default=[("approver", 1)])
    actors: list[str] = Field(default_factory=list)
    state: State = "pending"
    now: int = 1500
    votes: list[Cast]
    becomes: State

    @property
    def ticket(self) -> Ticket:
        """The ticket as it is before the first attempt."""
        needs = tuple(Need(f"r{n}", role, votes, 1000) for n, (role, votes) in enumerate(self.needs))
        return ticket_of(needs=needs, state=self.state, behind=principal_of("alice", actors=self.actors).behind)


@pytest.mark.parametrize(("_sections", "case"), rows("approval", Election))
def test_who_may_vote_and_what_it_comes_to(_sections: object, case: Election) -> None:
    """Only a person who is nobody behind the request, has the role, and has not voted; one no denies."""
    state, votes = case.state, list[Vote]()
    for cast in case.votes:
        ticket = (
            case.ticket
            if state == case.state
            else ticket_of(state=state, needs=case.ticket.needs, behind=case.ticket.behind)
        )
        refused = objection(ticket, cast.voter, votes, case.now)
        assert (cast.refused or "") in str(refused)
        assert (refused is None) == (cast.refused is None)
        if refused is None:
            who = cast.voter.principal
            votes.append(Vote(who.account, who.behind, who.marks, cast.voter.roles, cast.says, "", case.now))
            state = outcome(case.ticket.needs, votes)
    assert state == case.becomes


def test_no_need_is_no_approval_without_votes() -> None:
    """Without votes nothing is approved that has a need."""
    assert outcome([Need("r", "approver", 1, 1)], []) == "pending"


@pytest.mark.parametrize(
    ("voter", "may_see"),
    [
        (voter_of("bob"), True),
        (voter_of("alice", roles=()), True),
        (voter_of("bob", roles=("auditor",)), False),
        (voter_of("bob", roles=()), False),
        (voter_of("carol", roles=(), person=["alice@example.com"]), True),
    ],
    ids=["approver", "requester", "auditor", "nobody", "requester's other account"],
)
def test_who_may_see_a_ticket(voter: Voter, may_see: bool) -> None:
    """A ticket is seen by those who could vote on it by their role, and by who is behind it."""
    assert voter.may_see(ticket_of()) is may_see
