"""The gateway as people run it: mitmdump with `addons/sod.py` and a policy folder."""

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.world.process import ROOT, Process, free_port

SCRIPT = ROOT / "addons" / "sod.py"
MITMDUMP = Path(sys.executable).with_name("mitmdump")
Policy = Mapping[str, str | Mapping[str, Any]]


class Gateway(Process):
    """One mitmdump with this project's addon and a policy of its own.

    Where the policy says nothing of them, its `gateway` section gets a state folder and a console port.

    Args:
        folder: Holds the policy, the state, mitmproxy's own files and the log.
        policy: File name to content; a mapping is written as YAML, text is written as it is.
        mode: mitmdump's mode: `regular`, or `reverse:http://127.0.0.1:9000`.
        options: More words for mitmdump's command line.
        copy_script: Loads a copy of sod.py, `script`, which a test may break or delete while it runs.
        wait_for_console: Counts as ready only once the console accepts, too.
        env: Added to the environment; None takes a variable away.
    """

    def __init__(
        self,
        folder: Path,
        policy: Policy,
        *,
        mode: str = "regular",
        options: Sequence[str] = (),
        copy_script: bool = False,
        wait_for_console: bool = True,
        env: Mapping[str, str | None] | None = None,
    ) -> None:
        self.folder = folder
        self.policy_folder = folder / "policy"
        self.state = folder / "state"
        self.port, self.console_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.console_url = f"http://127.0.0.1:{self.console_port}"
        self.script = folder / "sod.py" if copy_script else SCRIPT
        self.policy_folder.mkdir(parents=True, exist_ok=True)
        if copy_script:
            shutil.copy(SCRIPT, self.script)
        self.write_policy(self._complete(policy))
        command: list[str | Path] = [
            MITMDUMP,
            "-s",
            self.script,
            "--mode",
            mode,
            "--listen-host",
            "127.0.0.1",
        ]
        command += ["--listen-port", str(self.port), "--set", f"confdir={folder / 'mitmproxy'}"]
        command += ["--set", f"sod_policy={self.policy_folder}", *options]
        ports = [self.port, *([self.console_port] if wait_for_console else [])]
        super().__init__(command, folder / "gateway.log", ports=ports, env=env)

    def write_policy(self, files: Policy) -> None:
        """Writes these files into the policy folder, each in one step, since a gateway may be reading."""
        for name, content in files.items():
            text = content if isinstance(content, str) else yaml.safe_dump(dict(content), sort_keys=False)
            fresh = self.folder / f"{name}.new"
            fresh.write_text(text)
            fresh.replace(self.policy_folder / name)

    def _complete(self, policy: Policy) -> Policy:
        """The policy with this gateway's state folder and console put where it does not name its own."""
        mine = {"state": str(self.state), "console": f"127.0.0.1:{self.console_port}"}
        for name, content in policy.items():
            if isinstance(content, Mapping) and "gateway" in content:
                return {**policy, name: {**content, "gateway": {**mine, **content["gateway"]}}}
            if isinstance(content, str) and re.search(r"(?m)^gateway\s*:", content):
                return policy
        return {**policy, "gateway.yaml": {"gateway": mine}}
