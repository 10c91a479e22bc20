"""Machines on a network of their own: Linux network namespaces on one bridge, with IPv4 and IPv6.

The namespaces have no names: each lives as long as this process keeps it open, so that nothing is left behind, however
the tests end. Whatever is started by `Machine.run` belongs to the machine: sockets, threads' servers and processes.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from tests.world.echo import Echo, Reply

PROGRAMS = ("ip", "nft")
PREFIX4, PREFIX6 = "192.0.2", "2001:db8:"  # RFC 5737, RFC 3849: nobody's


def available() -> bool:
    """Whether namespaces can be made here, and are not refused to root either."""
    if not all(shutil.which(program) for program in PROGRAMS):
        return False
    try:
        os.close(_new_namespace())
    except OSError:
        return False
    return True


def _new_namespace() -> int:
    """A descriptor of a new network namespace; raises OSError where that is not allowed."""

    def make() -> int:
        os.unshare(os.CLONE_NEWNET)  # of this thread alone, which then ends
        return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    return _in_thread(make)


def _in_thread[T](work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


class Machine:
    """One namespace, with the addresses 192.0.2.N and 2001:db8::N."""

    def __init__(self, number: int) -> None:
        self.four, self.six = f"{PREFIX4}.{number}", f"{PREFIX6}:{number}"
        self._namespace = _new_namespace()
        self.command("ip", "link", "set", "lo", "up")

    @property
    def path(self) -> str:
        """What `ip` takes for it."""
        return f"/proc/{os.getpid()}/fd/{self._namespace}"

    def enter(self) -> None:
        """Moves the calling thread onto this machine, for good."""
        os.setns(self._namespace, os.CLONE_NEWNET)

    def run[T](self, work: Callable[[], T]) -> T:
        """What `work` gives when done on this machine; processes started by it stay there."""

        def there() -> T:
            self.enter()
            return work()

        return _in_thread(there)

    def command(self, *words: str, given: str = "") -> str:
        """Runs a command on this machine with `given` as its input; gives its output.

        Raises:
            AssertionError: It failed; the message is what it said.
        """
        done = self.run(lambda: subprocess.run(words, input=given, capture_output=True, text=True, check=False))
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def accepts(self, host: str, port: int) -> bool:
        """Whether this machine can connect there."""

        def connect() -> bool:
            try:
                socket.create_connection((host, port), timeout=2).close()
            except OSError:
                return False
            return True

        return self.run(connect)

    def close(self) -> None:
        """Lets go of it; the kernel takes it away once nothing runs on it."""
        os.close(self._namespace)


class Network:
    """Machines joined by a bridge, which is a machine without addresses."""

    def __init__(self, *numbers: int) -> None:
        self._switch: Machine | None = None
        self.machines: list[Machine] = []
        self._numbers = numbers

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for machine in [*self.machines, *([self._switch] if self._switch else [])]:
            machine.close()
        self.machines, self._switch = [], None

    def _build(self) -> None:
        self._switch = Machine(0)
        self._switch.command("ip", "link", "add", "bridge", "type", "bridge")
        self._switch.command("ip", "link", "set", "bridge", "up")
        for number in self._numbers:
            machine = Machine(number)
            self.machines.append(machine)
            self._plug_in(self._switch, machine, f"port{number}")

    @staticmethod
    def _plug_in(switch: Machine, machine: Machine, port: str) -> None:
        other = ["peer", "name", "eth0", "netns", machine.path]
        switch.command("ip", "link", "add", port, "type", "veth", *other)
        switch.command("ip", "link", "set", port, "master", "bridge", "up")
        machine.command("ip", "address", "add", f"{machine.four}/24", "dev", "eth0")
        machine.command("ip", "address", "add", f"{machine.six}/64", "dev", "eth0", "nodad")
        machine.command("ip", "link", "set", "eth0", "up")


class RemoteEcho(Echo):
    """An Echo on a machine, at all its addresses, on a port of your choice."""

    def __init__(self, machine: Machine, port: int, *replies: Reply) -> None:
        super().__init__(*replies)
        self._machine = machine
        self.port = port

    async def serve(self, port: int = 0) -> None:
        """Listens on its machine until it is told to stop."""
        self._machine.enter()  # this thread is the Echo's own
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()
        self._stop = lambda: loop.call_soon_threadsafe(stopping.set)
        anywhere = ["0.0.0.0", "::"]  # noqa: S104 (nobody else is on that network)
        server = await asyncio.start_server(self._converse, anywhere, port or self.port)
        self._listening.set()
        await stopping.wait()
        server.close()
