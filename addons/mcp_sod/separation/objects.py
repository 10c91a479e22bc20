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
        return self.key.startswith("result:")

    def concerns(self, upstream: str, tool: str) -> bool:
        """Say whether a call of this tool performs this duty."""
        return self.upstream in (None, upstream) and self.named(tool)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One compiled rule; `keep` in seconds."""

    duties: tuple[Duty, ...]
    keep: float
    known_only: bool

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
    def objects(self) -> frozenset[str]:
        """Every object that is known already."""
        return frozenset().union(*(act.objects or () for act in self.acts))


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
    return tuple(_compiled(rule) for rule in policy.document.separation.by_object)


def _compiled(rule: ByObject) -> Rule:
    duties = [Duty(duty.tool, alike([duty.tool]), duty.upstream, duty.key, tokens(duty.key)) for duty in rule.duties]
    return Rule(tuple(duties), rule.keep, rule.unknown == "refuse")


def _named(arguments: Json, duty: Duty) -> frozenset[str]:
    try:
        return digests_at(arguments, duty.path)
    except Denied as denied:
        sentence = f"This tool acts upon an object, and {duty.key} does not tell which: {denied.sentence}"
        raise Denied(
            sentence, hint="Name it there as a text or a whole number, or several as a list of those."
        ) from None
