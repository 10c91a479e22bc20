"""Processes that are started, waited for and ended by their own pid."""

import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]


class ProcessFailedError(AssertionError):
    """A process ended or stayed silent when it should have become ready; the message ends with its log."""


def free_port() -> int:
    """A TCP port on loopback that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether something accepts connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """One command with a log of its own, ready once its ports accept and its log says so.

    Args:
        command: Program and arguments.
        log_file: Where stdout and stderr go; kept, and appended to by a restart.
        ports: Loopback ports that must accept before it counts as ready.
        says: Text that must appear in the log before it counts as ready.
        env: Added to this process's environment; None takes a variable away.
        patience: Seconds to wait until it is ready.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        log_file: Path,
        *,
        ports: Sequence[int] = (),
        says: str = "",
        env: Mapping[str, str | None] | None = None,
        patience: float = 30,
    ) -> None:
        self.command = [str(part) for part in command]
        self.log_file = log_file
        self.ports = tuple(ports)
        self.says = says
        self.env = {key: value for key, value in {**os.environ, **(env or {})}.items() if value is not None}
        self.patience = patience
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the running child."""
        return self._running().pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._child.poll() if self._child else None

    @property
    def log(self) -> str:
        """Everything it has written, restarts included."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self) -> Self:
        """Starts it and waits until it is ready.

        Raises:
            ProcessFailedError: It ended early or was not ready in time.
        """
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            self._child = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, cwd=ROOT
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, patience: float = 10) -> int | None:
        """Asks it to end with SIGTERM, kills it after `patience` seconds; gives its exit status."""
        if self._child is None:
            return None
        self._child.terminate()
        try:
            return self._child.wait(patience)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int | None:
        """Ends it with SIGKILL: no farewell, no flush."""
        if self._child is None:
            return None
        self._child.kill()
        return self._child.wait()

    def restart(self) -> Self:
        """Stops it and starts the same command again."""
        self.stop()
        return self.start()

    def wait(self, patience: float = 30) -> int:
        """Waits until it ends by itself; gives its exit status."""
        return self._running().wait(patience)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._child is not None, f"{self.command[0]} was not started"
        return self._child

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.patience
        while not self._ready():
            if self.returncode is not None:
                self._fail(f"ended with status {self.returncode}")
            if time.monotonic() > deadline:
                self._fail(f"was not ready after {self.patience:g} s")
            time.sleep(0.02)

    def _ready(self) -> bool:
        said = not self.says or self.says.encode() in self.log_file.read_bytes()[self._log_start :]
        # The child is asked last: a port that accepts may belong to a stranger, while the child has failed.
        return said and all(accepts(port) for port in self.ports) and self.returncode is None

    def _fail(self, what: str) -> None:
        tail = "\n".join(self.log.splitlines()[-30:])
        message = f"{' '.join(self.command)} {what}\n{tail}"
        raise ProcessFailedError(message)
