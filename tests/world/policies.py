"""The default policy of this checkout, with the world's own identity provider and upstream put in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.world.issuer import AUDIENCE, Issuer
from tests.world.process import ROOT

DEFAULT = ROOT / "policies"


def identity(*issuers: Issuer) -> dict[str, Any]:
    """The identity section that believes these issuers, by their key files."""
    return {
        "identity": [
            {
                "issuer": issuer.url,
                "audience": [AUDIENCE],
                "keys": {"file": str(issuer.jwks_file)},
                "algorithms": ["ES256", "RS256", "EdDSA"],
                "claims": {"groups": "groups", "person": ["email"], "actors": ["act.sub", "actor"]},
                "machine": {"claim": "gty", "equals": "client-credentials"},
            }
            for issuer in issuers
        ]
    }


def default_policy(
    issuer: Issuer, upstream: str, *, hold: str = "1s", upstreams: Mapping[str, Any] | None = None, **changed: Any
) -> dict[str, str | Mapping[str, Any]]:
    """The files of the default policy; `changed` replaces whole files, such as `audit={"audit": {…}}`."""
    files: dict[str, str | Mapping[str, Any]] = {file.name: file.read_text() for file in sorted(DEFAULT.glob("*.yaml"))}
    settings = yaml.safe_load(str(files["gateway.yaml"]))
    settings["gateway"] = {"name": "gw-test", "limits": {"hold": hold}}
    settings["upstreams"] = {"tools": {"url": upstream, "speaks": "mcp"}, **(upstreams or {})}
    files |= {"gateway.yaml": settings, "identity.yaml": identity(issuer)}
    return files | {f"{name}.yaml": content for name, content in changed.items()}


def with_store(store: str | Path) -> dict[str, Any]:
    """The audit section that keeps its records there."""
    return {"audit": {"store": str(store)}}
