"""Proofs of possession over time: each once, none from before, nonces that pass; the rest is in dpop.yaml."""

import time

import pytest
from mcp_sod.errors import Unauthenticated, Unavailable
from mcp_sod.identity import proofs
from mcp_sod.identity.presented import Credential, Presented
from mcp_sod.identity.proofs import NONCE_LIFE, SKEW, Proofs
from mcp_sod.policy.issuers import Issuer

from tests.world.dpop import Draft, Key, proof

URL = "http://127.0.0.1:9000/mcp"
TOKEN = "a.b.c"  # noqa: S105 (nobody's)


class Sender:
    """Someone with a key, before a gateway with a clock."""

    def __init__(self, nonce: str = "optional", age: int = 60) -> None:
        self.now = time.time()
        self.key = Key.fresh()
        self.proofs = Proofs(lambda: self.now)
        facts = {"issuer": "https://l.example", "audience": ["a"], "keys": {"file": "j"}, "machine": "none"}
        self.issuer = Issuer.model_validate({**facts, "dpop": {"nonce": nonce, "age": f"{age}s"}})

    def proof(self, *, ago: float = 0, **claims: object) -> str:
        """A new proof, made some seconds ago."""
        made = {"iat": int(self.now - ago), **claims}
        return proof(("POST", URL), TOKEN, self.key, self.key, Draft(claims=made))

    def show(self, *shown: str, certificate: str | None = None, bound: dict[str, str] | None = None) -> None:
        """Shows these proofs with the token."""
        presented = Presented((f"DPoP {TOKEN}",), proofs=shown, urls=frozenset({URL}), certificate=certificate)
        bound = {"jkt": self.key.thumbprint} if bound is None else bound
        self.proofs.check(bound, self.issuer, presented, Credential("dpop" if "jkt" in bound else "bearer", TOKEN))


def later(sender: Sender) -> Sender:
    """The sender, once the gateway has run for a while."""
    sender.now += 100
    return sender


def test_a_proof_is_good_once() -> None:
    """The same proof again is refused; another one of the same key passes."""
    sender = later(Sender())
    shown = sender.proof()
    sender.show(shown)
    with pytest.raises(Unauthenticated, match="used before"):
        sender.show(shown)
    sender.show(sender.proof())


def test_a_proof_is_remembered_for_as_long_as_it_could_be_shown() -> None:
    """Until it is too old, or its nonce is over, it is refused as used; and then as old. Memory does not grow."""
    sender = later(Sender())
    shown = sender.proof()
    sender.show(shown)
    sender.now += 59
    with pytest.raises(Unauthenticated, match="used before"):
        sender.show(shown)
    sender.now += 2
    with pytest.raises(Unauthenticated, match="too old"):
        sender.show(shown)
    sender.now += NONCE_LIFE + 60
    sender.show(sender.proof())
    assert len(sender.proofs._seen) == 1  # noqa: SLF001 (that it forgets is what this is about)


def test_a_proof_from_an_earlier_life_needs_a_nonce() -> None:
    """After a restart what was used is forgotten, so that what was made before needs a nonce made since."""
    sender = Sender()
    for ago in (30, 0, -SKEW + 1):
        with pytest.raises(Unauthenticated, match="needs a nonce") as asked:
            sender.show(sender.proof(ago=ago))
        assert asked.value.error == "use_dpop_nonce"
        sender.show(sender.proof(ago=ago, nonce=asked.value.nonce))
    sender.now += 2 * SKEW + 1
    sender.show(sender.proof())


def test_a_nonce_passes() -> None:
    """This period's and the last one's are taken; older ones and another gateway's ask for a new one."""
    sender = later(Sender(nonce="required"))
    first = sender.proofs.nonce()
    sender.show(sender.proof(nonce=first))
    sender.now += NONCE_LIFE
    sender.show(sender.proof(nonce=first))
    sender.now += NONCE_LIFE
    for wrong in (first, Sender().proofs.nonce(), "", 7, None):
        with pytest.raises(Unauthenticated) as asked:
            sender.show(sender.proof(nonce=wrong))
        assert (asked.value.error, asked.value.nonce) == ("use_dpop_nonce", sender.proofs.nonce())
    sender.show(sender.proof(nonce=sender.proofs.nonce()))


def test_too_many_proofs_are_refused_rather_than_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood cannot push a used proof out of the memory; once it is over, calls pass again."""
    monkeypatch.setattr(proofs, "MOST", 3)
    sender = later(Sender())
    first = sender.proof()
    for shown in (first, sender.proof(), sender.proof()):
        sender.show(shown)
    with pytest.raises(Unavailable, match="Too many proofs"):
        sender.show(sender.proof())
    with pytest.raises(Unavailable):
        sender.show(first)
    sender.now += NONCE_LIFE + 100
    sender.show(sender.proof())


def test_one_keys_flood_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key has its share of the memory, and has it back once its proofs are over."""
    monkeypatch.setattr(proofs, "SHARE", 3)
    sender = later(Sender())
    for _ in range(2):
        for _ in range(3):
            sender.show(sender.proof())
        with pytest.raises(Unavailable, match="Too many proofs of one key"):
            sender.show(sender.proof())
        first, sender.key = sender.key, Key.fresh()
        sender.show(sender.proof())
        sender.key = first
        sender.now += NONCE_LIFE + 100
    sender.show(sender.proof())
    assert dict(sender.proofs._shares) == {sender.key.thumbprint: 1}  # noqa: SLF001 (that it forgets is what this is about)


def test_a_gateway_that_does_not_know_its_address_takes_no_proof() -> None:
    """In reverse mode without gateway.public nobody could say what a proof is for; the operator is told."""
    sender = later(Sender())
    presented = Presented((f"DPoP {TOKEN}",), proofs=(sender.proof(),))
    bound = {"jkt": sender.key.thumbprint}
    with pytest.raises(Unavailable) as refused:
        sender.proofs.check(bound, sender.issuer, presented, Credential("dpop", TOKEN))
    assert "gateway.public" in refused.value.operator
    sender.show(sender.proof())


@pytest.mark.parametrize("shown", [None, "", "other"])
def test_a_certificate_is_compared(shown: str | None) -> None:
    """A token that is bound to a certificate is good on connections that showed it, and on no other."""
    sender = Sender()
    sender.show(certificate="right", bound={"x5t#S256": "right"})
    with pytest.raises(Unauthenticated, match="client certificate"):
        sender.show(certificate=shown, bound={"x5t#S256": "right"})


def test_whoever_binds_twice_proves_twice() -> None:
    """Bound to a key and to a certificate, both are needed."""
    sender = later(Sender())
    both = {"jkt": sender.key.thumbprint, "x5t#S256": "right"}
    sender.show(sender.proof(), certificate="right", bound=both)
    with pytest.raises(Unauthenticated):
        sender.show(sender.proof(), certificate="wrong", bound=both)
    with pytest.raises(Unauthenticated):
        sender.show(certificate="right", bound=both)
