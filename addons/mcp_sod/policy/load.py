"""Loads a policy folder: all its YAML files together make one policy, valid as a whole or not at all."""

import difflib
import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mcp_sod.errors import PolicyError
from mcp_sod.policy.addresses import address, route
from mcp_sod.policy.findings import Approval
from mcp_sod.policy.model import Document
from mcp_sod.policy.part import Part
from mcp_sod.policy.people import VIEWER
from mcp_sod.policy.policy import Policy
from mcp_sod.policy.source import MAX_FILE, Source, Trail
from mcp_sod.policy.upstreams import Upstream


def load(folder: Path) -> Policy:
    """Return the folder's policy; raises PolicyError naming file, line, key and remedy."""
    files = policy_files(folder)
    source, digest = Source(), hashlib.sha256()
    for file in files:
        raw = _read(file)
        digest.update(f"{file.name}\0{len(raw)}\0".encode() + raw)
        source.add(file, _text(file, raw))
    document = _validated(source)
    for path, sentence in _dangling(document):
        raise PolicyError(f"{source.place(path)}: {_dotted(path)}: {sentence[0]}", hint=sentence[1])
    identity, saml = ((folder / source.place((section,)).rpartition(":")[0]).resolve() for section in _REFERRING)
    return Policy(document, folder.resolve(), digest.hexdigest(), identity, saml)


_REFERRING = ("identity", "saml")  # sections that refer to files which may turn out to be amiss


