"""A policy in force: the validated document, and where it came from."""

from pathlib import Path

from mcp_sod.policy.model import Audit, Document, Gateway
from mcp_sod.policy.patterns import Detector, compile_regex


class Policy:
    """A validated policy: the document, where it came from, and its digest (hex SHA-256 of its files)."""

    __slots__ = ("base", "digest", "document", "folder", "identity_file")

    def __init__(self, document: Document, folder: Path, digest: str, identity_file: Path) -> None:
        """`identity_file` is the file to edit when no identity provider is configured."""
        self.document = document
        self.folder = folder
        self.base = folder.parent
        self.digest = digest
        self.identity_file = identity_file

    @property
    def gateway(self) -> Gateway:
        """The gateway's own settings."""
        return self.document.gateway

    @property
    def audit(self) -> Audit:
        """The audit settings."""
        return self.document.audit

    @property
    def state(self) -> Path:
        """The state folder; a relative one stands beside the policy folder."""
        return (self.base / self.document.gateway.state).resolve()

    def detector(self, name: str) -> Detector:
        """Return a named detector, compiled."""
        part = self.document.detectors[name]
        pattern = compile_regex(part.regex) if part.regex else None
        return Detector(name, pattern, tuple(word.lower() for word in part.keywords))
