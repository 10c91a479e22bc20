"""Reads and checks signed tokens (RFC 7519, RFC 8725, RFC 9068)."""

import jwt

from mcp_sod.errors import Unauthenticated
from mcp_sod.policy.issuers import Issuer

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
        raise Unauthenticated("The token is signed with an algorithm that the policy does not allow.")
    if not isinstance(header.get("kid", ""), str):
        raise Unauthenticated("The token's key id is not a text.")


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
        raise Unauthenticated(sentence) from None
    except (TypeError, ValueError, OverflowError):
        raise Unauthenticated("The token does not hold.") from None
    return claims
