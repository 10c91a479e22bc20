# ruff: noqa: RUF001 (letters that look like others are what is tested here)
"""Patterns, in two lanes, and the sweep."""

import time
import unicodedata

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from mcp_sod.errors import Unavailable
from mcp_sod.policy.load import load
from mcp_sod.policy.patterns import (
    MAX_PATTERN,
    TIME_LIMIT,
    TIME_PER_CHARACTER,
    Detector,
    Sweep,
    detector,
    globs,
    plain_form,
)

from tests.world.policies import DEFAULT

CATASTROPHES = [r"(?=x)?(a+)+$(?!\n)b", r"(?:a|a)+(?<!x)$b", r"(a|aa)+(?=b)c", r"(?:(?:a+)+)+(?=!)"]


@pytest.mark.parametrize(
    ("pattern", "linear", "yes", "no"),
    [
        (r"\bAKIA[A-Z2-7]{16}\b", True, "x AKIAABCDEFGHIJKLMNOP.", "xAKIAABCDEFGHIJKLMNOP"),
        (r"(?i)drop\s+table", True, "Drop\n\tTABLE", "drop_table"),
        (r"^x$", True, "x", "x\n"),
        (r"(?m)^x$", True, "a\nx", "ax"),
        (r"\Ax", True, "x", "\nx"),
        (r"x\z", True, "ax", "x\n"),
        (r"(?s)a.b", True, "a\nb", "ab"),
        (r"\p{Greek}+", True, "αβγ", "abc"),
        (r"(?<=key: )\w+", False, "key: abc", "abc"),
        (r"(\w)\1\1\1", False, "aaaa", "aaab"),
        (r"drop(?! off)", False, "drop table", "drop off"),
        (r"(?>a+)b", False, "aab", "aac"),
    ],
)  # fmt: skip
def test_what_re2_reads_is_searched_in_linear_time(pattern: str, linear: bool, yes: str, no: str) -> None:
    """Both lanes find what the pattern says; only what RE2 cannot say goes to the slow one."""
    made = detector("d", pattern)
    assert made.linear is linear
    assert made.found_in(yes)
    assert not made.found_in(no)


@pytest.mark.parametrize(
    "pattern", ["(", "a{2", "[", "*", r"(?P<x>a)(?P<x>b", "a\\", "a?", "", "x|", "^", "a" * (MAX_PATTERN + 1)]
)
def test_a_pattern_that_says_nothing_is_refused(pattern: str) -> None:
    """A pattern that is broken, too long, or matches the empty text is an error with a sentence."""
    if pattern == "a{2":  # a literal, to both lanes
        assert detector("d", pattern).found_in("a{2")
        return
    with pytest.raises(ValueError, match=r"regular expression|matches the empty text|longer than"):
        detector("d", pattern)


@pytest.mark.parametrize("pattern", CATASTROPHES)
def test_a_catastrophic_pattern_costs_one_refusal(pattern: str) -> None:
    """A pattern with exponential backtracking is stopped at its time limit and refuses; on other texts it works."""
    made = detector("d", pattern)
    assert not made.linear
    made.spans("hello")
    text = "a" * 5000
    began = time.monotonic()
    with pytest.raises(Unavailable, match="took longer than"):
        made.spans(text)
    assert time.monotonic() - began < 10 * (TIME_LIMIT + TIME_PER_CHARACTER * len(text))


def test_a_catastrophe_in_re2s_lane_is_none() -> None:
    """The classic catastrophes are linear where RE2 reads them."""
    made = detector("d", r"(a+)+$|(a|aa)+b|(.*a){20}b")
    began = time.monotonic()
    made.spans("a" * 50_000 + "!")
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("keywords", "text", "found"),
    [
        (["Project Falcon"], "about PROJECT FALCON today", True),
        (["Project Falcon"], "about Project  Falcon", False),
        (["a.b"], "axb", False),
        (["a.b"], "A.B", True),
        (["(x", "y|z"], "y|z", True),
        (["Straße"], "STRAßE", True),
        (["İstanbul"], "İSTANBUL", True),
    ],
)
def test_keywords_are_plain_words_in_any_case(keywords: list[str], text: str, found: bool) -> None:
    """A keyword is no pattern; its case does not matter."""
    assert detector("d", None, keywords).found_in(text) is found


@pytest.mark.parametrize(
    ("text", "found"), [("card 4111", True), ("CARD: 4111", True), ("4111", False), ("card", False)]
)
def test_beside_a_pattern_one_keyword_must_stand(text: str, found: bool) -> None:
    """With keywords, a pattern counts only in a text that holds one of them."""
    assert detector("d", r"\d{4}", ["card", "visa"]).found_in(text) is found


