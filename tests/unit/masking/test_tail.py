"""Texts that come in pieces: masked the same however they are cut, and shown as soon as they can be."""

import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import re2
import regex
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mcp_sod.errors import Withheld
from mcp_sod.masking import tail as tail_module
from mcp_sod.masking.aligned import aligned
from mcp_sod.masking.masks import HIDDEN, Masks, masks_for, readings
from mcp_sod.masking.openings import opening_of, openings
from mcp_sod.masking.tail import Tail
from mcp_sod.policy.load import load
from mcp_sod.policy.patterns import TIME_LIMIT
from mcp_sod.policy.policy import Policy

from tests.unit.cases import Case, rows, tables
from tests.unit.making import policy_of
from tests.world.policies import DEFAULT

NOBODY: frozenset[str] = frozenset()
MASKS = masks_for(load(DEFAULT), NOBODY)
SECRET = "AKIAABCDEFGHIJKLMNOP"  # noqa: S105 (made up)


class Text(Case):
    """A text, and what is shown of it."""

    text: str
    shown: str


@pytest.fixture(scope="module")
def masks_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The masks of a table's policy, or of the default one."""
    made: dict[str, Masks] = {}

    def masks(policy: Mapping[str, Any]) -> Masks:
        if not policy:
            return MASKS
        if (name := str(policy)) not in made:
            made[name] = masks_for(policy_of(tmp_path_factory.mktemp("policy"), **policy), NOBODY)
        return made[name]

    return masks


def shown(masks: Masks, pieces: Iterable[str], counts: Counter[str] | None = None) -> str:
    """What is shown of all pieces."""
    tail = Tail(masks, 10_000, counts)
    return "".join([*map(tail.feed, pieces), tail.end()])


@pytest.mark.parametrize(("policy", "case"), rows("tails", Text))
def test_cut_anywhere(policy: dict[str, Any], case: Text, masks_of: Any) -> None:
    """In one piece, two or three, or letter by letter, the same is shown; where nothing hides, what masks show."""
    masks, text = masks_of(policy), case.text
    assert shown(masks, [text]) == case.shown
    assert shown(masks, text) == case.shown
    for at in range(len(text) + 1):
        assert shown(masks, [text[:at], text[at:]]) == case.shown, at
        for to in range(at, len(text) + 1, 3):
            assert shown(masks, [text[:at], text[at:to], text[to:]]) == case.shown, (at, to)
    if HIDDEN not in masks.redacted(text):
        assert masks.redacted(text) == case.shown


def test_every_detector_of_the_default_policy_has_a_row() -> None:
    """No detector that masks by default goes untested."""
    texts = [row["text"] for row in tables("tails")["default"].cases]
    detectors = {detector for mask in MASKS.masks for detector in mask.detectors}
    assert len(detectors) == 7
    assert all(any(detector.found_in(text) for text in texts) for detector in detectors)


FRAGMENTS = [
    "AKIA", "ABCDEFGH", "IJKLMNOP", "password", "=", ": ", '"', "'", "{", "}", "[", "]", "a", " ", "\n", "-", "4111 ",
    "1111", "123-45-", "\\", "u0041", "\\u004", "1", "\\\\", "\u200b", "\u0301", "é",
    "\uff21", "\uff2b\uff29", "日本", "\U0001d400",
    "\\ud835",
    "\\udc00", "ﷺ", "가", "\u11a8", "eyJ", "_token", ",", "-----BEGIN PRIVATE KEY-----", "A" * 20, "\t", "\x00", "ﾞ",
]  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14), st.data())
def test_any_text_cut_anyhow(fragments: list[str], data: st.DataObject) -> None:
    """What is shown does not depend on the cuts; it is what masks show, or hides no less."""
    text = "".join(fragments)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[at:to] for at, to in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    out = shown(MASKS, [text])
    assert shown(MASKS, pieces) == out
    assert shown(MASKS, text) == out
    whole = MASKS.redacted(text)
    if HIDDEN not in whole and HIDDEN not in out:
        assert out == whole
    # All that a reader could make out in it was there when nothing was cut, too; a marker may be what makes a field of
    # the word behind it, so what masks would mask further tells nothing of the cuts.
    if HIDDEN not in whole and MASKS.redacted(whole) == whole:
        assert MASKS.redacted(out) in (out, whole, HIDDEN)
    for reading in [out, *readings(out)]:
        assert re.search(rf"\b{SECRET}\b", reading, re.ASCII) is None


