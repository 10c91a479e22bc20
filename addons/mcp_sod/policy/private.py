"""URLs over which nobody can listen in."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator


def private(url: str) -> str:
    """Return a URL over which nobody can listen in: https, or http on a loopback address; raises ValueError."""
    parts = urlsplit(url)
    loopback = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not (loopback or (parts.scheme == "https" and parts.hostname)):
        raise ValueError("must be an https URL (http only on a loopback address)")
    return url


Private = Annotated[str, AfterValidator(private)]
