"""Where the gateway's own secrets are read from; a policy never holds one itself."""

import os
from pathlib import Path
from typing import Self

from pydantic import model_validator

from mcp_sod.errors import Unavailable
from mcp_sod.policy.part import Part


class Secret(Part):
    """Where a secret is."""

    env: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("a secret is either {env: NAME} or {file: PATH}")
        return self


def read_secret(base: Path, secret: Secret, of: str = "this upstream") -> str:
    """Return a secret of the gateway's; raises Unavailable, which names its place, where it cannot be used.

    `base`: the folder that a relative path starts from; `of`: whom it is shown to.
    """
    if secret.env is not None:
        found, where = os.environ.get(secret.env, ""), f"the environment variable {secret.env}"
    else:
        assert secret.file is not None
        found, where = _read(base / secret.file), f"the file {base / secret.file}"
    if not found or not found.isascii() or not found.isprintable():
        raise Unavailable(f"The gateway's own credential for {of} is missing.", operator=f"Put it into {where}.")
    return found


def _read(file: Path) -> str:
    # A few bytes, cached by the kernel, read anew each time: a rotated secret is used at once.
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
