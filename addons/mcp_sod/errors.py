"""Everything that can go wrong, as one tree: a short stable code, a sentence, and a hint what to do next."""

from typing import ClassVar


class SodError(Exception):
    """Base of all errors of this package; its text is safe to show and to log."""

    code: ClassVar[str] = "internal"

    def __init__(self, sentence: str, *, hint: str = "", operator: str = "") -> None:
        """Keep the sentence (what and where, never a token or a payload) and the hint (what to do next).

        `operator`: what log and record say beyond that, such as a path, which is no caller's business.
        """
        super().__init__(sentence)
        self.sentence = sentence
        self.hint = hint
        self.operator = operator

    @property
    def told(self) -> str:
        """The sentence with what the operator needs to know; for log and record."""
        return f"{self.sentence} {self.operator}".rstrip()

    @property
    def for_caller(self) -> str:
        """The sentence and the hint."""
        return f"{self.sentence} {self.hint}".rstrip()

    def __str__(self) -> str:
        """Return all of it."""
        return f"{self.told} {self.hint}".rstrip()


class PolicyError(SodError):
    """The policy folder cannot be used; names file, line and key."""

    code = "policy"


class StartError(SodError):
    """The gateway cannot start as it was told to."""

    code = "start"


class AuditError(SodError):
    """A record could not be made durable, or the store could not be read or written."""

    code = "audit"


class TicketError(SodError):
    """A ticket or vote cannot be acted on; the sentence says why."""

    code = "ticket"


class Refusal(SodError):
    """A request that is not let through, or a reply that is not delivered.

    `event` is the audit event that records it. A refusal with `in_band` is answered in the shape of the call
    (HTTP 200) wherever a call was understood, so that it does not break the client's session; otherwise the
    answer has HTTP status `status`.
    """

    event: ClassVar[str] = "denied"
    status: ClassVar[int] = 403
    in_band: ClassVar[bool] = True
    as_result: ClassVar[bool] = True  # a refused `tools/call` is a result that says so, not an error
    rpc_code: ClassVar[int] = -31403  # outside JSON-RPC's reserved -32768..-32000
    request_id: int | str | None = None  # of a message that was read far enough to know it


class Malformed(Refusal):
    """The bytes are not one strict message, or say two different things."""

    code, event, status, in_band, rpc_code = "malformed", "rejected", 400, False, -32600


class Mismatch(Malformed):
    """Headers and body disagree (MCP 2026-07-28, header validation)."""

    code, rpc_code = "header-mismatch", -32020


class Incomplete(Malformed):
    """A request without what its revision demands in the params (MCP 2026-07-28, request metadata)."""

    code, rpc_code = "incomplete", -32602


class Unsupported(Malformed):
    """A content type or encoding that is not read here."""

    code, status = "unsupported", 415


class WrongMethod(Malformed):
    """An HTTP method that this upstream is not spoken to with."""

    code, status = "http-method", 405


class Unlisted(Refusal):
    """A destination that the policy does not list."""

    code, event, status, in_band = "unlisted", "rejected", 403, False


class Misdirected(Refusal):
    """The request names two different destinations."""

    code, event, status, in_band = "misdirected", "rejected", 421, False


class Unauthenticated(Refusal):
    """No token, or one that does not hold (RFC 6750, section 3.1)."""

    code, event, status, in_band = "unauthenticated", "rejected", 401, False

    def __init__(  # noqa: PLR0913 (the parts of a challenge)
        self, sentence: str, *, hint: str = "", token_given: bool = True, error: str = "invalid_token",
        nonce: str | None = None, operator: str = "",
    ) -> None:  # fmt: skip
        """`token_given`: whether there was a token at all; the challenge names an error only then.

        `nonce`: to be put into the next proof (RFC 9449, section 9).
        """
        super().__init__(sentence, hint=hint, operator=operator)
        self.error = error if token_given else ""
        self.nonce = nonce


class ProxyUnauthenticated(Unauthenticated):
    """The same of a token that was shown to the proxy (RFC 9110, section 15.5.8)."""

    code, status = "unauthenticated-proxy", 407


class InsufficientScope(Refusal):
    """The token holds, but its client did not ask for enough (RFC 6750, section 3.1)."""

    code, event, status, in_band = "insufficient-scope", "rejected", 403, False

    def __init__(self, sentence: str, *, scope: str) -> None:
        """`scope`: all that is needed, as the client is to ask for it."""
        super().__init__(sentence)
        self.scope = scope


class Revoked(Refusal):
    """Whoever calls, or stands behind the call, was revoked."""

    code, status = "revoked", 403


class Denied(Refusal):
    """The policy says no."""

    code = "denied"


class Conflict(Denied):
    """The principal holds duties that exclude each other."""

    code = "separation"


class Held(Refusal):
    """The call waits for an approver; the sentence names the ticket."""

    code, event, rpc_code = "held", "held", -31409


class Foreign(Denied):
    """Something opaque (an event id, a request state, a task) that this principal did not get from the server."""

    code, status, rpc_code, as_result = "foreign", 404, -31404, False


class ForeignSession(Foreign):
    """A session that is not this principal's; 404 tells a client to begin a new one (MCP 2025-11-25, sessions)."""

    code, event, in_band = "foreign-session", "rejected", False


class Removed(Malformed):
    """A method that this revision of MCP no longer has (2026-07-28, Streamable HTTP: unknown methods)."""

    code, status, rpc_code = "no-method", 404, -32601


class Unasked(Malformed):
    """An answer to a request that the server did not make, or that has its answer."""

    code = "unasked"


class Unavailable(Refusal):
    """Something that the gateway needs in order to decide or to record is not there."""

    code, status, rpc_code = "unavailable", 503, -31503


class Withheld(Refusal):
    """The upstream's reply cannot be delivered safely."""

    code, event, status, rpc_code = "withheld", "withheld", 502, -31502


class Ended(Withheld):
    """A long stream ended by the gateway; its client comes back, and is judged anew."""

    code = "ended"