@settings(max_examples=400, deadline=None)
@given(st.text(st.sampled_from("aK\\u04159dc \u200b\u0301é\uff21ﷺ가\u11a8\U0001d400ﾞ\t\x00n"), max_size=24))
def test_forms_and_their_places(text: str) -> None:
    """The aligned forms are those that masks read, and every character of theirs comes from somewhere."""
    forms = aligned(text)
    assert {form.text for form in forms} == {text, *readings(text)}
    for form in forms:
        places = [form.source(at) for at in range(len(form.text) + 1)]
        assert places == sorted(places)
        spans = [form.span(at, at + 1) for at in range(len(form.text))]
        assert all(0 <= start < end <= len(text) for start, end in spans)
        for at in range(len(text)):
            whole = form.whole(at)
            assert whole <= at
            rest = {other.text for other in aligned(text[whole:])}
            assert form.text[form.place(whole) :] in rest or form.sources is not None


PATTERN_PARTS = ["a", "b", "[ab]", "[^a]", r"\d", r"\w", ".", r"\.", r"\x61", "-", "é"]


def patterns() -> st.SearchStrategy[str]:
    """Patterns that RE2 and `re` read alike."""
    counts = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "+?", "??", "{0,2}?"])
    return st.recursive(
        st.sampled_from(PATTERN_PARTS),
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map("".join),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
            st.tuples(inner, counts).map(lambda pair: f"({pair[0]}){pair[1]}"),
            inner.map(lambda part: f"(?i:{part})"),
        ),
        max_leaves=8,
    )


@settings(max_examples=400, deadline=None)
@given(patterns(), st.data())
def test_an_opening_is_found_wherever_a_match_is_cut(pattern: str, data: st.DataObject) -> None:
    """Of each text that matches, every beginning is one that the opening matches, up to the cut."""
    begun = opening_of(pattern)
    assert begun is not None
    text = data.draw(st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True).filter(lambda text: len(text) < 40))
    assume(re2.fullmatch(pattern, text))
    opening = re2.compile(begun)
    second = regex.compile(str(opening_of(f"(?<!z){pattern}(?!z)", linear=False)), regex.ASCII)
    for at in range(len(text)):
        assert opening.match(text[:at]) is not None, at
        assert second.match(text[:at]) is not None, at
    # And nothing is one that no match begins with.
    assert re2.search(str(opening_of("ab")), f"{text}c").start() == len(text) + 1


@pytest.mark.parametrize("source", [r"\Qab\E", "a(?i)b", r"a\C", "(?<=a", "a)b", "(" * 2000, "^"])
def test_what_is_not_understood_has_no_opening(source: str) -> None:
    """A pattern that is not understood in full is not guessed at."""
    assert opening_of(source) is None
    assert opening_of("(?:ab)") is not None


def detected(folder: Path, *masking: str, **detectors: Any) -> Masks:
    """The masks of a policy with these detectors."""
    masks = [{"id": "m", "detect": list(masking or detectors)}]
    policy: Policy = policy_of(folder, detectors=detectors, masking=masks)
    return masks_for(policy, NOBODY)


def test_what_cannot_be_foreseen_is_held_to_the_end(tmp_path: Path) -> None:
    """With a pattern that neither lane can take apart, nothing is shown before the end; with any other, it is."""
    masks = detected(tmp_path, quoted={"regex": r"\Qa.b\E"})
    assert openings(masks).unknown
    tail = Tail(masks, 100)
    assert [tail.feed("x "), tail.feed("a."), tail.feed("b y"), tail.end()] == ["", "", "", "x [masked:m] y"]
    tail = Tail(detected(tmp_path / "other", quoted={"regex": r"a\.b"}), 100)
    assert [tail.feed("x "), tail.feed("a."), tail.feed("b y"), tail.end()] == ["x", " ", "[masked:m] ", "y"]


def test_a_pattern_that_takes_too_long_holds_the_rest(tmp_path: Path) -> None:
    """What `regex` cannot answer in time is held, and it is not asked again; the text is masked in the end."""
    masks = detected(tmp_path, slow={"regex": r"(?<!z)s(?:a|aa)+"})
    tail = Tail(masks, 1000)
    assert tail.feed("ok ") == "ok"
    started = time.monotonic()
    assert [tail.feed("s" + "a" * 60 + "c"), *(tail.feed(" more") for _ in range(100))] == [" ", *[""] * 100]
    assert time.monotonic() - started < 100 * TIME_LIMIT
    assert tail.end() == "[masked:m]c" + " more" * 100


def test_what_is_held_is_bounded(tmp_path: Path) -> None:
    """What might go on for ever is withheld at the limit; what only lacks its keyword is hidden then."""
    tail = Tail(MASKS, 100)
    assert tail.feed('password="' + "x" * 90) == ""
    with pytest.raises(Withheld, match="100 characters"):
        tail.feed("y")
    badge = detected(tmp_path, badge={"regex": r"\b\d{5}\b", "keywords": ["badge"]})
    tail = Tail(badge, 100)
    assert tail.feed("no 12345 ") == "no "
    assert tail.feed("x" * 80) == ""
    assert tail.feed("x" * 80) == "[masked:m] " + "x" * 159
    assert tail.feed(" 54321 .") == "x [masked:m] "


