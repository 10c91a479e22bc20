"""Reads and checks signed tokens (RFC 7519, RFC 8725, RFC 9068)."""

import json
from collections.abc import Iterable

import jwt

from mcp_sod.errors import Unauthenticated
from mcp_sod.policy.issuers import Issuer

SHOWN = 256  # characters of a claim that log and record show
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})


def read(token: str) -> tuple[dict[str, object], object] | None:
    """Return header and issuer of a JWT, of which nothing is verified yet; None for what is none.

    Raises Unauthenticated for a broken one, which is no other kind of token.
    """
    try:
        header = jwt.get_unverified_header(token)
        return header, jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError, RecursionError):
        if token.startswith("eyJ") and token.count(".") == 2:  # an object, and two parts (RFC 7515, section 3.1)
            raise Unauthenticated("The token is not a JWT.") from None
        return None


def check_header(header: dict[str, object], issuer: Issuer) -> None:
    """Raise Unauthenticated for a token of another kind, or signed in another way than the policy allows."""
    kind = header.get("typ")
    if kind is not None and not (isinstance(kind, str) and kind.lower() in _TYPES):
        raise Unauthenticated("The token is not an access token (typ).")
    if "crit" in header or "b64" in header:
        raise Unauthenticated("The token uses an extension that is not understood here (crit).")
    if header.get("alg") not in issuer.algorithms:
        raise Unauthenticated("The token is signed with an algorithm that the policy does not allow.",
                              operator=expected("alg", header.get("alg"), issuer.algorithms))  # fmt: skip
    if not isinstance(header.get("kid", ""), str):
        raise Unauthenticated("The token's key id is not a text.")


def expected(name: str, claimed: object, wanted: Iterable[str]) -> str:
    """Return what a token claims, and what would have been believed; for log and record, since it is not verified."""
    return f"{name} {quoted(claimed)}, expected one of {quoted(list(wanted), most=4 * SHOWN)}."


def quoted(claimed: object, *, most: int = SHOWN) -> str:
    """Return what a token claims as one line of plain ASCII (JSON), cut to `most` characters."""
    try:
        text = json.dumps(claimed)
    except (ValueError, RecursionError):
        return "(too deep to show)"
    return text if len(text) <= most else f"{text[:most]}…"


_SENTENCES: list[tuple[type[jwt.PyJWTError], str]] = [
    (jwt.ExpiredSignatureError, "The token has expired."),
    (jwt.ImmatureSignatureError, "The token is not valid yet."),
    (jwt.InvalidAudienceError, "The token is meant for another audience."),
    (jwt.InvalidIssuerError, "The token comes from an issuer that is not believed here."),
    (jwt.MissingRequiredClaimError, "The token lacks a required claim (exp, iss, aud, sub)."),
    (jwt.InvalidSignatureError, "The token's signature does not hold."),
]


def checked_claims(token: str, key: jwt.PyJWK, issuer: Issuer) -> dict[str, object]:
    """Return the claims of a token that this key has signed for us; raises Unauthenticated."""
    try:
        claims: dict[str, object] = jwt.decode(
            token, key, algorithms=list(issuer.algorithms), audience=list(issuer.audience), issuer=issuer.issuer,
            leeway=issuer.leeway, options={"require": ["exp", "iss", "aud", "sub"]},
        )  # fmt: skip
    except jwt.PyJWTError as error:
        sentence = next((text for kind, text in _SENTENCES if isinstance(error, kind)), "The token does not hold.")
        raise Unauthenticated(sentence, operator=_wrong(token, error, issuer)) from None
    except (TypeError, ValueError, OverflowError):
        raise Unauthenticated("The token does not hold.") from None
    return claims


def _wrong(token: str, error: jwt.PyJWTError, issuer: Issuer) -> str:
    """Return what of the token is not as expected, where it takes knowing both to mend it."""
    match error:
        case jwt.InvalidAudienceError():
            claimed = jwt.decode(token, options={"verify_signature": False}).get("aud")
            return expected("aud", claimed, issuer.audience)
        case jwt.MissingRequiredClaimError():
            return f"It has no {error.claim}."
    return ""
