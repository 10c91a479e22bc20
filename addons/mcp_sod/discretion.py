"""Keeps payloads out of mitmproxy's own log lines and error pages: what they quote is cut, and so are tracebacks.

It also keeps a log that cannot be written from ending the gateway.
"""

import logging
import re
from contextlib import suppress
from typing import TextIO

# Beginnings of mitmproxy's lines that quote nobody's bytes.
_PLAIN = (
    "client connect",
    "client disconnect",
    "server connect",
    "server disconnect",
    "Streaming response from",
    "Loading script",
    "Un-loading script",
    "Removing script",
    "HTTP(S) proxy listening",
    "reverse proxy to",
    "Transparent proxy",
)


class Discretion(logging.Filter):
    """A filter for the handlers that print: this package's own sentences pass as they are."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Cut a foreign line at its first colon, and name an exception by its type alone."""
        if record.name.startswith("mcp_sod"):
            return True
        message = record.getMessage()
        if not message.startswith(_PLAIN):
            record.msg, record.args = _cut(message, record), ()
        record.exc_info = record.exc_text = None
        return True


def error_page(status: int, _message: str) -> bytes:
    """Return the body of mitmproxy's own error answers, in place of one that repeats the bytes it could not read."""
    return f"{status}: the gateway could not pass this message on. Its log and its records say more.\n".encode()


class Lossy:
    """A log that loses lines while its disk is full or its reader gone, where mitmproxy would end at once.

    What must not be lost is in the audit's journal, which refuses calls while it cannot be written.
    """

    def __init__(self, file: TextIO) -> None:
        """Write to this file."""
        self._file = file

    def write(self, text: str) -> None:
        """Write the text, or lose it."""
        with suppress(OSError):
            self._file.write(text)


_VERIFIED = re.compile(r"Certificate verify failed: [A-Za-z ,'-]{1,100}")  # OpenSSL's own words


def _cut(message: str, record: logging.LogRecord) -> str:
    if (reason := _VERIFIED.search(message)) is not None:
        return f"The upstream's certificate was refused. {reason[0]}"
    head, colon, _ = message.partition(":")
    error = record.exc_info[0] if record.exc_info else None
    return f"{head}{': [not shown]' if colon else ''}{f' ({error.__name__})' if error else ''}"