@pytest.mark.parametrize(
    ("text", "size", "ends"),
    [
        ("words " * 2000 + 'password="' + "held " * 20_000 + '" and on ' + "words " * 2000, 4, True),
        ("\\\u0301a" * 2_000 + " and on", 3, True),
        ("\\\u0301a" * 20_000, 60_000, False),
        ("\\" * 10_000 + " and on", 5, True),
    ],
    ids=["a long quotation", "escapes and marks", "in one piece", "backslashes"],
)
def test_time_is_linear_in_the_text(monkeypatch: pytest.MonkeyPatch, text: str, size: int, ends: bool) -> None:
    """However small the pieces and however much is held, each character is looked at a few times."""
    looked = 0

    def counted(text: str) -> Any:
        nonlocal looked
        looked += len(text)
        return aligned(text)

    monkeypatch.setattr(tail_module, "aligned", counted)
    tail = Tail(MASKS, 200_000)
    out = "".join([*(tail.feed(text[at : at + size]) for at in range(0, len(text), size)), tail.end()])
    assert out == MASKS.redacted(text)
    assert out.endswith(text[-20:]) or not ends
    assert looked < 200 * len(text)


WIDE = {code: code + 0xFEE0 for code in range(33, 127)}
KEY = "-----BEGIN PRIVATE KEY-----\n"
HELD = [
    "\\" * 65_536, KEY.translate(WIDE) * 2_400, (KEY + "A" * 65_536).translate(WIDE), '"' * 65_536,
    'password="' * 6_500, "password=" * 7_200, 'password="' + "\\" * 65_536, 'password="' + "\\u005c" * 11_000,
]  # fmt: skip


@pytest.mark.parametrize("text", HELD, ids=range(len(HELD)))
def test_one_look_at_what_is_held_is_short(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """However much is held, one piece costs a few looks at it, also where it comes at once: it holds the event loop."""
    looked = 0

    def counted(text: str) -> Any:
        nonlocal looked
        looked += len(text)
        return aligned(text)

    monkeypatch.setattr(tail_module, "aligned", counted)
    text = text[:65_536]
    worst, seconds = 0, 0.0
    for size in (len(text), 4096, 512):
        tail = Tail(MASKS, 65_536)
        for at in range(0, len(text), size):
            looked, began = 0, time.process_time()
            tail.feed(text[at : at + size])
            worst, seconds = max(worst, looked), max(seconds, time.process_time() - began)
        tail.end()
    assert worst < 5.5 * 65_536
    assert seconds < 1.5


@pytest.mark.parametrize(
    ("text", "most", "late"),
    [
        ("pass ".translate(WIDE), 1000, 24),
        ("x\u0301" * 20 + "\uff58", 1000, 24),
        ("日本語の文章\uff0c", 4000, 3),
        ("plain, text ", 4000, 12),
    ],
    ids=["wide letters", "marks", "wide commas", "plain text"],
)
def test_disguised_text_is_read_some_letters_at_a_time(
    monkeypatch: pytest.MonkeyPatch, text: str, most: int, late: int
) -> None:
    """What is slow to read is not read once more for each letter, but shown soon all the same; other text at once."""
    looks = 0

    def counted(text: str) -> Any:
        nonlocal looks
        looks += 1
        return aligned(text)

    monkeypatch.setattr(tail_module, "aligned", counted)
    tail = Tail(MASKS, 10_000)
    said, out = (text * 1000)[:4000], ""
    for at, letter in enumerate(said):
        out += tail.feed(letter)
        assert at + 1 - len(out) <= late
    assert looks <= most
    assert out + tail.end() == said


def test_prose_is_not_kept_waiting() -> None:
    """Each word is shown when the next one, two or three have come, in English and in Japanese, and so is code."""
    english = re.findall(r" ?\w+|\W", "The quick fox passed on 4 - no, 5 - tokens: api keys are no secret here. " * 5)
    japanese = list("日本語の文章は、すぐに表示されます。「秘密」はありません。" * 5)
    code = re.findall(r"\s?\S{1,4}", r"print('C:\new\table', r'\d+', x[0], {1: 2}) # \u00e9 — ok" * 5)
    for pieces in (english, japanese, code):
        tail = Tail(MASKS, 1000)
        fed = out = ""
        before = ["", "", ""]
        for piece in pieces:
            out += tail.feed(piece)
            fed += piece
            assert out.startswith(before[0]), (out[-20:], fed[-20:])
            before = [*before[1:], fed]
        assert out + tail.end() == fed


def test_counts(tmp_path: Path) -> None:
    """It is counted how often each mask found something, and without masks nothing is held."""
    counts: Counter[str] = Counter()
    shown(MASKS, f"{SECRET} and {SECRET}, password: x, AKIA\u200b{SECRET[4:]}", counts)
    assert counts == {"secret": 2, "field": 1, "hidden": 1}
    none = masks_for(policy_of(tmp_path), NOBODY)
    assert Tail(none, 0).feed(SECRET) == SECRET
