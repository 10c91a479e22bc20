"""A log's checkpoints under examination, in a store of a few lines."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mcp_sod.audit.examination import Examination, Known
from mcp_sod.audit.layout import checkpoint_key
from mcp_sod.audit.note import Signer
from mcp_sod.audit.reader import Object, Source
from mcp_sod.audit.report import Problem
from mcp_sod.audit.store import Version

from tests.unit.audit.test_objects import NOW, Versioned

SIGNER = Signer("mcp-sod/gw-1", Ed25519PrivateKey.from_private_bytes(bytes(32)))
KEY = checkpoint_key("gw-1", 3)


def kinds(*notes: bytes) -> list[str]:
    """The kinds of problems with a checkpoint that has these versions, and no records."""
    store = Versioned({str(number): note for number, note in enumerate(notes)})
    oldest, *later = (Version(KEY, str(number), NOW) for number in range(len(notes)))
    source = Source("gw-1", (), ((3, Object(KEY, oldest, tuple(later), 0)),))
    problems: list[Problem] = []
    Examination(store, source, Known([SIGNER.public]), problems.append, lambda: None).check()
    return [problem.kind for problem in problems]


def test_one_statement_without_records_is_a_cut_log() -> None:
    """The control: one good checkpoint, said twice, is only evidence that its records are gone."""
    assert kinds(SIGNER.sign(3, bytes(32)), SIGNER.sign(3, bytes(32))) == ["truncated"]


def test_two_roots_for_one_size_are_a_fork() -> None:
    """Two versions, both signed, with different roots: someone with the key tells two stories."""
    assert kinds(SIGNER.sign(3, bytes(32)), SIGNER.sign(3, b"x" * 32)) == ["shadowed", "fork", "truncated"]


def test_a_statement_of_another_log_is_swapped() -> None:
    """A checkpoint that the same key signed for another size does not speak for this one."""
    assert "swapped" in kinds(SIGNER.sign(4, bytes(32)))
