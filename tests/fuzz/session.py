"""One fuzz run: it feeds inputs to the targets, counts, says how it goes, and keeps the input that broke something."""

import hashlib
import logging
import sys
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.targets import Target

PROGRESS = 5.0  # seconds between two lines
SLOW = 0.5  # seconds of the CPU; an input that takes longer is kept as well, if none before took as long


@dataclass(slots=True)
class Session:
    """Runs inputs; the first byte of each says which target it is for.

    Args:
        targets: What is fuzzed, by name.
        seconds: How long.
        folder: Where a crashing input is kept, in hex.
    """

    targets: Mapping[str, Target]
    seconds: float
    folder: Path
    runs: Counter[str] = field(default_factory=Counter)
    outcomes: set[tuple[str, str]] = field(default_factory=set)
    slowest: float = 0.0
    crash: dict[str, str] | None = None
    _began: float = field(default_factory=time.monotonic)
    _told: float = field(default_factory=time.monotonic)

    @property
    def over(self) -> bool:
        """Whether the time is up, or something broke."""
        return self.crash is not None or time.monotonic() - self._began > self.seconds

    def run(self, data: bytes) -> bool:
        """Runs one input; whether it led to something that no input did before."""
        name = list(self.targets)[data[0] % len(self.targets) if data else 0]
        self.runs[name] += 1
        before = time.process_time()
        try:
            outcome = self.targets[name](data[1:])
        except Exception as error:  # noqa: BLE001 (that is what is looked for)
            self._crashed(name, data, error)
            return True
        if (took := time.process_time() - before) > max(self.slowest, SLOW):
            self._keep(f"slow-{name}", data)
        self.slowest = max(self.slowest, took)
        self._progress()
        fresh = (name, outcome) not in self.outcomes
        self.outcomes.add((name, outcome))
        return fresh

    def report(self) -> dict[str, Any]:
        """What the run showed; times in seconds, that of the slowest input on the CPU."""
        took = time.monotonic() - self._began
        return {
            "seconds": round(took, 1),
            "runs": dict(self.runs),
            "outcomes": len(self.outcomes),
            "slowest": round(self.slowest, 4),
            "crash": self.crash,
        }

    def _progress(self) -> None:
        if (now := time.monotonic()) - self._told > PROGRESS:
            self._told = now
            counts = ", ".join(f"{name} {count}" for name, count in self.runs.items())
            rate = self.runs.total() / (now - self._began)
            so_far = f"{now - self._began:5.0f} s: {counts}; {rate:.0f}/s; {len(self.outcomes)} outcomes\n"
            sys.stderr.write(so_far)

    def _keep(self, name: str, data: bytes) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}.hex"
        file.write_text(data.hex() + "\n")
        return file

    def _crashed(self, name: str, data: bytes, error: Exception) -> None:
        file = self._keep(f"crash-{name}", data)
        self.crash = {"target": name, "file": str(file), "error": f"{type(error).__name__}: {error}"[:2000]}
        traceback.print_exception(error, limit=-4)


def quiet() -> None:
    """Keeps the gateway's own log from the terminal, all but its failures."""
    logging.getLogger("mcp_sod").setLevel(logging.ERROR)
