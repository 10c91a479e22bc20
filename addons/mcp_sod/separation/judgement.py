"""Whether a call may do what it does, given what is remembered of its objects and of who is behind it."""

from collections.abc import Iterator
from dataclasses import dataclass

from mcp_sod.errors import Conflict
from mcp_sod.separation.objects import Acting, Rule


@dataclass(frozen=True, slots=True)
class Past:
    """An act that is remembered: upon which object (a digest; None: its result never came), and when (epoch)."""

    upstream: str
    tool: str
    key: str
    reference: str
    at: int
    object: str | None = None


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is remembered of a call: what whoever is behind it did, and what anyone at all did upon its objects."""

    theirs: tuple[Past, ...]
    anyones: tuple[Past, ...]


def judge(acting: Acting, remembered: Remembered, now: int) -> None:
    """Raise Conflict when a rule forbids an act of this call."""
    own = tuple(_own(acting, now))
    for rule in acting.rules:
        theirs = _duties(rule, (*remembered.theirs, *own), now)
        made = frozenset(
            (past.upstream, past.object) for index, past in _duties(rule, remembered.anyones, now) if index == 0
        )
        for index, act in _duties(rule, own, now):
            if act.object is not None:
                _judge_one(rule, index, act, theirs, made)


type _Made = frozenset[tuple[str, str | None]]  # where, and what: an object's maker at one upstream is none at another


def _judge_one(rule: Rule, index: int, act: Past, theirs: list[tuple[int, Past]], made: _Made) -> None:
    for other, past in theirs:
        if other == index:
            continue  # doing the same again is no second duty
        if past.object == act.object:
            raise _did_another(rule, other, past, act)
        # Of an object whose maker is known, the result that never came cannot have been the making.
        if past.object is None and not (other == 0 and (past.upstream, act.object) in made):
            raise _may_have_done(rule, other, past, act)
    if rule.known_only and index > 0 and (rule.maker(act.upstream), act.object) not in made:
        raise Conflict(
            f"Who made this object is not known, and {rule} refuses such objects.",
            hint="Have it made through the gateway, or have the policy changed.",
        )


def _own(acting: Acting, now: int) -> Iterator[Past]:
    for act in acting.acts:
        for one in (None,) if act.objects is None else sorted(act.objects):
            yield Past(act.upstream, act.tool, act.key, acting.reference, now, one)


def _duties(rule: Rule, acts: tuple[Past, ...], now: int) -> list[tuple[int, Past]]:
    """Return the acts that are duties of the rule and not yet forgotten, each with its duty's place in the rule.

    What is remembered is what was done, and the policy of the moment says what that means: memory outlives its change.
    """
    return [
        (index, past)
        for past in acts
        if past.at + (min(rule.keep, rule.open_for) if past.object is None else rule.keep) > now
        for index in rule.done(past.upstream, past.tool, past.key)
    ]


def _did_another(rule: Rule, other: int, past: Past, act: Past) -> Conflict:
    done = rule.duties[other].written
    when = "this same call does" if past.reference == act.reference else "you, or someone behind this call, did"
    return Conflict(
        f"Nobody may do two of {rule} to one object, and {when} {done} to this one (reference {past.reference}).",
        hint="Another person must do it.",
    )


def _may_have_done(rule: Rule, other: int, past: Past, act: Past) -> Conflict:
    done = rule.duties[other].written
    if past.reference == act.reference:
        return Conflict(f"This call does two of {rule}, and which object its {done} is for is not known beforehand.",
                        hint="Do them in two calls, by two people.")  # fmt: skip
    return Conflict(
        f"Nobody may do two of {rule} to one object. The result of an earlier {done} of yours, or of someone behind "
        f"this call (reference {past.reference}), has not come here, so whose doing this object is cannot be told.",
        hint="Another person must do it.",
    )
