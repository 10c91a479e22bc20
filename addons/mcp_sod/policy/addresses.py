"""URLs in the one form in which two that lead to the same place are equal."""

from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


def route(url: str) -> str:
    """Return `scheme://host:port/path` with the query if there is one."""
    parts = urlsplit(url)
    host, port = address(url)
    host = f"[{host}]" if ":" in host else host
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{host}:{port}{parts.path or '/'}{query}"


def address(url: str) -> tuple[str, int]:
    """Return host and port; raises ValueError for a port that is none."""
    parts = urlsplit(url)
    return (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme]


def target(url: str) -> str:
    """Return path and query of a URL that has a path."""
    return "/" + url.partition("://")[2].partition("/")[2]
