"""Who owes whom an answer."""

from mcp_sod.wire.conversation import MOST_OPEN, MOST_OWNERS, MOST_SESSIONS, Conversation, Conversations


def test_an_answer_is_given_once() -> None:
    """A server's request is answered once, by its very id; nothing is owed that was not asked."""
    talk = Conversation()
    talk.demand("a", "ping")
    talk.demand(1, "roots/list")
    assert [talk.owed("1"), talk.owed(1)] == [None, "roots/list"]
    assert [talk.owed("b"), talk.owed("a"), talk.owed("a")] == [None, "ping", "ping"]
    assert [talk.settle("a"), talk.settle("a")] == [True, False]


def test_what_is_open_is_bounded() -> None:
    """The oldest unanswered requests are forgotten, and the conversations that were used least recently."""
    talk = Conversation()
    for number in range(MOST_OPEN + 1):
        talk.demand(number, "ping")
        talk.words.append(str(number).encode())
    assert [talk.owed(0), talk.owed(1), talk.words[0]] == [None, "ping", b"1"]
    talks = Conversations()
    talks.of(b"a", "first").demand(1, "ping")
    talks.of(b"b", "first").demand(1, "ping")
    for number in range(MOST_SESSIONS):
        talks.of(b"a", str(number))
    assert talks.of(b"a", "first").owed(1) is None
    assert talks.of(b"b", "first").owed(1)
    for number in range(MOST_OWNERS):
        talks.of(str(number).encode(), "")
    assert talks.of(b"b", "first").owed(1) is None


def test_conversations_are_apart() -> None:
    """One owner's session is not another's, and one that has ended begins anew."""
    talks = Conversations()
    talks.of(b"a", "s").demand(1, "ping")
    assert talks.of(b"a", "s").owed(1)
    assert not talks.of(b"b", "s").owed(1)
    assert not talks.of(b"a", "").owed(1)
    talks.end(b"a", "s")
    assert not talks.of(b"a", "s").owed(1)
