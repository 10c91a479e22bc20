"""Loads a policy folder: all its YAML files together make one policy, valid as a whole or not at all."""

import difflib
import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
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
    identity = next((file for file in files if file.stem == "identity"), files[0])
    return Policy(document, folder.resolve(), digest.hexdigest(), identity.resolve())


def policy_files(folder: Path) -> list[Path]:
    """Return the folder's YAML files in the order in which they are read."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml") and path.is_file())
    except OSError as error:
        raise PolicyError(
            f"The policy folder {folder} cannot be read: {error.strerror}.",
            hint="Give another with --set sod_policy=FOLDER.",
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
        lines = [_explained(source, details) for details in error.errors(include_url=False)]
        raise PolicyError("\n".join(lines)) from None


def _explained(source: Source, details: ErrorDetails) -> str:
    path = tuple(part for part in details["loc"] if part not in _UNION_ARMS and not str(part).startswith(_ARMS))
    key = _dotted(path)
    match details["type"]:
        case "extra_forbidden":
            return f"{source.place(path)}: {key}: unknown key. {_nearest(path)}"
        case "missing":
            lost = " (or restore the file that held it; write it empty if that is meant)" if len(path) == 1 else ""
            return f"{source.place(path)}: {key}: is missing. Add it{lost}."
        case _:
            return f"{source.place(path)}: {key}: {details['msg'].removeprefix('Value error, ')}."


_UNION_ARMS = {
    "literal['refuse']", "Refuse", "literal['none','all']", "Machine", "[key]", "literal['discover']", "Keys",
    "constrained-list", "str",
}  # fmt: skip
_ARMS = ("function-", "list[")


def _nearest(path: Trail) -> str:
    known = sorted({name for name in _known_keys() if name != path[-1]})
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    return f"Did you mean {close[0]}?" if close else "Remove it, or see policies/ for the keys there are."


def _known_keys() -> Iterator[str]:
    for part in Part.__subclasses__():
        for name, found in part.model_fields.items():
            yield found.alias or name


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
    opaque = [index for index, issuer in enumerate(document.identity) if issuer.introspection is not None]
    if len(opaque) > 1:
        yield ("identity", opaque[1], "introspection"), (
            "another issuer has it already, and an opaque token does not tell whose it is.", "Keep one of the two.",
        )  # fmt: skip


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
