"""A gateway that believes the issuers of one truth table, and all that a caller may show to it."""

import ssl
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tests.world.dpop import Key, hashed
from tests.world.echo import Echo
from tests.world.issuer import AUDIENCE, Issuer
from tests.world.keys import Algorithm
from tests.world.process import accepts, free_port
from tests.world.scene import GOOD, Scene
from tests.world.tls import Authority, SecureEcho

UPSTREAMS = ("tools", "local", "secure", "http")
EVERYONE = "everyone"  # the group that every good token gives here, so that each good call arrives
PUBLIC = "https://mcp.example"
SECRET = "a secret of the gateway's"  # noqa: S105 (made up)


def filled(value: Any, names: Mapping[str, str]) -> Any:
    """The value with `{name}` replaced in each text of it."""
    match value:
        case str():
            for name, meant in names.items():
                value = value.replace(f"{{{name}}}", meant)
            return value
        case Mapping():
            return {filled(key, names): filled(inner, names) for key, inner in value.items()}
        case list():
            return [filled(inner, names) for inner in value]
    return value


class Lobby:
    """Issuers, keys, certificates, upstreams by name, and the gateway between, in forward and in reverse mode.

    Args:
        folder: Where all of it lives.
        policy: `issuers` (what differs about each, by name), `revoked`, and `public` (whether it knows its address).
        groups: Groups that a record must tell apart, each of which gives a role of its own.
        algorithms: Which the issuers sign with.
    """

    def __init__(
        self, folder: Path, policy: Mapping[str, Any], groups: Iterable[str], algorithms: Iterable[Algorithm]
    ) -> None:
        self._stack = ExitStack()
        self.issuers = {name: Issuer(folder / name, f"https://{name}.example") for name in policy["issuers"]}
        for issuer in self.issuers.values():
            for algorithm in algorithms:
                issuer.key(algorithm)  # published before the gateway reads them
        self.own: dict[Algorithm, Key] = {name: Key.fresh(name) for name in ("ES256", "RS256", "EdDSA")}
        self.other = Key.fresh()
        self.desk = self._stack.enter_context(Echo())
        self.secret_file = folder / "secret"
        self.secret_file.write_text(SECRET)
        authority = Authority(folder / "authority")
        self.certificates = {name: authority.issue(name) for name in ("mine", "another")}
        secure = self._stack.enter_context(SecureEcho(authority.issue("localhost"), protocols=["http/1.1"]))
        local = self._stack.enter_context(Echo(GOOD))
        others = {"local": f"http://localhost:{local.port}/mcp", "secure": secure.url}
        self._roles = {group: f"g{number}" for number, group in enumerate(sorted({*groups, *policy.get("groups", ())}))}
        self.reverse_port = free_port()
        self.scene = Scene(
            folder,
            identity={"identity": [self._section(name, changed) for name, changed in policy["issuers"].items()]},
            roles=self._duties(filled(policy.get("revoked", []), self._names())),
            rules={"rules": []},
            upstreams={name: {"url": url, "speaks": "mcp"} for name, url in others.items()},
            others=["http"],
            settings={"public": [PUBLIC, f"{PUBLIC}:8443"] if policy.get("public", True) else []},
            options=["--set", "request_client_cert=true",
                     "--set", f"ssl_verify_upstream_trusted_ca={authority.file}"],
        )  # fmt: skip
        self.scene.gateway.command += ["--mode", f"reverse:http://127.0.0.1:{self.scene.echo.port}@{self.reverse_port}"]
        self.echoes = {"tools": self.scene.echo, "http": self.scene.echo, "local": local, "secure": secure}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._stack.close)
            stack.enter_context(self.scene)
            assert accepts(self.reverse_port)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def names(self, to: str = "tools", holder: Algorithm = "ES256") -> dict[str, str]:
        """What stands for what in a row: `{jkt}`, `{x5t}`, `{port}` and `{url}` of the upstream, and more."""
        url = {"local": f"http://localhost:{self.echoes['local'].port}/mcp", "http": self._http(), "tools": ""}.get(to)
        echo = self.echoes[to]
        return self._names(holder) | {"port": str(echo.port), "url": url or echo.url, "public": f"{PUBLIC}/mcp"}

    def groups_of(self, roles: Iterable[str]) -> list[str]:
        """The groups that a record's roles tell of."""
        known = {role: group for group, role in self._roles.items()}
        return sorted(known[role] for role in roles if role in known)

    @property
    def upstreams(self) -> set[Echo]:
        """Every one of them."""
        return set(self.echoes.values())

    def client(self, certificate: str | None) -> ssl.SSLContext:
        """A client's TLS that shows this certificate, or none."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is the gateway that is tested
        if certificate is not None:
            context.load_cert_chain(self.certificates[certificate])
        return context

    def _http(self) -> str:
        return f"http://127.0.0.1:{self.scene.echo.port}/http/orders"

    def _names(self, holder: Algorithm = "ES256") -> dict[str, str]:
        first = next(iter(self.issuers.values()))
        return {
            "jkt": self.own[holder].thumbprint,
            "other_jkt": self.other.thumbprint,
            "x5t": _thumbprint(self.certificates["mine"]),
            "kid": first.key("ES256").kid,
        }

    def _section(self, name: str, changed: Mapping[str, Any]) -> dict[str, Any]:
        issuer = self.issuers[name]
        whole: dict[str, Any] = {
            "issuer": issuer.url,
            "audience": [AUDIENCE],
            "keys": {"file": str(issuer.jwks_file)},
            "algorithms": ["ES256", "RS256", "EdDSA"],
            "machine": {"claim": "gty", "equals": "client-credentials"},
            **changed,
            "claims": {"groups": "groups", "actors": ["act.sub", "actor"], **changed.get("claims", {})},
            "grants": [{"groups": [EVERYONE], "when": {"sub": "*"}}, *changed.get("grants", [])],
        }
        names = {"desk": f"http://127.0.0.1:{self.desk.port}/introspect", "secret": str(self.secret_file)}
        return {key: filled(value, names) for key, value in whole.items() if value is not None}

    def _duties(self, revoked: list[Any]) -> dict[str, Any]:
        told = {role: {"groups": [group]} for group, role in self._roles.items()}
        wanted = {"raw-viewer": {"groups": ["stewards"]}}
        return {
            "roles": {"caller": {"groups": [EVERYONE]}, **told, **wanted},
            "permissions": {"caller": [{"upstream": name, "methods": ["*"], "tools": ["*"]} for name in UPSTREAMS]},
            "separation": {},
            "delivery": {},
            "revocation": {"revoked": revoked},
        }


def _thumbprint(certificate: Path) -> str:
    """A certificate's SHA-256 as tokens name it (RFC 8705, section 3.1)."""
    text = certificate.read_text()
    return hashed(ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERT") :]))