def policy_files(folder: Path) -> list[Path]:
    """Return the folder's YAML files in the order in which they are read."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml") and path.is_file())
    except OSError as error:
        raise PolicyError(
            f"The policy folder {folder} cannot be read: {error.strerror}.",
            hint="Give another folder.",
        ) from None
    if not files:
        raise PolicyError(f"The policy folder {folder} holds no .yaml file.", hint="Copy policies/ to begin with.")
    return files


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_FILE + 1)
    except OSError as error:
        raise PolicyError(f"{file.name} cannot be read: {error.strerror}.") from None
    if len(raw) > MAX_FILE:
        raise PolicyError(f"{file.name} is larger than {MAX_FILE} bytes.", hint="Split it into several files.")
    return raw


def _text(file: Path, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise PolicyError(f"{file.name} is not UTF-8.", hint="Save it as UTF-8.") from None


def _validated(source: Source) -> Document:
    try:
        return Document.model_validate(source.tree)
    except ValidationError as error:
        found = [(_path(details), details) for details in error.errors(include_url=False)]
        inner = {path[:-1] for path, _ in found}  # of several shapes, the one that was begun is what was meant
        meant = [each for each in found if not (each[0] in inner and each[0] and each[0][-1] in _SHAPES)]
        meant.sort(key=lambda each: each[1]["type"] == "missing" and len(each[0]) == 1)  # no line of any file: last
        raise PolicyError("\n".join(dict.fromkeys(_explained(source, *each) for each in meant))) from None


def _path(details: ErrorDetails) -> Trail:
    return tuple(part for part in details["loc"] if part not in _UNION_ARMS and not str(part).startswith(_ARMS))


def _explained(source: Source, path: Trail, details: ErrorDetails) -> str:
    key = _dotted(path)
    match details["type"]:
        case "extra_forbidden":
            return f"{source.place(path)}: {key}: unknown key. {_nearest(path)}"
        case "missing" if len(path) == 1:
            lost = "Add it (or restore the file that held it; write it empty if that is meant)"
            return f"{key}: is missing from the policy folder. {lost}."
        case "missing":
            return f"{source.place(path)}: {key}: is missing. Add it."
        case "literal_error" | "model_type" | "dict_type" | "string_type" | "list_type" if path[-1] in _SHAPES:
            return f"{source.place(path)}: {key}: must be {_SHAPES[str(path[-1])]}."
        case _:
            return f"{source.place(path)}: {key}: {details['msg'].removeprefix('Value error, ')}."


_SHAPES = {  # what has several
    "keys": "the word discover, or {url: https://…/jwks}, or {file: jwks.json}",
    "machine": "'none', 'all' or {claim: NAME, equals: VALUE}",
    "when_unavailable": "'refuse' or {refuse_after: 10MiB}",
}
_UNION_ARMS = {
    "literal['refuse']", "Refuse", "literal['none','all']", "Machine", "[key]", "literal['discover']", "Keys",
    "constrained-list", "str",
}  # fmt: skip
_ARMS = ("function-", "list[")


def _nearest(path: Trail) -> str:
    known = sorted(_known_keys(path))
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    return f"Did you mean {close[0]}?" if close else f"Remove it; there are {', '.join(known)}."


def _known_keys(path: Trail) -> set[str]:
    """Return the keys that may stand where the path ends."""
    here: set[type[Part]] = {Document}
    for step in path[:-1]:  # an index, or a name that someone gave, leads to no other part
        fields = [field for part in here for name, field in part.model_fields.items() if step in (name, field.alias)]
        here = {part for field in fields for part in _parts(field.annotation)} or here
    return {field.alias or name for part in here for name, field in part.model_fields.items()}


def _parts(annotation: object) -> Iterator[type[Part]]:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
    for inner in get_args(annotation):
        yield from _parts(inner)


def _dotted(path: Trail) -> str:
    return ".".join(map(str, path)) or "policy"


type _Fault = tuple[Trail, tuple[str, str]]


def _dangling(document: Document) -> Iterator[_Fault]:
    """Yield names that point nowhere: a rule about a role that does not exist protects nothing."""
    yield from _dangling_duties(document)
    yield from _dangling_rules(document)
    for index, mask in enumerate(document.masking):
        for name in mask.detect:
            yield from _unknown(("masking", index, "detect"), name, document.detectors, "detector")
        for name in mask.raw_for:
            yield from _unknown(("masking", index, "raw_for"), name, document.roles, "role")
    yield from _repeated("rules", [rule.id for rule in document.rules])
    yield from _repeated("masking", [mask.id for mask in document.masking])
    yield from _same_place(document)
    known = [*(issuer.issuer for issuer in document.identity), *(saml.entity for saml in document.saml.values())]
    yield from _repeated("identity", known)
    yield from _dangling_exchanges(document, known)
    opaque = [index for index, issuer in enumerate(document.identity) if issuer.introspection is not None]
    if len(opaque) > 1:
        yield ("identity", opaque[1], "introspection"), (
            "another issuer has it already, and an opaque token does not tell whose it is.", "Keep one of the two.",
        )  # fmt: skip


def _dangling_exchanges(document: Document, known: Collection[str]) -> Iterator[_Fault]:
    for name, upstream in document.upstreams.items():
        exchange = upstream.credential.exchange if upstream.credential else None
        for issuer in (exchange.issuers if exchange else None) or ():
            where = ("upstreams", name, "credential", "exchange", "issuers")
            if issuer not in known:
                hint = "Name an issuer of identity:, or the entity of one in saml:."
                yield where, (f"there is no issuer {issuer!r}.", hint)


def _dangling_rules(document: Document) -> Iterator[_Fault]:
    for index, rule in enumerate(document.rules):
        for name in rule.detect:
            yield from _unknown(("rules", index, "detect"), name, document.detectors, "detector")
        for name in rule.where.upstreams:
            yield from _unknown(("rules", index, "where", "upstreams"), name, document.upstreams, "upstream")
        if rule.action == "hold":
            yield from _unknown(("rules", index), (rule.approval or Approval()).role, document.roles, "role")


def _dangling_duties(document: Document) -> Iterator[_Fault]:
    roles, upstreams = document.roles, document.upstreams
    for role, permissions in document.permissions.items():
        yield from _unknown(("permissions", role), role, roles, "role")
        for index, permission in enumerate(permissions):
            yield from _unknown(("permissions", role, index, "upstream"), permission.upstream, upstreams, "upstream")
    for index, rule in enumerate(document.separation.exclusions):
        for name in rule.roles:
            yield from _unknown(("separation", "static", index), name, roles, "role")
    for index, by_object in enumerate(document.separation.by_object):
        for place, duty in enumerate(by_object.duties):
            if duty.upstream is not None:
                where = ("separation", "by_object", index, "duties", place, "upstream")
                yield from _unknown(where, duty.upstream, upstreams, "upstream")
    if document.revocation.role is not None:
        yield from _unknown(("revocation", "role"), document.revocation.role, roles, "role")
    yield from _dangling_delivery(document)


def _dangling_delivery(document: Document) -> Iterator[_Fault]:
    delivery, upstreams = document.delivery, document.upstreams
    for index, rule in enumerate(delivery.rules):
        yield from _unknown(("delivery", "rules", index, "to"), rule.to, document.roles, "role")
        if rule.upstream is not None:
            where = ("delivery", "rules", index, "upstream")
            yield from _unknown(where, rule.upstream, document.upstreams, "upstream")
        elif sse := next((name for name, there in upstreams.items() if there.speaks == "mcp-sse"), None):
            yield ("delivery", "rules", index), _on_its_stream(sse)
        if rule.upstream in upstreams and upstreams[rule.upstream].speaks == "mcp-sse":
            yield ("delivery", "rules", index), _on_its_stream(rule.upstream)
        elif rule.upstream in upstreams and upstreams[rule.upstream].speaks != "mcp":
            sentence = f"{rule.upstream!r} has no tools whose results could be handed over."
            yield ("delivery", "rules", index), (sentence, "Name an upstream that speaks mcp.")
    if delivery.default == "receipt":
        yield from _unknown(("delivery", "default"), VIEWER, document.roles, "role")
        if sse := next((name for name, there in upstreams.items() if there.speaks == "mcp-sse"), None):
            yield ("delivery", "default"), _on_its_stream(sse)


def _on_its_stream(upstream: str) -> tuple[str, str]:
    return (
        f"{upstream!r} speaks mcp-sse: its answers come on a stream that their sender reads.",
        "Name an upstream that speaks mcp, or have this one's results delivered inline.",
    )


def _unknown(path: Trail, name: str, known: Collection[str], kind: str) -> Iterator[_Fault]:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Define it under {kind}s:, or correct the name."
        yield path, (f"there is no {kind} {name!r}.", hint)


def _same_place(document: Document) -> Iterator[_Fault]:
    """Yield upstreams that share an address with another: a call for the one could pass as one for the other."""
    known = list(document.upstreams.items())
    for index, (name, upstream) in enumerate(known):
        here = ("upstreams", name, "url")
        for other, there in known[:index]:
            if address(upstream.url) != address(there.url):
                continue
            if route(upstream.url) == route(there.url):
                yield here, (f"{other!r} has this address already.", "Keep one of the two.")
            elif "mcp-sse" in (upstream.speaks, there.speaks) and "mcp" not in (upstream.speaks, there.speaks):
                sentence = f"{other!r} is at this host and port, where an mcp-sse server gives out endpoints."
                yield here, (sentence, "Give the mcp-sse server a host or port of its own.")
            elif _covers(upstream, there) or _covers(there, upstream):
                sentence = f"its address and that of {other!r} lie one below the other."
                yield here, (sentence, "Another spelling of a path would lead to the wrong one: keep them apart.")


def _covers(wide: Upstream, narrow: Upstream) -> bool:
    """Say whether some spelling of the narrow one's address could be taken for one of the wide one's."""
    base, path = (urlsplit(upstream.url).path or "/" for upstream in (wide, narrow))
    if wide.speaks == "http" and not base.endswith("/"):
        return path == base
    return wide.speaks != "mcp" and f"{path}/".startswith(f"{base.rstrip('/')}/")


def _repeated(section: str, names: list[str]) -> Iterator[_Fault]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (section, index), (f"{name!r} is used twice.", "Give each its own name.")
