"""SAML 2.0: from a response as browsers bring it to an assertion that is believed, or a refusal."""

import base64
import binascii
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mcp_sod.errors import PolicyError, Unauthenticated, Unavailable
from mcp_sod.identity.assertions import Assertion, read, succeeded
from mcp_sod.identity.signed_xml import parsed, verified
from mcp_sod.policy.issuers import Saml
from mcp_sod.policy.policy import Policy

_BITS = 2048  # of an RSA key, at least


def assertion_of(response: str, saml: Saml, certificate: bytes, *, now: float, asked: str | None = None) -> Assertion:
    """Return what a `SAMLResponse` (base64) asserts; raises Unauthenticated with what is wrong. It takes a while.

    `certificate`: the provider's, PEM; `now`: seconds since the epoch; `asked`: the id of this browser's request.
    Whether the assertion was used before is not looked at here.
    """
    root = parsed(_decoded(response))
    if root.tag.endswith("}Response"):
        succeeded(root)  # a failure has no assertion, and often no signature
    return read(verified(root, _pinned(certificate), now), saml, now, asked)


def certificates_are_there(policy: Policy) -> None:
    """Raise PolicyError for a SAML provider whose certificate is missing or of no use, or whose `acs` leads astray."""
    for name, saml in policy.document.saml.items():
        file, where = policy.base / saml.certificate, policy.saml_file.name
        try:
            found = certificates(file.read_bytes())
        except OSError:
            hint = f"Put it there, or correct saml.{name}.certificate in {where}."
            raise PolicyError(f"The certificate file {file} of SAML provider {name} is not there.", hint=hint) from None
        except ValueError as error:
            raise PolicyError(f"The certificate file {file} of SAML provider {name} cannot be used: {error}.",
                              hint="Put the provider's signing certificate there, in PEM.") from None  # fmt: skip
        assert found
        if not saml.acs.endswith(f"/saml/{name}/acs"):
            raise PolicyError(f"saml.{name}.acs does not end with /saml/{name}/acs, where the console takes responses.",
                              hint=f"Correct it in {where}, and at the provider.")  # fmt: skip


def certificates(pem: bytes) -> Sequence[x509.Certificate]:
    """Return the certificates in a PEM file, several while a provider changes its key; raises ValueError."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ValueError("it is no certificate in PEM") from None
    for certificate in found:
        key = certificate.public_key()
        if not (isinstance(key, EllipticCurvePublicKey) or (isinstance(key, RSAPublicKey) and key.key_size >= _BITS)):
            raise ValueError(f"its key is neither RSA of {_BITS} bits or more nor an elliptic curve's")
    return found


def _pinned(pem: bytes) -> Sequence[x509.Certificate]:
    try:
        return certificates(pem)
    except ValueError as error:
        raise Unavailable("The identity provider's certificate cannot be used.", operator=f"{error}.") from None


def _decoded(response: str) -> bytes:
    try:
        return base64.b64decode("".join(response.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Unauthenticated("The SAML response is not base64.") from None
