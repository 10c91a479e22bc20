"""What looking at a token costs: one never seen, one seen before, and one that is bound to a key (DPoP)."""

import asyncio
import hashlib
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import jwt
import yaml
from mcp_sod.identity.presented import Presented
from mcp_sod.identity.tokens import Verifier
from mcp_sod.policy.load import load
from mcp_sod.signing_key import jwk_thumbprint, thumbprint

from tests.world.issuer import Issuer
from tests.world.keys import SigningKey
from tests.world.policies import default_policy

UPSTREAM = "http://127.0.0.1:9000/mcp"
TIMES = 2000


@dataclass(frozen=True, slots=True)
class TokenFigures:
    """Microseconds of one look: the best of five means, since other work on the machine only adds to it."""

    new: float
    seen: float
    proven: float

    def line(self) -> str:
        """One line for people."""
        return (
            f"token check (ES256): {self.new:.0f} µs when new, {self.seen:.1f} µs when seen before, "
            f"{self.proven:.0f} µs when seen before with a new DPoP proof"
        )

    def facts(self) -> dict[str, float]:
        """As JSON has it."""
        return asdict(self)


def measure_tokens() -> TokenFigures:
    """Looks at tokens as the data path does, on the default policy."""
    return asyncio.run(_measured())


async def _measured() -> TokenFigures:
    with tempfile.TemporaryDirectory(prefix="sod-bench-") as folder:
        issuer = Issuer(Path(folder) / "issuer")
        found = _verifier(Path(folder), issuer)
        new = [_bearer(issuer.token(f"u{n}", groups=("mcp-users",))) for n in range(TIMES)]
        seen = new[0]
        await found.principal(seen)
        key, proofs = SigningKey.fresh("ES256"), 5 * TIMES // 10
        bound = issuer.token("ada", groups=("mcp-users",), cnf={"jkt": jwk_thumbprint(key.jwk)})
        nonce = found.nonce()
        proven = iter([_proven(bound, key, nonce) for _ in range(proofs)])
        return TokenFigures(
            new=await _best(iter(new[1:]).__next__, found.principal, len(new) // 5 - 1),
            seen=await _best(lambda: seen, found.principal, TIMES),
            proven=await _best(proven.__next__, found.principal, proofs // 5),
        )


async def _best(shown: Callable[[], Presented], look: Callable[[Presented], Awaitable[object]], times: int) -> float:
    means = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(times):
            await look(shown())
        means.append((time.perf_counter() - began) / times)
    return min(means) * 1e6


def _verifier(folder: Path, issuer: Issuer) -> Verifier:
    (folder / "policy").mkdir()
    for name, content in default_policy(issuer, UPSTREAM).items():
        text = content if isinstance(content, str) else yaml.safe_dump(dict(content))
        (folder / "policy" / name).write_text(text)
    return Verifier(load(folder / "policy"), b"k" * 32)


def _bearer(token: str) -> Presented:
    return Presented((f"Bearer {token}",))


def _proven(token: str, key: SigningKey, nonce: str) -> Presented:
    ath = thumbprint(hashlib.sha256(token.encode()).digest())
    claims = {"htm": "POST", "htu": UPSTREAM, "iat": int(time.time()), "jti": uuid4().hex, "ath": ath, "nonce": nonce}
    header = {"typ": "dpop+jwt", "jwk": {name: key.jwk[name] for name in ("crv", "kty", "x", "y")}}
    proof = jwt.encode(claims, key.private, algorithm="ES256", headers=header)
    return Presented((f"DPoP {token}",), proofs=(proof,), urls=frozenset({UPSTREAM}))
