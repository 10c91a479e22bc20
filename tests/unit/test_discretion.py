"""What mitmproxy would print of other people's bytes is not printed."""

import errno
import io
import logging
import sys
from unittest.mock import Mock

import pytest
from mcp_sod.discretion import Discretion, Lossy, error_page

SECRET = "eyJhbGciOi.secret"  # noqa: S105 (nobody's)


def _printed(name: str, message: str, *args: object, error: Exception | None = None) -> str:
    record = logging.LogRecord(name, logging.ERROR, __file__, 1, message, args, None)
    if error is not None:
        try:
            raise error
        except type(error):
            record.exc_info = sys.exc_info()
    assert Discretion().filter(record)
    return logging.Formatter().format(record)


@pytest.mark.parametrize(
    ("message", "args"),
    [
        (f"Unexpected data from server: b'{SECRET}'", ()),
        ("127.0.0.1:9: Invalid header line: %r", (SECRET,)),
        (f"HTTP/1 protocol error: {SECRET}", ()),
        ("Addon error: %s", (SECRET,)),
    ],
)
def test_foreign_lines_are_cut(message: str, args: tuple[object, ...]) -> None:
    """A line that may quote bytes from the wire keeps what it is about and loses what it quotes."""
    printed = _printed("mitmproxy.proxy.server", message, *args)
    assert SECRET not in printed
    assert "[not shown]" in printed


def test_a_traceback_is_named_by_its_type() -> None:
    """An exception's text may quote a payload: only its type is printed."""
    printed = _printed("mitmproxy.addonmanager", "mitmproxy has crashed!", error=ValueError(SECRET))
    assert printed == "mitmproxy has crashed! (ValueError)"


@pytest.mark.parametrize("message", ["client connect", "server disconnect 127.0.0.1:9000", "Loading script sod.py"])
def test_plain_lines_pass(message: str) -> None:
    """Lines that quote nobody's bytes are printed as they are."""
    assert _printed("mitmproxy.proxy.server", message) == message


def test_own_sentences_pass() -> None:
    """This package's own lines, which quote nothing, are printed whole."""
    assert _printed("mcp_sod", "The gateway cannot start.\nrules.yaml:3: no") == (
        "The gateway cannot start.\nrules.yaml:3: no"
    )


def test_a_log_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the log's disk is full its lines are lost, and no exception reaches the gateway; then they come again."""
    file = io.StringIO()
    log = Lossy(file)
    with monkeypatch.context() as patch:
        patch.setattr(file, "write", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
        print("lost", file=log)
    print("kept", file=log)
    assert file.getvalue() == "kept\n"


def test_an_error_page_repeats_nothing() -> None:
    """What mitmproxy could not read is not sent to the client in its error page."""
    page = error_page(502, f"Received invalid header name: {SECRET}").decode()
    assert SECRET not in page
    assert page.startswith("502: ")
