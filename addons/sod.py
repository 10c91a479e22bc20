"""What mitmdump loads: `mitmdump -s addons/sod.py`. The product is in mcp_sod/chain.py."""

from mcp_sod.chain import Chain

addons = [Chain()]
