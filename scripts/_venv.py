"""Importing this makes a script run in the checkout's `.venv`, which is set up first if need be.

It is read by whatever `python3` the machine has, so it keeps to what Python 3.8 understands.
"""

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
VENV = CHECKOUT / ".venv"


def enter() -> None:
    """Replaces this process by the same command under `.venv`'s Python, unless it runs there already."""
    tried = os.environ.pop("SOD_IN_VENV", None) == str(VENV)
    if Path(sys.prefix).resolve() == VENV.resolve():
        return
    if tried:  # a broken .venv must not loop
        sys.exit(f"{VENV} does not work; delete it and run scripts/setup")
    done = subprocess.run([str(CHECKOUT / "scripts" / "setup")], check=False)
    if done.returncode:
        sys.exit(done.returncode)
    python = str(VENV / "bin" / "python")
    os.execve(python, [python, *sys.argv], {**os.environ, "SOD_IN_VENV": str(VENV)})  # noqa: S606


enter()
