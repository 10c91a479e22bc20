"""Who would be refused everything for roles that exclude each other (NIST RBAC, static separation), before they call.

By person, not by account: the gateway sees one account at a time, and a reviewer all that one person has.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mcp_sod.policy.model import Document
from mcp_sod.policy.people import Exclusive
from mcp_sod.roles.members import Membership, key_of


@dataclass(frozen=True, slots=True)
class Source:
    """Where a role comes from: a group, by these accounts."""

    group: str
    accounts: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.group} by {', '.join(self.accounts)}"


@dataclass(frozen=True, slots=True)
class Held:
    """A role, with all that gives it."""

    role: str
    sources: tuple[Source, ...]

    def __str__(self) -> str:
        return f"{self.role} from {', '.join(map(str, self.sources))}"


@dataclass(frozen=True, slots=True)
class Excess:
    """More roles of one rule than it allows."""

    rule: Exclusive
    held: tuple[Held, ...]

    def __str__(self) -> str:
        because = "; ".join(map(str, self.held))
        return f"{because}: the rule separation.static {self.rule} allows {self.rule.most}."


@dataclass(frozen=True, slots=True)
class OverBroad:
    """A person who holds too much at once."""

    person: str
    accounts: tuple[str, ...]
    excesses: tuple[Excess, ...]


@dataclass(frozen=True, slots=True)
class Review:
    """Everyone over-broad, among how many people in how many groups, and what makes the review worth less."""

    people: int
    groups: int
    over_broad: tuple[OverBroad, ...]
    notes: tuple[str, ...]


def review(memberships: Sequence[Membership], document: Document) -> Review:
    """Return what the policy's static rules say of an export of group members."""
    people = list(_people(memberships))
    groups = {group for each in memberships for group in each.groups}
    found = (_over_broad(person, document) for person in people)
    over_broad = sorted((one for one in found if one is not None), key=lambda one: one.person)
    return Review(len(people), len(groups), tuple(over_broad), tuple(_notes(groups, document)))


def _people(memberships: Iterable[Membership]) -> Iterator[list[Membership]]:
    """Yield each person's memberships: those whose keys meet, be it by way of others."""
    leader: dict[str, str] = {}

    def lead(key: str) -> str:
        while leader.setdefault(key, key) != key:
            leader[key] = key = leader[leader[key]]
        return key

    sorted_keys = [(sorted(each.keys), each) for each in memberships]
    for (first, *others), _ in sorted_keys:
        for other in others:
            leader[lead(other)] = lead(first)
    people: dict[str, list[Membership]] = {}
    for (first, *_), each in sorted_keys:
        people.setdefault(lead(first), []).append(each)
    yield from people.values()


def _over_broad(person: list[Membership], document: Document) -> OverBroad | None:
    held = {name: sources for name in document.roles if (sources := _sources(person, document.roles[name].groups))}
    excesses = tuple(
        Excess(rule, tuple(Held(name, held[name]) for name in rule.roles if name in held))
        for rule in document.separation.exclusions
        if sum(name in held for name in rule.roles) > rule.most
    )
    if not excesses:
        return None
    accounts = _accounts(person)
    named = next((each.person for each in person if each.person), accounts[0])
    return OverBroad(named, accounts, excesses)


def _sources(person: list[Membership], groups: Iterable[str]) -> tuple[Source, ...]:
    """Return which of the groups the person is in; a group's name is as exact here as in a token."""
    found = ((group, _accounts(each for each in person if group in each.groups)) for group in sorted(set(groups)))
    return tuple(Source(group, accounts) for group, accounts in found if accounts)


def _accounts(memberships: Iterable[Membership]) -> tuple[str, ...]:
    """Return the accounts, of which one in two spellings is one."""
    spelt: dict[str, str] = {}
    for each in memberships:
        spelt.setdefault(key_of(each.account), each.account)
    return tuple(sorted(spelt.values()))


def _notes(groups: set[str], document: Document) -> Iterator[str]:
    known = {group for role in document.roles.values() for group in role.groups}
    if not document.separation.static:
        yield "separation.static has no rule, so nobody can be over-broad."
    if not groups & known:
        yield "no group of this file gives a role; are these the names that tokens carry?"
    meant = {key_of(group): group for group in known}
    for group in sorted(groups - known):
        if key_of(group) in meant:
            yield f"the group {group} is written {meant[key_of(group)]} in the policy, so it gives no role."
