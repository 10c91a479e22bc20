"""What a call does to which objects, by the duties of the policy."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from mcp_sod.errors import Denied
from mcp_sod.policy.patterns import alike, plain_name
from mcp_sod.policy.people import ByObject
from mcp_sod.policy.policy import Policy
from mcp_sod.separation.keys import digests_at, tokens
from mcp_sod.wire.strict_json import Json


@dataclass(frozen=True, slots=True)
class Duty:
    """One compiled duty; `key` is how the policy writes where the object's key is, `path` the pointer's tokens."""

    written: str
    named: Callable[[str], bool]
    upstream: str | None
    key: str
    path: tuple[str, ...]

    @property
    def by_result(self) -> bool:
        """Whether only the result tells the object."""
        return kind_of(self.key) == "result"

    def concerns(self, upstream: str, tool: str) -> bool:
        """Say whether a call of this tool performs this duty."""
        return self.upstream in (None, upstream) and self.named(tool)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One compiled rule; `keep` and `open_for` in seconds; `every`: the duties of all rules of its policy."""

    duties: tuple[Duty, ...]
    keep: float
    open_for: float
    known_only: bool
    every: tuple[Duty, ...]

    def done(self, upstream: str, tool: str, key: str) -> list[int]:
        """Return the places of the duties that an act was.

        A key that the policy has no more was another pointer to the same: then the tool and the kind of key decide.
        """
        places = [index for index, duty in enumerate(self.duties) if duty.concerns(upstream, tool)]
        exact = [index for index in places if self.duties[index].key == key]
        if exact or not places or any(duty.key == key and duty.concerns(upstream, tool) for duty in self.every):
            return exact
        return [index for index in places if kind_of(self.duties[index].key) == kind_of(key)]

    def maker(self, upstream: str) -> str:
        """Return the upstream where what is acted upon at this one is made."""
        return self.duties[0].upstream or upstream

    def __str__(self) -> str:
        """Return it as refusals name it."""
        return f"separation.by_object [{', '.join(duty.written for duty in self.duties)}]"


@dataclass(frozen=True, slots=True)
class Act:
    """What a call does; `objects` are digests of keys, None while only the result will tell them."""

    upstream: str
    tool: str
    key: str
    objects: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Acting:
    """A call that rules concern: who is behind it, what it does, and for how long that is remembered (seconds)."""

    reference: str
    behind: frozenset[str]
    acts: tuple[Act, ...]
    rules: tuple[Rule, ...]

    @property
    def keep(self) -> float:
        """The longest of what the rules ask for."""
        return max(rule.keep for rule in self.rules)

    @property
    def open_for(self) -> float:
        """For how long the longest of the rules lets an open act stand in the way."""
        return max(min(rule.keep, rule.open_for) for rule in self.rules)

    @property
    def objects(self) -> frozenset[str]:
        """Every object that is known already."""
        return frozenset().union(*(act.objects or () for act in self.acts))


def kind_of(key: str) -> str:
    """Return `arguments` or `result`."""
    return key.partition(":")[0]


@functools.lru_cache(maxsize=1024)
def concerned(policy: Policy, upstream: str, tool: str) -> tuple[tuple[Rule, ...], tuple[Duty, ...]]:
    """Return the rules that a call of this tool concerns, and its duties in them."""
    found = {rule: [duty for duty in rule.duties if duty.concerns(upstream, tool)] for rule in _rules(policy)}
    return tuple(rule for rule in found if found[rule]), tuple(duty for duties in found.values() for duty in duties)


def acts_of(upstream: str, tool: str, duties: tuple[Duty, ...], arguments: Json) -> tuple[Act, ...]:
    """Return what the call does, one act for each place of a key; raises Denied where an object cannot be told."""
    places = {duty.key: duty for duty in duties}.values()
    plain = plain_name(tool)
    return tuple(Act(upstream, plain, duty.key, None if duty.by_result else _named(arguments, duty)) for duty in places)


@functools.lru_cache(maxsize=16)
def _rules(policy: Policy) -> tuple[Rule, ...]:
    written = policy.document.separation.by_object
    compiled = [_compiled(rule) for rule in written]
    every = tuple(duty for duties in compiled for duty in duties)
    return tuple(
        Rule(duties, rule.keep, rule.open_for, rule.unknown == "refuse", every)
        for rule, duties in zip(written, compiled, strict=True)
    )


def _compiled(rule: ByObject) -> tuple[Duty, ...]:
    return tuple(Duty(duty.tool, alike([duty.tool]), duty.upstream, duty.key, tokens(duty.key)) for duty in rule.duties)


def _named(arguments: Json, duty: Duty) -> frozenset[str]:
    try:
        return digests_at(arguments, duty.path)
    except Denied as denied:
        sentence = f"This tool acts upon an object, and {duty.key} does not tell which: {denied.sentence}"
        raise Denied(
            sentence, hint="Name it there as a text or a whole number, or several as a list of those."
        ) from None
