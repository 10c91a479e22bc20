"""`scripts/demo`: starts everything on loopback, tells the story, and checks every line of it."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from rich.console import Console

from tests.story.archives import NoCephError
from tests.story.play import play
from tests.story.telling import Teller
from tests.world.process import ProcessFailedError


def main() -> int:
    """Tells the story; gives the exit status: 0 if every check held, 1 if one did not, 2 if it could not begin."""
    arguments = _arguments()
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # it is a text stream
    tell = Teller(Console(highlight=False, width=None if sys.stdout.isatty() else 120))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _as_interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="sod-demo-") as folder:
            return 0 if play(Path(folder), arguments.store, tell, staying=arguments.stay) else 1
    except (NoCephError, ProcessFailedError) as error:
        sys.stderr.write(f"demo: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("demo: interrupted; everything it started has ended\n")
        return 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="The main job on real parts, on loopback, in a temporary folder that is removed at the end.",
        epilog="Example: scripts/demo --store folder --stay",
    )
    parser.add_argument("--stay", action="store_true", help="leave all running, and print what to try by hand")
    stores = ["auto", "folder", "radosgw"]
    text = "where records go; auto (the default) takes radosgw if it is installed, else a folder"
    parser.add_argument("--store", choices=stores, default="auto", help=text)
    return parser.parse_args()


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    """Makes SIGTERM, or a terminal that is closed, end the demo as Ctrl-C does, even where Ctrl-C is ignored."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