@pytest.mark.parametrize(
    "hidden",
    [
        "se\u200bcret", "se\u00adcret", "se\u2060cret", "s\ufeffecret", "se\u2066cret\u2069", "se\u202ecret",
        "se\u034fcret", "se\u061ccret", "se\u180ecret", "secre\ufe0ft", "s\U000e0065ecret", "se\u3164cret",
        "s\uffa0ecret", "se\u206acret",
        "ｓｅｃｒｅｔ", "𝐬𝐞𝐜𝐫𝐞𝐭", "ⓢⓔⓒⓡⓔⓣ", "ˢecret", "secr\u2061et",
    ],
)  # fmt: skip
def test_what_a_reader_would_see_is_found(hidden: str) -> None:
    """Invisible characters and compatibility forms hide nothing: the text is searched as it reads, too."""
    assert detector("d", "secret").found_in(f"a {hidden} b")
    assert Sweep([made := detector("d", "secret")]).suspects(["x", f"a {hidden} b"]) == {made}


def test_the_plain_form_drops_everything_that_is_not_seen() -> None:
    """Every format character and variation selector of Unicode that shows nothing is gone; letters stay."""
    shown = {0x600, 0x601, 0x602, 0x603, 0x604, 0x605, 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
    unseen = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Cf" and code not in shown]
    left = [f"U+{ord(char):04X}" for char in unseen if plain_form(char) and not 0xFFF9 <= ord(char) <= 0xFFFB]
    assert [name for name in left if not name.startswith("U+1343")] == []  # Egyptian layout marks stand in the picture
    assert plain_form("Ärger \u00e9 \u0e33 👍") == unicodedata.normalize("NFKC", "Ärger \u00e9 \u0e33 👍")


# Soundness of the sweep: a detector that finds something in any text of a message is a suspect. If it were not, a rule
# would be skipped and a secret would pass. Patterns and texts are made from the same pieces, so that they often meet.

LETTERS = [
    "a",
    "b",
    "K",
    "k",
    "s",
    "ſ",
    "ß",
    "é",
    "É",
    "σ",
    "ς",
    "\u212a",
    "1",
    " ",
    "\n",
    "_",
    "-",
    "𝔘",
    "İ",
    "i",
    "ﬁ",
    "ｓ",
    "\u200b",
    "\u0301",
]
PIECES = [
    "^",
    "$",
    r"\b",
    r"\B",
    r"\A",
    r"\z",
    ".",
    r"\s",
    r"\w",
    r"\W",
    r"\d",
    r"\n",
    "[^a]",
    "[^\\n]",
    "[a-k]",
    "(?i)",
    "(?s)",
    "(?m)",
    "(?-s)",
    "(?i-m)",
    "(?U)",
    r"\PL",
    r"\p{L}",
    "(?:",
    "(",
    ")",
    "|",
    "+",
    "*",
    "?",
    "+?",
    "{2}",
    "{1,2}",
    r"\Q.\E",
    r"\x61",
    r"\x{212a}",
    r"\pN",
    "[[:word:]]",
    r"\C",
]
PATTERNS = st.lists(st.sampled_from([*LETTERS, *PIECES, *LETTERS[:4]]), min_size=1, max_size=8).map("".join)
TEXTS = st.lists(
    st.lists(st.sampled_from([*LETTERS, "\r", "\t", "\x00", "\u2028"]), max_size=7).map("".join), max_size=5
)  # fmt: skip
WORDS = st.lists(st.sampled_from(LETTERS), min_size=2, max_size=3).map("".join)


def made(pattern: str | None, keywords: list[str]) -> Detector | None:
    """The detector, or None for a pattern that is refused."""
    try:
        return detector("d", pattern, keywords)
    except ValueError:
        return None


def finds(one: Detector, texts: list[str]) -> bool:
    """Whether the detector finds something in any of the texts alone."""
    try:
        return any(one.found_in(text) for text in texts)
    except Unavailable:
        return True


@settings(max_examples=600, deadline=None)
@given(
    st.lists(st.tuples(PATTERNS, st.lists(WORDS, max_size=2)), min_size=1, max_size=6),
    st.lists(st.lists(WORDS, min_size=1, max_size=2), max_size=2),
    TEXTS,
)
@example([("^a$", []), (r"\Aa", []), (r"a\z", []), (r"\Ba", []), ("(?-m)a$", [])], [], ["k", "a", "k"])
@example([("(?i)\u212a", []), ("(?i)ſ", []), ("(?i)ß", []), ("(?i)σ", [])], [["\u212as"]], ["ks", "S", "ẞ", "ς"])
@example([("a|", []), (r"\Qa", []), ("(?i)", []), (r"\b", [])], [], ["a"])
@example([("fi", []), ("ss", [])], [], ["ﬁ", "s\u200bs", "ｓｓ"])
@example([("a\u0301", []), ("á", [])], [], ["a", "\u0301", "a\u0301"])
def test_who_finds_something_is_always_a_suspect(
    patterns: list[tuple[str, list[str]]], words: list[list[str]], texts: list[str]
) -> None:
    """Whatever the pattern, its keywords and flags, and the text that the match stands in, none is left out."""
    detectors = [one for pattern, keys in patterns if (one := made(pattern, keys))]
    detectors += [one for keys in words if (one := made(None, keys))]
    assume(detectors)
    suspects = Sweep(detectors).suspects(texts)
    for one in detectors:
        assert one in suspects or not finds(one, texts)


@given(st.integers(0, 2**32), st.sampled_from(LETTERS), st.sampled_from(LETTERS), st.integers(0, 4))
def test_the_default_policy_sweeps_soundly(seed: int, before: str, after: str, where: int) -> None:
    """Each kind of secret of the default policy is a suspect in any company, and a rule or mask of it finds it."""
    policy = load(DEFAULT)
    secret = SECRETS[seed % len(SECRETS)]
    texts = ["hello", "world\n", "{}", ""]
    texts.insert(where, f"{before} {secret} {after}")
    suspects = policy.sweep.suspects(texts)
    assert any(one.found_in(secret) for one in suspects)
    used = [one for rule in policy.document.rules for one in policy.rule_detectors(rule)]
    used += [one for mask in policy.document.masking for one in policy.mask_detectors(mask)]
    for one in used:
        assert one in suspects or not finds(one, texts)


SECRETS = [
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "AKIAABCDEFGHIJKLMNOP", "ghp_" + "a" * 36,
    "sk-ant-" + "x" * 24, "eyJhbGciOiJub25l.eyJzdWIiOiJhIn0x.c2lnbmF0dXJl", "4111 1111 1111 1111",
    "5500-0000-0000-0004",
    "078-05-1120", "password: hunter2", "db_TOKEN=abc", "drop  TABLE customers",
]  # fmt: skip


def test_many_detectors_in_one_sweep_are_told_apart() -> None:
    """Two hundred detectors over a long message: exactly those that find something, or have no clue, are suspects."""
    plain = [detector(f"w{n}", rf"\bword{n:03}\b") for n in range(200)]
    clueless = detector("c", r"\Anever\z")
    suspects = Sweep([*plain, clueless]).suspects([*(["filler " * 50] * 50), "word007", "xx word123 yy"])
    assert suspects == {plain[7], plain[123], clueless}


def test_a_sweep_of_nothing_suspects_nobody() -> None:
    """Without detectors, or without texts, there is no suspect that has a clue."""
    assert Sweep([]).suspects(["x"]) == frozenset()
    assert Sweep([detector("d", "x")]).suspects([]) == frozenset()


@pytest.mark.parametrize(
    ("patterns", "name", "fold", "matches"),
    [
        (["tools/*"], "tools/call", False, True),
        (["tools/*"], "tools/", False, True),
        (["tools/*"], "Tools/call", False, False),
        (["tools/*"], "xtools/call", False, False),
        (["query"], "query\n", False, False),
        (["query"], "query2", False, False),
        (["a.b"], "axb", False, False),
        (["*"], "a\nb", False, True),
        (["?uery"], "query", False, True),
        (["[!a]*"], "b", False, True),
        (["[!a]*"], "a", False, False),
        (["a", "b*"], "bc", False, True),
        (["a|b"], "a", False, False),
        ([], "a", False, False),
        (["*_TOKEN"], "Api_Token", True, True),
        (["*_TOKEN"], "tokens", True, False),
    ],
)
def test_globs_match_whole_names(patterns: list[str], name: str, fold: bool, matches: bool) -> None:
    """A shell pattern matches the whole name or nothing; no pattern matches no name."""
    assert globs(patterns, fold=fold)(name) is matches


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a" + "\u0315" * 24_000 + "\u0300" * 24_000, "combining marks"),
        ("a" + "\u0315\u200b" * 24_000 + "\u0300" * 24_000, "combining marks"),
        ("\ufdfa" * 100_000, "phrases"),
    ],
    ids=["marks to be sorted", "marks with nothing visible between", "phrases"],
)
def test_text_that_is_slow_to_normalise_is_refused_quickly(text: str, why: str) -> None:
    """Normalising takes quadratic time over marks: such text is refused before it holds anybody up; writing is not."""
    began = time.monotonic()
    with pytest.raises(Unavailable, match=why):
        plain_form(text)
    assert time.monotonic() - began < 0.5
    assert plain_form("Z\u0351\u0352a\u0300lgo \ufdfa")


@pytest.mark.parametrize("white", "\x0b\x0c\x1c\x1f\x85\u00a0\u1680\u2003\u2028\u3000\x00\x7f")
def test_whatever_a_parser_takes_for_a_space_is_one(white: str) -> None:
    """White space and controls that RE2 does not call white, but SQL's and others' parsers do, hide nothing."""
    assert detector("drop", r"drop\s+table").found_in(f"drop {white}table")
    assert plain_form(f"a{white}b") == "a b"
