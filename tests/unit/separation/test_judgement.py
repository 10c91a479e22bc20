"""What is remembered, judged."""

from pathlib import Path
from typing import Any

import pytest
from mcp_sod.errors import Conflict
from mcp_sod.separation.judgement import Past, Remembered, judge

from tests.unit.making import policy_of
from tests.unit.separation.making import APPROVE, CREATE, PAY, acting, past, rules

NOW = 1000


def refusal(
    folder: Path,
    *,
    theirs: tuple[Past, ...] = (),
    anyones: tuple[Past, ...] = (),
    now: int = NOW,
    tool: str = "pay",
    **more: Any,
) -> str | None:
    """Why the call is refused, or None."""
    try:
        judge(acting(rules(folder, **more), tool, id="a"), Remembered(theirs, anyones), now)
    except Conflict as conflict:
        return conflict.for_caller
    return None


@pytest.mark.parametrize(
    ("theirs", "refused"),
    [
        ((), False),
        ((past("pay", "a"),), False),
        ((past("approve", "a"),), True),
        ((past("create_x", "a"),), True),
        ((past("create_x", "b"),), False),
        ((past("create", "a"),), False),  # no tool of the rule any more
        ((past("pay", "a"), past("approve", "a")), True),
        ((past("create_x"),), True),
        ((past("pay"),), False),
    ],
)
def test_what_was_done_before(tmp_path: Path, theirs: tuple[Past, ...], refused: bool) -> None:
    """Another duty upon the same object refuses, and so does one upon an object that is not known."""
    why = refusal(tmp_path, theirs=theirs)
    assert (why is not None) is refused
    if why:
        assert "separation.by_object [create_*, approve, pay]" in why
        assert "(reference x-0)" in why
        assert "Another person must do it." in why


@pytest.mark.parametrize(("now", "refused"), [(1000, True), (1059, True), (1060, False)])
def test_what_is_forgotten(tmp_path: Path, now: int, refused: bool) -> None:
    """After the rule's `keep`, what was done refuses no more, whether the object is known or not."""
    for one in (past("approve", "a"), past("create_x")):
        assert (refusal(tmp_path, theirs=(one,), now=now, keep="1m") is not None) is refused


@pytest.mark.parametrize(
    ("made_by", "refused"), [((), True), (("create_x",), False), (("approve",), True), (("create_x", "pay"), False)]
)
def test_a_maker_who_is_known_clears_who_waits(tmp_path: Path, made_by: tuple[str, ...], refused: bool) -> None:
    """What never came cannot be an object that another made; that another approved it says nothing of its making."""
    anyones = tuple(past(tool, "a") for tool in made_by)
    assert (refusal(tmp_path, theirs=(past("create_x"),), anyones=anyones) is not None) is refused


@pytest.mark.parametrize(("now", "refused"), [(1059, True), (1060, False)])
def test_what_never_came_ends_by_itself(tmp_path: Path, now: int, refused: bool) -> None:
    """After `open_for` an act whose object is not known stands in nobody's way; a known one does all the same."""
    more: dict[str, Any] = {"now": now, "open_for": "1m", "keep": "1h"}
    assert (refusal(tmp_path, theirs=(past("create_x"),), **more) is not None) is refused
    assert refusal(tmp_path, theirs=(past("create_x", "a"),), **more) is not None


@pytest.mark.parametrize(
    ("waiting", "made", "refused"), [("tools", "tools", False), ("tools", "uat", True), ("uat", "uat", False)]
)
def test_a_maker_elsewhere_clears_nothing(tmp_path: Path, waiting: str, made: str, refused: bool) -> None:
    """An object of the same key that another made at another upstream says nothing of what was made at this one."""
    theirs, anyones = (past("create_x", upstream=waiting),), (past("create_x", "a", upstream=made),)
    assert (refusal(tmp_path, theirs=theirs, anyones=anyones) is not None) is refused


@pytest.mark.parametrize(
    ("named", "made", "at", "refused"),
    [
        ({}, "tools", "tools", False),
        ({}, "uat", "tools", True),
        ({}, "tools", "uat", True),
        ({"upstream": "tools"}, "tools", "uat", False),
        ({"upstream": "tools"}, "uat", "uat", True),
    ],
)
def test_a_maker_elsewhere_makes_nothing_known(
    tmp_path: Path, named: dict[str, str], made: str, at: str, refused: bool
) -> None:
    """With `unknown: refuse` the object was made where it is acted upon, or where the first duty says."""
    policy = rules(tmp_path, {**CREATE, **named}, PAY, unknown="refuse")
    try:
        judge(acting(policy, "pay", upstream=at, id="a"), Remembered((), (past("create_x", "a", upstream=made),)), NOW)
    except Conflict:
        assert refused
    else:
        assert not refused


