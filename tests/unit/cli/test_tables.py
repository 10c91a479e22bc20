"""The tables of the commands, in a terminal of 80 columns."""

import time

import pytest
from mcp_sod.cli import approve, collect, revoke
from mcp_sod.cli.asking import show_answer

SOON = int(time.time()) + 1800
ACCOUNT = "https://login.example.com/realms/bank#7d1f6a3e-0a86-4f0e-9f6e-2b1d1a5f3c11"
TICKET = {"id": "t-0123456789ab", "state": "pending", "requester": ACCOUNT, "upstream": "tools", "method": "tools/call",
          "target": "pay_invoice", "findings": ["payment"], "expires": SOON, "may_vote": False,
          "why_not": "You are behind this call."}  # fmt: skip
DELIVERY = {"receipt": "r-0123456789abcdef", "state": "kept", "sender": ACCOUNT, "upstream": "tools",
            "tool": "export_all", "role": "raw-viewer", "expires": SOON, "may_collect": True}  # fmt: skip
REVOKED = {"id": 7, "kind": "person", "value": "bob@example.com", "reason": "left\ntoday", "by": ACCOUNT, "at": 0}


@pytest.mark.parametrize(
    ("picture", "row", "words"),
    [
        (approve._table, TICKET, ["t-0123456789ab", "tools: tools/call pay_invoice", "payment", "You are behind"]),  # noqa: SLF001
        (collect._table, DELIVERY, ["r-0123456789abcdef", "tools: export_all", "role raw-viewer", "may collect"]),  # noqa: SLF001
        (revoke._table, REVOKED, ["person bob@example.com", "left today", "1970-01-01 00:00 UTC"]),  # noqa: SLF001
    ],
    ids=["approve", "collect", "revoke"],
)  # fmt: skip
def test_a_table_fits(
    picture: object, row: dict[str, object], words: list[str], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """No line is longer than the terminal, and what people look for stands in one piece; an account may be folded."""
    monkeypatch.setenv("COLUMNS", "80")
    assert callable(picture)
    show_answer([row], picture, as_json=False)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert [word for word in words if word not in shown] == [], shown
