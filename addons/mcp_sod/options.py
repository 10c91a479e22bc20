"""Which of mitmproxy's options may be changed; every other change could undo the policy, so it stops the start.

An allow-list: an option that a later mitmproxy brings is refused until someone has looked at it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from mcp_sod.errors import StartError

ALLOWED = frozenset({
    "certs", "cert_passphrase", "ciphers_client", "ciphers_server", "client_certs", "confdir", "flow_detail",
    "http2", "http2_ping_keepalive", "keep_host_header", "keepserving", "key_size", "listen_host", "listen_port",
    "mode", "request_client_cert", "scripts", "server", "sod_policy", "ssl_verify_upstream_trusted_ca",
    "ssl_verify_upstream_trusted_confdir", "tcp_timeout", "termlog_verbosity", "tls_ecdh_curve_client",
    "tls_ecdh_curve_server", "tls_version_client_max", "tls_version_client_min", "tls_version_server_max",
    "tls_version_server_min", "proxy_debug",
})  # fmt: skip

FORCED: Mapping[str, object] = {
    "rawtcp": False,  # bytes that are not HTTP would pass with no hook
    "websocket": False,
    "http3": False,
    "connection_strategy": "lazy",  # nothing is said to an upstream before a call is released
    "validate_inbound_headers": True,
    "onboarding": False,
    "keep_host_header": True,  # as its sender knows us; `Release` puts the upstream's own there, unless told not to
}

_WHY = {
    "stream_large_bodies": "bodies would be upstream before they are inspected",
    "ignore_hosts": "traffic would pass without inspection",
    "allow_hosts": "traffic would pass without inspection",
    "tcp_hosts": "traffic would pass without inspection",
    "udp_hosts": "traffic would pass without inspection",
    "ssl_insecure": "an upstream could be impersonated",
    "save_stream_file": "unmasked payloads would be written to disk",
    "hardump": "unmasked payloads would be written to disk",
}


def complaint(
    options: Iterable[tuple[str, object, object]], limit: int, upstreams: Collection[tuple[str, int]] | None = None
) -> StartError | None:
    """Return the error for the first options that undo the policy, or None.

    `options`: (name, value, default) of every option of mitmproxy; `limit`: the policy's body limit in bytes;
    `upstreams`: host and port of each of the policy's, if a reverse proxy may lead to nothing else.
    """
    current = {name: (value, default) for name, value, default in options}
    wrong = [*_changed(current, limit), *_modes(current, upstreams), *_scripts(current)]
    if not wrong:
        return None
    return StartError(
        "mitmproxy was given options that undo the policy: " + "; ".join(wrong) + ".",
        hint="Remove them from the command line and from config.yaml in mitmproxy's confdir.",
    )


def forced(limit: int) -> dict[str, object]:
    """Return the options that the gateway sets itself; `limit` in bytes caps a body while it is read."""
    return {**FORCED, "body_size_limit": str(limit)}


def _changed(current: Mapping[str, tuple[object, object]], limit: int) -> Iterator[str]:
    settled = forced(limit)
    for name, (value, default) in current.items():
        if name in ALLOWED or value == default or (name in settled and value == settled[name]):
            continue
        yield f"{name} ({_WHY.get(name, 'not an option that this gateway can work with')})"


def unknown(names: Iterable[str]) -> StartError | None:
    """Return the error for options that look like the gateway's own and are none, or None."""
    wrong = sorted(name for name in names if name.startswith("sod_"))
    if not wrong:
        return None
    return StartError(f"There is no option {', '.join(wrong)}.", hint="The gateway's one option is sod_policy.")


def _modes(
    current: Mapping[str, tuple[object, object]], upstreams: Collection[tuple[str, int]] | None
) -> Iterator[str]:
    modes = current["mode"][0] if "mode" in current else []
    for mode in modes if isinstance(modes, list | tuple) else [modes]:
        kind = str(mode).partition("@")[0]
        if kind != "regular" and not kind.startswith(("reverse:http://", "reverse:https://")):
            yield f"mode {kind} (use regular, or reverse:http(s)://…)"
        elif kind != "regular" and upstreams is not None and (there := _leads_to(kind)) not in upstreams:
            at = "; ".join(f"{host}:{port}" for host, port in sorted(upstreams)) or "nowhere"
            yield f"mode {kind} (no upstream of the policy is at {there[0]}:{there[1]}; they are at {at})"


def _leads_to(mode: str) -> tuple[str, int]:
    """Return where a reverse proxy leads to; port 0 is nowhere."""
    parts = urlsplit(mode.removeprefix("reverse:"))
    try:
        return parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]
    except ValueError:
        return mode, 0


def _scripts(current: Mapping[str, tuple[object, object]]) -> Iterator[str]:
    scripts = current["scripts"][0] if "scripts" in current else []
    if isinstance(scripts, list | tuple) and len(scripts) > 1:
        yield "scripts (another script could change what was inspected; load sod.py alone)"