MOVED = Past("tools", "create_x", "result:/old", "x-0", NOW, past("create_x", "a").object)


def test_another_pointer_forgets_nothing(tmp_path: Path) -> None:
    """What was done under a pointer that the policy has no more counts, known or not; of another kind it does not."""
    told: dict[str, Any] = {"anyones": (), "tool": "pay"}
    for one in (MOVED, Past("tools", "create_x", "result:/old", "x-0", NOW)):
        assert refusal_of(tmp_path, (CREATE, PAY), theirs=(one,), **told) is not None
        argued = Past(one.upstream, one.tool, "arguments:/old", one.reference, one.at, one.object)
        assert refusal_of(tmp_path, (CREATE, PAY), theirs=(argued,), **told) is None


@pytest.mark.parametrize(("tool", "refused"), [("create_x", False), ("other", True)])
def test_a_pointer_that_another_rule_has_is_its_own(tmp_path: Path, tool: str, refused: bool) -> None:
    """A place that the policy still names for this tool is no other one of it, in whichever rule it stands."""
    second = {"duties": [{"tool": tool, "key": "result:/old"}, APPROVE]}
    policy = policy_of(tmp_path, separation={"by_object": [{"duties": [CREATE, PAY]}, second]})
    try:
        judge(acting(policy, "pay", id="a"), Remembered((MOVED,), ()), NOW)
    except Conflict:
        assert refused
    else:
        assert not refused


def test_a_later_duty_that_never_came_may_be_of_any_object(tmp_path: Path) -> None:
    """Only the first duty is done once: whoever reviewed something may have reviewed this, whoever made it."""
    review = {"tool": "create_review", "key": "result:/id"}
    made = past("pay", "a")
    more: dict[str, Any] = {"theirs": (past("create_review"),), "anyones": (made,), "tool": "approve"}
    assert "has not come here" in (refusal_of(tmp_path, (PAY, review, APPROVE), **more) or "")
    assert refusal_of(tmp_path, (review, PAY, APPROVE), **{**more, "anyones": (past("create_review", "a"),)}) is None


def refusal_of(folder: Path, duties: tuple[dict[str, Any], ...], *, theirs: Any, anyones: Any, tool: str) -> str | None:
    """The same for other duties."""
    try:
        judge(acting(rules(folder, *duties), tool, id="a"), Remembered(theirs, anyones), NOW)
    except Conflict as conflict:
        return conflict.sentence
    return None


@pytest.mark.parametrize(
    ("tool", "anyones", "refused"),
    [
        ("pay", (), True),
        ("pay", (past("approve", "a"),), True),
        ("pay", (past("create_x", "b"),), True),
        ("pay", (past("create_x", "a", at=0),), True),
        ("pay", (past("create_x", "a"),), False),
        ("create_x", (), False),
    ],
)
def test_unknown_objects(tmp_path: Path, tool: str, anyones: tuple[Past, ...], refused: bool) -> None:
    """With `unknown: refuse`, only what someone is remembered to have made is acted upon; making needs nothing."""
    why = refusal(tmp_path, anyones=anyones, tool=tool, unknown="refuse", keep="10m")
    assert (why is not None) is refused
    assert why is None or "Who made this object is not known" in why
    assert refusal(tmp_path, anyones=anyones, tool=tool) is None


@pytest.mark.parametrize(("tool", "refused"), [("approve", False), ("pay", True)])
def test_what_makes_an_unknown_object_may_name_it(tmp_path: Path, tool: str, refused: bool) -> None:
    """The first duty makes the object, whether its key is in the result or in the arguments."""
    try:
        judge(acting(rules(tmp_path, APPROVE, PAY, unknown="refuse"), tool, id="a"), Remembered((), ()), NOW)
    except Conflict:
        assert refused
    else:
        assert not refused


def test_one_call_with_two_duties(tmp_path: Path) -> None:
    """A call that does two duties to one object is refused; to two objects it is not."""
    there = {**PAY, "key": "arguments:/to"}
    policy = rules(tmp_path, PAY, there)
    with pytest.raises(Conflict, match="this same call does pay"):
        judge(acting(policy, "pay", id="a", to="A"), Remembered((), ()), NOW)
    judge(acting(policy, "pay", id="a", to="b"), Remembered((), ()), NOW)
    policy = rules(tmp_path, {**CREATE, "tool": "pay"}, PAY)
    with pytest.raises(Conflict, match="This call does two of"):
        judge(acting(policy, "pay", id="a"), Remembered((), ()), NOW)
    maker = Past("tools", "pay", "result:/id", "x-0", NOW, next(iter(acting(policy, "pay", id="a").objects)))
    judge(acting(policy, "pay", id="a"), Remembered((), (maker,)), NOW)
