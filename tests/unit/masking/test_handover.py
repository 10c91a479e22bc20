"""A reply whose result goes to someone else: what its sender gets, and what is kept."""

import json
from typing import Any

import pytest
from mcp_sod.errors import Withheld
from mcp_sod.exchange import Exchange
from mcp_sod.masking.handover import HandedOver, bare_head
from mcp_sod.masking.masks import masks_for
from mcp_sod.masking.reply import Stream
from mcp_sod.policy.policy import Policy
from mcp_sod.wire.headers import STATELESS_SINCE
from mcp_sod.wire.receipts import Handed, Receipt

from tests.unit.making import call_of, exchange_of, policy_of

SECRET = "AKIAABCDEFGHIJKLMNOP"  # noqa: S105 (made up)
HANDED = Handed(Receipt("r-1", "steward", 0), "s-1")
PAYLOAD = "rows"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A policy whose masks stewards are exempt from."""
    return policy_of(
        tmp_path_factory.mktemp("policy"),
        roles={"steward": {"groups": ["s"]}},
        masking=[{"id": "secret", "regex": "AKIA[A-Z]{16}", "raw_for": ["steward"]}],
    )


class Call:
    """A call of a sender's, and the reply to it."""

    def __init__(self, policy: Policy, version: str = "2025-11-25") -> None:
        call = call_of(params={"name": "x"}, headers={"mcp-protocol-version": version})
        self.exchange: Exchange = exchange_of(policy, call)
        self.heard: list[Any] = []
        self.exchange.on_result = self.heard.append
        nobody = masks_for(policy, frozenset())
        self.reply = HandedOver(self.exchange, HANDED, masks_for(policy, frozenset({"steward"})), nobody, nobody)
        self.stream = Stream(self.reply, "x-1", 100_000, lambda: None)

    def whole(self, **said: Any) -> Any:
        """What the sender gets for a whole reply."""
        return json.loads(self.reply.whole(message(**said), "json"))

    def streamed(self, *events: bytes) -> str:
        """What the sender gets for a stream that ends."""
        return b"".join(b"".join(self.stream(event)) for event in (*events, b"")).decode()


def message(message_id: Any = "s-1", **said: Any) -> bytes:
    """An answer of the upstream's."""
    return json.dumps({"jsonrpc": "2.0", "id": message_id, **said}).encode()


def event(data: bytes, head: bytes = b"id: e1\n") -> bytes:
    """It as an event."""
    return head + b"data: " + data + b"\n\n"


RESULT = {"content": [{"type": "text", "text": f"{PAYLOAD} {SECRET}"}]}


def test_the_result_is_kept_for_the_role_that_gets_it(policy: Policy) -> None:
    """Masked for that role alone, while the record has every mask and the sender a receipt."""
    call = Call(policy)
    told = call.whole(result=RESULT)
    assert PAYLOAD not in str(told)
    assert told["result"]["_meta"] == {"mcp-sod/receipt": "r-1"}
    assert json.loads(call.exchange.kept or b"") == {"result": RESULT}
    facts = call.reply.facts()
    assert f"{PAYLOAD} [masked:secret]" in str(facts["body"])
    assert SECRET not in str(facts["body"])
    assert facts["answered"] is True
    assert len(str(facts["kept"])) == 64
    assert call.heard[0]["result"] == RESULT


def test_an_answer_to_another_call_is_none(policy: Policy) -> None:
    """The sender's own id is not the one that went upstream; an error with no id is the call's, as ever."""
    call = Call(policy)
    with pytest.raises(Withheld, match="different request"):
        call.whole(message_id=1, result=RESULT)
    assert call.exchange.kept is None
    told = call.whole(message_id=None, error={"code": 1, "message": PAYLOAD})
    assert (told["id"], told["result"]["isError"]) == (1, True)


def test_a_stream_says_nothing_beside_the_receipt(policy: Policy) -> None:
    """No event id, no retry, no notification; a second answer is withheld and nothing more is said."""
    call = Call(policy)
    log = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"rows"}}'
    answer = event(message(result=RESULT))
    told = call.streamed(event(b"", b"id: e0\nretry: 7\n"), event(log), answer, answer)
    assert PAYLOAD not in told
    assert "id: " not in told
    assert "retry" not in told
    assert told.count("data: ") == 1
    assert call.reply.problem is not None
    assert json.loads(call.exchange.kept or b"") == {"result": RESULT}


def test_a_stream_without_an_answer_says_so(policy: Policy) -> None:
    """And one whose event cannot be read ends with why."""
    call = Call(policy)
    assert "no result" in call.streamed()
    assert call.exchange.kept is None
    call = Call(policy)
    assert "not understood" in call.streamed(event(b"{"))
    call = Call(policy)
    assert "event of a type" in call.streamed(event(message(result=RESULT), b"event: odd\n"))


def test_questions_pass_masked_for_the_sender(policy: Policy) -> None:
    """Of either era; a question in place of the result keeps nothing."""
    call = Call(policy)
    ask = json.dumps({"jsonrpc": "2.0", "id": 9, "method": "elicitation/create", "params": {"message": SECRET}})
    told = call.streamed(event(ask.encode()), event(message(result=RESULT)))
    assert '"message": "[masked:secret]"' in told
    assert call.exchange.standing is not None
    assert call.exchange.standing.conversation.owed(9) == "elicitation/create"
    call = Call(policy, STATELESS_SINCE)
    told = call.whole(result={"resultType": "input_required", "inputRequests": {"a": SECRET}, "requestState": "s"})
    assert told["id"] == 1
    assert told["result"]["inputRequests"] == {"a": "[masked:secret]"}
    assert told["result"]["requestState"].startswith("s.")
    assert (call.exchange.kept, call.exchange.asked_back) == (None, True)


def test_headers_say_nothing() -> None:
    """What an upstream can write a result into does not pass."""
    kept = ((b"content-type", b"application/json"), (b"content-length", b"2"))
    assert bare_head(((b"etag", b"x"), *kept, (b"x-request-id", b"x"), (b"retry-after", b"9"))) == kept
