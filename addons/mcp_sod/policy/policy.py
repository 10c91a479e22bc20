"""A policy in force: the validated document, what it looks for compiled, and where it came from."""

import re
from pathlib import Path

from mcp_sod.policy.findings import Mask, Rule
from mcp_sod.policy.model import Audit, Document, Gateway
from mcp_sod.policy.patterns import Detector, Sweep, detector


class Policy:
    """A validated policy. Its digest is the hex SHA-256 of its files; relative paths in it start from `base`."""

    def __init__(
        self, document: Document, folder: Path, digest: str, identity_file: Path, saml_file: Path | None = None
    ) -> None:
        """`identity_file` and `saml_file` are the files to edit when something is wrong about these sections."""
        self.document = document
        self.folder = folder
        self.base = folder.parent
        self.digest = digest
        self.identity_file = identity_file
        self.saml_file = saml_file or identity_file
        named = {name: detector(name, part.regex, part.keywords) for name, part in document.detectors.items()}
        self._of_rules = {rule.id: _rule_detectors(rule, named) for rule in document.rules}
        self._of_masks = {mask.id: _mask_detectors(mask, named) for mask in document.masking}
        used = [*self._of_rules.values(), *self._of_masks.values()]
        self.sweep = Sweep(dict.fromkeys(found for detectors in used for found in detectors))

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

    def rule_detectors(self, rule: Rule) -> tuple[Detector, ...]:
        """Return what a rule looks for."""
        return self._of_rules[rule.id]

    def mask_detectors(self, mask: Mask) -> tuple[Detector, ...]:
        """Return what a mask looks for in values."""
        return self._of_masks[mask.id]


def _rule_detectors(rule: Rule, named: dict[str, Detector]) -> tuple[Detector, ...]:
    own = [detector(rule.id, rule.regex, rule.keywords)] if rule.regex or rule.keywords else []
    return (*(named[name] for name in rule.detect), *own)


def _mask_detectors(mask: Mask, named: dict[str, Detector]) -> tuple[Detector, ...]:
    own = [detector(mask.id, mask.regex)] if mask.regex else []
    if mask.fields:
        own.append(detector(mask.id, _field_in_text(mask.fields), group=1))
    return (*(named[name] for name in mask.detect), *own)


def _field_in_text(fields: list[str]) -> str:
    """Return the pattern of `name: value` and `name=value` in free text; its group 1 is the value alone."""
    names = "|".join(re.escape(field).replace(r"\*", r"[\w-]*").replace(r"\?", r"[\w-]") for field in fields)
    # A marker that stands there already is taken whole; a quotation that never ends, as far as it goes.
    value = r"""\[masked:[\w.-]+\]|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|["']?[^\s,;&}\]"']+"""
    return rf"""(?i)(?:^|[^\w-])(?:{names})\s*["']?\s*[:=]\s*({value})"""
