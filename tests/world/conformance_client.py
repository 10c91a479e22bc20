"""The SDK's conformance client, with a token and, if so told, behind a gateway that is started for it.

`python -m tests.world.conformance_client [--gateway] CLIENT FOLDER URL` is what the suite starts for each scenario: it
adds the URL of a server that lives as long as the scenario, on a port that nobody knew before. FOLDER gets the
gateway's files, and holds the issuer's.
"""

import argparse
import os
import runpy
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import httpx2

from tests.world.conformance_policy import caller_token, open_policy
from tests.world.gateway import Gateway
from tests.world.issuer import Issuer

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def main() -> None:
    """Runs the client in this process, as the suite would run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateway", action="store_true", help="lead the client through a gateway")
    parser.add_argument("client", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("url")
    asked = parser.parse_args()
    issuer = Issuer(asked.folder / "issuer")
    for name in [name for name in os.environ if name.lower() in _PROXIES]:
        del os.environ[name]
    with ExitStack() as stack:
        stack.enter_context(_showing(caller_token(issuer)))
        if asked.gateway:
            gateway = Gateway(asked.folder, open_policy(issuer, _whole(asked.url)))
            os.environ["HTTP_PROXY"] = stack.enter_context(gateway).url
        sys.argv = [str(asked.client), asked.url]
        runpy.run_path(str(asked.client), run_name="__main__")


@contextmanager
def _showing(bearer: str) -> Iterator[None]:
    """For a while every request of the process shows this token, whatever the scenario does about tokens."""
    plain = httpx2.AsyncClient.send

    async def send(client: httpx2.AsyncClient, request: httpx2.Request, **options: Any) -> httpx2.Response:
        request.headers["Authorization"] = f"Bearer {bearer}"
        return await plain(client, request, **options)

    with patch.object(httpx2.AsyncClient, "send", send):
        yield


def _whole(url: str) -> str:
    """The URL as it stands in a request: with a path."""
    return url if urlsplit(url).path else f"{url}/"


if __name__ == "__main__":
    main()
