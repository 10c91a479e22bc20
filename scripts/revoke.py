#!/usr/bin/env python3
"""The `revoke` command of a checkout; see --help."""

import _venv  # noqa: F401 (re-runs this in the checkout's .venv)
from mcp_sod.cli.revoke import app

app()
